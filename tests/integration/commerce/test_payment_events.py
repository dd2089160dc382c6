"""What payment-service listens to: each event by hand, twice and out of order, and once over the real broker."""

from datetime import timedelta
from typing import Literal

from domain.commerce.payment.states import PaymentStatus
from domain.commerce.shop.events import OrderCancelled, OrderCreated
from domain.commerce.subscription.events import SubscriptionCancelled
from domain.commerce.terms import Debt, Tier
from domain.events import DomainEvent
from domain.ids import UserId, new_id
from domain.messaging import Outbox
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.payment.consumers import payment_consumers
from subgraphs.commerce.payment.settling import SettleUnclear
from subgraphs.runtime.consumers import ConsumerHost
from subgraphs.runtime.faces import EventMetadata
from subgraphs.runtime.settings import KafkaSettings
from tests.integration.commerce.conftest import ALICE, Commerce
from tests.integration.commerce.paying import (
    KEY,
    PRICE_KRW,
    Instance,
    KnownDebts,
    assert_books_balance,
    instance,
    told,
)
from tests.integration.messaging.scene import relay_of, running, until
from tests.support.trust import event_reader

Why = Literal["payment_failed", "timed_out", "by_customer", "refunded", "not_owed"]


def order_created(commerce: Commerce, order_id: str = "order-1", **changed: object) -> OrderCreated:
    now = commerce.clock.now()
    fields: dict[str, object] = {
        "order_id": order_id,
        "user_id": "alice",
        "subscription_id": "",
        "amount_krw": PRICE_KRW,
        "payment_method": "card",
        "items": (),
        "created_at": now,
        "expires_at": now + timedelta(minutes=30),
    }
    return OrderCreated.model_validate(fields | changed)


def order_cancelled(
    commerce: Commerce, order_id: str = "order-1", *, payment_id: str = "", reason: Why = "timed_out"
) -> OrderCancelled:
    return OrderCancelled(
        order_id=order_id,
        user_id="alice",
        subscription_id="",
        payment_id=payment_id,
        amount_krw=PRICE_KRW,
        reason=reason,
        cancelled_at=commerce.clock.now(),
    )


async def hear(one: Instance, event: DomainEvent, *, times: int = 2) -> None:
    """Hand an event to its consumer as another process wrote it, each time as a new delivery that nobody has seen."""
    (consumer,) = (c for c in payment_consumers(one.payments) if c.topic == event.topic)
    for _ in range(times):
        metadata = EventMetadata(
            event_id=new_id(),
            topic=event.topic,
            key=event.key,
            source=event.source,
            occurred_at=one.commerce.clock.now(),
            correlation_id="",
            traceparent="",
        )
        async with one.commerce.database.transaction() as session:
            await consumer.handle(session, consumer.event.model_validate_json(event.model_dump_json()), metadata)


async def rows(commerce: Commerce) -> list[dict[str, object]]:
    return await commerce.fetch(
        "SELECT order_id, subscription_id, payment_type, amount_krw, status FROM payments ORDER BY payment_id"
    )


