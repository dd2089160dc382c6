"""The few values that the services of the group share: tiers, what is owed, and what became of a payment.

Money is whole won (KRW has no smaller unit), in `int`; a column of it is `Integer`, for the wire carries int32.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.ids import UserId
from domain.principal import Principal, PrincipalKind

MAX_AMOUNT_KRW = 2**31 - 1
"""The wire's limit (int32)."""

REFUND_WINDOW = timedelta(days=7)
"""How long a payer may take a purchase back. Source: 전자상거래 등에서의 소비자보호에 관한 법률, article 17."""


def approval_key(principal: Principal, payment_key: str, reference: str) -> str:
    """The provider's key as it is sent to the provider; it captures one payment, ever.

    Existing clients on a development network, who have no credential, send one fixed key in every run, and no payer approves
    anything: for them the key is made one of the payment's own.
    """
    return f"{payment_key}-{reference}" if principal.kind is PrincipalKind.DEVELOPMENT else payment_key


class Tier(StrEnum):
    """A plan's tier, lowest first; what one tier includes, all higher ones do."""

    FREE = "free"
    BASIC = "basic"
    PRO = "pro"
    CLINICAL = "clinical"

    @property
    def rank(self) -> int:
        """0 for the lowest."""
        return list(Tier).index(self)


@dataclass(frozen=True, slots=True)
class Debt:
    """What a person owes for an order, or for a period of a plan.

    Args:
        is_open: whether it can still be paid.
        subscription_id: of what is owed for a plan; empty for goods.
    """

    user_id: UserId
    amount_krw: int
    is_open: bool
    subscription_id: str = ""


class Cancellation(StrEnum):
    """What became of the wish to give a payment up."""

    NOTHING_OPEN = "nothing_open"  # there is no payment that could still be captured
    CANCELLED = "cancelled"
    IN_FLIGHT = "in_flight"  # the provider is being asked at this moment: ask again once its answer is known
    COMPLETED = "completed"  # too late: it was captured


@dataclass(frozen=True, slots=True)
class SettledPayment:
    """A captured payment, as the others in the group see it.

    Args:
        refunded_krw: what was paid back of it so far, in whole won.
    """

    payment_id: str
    user_id: UserId
    order_id: str
    subscription_id: str
    amount_krw: int
    refunded_krw: int
    completed_at: datetime
