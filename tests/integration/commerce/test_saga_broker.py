"""The saga over a real broker: the relay, the consumers and the background work of all three services."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from domain.catalog import DEAD_LETTER_TOPIC
from domain.commerce.payment.errors import PaymentDeclined
from domain.commerce.payment.states import PaymentStatus
from domain.commerce.shop.models import OrderStatus
from domain.commerce.terms import Tier
from domain.ids import UserId
from infra.local.broker import EmbeddedBroker
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.payment.faces import payment_faces
from subgraphs.commerce.shop.faces import shop_faces
from subgraphs.commerce.subscription.faces import subscription_faces
from subgraphs.runtime.consumers import ConsumerHost
from subgraphs.runtime.faces import Background
from subgraphs.runtime.settings import KafkaSettings
from tests.integration.commerce.conftest import ALICE, Commerce
from tests.integration.commerce.shop_scene import (
    assert_books_balance,
    cancel,
    confirm,
    kinds_of,
    order_pieces,
    payment_of,
    status_of,
    stock_of,
)
from tests.integration.messaging.scene import publish_raw, records_of, relay_of, running, until
from tests.support.trust import event_reader

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def own_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedBroker]:
    """A broker whose topics have no other test's events; one partition a topic makes it quicker to join."""
    async with EmbeddedBroker(tmp_path_factory.mktemp("broker"), partitions=1) as broker:
        yield broker


@asynccontextmanager
async def at_work(commerce: Commerce, broker: EmbeddedBroker) -> AsyncIterator[None]:
    """Everything of the group that runs without being asked."""
    kafka = KafkaSettings(brokers=broker.address)
    faces = [
        faces_of(commerce.services, commerce.database) for faces_of in (payment_faces, shop_faces, subscription_faces)
    ]
    hosts = [
        ConsumerHost(
            database=commerce.database,
            kafka=kafka,
            consumers=face.consumers,
            reader=event_reader(),
            principal_service=face.name,
            session_timeout_s=1.0,
        )
        for face in faces
    ]
    background = [_Runs(work) for face in faces for work in face.background]
    async with running(relay_of(commerce.database, kafka), *hosts, *background):
        yield


class _Runs:
    def __init__(self, background: Background) -> None:
        self._background = background

    async def run(self) -> None:
        await self._background.run()


def reaches(commerce: Commerce, order_id: str, status: OrderStatus) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return await status_of(commerce, order_id) == status

    return reached


def has_payment(commerce: Commerce, order_id: str) -> Callable[[], Awaitable[bool]]:
    async def opened() -> bool:
        return bool(await commerce.fetch("SELECT 1 FROM payments WHERE order_id = $1", order_id))

    return opened


async def test_order_payment_and_plan_find_each_other_over_the_broker(
    commerce: Commerce, toss: TossSandbox, own_broker: EmbeddedBroker
) -> None:
    before = await stock_of(commerce)
    async with at_work(commerce, own_broker):
        # Ordered and paid.
        order_id = (await order_pieces(commerce, cartridge_01_01=2)).order.order_id
        await until(has_payment(commerce, order_id))
        await confirm(commerce, order_id)
        await until(reaches(commerce, order_id, OrderStatus.PAID))
        # Ordered and refused.
        refused_id = (await order_pieces(commerce, cartridge_01_01=3)).order.order_id
        await until(has_payment(commerce, refused_id))
        with pytest.raises(PaymentDeclined):
            await confirm(commerce, refused_id, key="test-decline")
        await until(reaches(commerce, refused_id, OrderStatus.CANCELLED))
        assert await stock_of(commerce) == before - 2
        # A plan: subscription -> shop -> payment -> shop and subscription.
        async with commerce.database.transaction() as session:
            await commerce.services.subscriptions.create(session, ALICE, user_id="", tier=Tier.PRO)

        async def plan_order() -> bool:
            return bool(await commerce.fetch("SELECT 1 FROM orders WHERE kind = 'subscription'"))

        await until(plan_order)
        [plan] = await commerce.fetch("SELECT order_id FROM orders WHERE kind = 'subscription'")
        plan_id = str(plan["order_id"])
        await until(has_payment(commerce, plan_id))
        await confirm(commerce, plan_id)

        async def in_force() -> bool:
            async with commerce.database.read() as session:
                return await commerce.services.subscriptions.tier_of(session, UserId("alice")) is Tier.PRO

        await until(in_force)
        await until(reaches(commerce, plan_id, OrderStatus.PAID))
        # Paid, and given up by the customer: paid back.
        await cancel(commerce, order_id)
        await until(reaches(commerce, order_id, OrderStatus.REFUNDED))
    assert await stock_of(commerce) == before
    assert (await payment_of(commerce, order_id)).status == PaymentStatus.REFUNDED
    assert await kinds_of(commerce, plan_id) == ["created", "payment_opened", "paid"]
    assert await commerce.fetch("SELECT 1 FROM outbox WHERE published_at IS NULL") == []
    assert await records_of(own_broker.address, DEAD_LETTER_TOPIC) == []
    await assert_books_balance(commerce, toss)


async def test_orders_are_paid_although_the_broker_was_away_and_tells_everything_again(
    commerce: Commerce, toss: TossSandbox, own_broker: EmbeddedBroker
) -> None:
    async with at_work(commerce, own_broker):
        first = (await order_pieces(commerce)).order.order_id
        await until(has_payment(commerce, first))
        told = await records_of(own_broker.address, "shop.order_created")
        await own_broker.stop()
        await confirm(commerce, first)  # nobody can be told
        second = (await order_pieces(commerce)).order.order_id
        await own_broker.start()  # with nothing of what it held
        await until(reaches(commerce, first, OrderStatus.PAID), timeout_s=100)
        await until(has_payment(commerce, second), timeout_s=100)
        for record in told:
            await publish_raw(own_broker.address, "shop.order_created", record.value, key=first)
        await confirm(commerce, second)
        await until(reaches(commerce, second, OrderStatus.PAID), timeout_s=100)
    assert len(await commerce.fetch("SELECT 1 FROM payments")) == 2
    await assert_books_balance(commerce, toss)
