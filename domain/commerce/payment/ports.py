"""What payment needs from the outside: a provider that captures and pays back, and who knows what is owed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.terms import Debt


class Debts(Protocol):
    """What the rest of the group says is owed."""

    async def of_order(self, session: AsyncSession, order_id: str) -> Debt | None:
        """None: the shop has no such order."""
        ...

    async def of_subscription(self, session: AsyncSession, subscription_id: str) -> Debt | None:
        """Its open charge; None: there is no such subscription, or nothing to pay."""
        ...

    async def payment_opened(
        self, session: AsyncSession, *, order_id: str, payment_id: str, amount_krw: int, at: datetime
    ) -> None:
        """Told when an order has a payment that waits; told again, it changes nothing."""
        ...

    async def is_shipped(self, session: AsyncSession, order_id: str) -> bool:
        """Whether the shop has sent the order off; False for one that it does not have."""
        ...

    async def is_exchanged(self, session: AsyncSession, subscription_id: str, *, payment_id: str) -> bool:
        """Whether the holder has moved to a lower plan since, so that a part of the payment is credit by now."""
        ...


class ProviderState(StrEnum):
    """What a provider says of a payment."""

    WAITING = "waiting"  # begun, nothing captured
    CAPTURED = "captured"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    REFUSED = "refused"  # aborted or expired


@dataclass(frozen=True, slots=True)
class ProviderPayment:
    """A payment as the provider has it.

    Args:
        reference: our name for it at the provider (the payment's id).
        amount_krw, balance_krw: captured, and what is left of it after refunds; whole won.
        transaction_id: the provider's key of the last thing that it did: the capture, or the last refund.
        method: how it was paid, such as `card`; empty when the provider does not say.
        cancels: amounts paid back, in whole won, by the provider's transaction key.
        failure_code, failure_message: why it refused.
    """

    reference: str
    payment_key: str
    transaction_id: str
    state: ProviderState
    amount_krw: int
    balance_krw: int
    method: str
    approved_at: datetime | None
    cancels: Mapping[str, int] = field(default_factory=dict)
    failure_code: str = ""
    failure_message: str = ""


class Declined(Exception):
    """The provider has refused, for good: the same request will be refused again.

    Args:
        code: the provider's error code; message: what it tells the payer.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class OutcomeUnclear(Exception):
    """The request may or may not have taken effect (time-out, lost connection, 5xx): the provider has to be asked."""


class PaymentGateway(Protocol):
    """A payment provider. Repeating a call with the same idempotency key has its effect once, and the same answer."""

    @property
    def name(self) -> str:
        """As `pg_provider` names it, such as `toss`."""
        ...

    async def confirm(
        self, *, reference: str, payment_key: str, amount_krw: int, idempotency_key: str
    ) -> ProviderPayment:
        """Capture what the payer has approved.

        Raises:
            Declined, OutcomeUnclear.
            ProviderUnavailable: the provider does not know us; nothing was done.
        """
        ...

    async def find(self, reference: str) -> ProviderPayment | None:
        """What the provider has under our reference; None: nothing.

        Raises:
            OutcomeUnclear: it does not answer.
            ProviderUnavailable: it does not know us.
        """
        ...

    async def refund(self, *, payment_key: str, amount_krw: int, reason: str, idempotency_key: str) -> ProviderPayment:
        """Pay back an amount of a captured payment.

        Raises:
            Declined, OutcomeUnclear.
            ProviderUnavailable: the provider does not know us; nothing was done.
        """
        ...
