"""What payment-service listens to."""

from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.payment.service import PaymentService
from domain.events import DomainEvent
from subgraphs.runtime.faces import Consumer, EventMetadata


class OrderCreated(DomainEvent):
    """What payment-service reads of `shop.order_created`."""

    topic: ClassVar[str] = "shop.order_created"
    source: ClassVar[str] = "shop"

    order_id: str
    user_id: str
    subscription_id: str
    amount_krw: int
    payment_method: str

    @property
    def key(self) -> str:
        return self.order_id


class OrderCancelled(DomainEvent):
    """What payment-service reads of `shop.order_cancelled`."""

    topic: ClassVar[str] = "shop.order_cancelled"
    source: ClassVar[str] = "shop"

    order_id: str
    payment_id: str
    reason: str

    @property
    def key(self) -> str:
        return self.order_id


class SubscriptionCancelled(DomainEvent):
    """What payment-service reads of `subscription.cancelled`."""

    topic: ClassVar[str] = "subscription.cancelled"
    source: ClassVar[str] = "subscription"

    subscription_id: str
    user_id: str

    @property
    def key(self) -> str:
        return self.user_id


_WHY = {
    "timed_out": "주문 시간 초과로 인한 취소",
    "by_customer": "고객 요청에 의한 주문 취소",
    "not_owed": "청구되지 않은 금액의 환불",
}
"""The reason that the provider prints on the receipt, by why the order was cancelled."""


def payment_consumers(payments: PaymentService) -> tuple[Consumer[Any], ...]:
    """The topics that payment-service takes part in."""

    async def order_created(session: AsyncSession, event: OrderCreated, _metadata: EventMetadata) -> None:
        await payments.open_for_order(
            session,
            order_id=event.order_id,
            user_id=event.user_id,
            subscription_id=event.subscription_id,
            amount_krw=event.amount_krw,
            payment_method=event.payment_method,
        )

    async def order_cancelled(session: AsyncSession, event: OrderCancelled, _metadata: EventMetadata) -> None:
        if event.payment_id:
            reason = _WHY.get(event.reason, "")
            await payments.request_refund(session, payment_id=event.payment_id, amount_krw=None, reason=reason)
        else:
            await payments.cancel_open(session, order_id=event.order_id)

    async def subscription_cancelled(
        session: AsyncSession, event: SubscriptionCancelled, _metadata: EventMetadata
    ) -> None:
        await payments.cancel_open(session, subscription_id=event.subscription_id)

    return (
        Consumer(service="payment", topic=OrderCreated.topic, event=OrderCreated, handle=order_created),
        Consumer(service="payment", topic=OrderCancelled.topic, event=OrderCancelled, handle=order_cancelled),
        Consumer(
            service="payment",
            topic=SubscriptionCancelled.topic,
            event=SubscriptionCancelled,
            handle=subscription_cancelled,
        ),
    )