async def test_an_order_opens_one_payment_however_often_it_is_told(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        await hear(one, order_created(commerce))
        assert await rows(commerce) == [
            {
                "order_id": "order-1",
                "subscription_id": "",
                "payment_type": "one_time",
                "amount_krw": PRICE_KRW,
                "status": "pending",
            }
        ]
        await one.paid(order_id="order-1")  # the buyer's own call takes the same one
        await hear(one, order_created(commerce))
        assert [row["status"] for row in await rows(commerce)] == ["completed"]


async def test_an_order_for_a_plan_opens_a_subscription_payment(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        await hear(one, order_created(commerce, subscription_id="sub-1"))
        (row,) = await rows(commerce)
        assert (row["payment_type"], row["subscription_id"], row["order_id"]) == ("subscription", "sub-1", "order-1")
        await hear(one, order_created(commerce, "order-2", subscription_id="sub-1", amount_krw=100))
        assert [row["status"] for row in await rows(commerce)] == ["cancelled", "pending"]  # the newer charge counts


async def test_an_order_that_costs_nothing_opens_nothing(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        await hear(one, order_created(commerce, amount_krw=0))
    assert await rows(commerce) == []


async def test_an_order_that_is_over_when_it_is_heard_of_opens_nothing(commerce: Commerce, toss: TossSandbox) -> None:
    debts = KnownDebts(orders={"order-1": Debt(UserId("alice"), PRICE_KRW, is_open=False)})
    async with instance(commerce, toss, debts=debts) as one:
        await hear(one, order_cancelled(commerce))  # out of order
        await hear(one, order_created(commerce))
    assert await rows(commerce) == []


async def test_a_cancelled_order_gives_its_open_payment_up(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        await hear(one, order_created(commerce))
        await hear(one, order_cancelled(commerce))
        assert [row["status"] for row in await rows(commerce)] == ["cancelled"]
    assert await told(commerce, "payment.failed") == []


async def test_what_was_captured_for_a_cancelled_order_is_paid_back_once(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid(order_id="order-1")
        await one.payments.refund(ALICE, payment_id=paid.payment_id, amount_krw=900, reason="")
        await hear(one, order_cancelled(commerce, payment_id=paid.payment_id))
        assert await one.payments.settle_unclear() == 1
        await hear(one, order_cancelled(commerce, payment_id=paid.payment_id, reason="refunded"))
        assert await one.payments.settle_unclear() == 0
        assert (await one.get(paid.payment_id)).status == PaymentStatus.REFUNDED
    (captured,) = toss.ledger.everything()
    assert [(cancel.amount, cancel.reason) for cancel in captured.cancels] == [
        (900, "요청에 따른 환불"),
        (29_000, "주문 시간 초과로 인한 취소"),
    ]
    await assert_books_balance(commerce, toss)


async def test_a_cancelled_subscription_gives_its_open_payment_up_and_keeps_what_is_paid(
    commerce: Commerce, toss: TossSandbox
) -> None:
    now = commerce.clock.now()
    cancelled = SubscriptionCancelled(
        subscription_id="sub-1", user_id="alice", tier=Tier.PRO, reason="", cancelled_at=now, effective_until=now
    )
    debts = KnownDebts(orders={"order-1": Debt(UserId("alice"), PRICE_KRW, is_open=True, subscription_id="sub-1")})
    async with instance(commerce, toss, debts=debts) as one:
        await hear(one, order_created(commerce, subscription_id="sub-1"))
        (paid,) = await commerce.fetch("SELECT payment_id FROM payments")
        await one.payments.confirm(ALICE, payment_id=str(paid["payment_id"]), payment_key=KEY)
        await hear(one, order_created(commerce, "order-2", subscription_id="sub-1"))
        await hear(one, cancelled)
        assert [row["status"] for row in await rows(commerce)] == ["completed", "cancelled"]
    await assert_books_balance(commerce, toss)


async def test_the_chain_over_the_broker(commerce: Commerce, toss: TossSandbox, broker: str) -> None:
    kafka = KafkaSettings(brokers=broker, group_id=f"payments-{new_id()}")
    order_id = new_id()
    async with instance(commerce, toss) as one:
        host = ConsumerHost(
            database=commerce.database,
            kafka=kafka,
            consumers=payment_consumers(one.payments),
            reader=event_reader(),
            principal_service="payment",
            session_timeout_s=1.0,
        )
        async with running(host, relay_of(commerce.database, kafka), SettleUnclear(one.payments)):
            async with commerce.database.transaction() as session:
                await Outbox(session).add(order_created(commerce, order_id))

            async def opened() -> bool:
                return any(row["order_id"] == order_id for row in await rows(commerce))

            await until(opened)
            paid = await one.paid(order_id=order_id)
            async with commerce.database.transaction() as session:
                await Outbox(session).add(order_cancelled(commerce, order_id, payment_id=paid.payment_id))

            async def paid_back() -> bool:
                return (await one.get(paid.payment_id)).status == PaymentStatus.REFUNDED

            await until(paid_back)
    await assert_books_balance(commerce, toss)
