"""What the shop needs of the group's other services."""

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.terms import Cancellation, SettledPayment, Tier
from domain.ids import UserId


class Payments(Protocol):
    """The payments of orders. Whoever locks an order and its payment locks the order first."""

    async def cancel_open(self, session: AsyncSession, *, order_id: str) -> Cancellation:
        """Give the open payment of an order up, in the session's transaction."""
        ...

    async def settled_for_order(self, session: AsyncSession, order_id: str) -> SettledPayment | None:
        """The captured payment of an order, whatever was paid back of it since."""
        ...

    async def is_given_back(self, session: AsyncSession, payment_id: str) -> bool:
        """Whether nothing of a captured payment is left, refunds in hand included; it stays so for the transaction."""
        ...

    async def request_refund(
        self, session: AsyncSession, *, payment_id: str, amount_krw: int | None, reason: str
    ) -> None:
        """Have a captured payment paid back (0: all that is left), in the background once the session has committed.

        For money that no order asks for; that of a cancelled order is paid back upon `shop.order_cancelled`.
        """
        ...


class Plans(Protocol):
    """Plans, as far as they decide who may buy what, and what a purchase adds to them."""

    async def tier_of(self, session: AsyncSession, user_id: UserId) -> Tier:
        """The tier in force now; `FREE` for who never had a plan."""
        ...

    async def grant_add_on(
        self, session: AsyncSession, *, user_id: UserId, category_code: int, type_index: int, order_id: str
    ) -> None:
        """Let a person use a cartridge type (0: the whole category) that was bought apart; once for an order."""
        ...

    async def revoke_add_ons(self, session: AsyncSession, *, order_id: str) -> None:
        """Take back what an order had granted, because it was paid back."""
        ...
