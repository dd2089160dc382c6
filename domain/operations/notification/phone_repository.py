"""Every SQL statement about phone numbers."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.operations.notification.models import ContactPhone, PendingPhone


class PhoneRepository:
    """Numbers that were proven by a code (`ContactPhone`, with `verified_at`) and those that were not yet (`PendingPhone`)."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def verified(self, user_ids: Collection[str]) -> dict[str, bytes]:
        """The sealed numbers of those who have proven one."""
        rows = await self._session.execute(
            select(ContactPhone.user_id, ContactPhone.phone).where(
                ContactPhone.user_id.in_(user_ids), ContactPhone.verified_at.is_not(None)
            )
        )
        return dict(rows.all())

    async def pending(self, user_id: str) -> PendingPhone | None:
        return await self._session.get(PendingPhone, user_id, populate_existing=True)

    async def pending_for_update(self, user_id: str) -> PendingPhone | None:
        return await self._session.get(PendingPhone, user_id, with_for_update=True, populate_existing=True)

    async def put_pending(self, row: PendingPhone) -> None:
        """Store a number that has to be proven; it replaces the one before, with its code."""
        values = {column.key: getattr(row, column.key) for column in PendingPhone.__mapper__.column_attrs}
        changed = {name: value for name, value in values.items() if name != "user_id"}
        statement = insert(PendingPhone).values(values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=changed))

    async def put_verified(self, user_id: str, phone: bytes, *, at: datetime) -> None:
        statement = insert(ContactPhone).values(user_id=user_id, phone=phone, updated_at=at, verified_at=at)
        changed = {"phone": phone, "updated_at": at, "verified_at": at}
        await self._session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=changed))

    async def remove_pending(self, user_id: str) -> None:
        await self._session.execute(delete(PendingPhone).where(PendingPhone.user_id == user_id))

    async def remove(self, user_id: str) -> None:
        await self.remove_pending(user_id)
        await self._session.execute(delete(ContactPhone).where(ContactPhone.user_id == user_id))
