"""What subscription-service listens to."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.subscription.cartridges import CartridgeAccessService
from domain.commerce.subscription.settlement import SettlementService, ToldPayment
from domain.events import DomainEvent
from subgraphs.runtime.faces import Consumer, EventMetadata

_NAME = "subscription"


class _OfPayment(DomainEvent):
    """What subscription-service reads of every payment; those of goods are not its concern."""

    source: ClassVar[str] = "payment"

    payment_id: str
    user_id: str
    subscription_id: str
    amount_krw: int

    @property
    def key(self) -> str:
        return self.payment_id

    def told(self, at: datetime) -> ToldPayment:
        return ToldPayment(
            payment_id=self.payment_id,
            user_id=self.user_id,
            subscription_id=self.subscription_id,
            amount_krw=self.amount_krw,
            at=at,
        )


class PaymentCompleted(_OfPayment):
    """What it reads of `payment.completed`."""

    topic: ClassVar[str] = "payment.completed"

    completed_at: datetime


class PaymentFailed(_OfPayment):
    """What it reads of `payment.failed`."""

    topic: ClassVar[str] = "payment.failed"

    failed_at: datetime


class PaymentRefunded(_OfPayment):
    """What it reads of `payment.refunded`."""

    topic: ClassVar[str] = "payment.refunded"

    refunded_total_krw: int
    is_full: bool
    refunded_at: datetime


class MeasurementCompleted(DomainEvent):
    """What it reads of `measurement.completed`: nothing of the result, which is none of its business."""

    topic: ClassVar[str] = "measurement.completed"
    source: ClassVar[str] = "measurement"

    session_id: str
    user_id: str
    category_code: int
    type_index: int
    measured_at: datetime

    @property
    def key(self) -> str:
        return self.user_id


def subscription_consumers(
    settlements: SettlementService, cartridges: CartridgeAccessService
) -> tuple[Consumer[Any], ...]:
    """The topics that subscription-service takes part in."""

    async def completed(session: AsyncSession, event: PaymentCompleted, _metadata: EventMetadata) -> None:
        if event.subscription_id:
            await settlements.completed(session, event.told(event.completed_at))

    async def failed(session: AsyncSession, event: PaymentFailed, _metadata: EventMetadata) -> None:
        if event.subscription_id:
            await settlements.failed(session, event.told(event.failed_at))

    async def refunded(session: AsyncSession, event: PaymentRefunded, _metadata: EventMetadata) -> None:
        if event.subscription_id:
            await settlements.refunded(
                session,
                event.told(event.refunded_at),
                refunded_total_krw=event.refunded_total_krw,
                is_full=event.is_full,
            )

    async def measured(session: AsyncSession, event: MeasurementCompleted, _metadata: EventMetadata) -> None:
        await cartridges.record_use(
            session,
            session_id=event.session_id,
            user_id=event.user_id,
            category=event.category_code,
            type_index=event.type_index,
            measured_at=event.measured_at,
        )

    return (
        Consumer(service=_NAME, topic=PaymentCompleted.topic, event=PaymentCompleted, handle=completed),
        Consumer(service=_NAME, topic=PaymentFailed.topic, event=PaymentFailed, handle=failed),
        Consumer(service=_NAME, topic=PaymentRefunded.topic, event=PaymentRefunded, handle=refunded),
        Consumer(service=_NAME, topic=MeasurementCompleted.topic, event=MeasurementCompleted, handle=measured),
    )
