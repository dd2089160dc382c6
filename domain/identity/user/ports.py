"""What the user service needs from the outside."""

from collections.abc import Collection
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.identity.person import AccountSummary, Reachable
from domain.ids import UserId


class Accounts(Protocol):
    """The auth service, as far as profiles need it."""

    async def summaries(self, session: AsyncSession, user_ids: Collection[UserId]) -> dict[UserId, AccountSummary]:
        """Those of the people who have an account."""
        ...

    async def reachable(self, session: AsyncSession, user_ids: Collection[UserId]) -> dict[UserId, Reachable]:
        """How those of the people who have an account may be written to."""
        ...
