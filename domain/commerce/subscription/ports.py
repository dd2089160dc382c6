"""What subscription needs of the group's other services."""

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.terms import Cancellation, SettledPayment
from domain.ids import UserId


class Payments(Protocol):
    """The payments of plans. Whoever locks a subscription and its payment locks the subscription first."""

    async def cancel_open(
        self, session: AsyncSession, *, order_id: str = "", subscription_id: str = ""
    ) -> Cancellation:
        """Give the open payment of a subscription up, in the session's transaction."""
        ...

    async def settled(self, session: AsyncSession, payment_id: str) -> SettledPayment | None:
        """A captured payment; None: there is none with this id, or nothing was captured."""
        ...

    async def settled_for_subscription(self, session: AsyncSession, subscription_id: str) -> SettledPayment | None:
        """The newest captured payment of a subscription, whatever was paid back of it since."""
        ...

    async def charge(
        self, *, user_id: UserId, subscription_id: str, amount_krw: int, payment_key: str
    ) -> SettledPayment:
        """Open a payment for a subscription and capture it with a key that the provider gave the payer on approval.

        In transactions of its own; repeated with the same key and subscription it captures nothing more.

        Raises:
            PaymentDeclined: the provider has refused, or does not know the key.
            TimedOut: the provider has not answered; the payment is settled in the background.
        """
        ...

    async def request_refund(
        self, session: AsyncSession, *, payment_id: str, amount_krw: int | None, reason: str
    ) -> None:
        """Have a captured payment paid back (None: all that is left), in the background once the session has committed."""
        ...


class AddOnPrices(Protocol):
    """What the shop sells apart from plans."""

    async def prices(self, session: AsyncSession) -> Mapping[tuple[int, int], int]:
        """Whole won, by category code and type index (0: the whole category), of the add-ons on sale."""
        ...
