"""What shop-service listens to."""

from datetime import datetime
from typing import Any, ClassVar, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.shop.plan_lines import PlanLine
from domain.commerce.shop.saga import Charge, OrderSaga, ReportedPayment
from domain.commerce.terms import Tier
from domain.events import DomainEvent
from subgraphs.runtime.account_proof import account_proof_consumer
from subgraphs.runtime.faces import Consumer, EventMetadata

_SERVICE = "shop"


class _SubscriptionEvent(DomainEvent):
    source: ClassVar[str] = "subscription"

    subscription_id: str
    user_id: str
    tier: Tier

    @property
    def key(self) -> str:
        return self.user_id


class SubscriptionCreated(_SubscriptionEvent):
    """What shop-service reads of `subscription.created`."""

    topic: ClassVar[str] = "subscription.created"

    amount_due_krw: int
    created_at: datetime


class SubscriptionPaymentDue(_SubscriptionEvent):
    """What shop-service reads of `subscription.payment_due`."""

    topic: ClassVar[str] = "subscription.payment_due"

    charge_id: str
    kind: Literal["upgrade", "renewal"]
    amount_krw: int
    due_at: datetime


class _PaymentEvent(DomainEvent):
    source: ClassVar[str] = "payment"

    payment_id: str
    user_id: str
    order_id: str
    subscription_id: str
    amount_krw: int

    @property
    def key(self) -> str:
        return self.payment_id

    def reported(self, at: datetime) -> ReportedPayment:
        """The payment as the rules take it."""
        return ReportedPayment(
            payment_id=self.payment_id,
            user_id=self.user_id,
            order_id=self.order_id,
            subscription_id=self.subscription_id,
            amount_krw=self.amount_krw,
            at=at,
        )


class PaymentCompleted(_PaymentEvent):
    """What shop-service reads of `payment.completed`."""

    topic: ClassVar[str] = "payment.completed"

    completed_at: datetime


class PaymentFailed(_PaymentEvent):
    """What shop-service reads of `payment.failed`."""

    topic: ClassVar[str] = "payment.failed"

    code: str
    failed_at: datetime


class PaymentRefunded(_PaymentEvent):
    """What shop-service reads of `payment.refunded`."""

    topic: ClassVar[str] = "payment.refunded"

    refund_id: str
    refund_amount_krw: int
    refunded_total_krw: int
    refunded_at: datetime


def shop_consumers(saga: OrderSaga) -> tuple[Consumer[Any], ...]:
    """The topics that shop-service takes part in."""

    async def subscription_created(session: AsyncSession, event: SubscriptionCreated, _metadata: EventMetadata) -> None:
        if event.amount_due_krw <= 0:
            return
        await saga.open_for_plan(
            session,
            Charge(
                key=f"start:{event.subscription_id}",
                subscription_id=event.subscription_id,
                user_id=event.user_id,
                line=PlanLine(event.tier, "start"),
                amount_krw=event.amount_due_krw,
                raised_at=event.created_at,
            ),
        )

    async def payment_due(session: AsyncSession, event: SubscriptionPaymentDue, metadata: EventMetadata) -> None:
        if event.amount_krw <= 0:
            return
        await saga.open_for_plan(
            session,
            Charge(
                key=event.charge_id,
                subscription_id=event.subscription_id,
                user_id=event.user_id,
                line=PlanLine(event.tier, event.kind),
                amount_krw=event.amount_krw,
                raised_at=metadata.occurred_at,
                pay_by=event.due_at,
            ),
        )

    async def payment_completed(session: AsyncSession, event: PaymentCompleted, _metadata: EventMetadata) -> None:
        await saga.payment_completed(session, event.reported(event.completed_at))

    async def payment_failed(session: AsyncSession, event: PaymentFailed, _metadata: EventMetadata) -> None:
        await saga.payment_failed(session, event.reported(event.failed_at), code=event.code)

    async def payment_refunded(session: AsyncSession, event: PaymentRefunded, _metadata: EventMetadata) -> None:
        await saga.payment_refunded(
            session,
            event.reported(event.refunded_at),
            refund_id=event.refund_id,
            amount_krw=event.refund_amount_krw,
            total_krw=event.refunded_total_krw,
        )

    return (
        Consumer(_SERVICE, SubscriptionCreated.topic, SubscriptionCreated, subscription_created),
        Consumer(_SERVICE, SubscriptionPaymentDue.topic, SubscriptionPaymentDue, payment_due),
        Consumer(_SERVICE, PaymentCompleted.topic, PaymentCompleted, payment_completed),
        Consumer(_SERVICE, PaymentFailed.topic, PaymentFailed, payment_failed),
        Consumer(_SERVICE, PaymentRefunded.topic, PaymentRefunded, payment_refunded),
        account_proof_consumer(_SERVICE, saga.drop),
    )
