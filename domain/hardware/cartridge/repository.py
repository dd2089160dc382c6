"""Every SQL statement about cartridges and their registry. Only a cartridge's row is ever locked."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import and_, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.cartridge.models import (
    Cartridge,
    CartridgeCategory,
    CartridgeType,
    CartridgeUsage,
    CategorySummary,
)
from domain.hardware.codes import CartridgeCode
from domain.ids import UserId


class RegistryRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def type(self, category: int, type_index: int) -> CartridgeType | None:
        return await self._session.get(CartridgeType, (category, type_index))

    async def type_of_legacy_code(self, legacy_code: int) -> CartridgeType | None:
        return await self._session.scalar(select(CartridgeType).where(CartridgeType.legacy_code == legacy_code))

    async def types_by_codes(self, codes: Collection[CartridgeCode]) -> dict[CartridgeCode, CartridgeType]:
        key = tuple_(CartridgeType.category, CartridgeType.type_index)
        found = await self._session.scalars(
            select(CartridgeType).where(key.in_([(code.category, code.type_index) for code in codes]))
        )
        return {CartridgeCode(t.category, t.type_index): t for t in found}

    async def types(self, category: int | None) -> Sequence[CartridgeType]:
        """Types of a category, or all of them; by category and index."""
        statement = select(CartridgeType).order_by(CartridgeType.category, CartridgeType.type_index)
        if category is not None:
            statement = statement.where(CartridgeType.category == category)
        return (await self._session.scalars(statement)).all()

    async def plain_categories(self) -> Sequence[CartridgeCategory]:
        return (await self._session.scalars(select(CartridgeCategory))).all()

    async def categories(self) -> Sequence[CategorySummary]:
        """All categories by code, with the number of their types; a type counts in the narrowest one."""
        narrowest = (
            select(CartridgeCategory.code)
            .where(
                CartridgeCategory.code <= CartridgeType.category, CartridgeCategory.last_code >= CartridgeType.category
            )
            .order_by(CartridgeCategory.last_code - CartridgeCategory.code)
            .limit(1)
            .correlate(CartridgeType)
            .scalar_subquery()
        )
        of_types = select(narrowest.label("code")).select_from(CartridgeType).subquery()
        counted = select(of_types.c.code, func.count().label("types")).group_by(of_types.c.code).subquery()
        rows = await self._session.execute(
            select(CartridgeCategory, func.coalesce(counted.c.types, 0))
            .outerjoin(counted, counted.c.code == CartridgeCategory.code)
            .order_by(CartridgeCategory.code)
        )
        return [CategorySummary(category, count) for category, count in rows]

    async def upsert_type(self, values: Mapping[str, object]) -> CartridgeType:
        changed = {name: value for name, value in values.items() if name not in ("category", "type_index")}
        statement = (
            insert(CartridgeType)
            .values(**values)
            .on_conflict_do_update(index_elements=["category", "type_index"], set_=changed)
            .returning(CartridgeType)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).one()

    async def upsert_category(self, values: Mapping[str, object]) -> CartridgeCategory:
        changed = {name: value for name, value in values.items() if name != "code"}
        statement = (
            insert(CartridgeCategory)
            .values(**values)
            .on_conflict_do_update(index_elements=["code"], set_=changed)
            .returning(CartridgeCategory)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).one()


class CartridgeRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, uid: str) -> Cartridge | None:
        return await self._session.get(Cartridge, uid)

    async def get_for_update(self, uid: str) -> Cartridge | None:
        return await self._session.get(Cartridge, uid, with_for_update=True, populate_existing=True)

    async def by_uids(self, uids: Collection[str]) -> dict[str, tuple[Cartridge, CartridgeType | None]]:
        """Cartridges with their types, in one statement."""
        rows = await self._session.execute(
            select(Cartridge, CartridgeType)
            .outerjoin(
                CartridgeType,
                and_(CartridgeType.category == Cartridge.category, CartridgeType.type_index == Cartridge.type_index),
            )
            .where(Cartridge.uid.in_(uids))
        )
        return {cartridge.uid: (cartridge, type_) for cartridge, type_ in rows}

    async def add(self, values: Mapping[str, object]) -> bool:
        """False when it was there already; then nothing was stored."""
        statement = insert(Cartridge).values(**values).on_conflict_do_nothing().returning(Cartridge.uid)
        return await self._session.scalar(statement) is not None

    async def usage(self, uid: str, session_id: str) -> CartridgeUsage | None:
        return await self._session.scalar(
            select(CartridgeUsage).where(CartridgeUsage.cartridge_uid == uid, CartridgeUsage.session_id == session_id)
        )

    async def has_usages(self, uid: str) -> bool:
        used = select(CartridgeUsage.record_id).where(CartridgeUsage.cartridge_uid == uid).limit(1)
        return await self._session.scalar(used) is not None

    async def add_usage(self, usage: CartridgeUsage) -> None:
        self._session.add(usage)
        await self._session.flush()

    async def usages_of(
        self, user_id: UserId, *, limit: int, offset: int
    ) -> tuple[Sequence[tuple[CartridgeUsage, str]], int]:
        """A page of a person's uses with the Korean name of their type, newest first, and how many there are."""
        total = await self._session.scalar(select(func.count()).where(CartridgeUsage.user_id == user_id))
        rows = await self._session.execute(
            select(CartridgeUsage, func.coalesce(CartridgeType.name_ko, ""))
            .outerjoin(
                CartridgeType,
                and_(
                    CartridgeType.category == CartridgeUsage.category,
                    CartridgeType.type_index == CartridgeUsage.type_index,
                ),
            )
            .where(CartridgeUsage.user_id == user_id)
            .order_by(CartridgeUsage.used_at.desc(), CartridgeUsage.record_id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [(usage, name) for usage, name in rows], total or 0
