"""What happened to payments."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from domain.events import HEALTH_DATA, DomainEvent


class PaymentEvent(DomainEvent):
    """What each of them says. `order_id` or `subscription_id` may be empty; amounts are whole won."""

    source: ClassVar[str] = "payment"

    payment_id: str
    user_id: str
    order_id: str
    subscription_id: str
    payment_type: Literal["one_time", "subscription"]
    amount_krw: int

    @property
    def key(self) -> str:
        return self.payment_id


class PaymentCompleted(PaymentEvent):
    """The provider has captured the whole amount."""

    topic: ClassVar[str] = "payment.completed"

    payment_method: str
    pg_provider: str
    pg_transaction_id: str
    completed_at: datetime


class PaymentFailed(PaymentEvent):
    """The provider has refused; nothing was captured, and this payment stays refused.

    Args:
        code: the provider's, such as `REJECT_CARD_PAYMENT`.
        message: why, as the provider tells the payer.
    """

    topic: ClassVar[str] = "payment.failed"

    code: str
    message: str
    failed_at: datetime


class PaymentRefunded(PaymentEvent):
    """The provider has paid back all or a part.

    Args:
        refunded_total_krw: by all refunds of the payment so far.
        is_full: whether nothing of the payment is left.
        reason: as the person, or the staff, wrote it.
    """

    topic: ClassVar[str] = "payment.refunded"

    refund_id: str
    refund_amount_krw: int
    refunded_total_krw: int
    is_full: bool
    reason: Annotated[str, HEALTH_DATA]
    refunded_at: datetime
