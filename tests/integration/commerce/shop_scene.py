"""What the shop's tests play with: carts, orders, payments, and the group's events handed to their consumers by hand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from domain.commerce.books import check_books, totals
from domain.commerce.payment.models import Payment
from domain.commerce.payment.service import PaymentService
from domain.commerce.shop.models import OrderStatus, OrderView, TimelineEntry
from domain.events import DomainEvent
from domain.ids import new_id
from domain.principal import Principal
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.payment.faces import payment_faces
from subgraphs.commerce.shop.faces import shop_faces
from subgraphs.commerce.subscription.faces import subscription_faces
from subgraphs.runtime.faces import Consumer, EventMetadata
from tests.integration.commerce.conftest import ADMIN, ALICE, Commerce
from tests.support.outbox import opened_row, rows_after

GLUCOSE, LIPIDS, CASE, WATER_PASS = "cartridge-01-01", "cartridge-01-02", "accessory-case", "pass-02"
ADDRESS = "서울특별시 강남구 테헤란로 1\n101동 202호"


async def put_in_cart(commerce: Commerce, who: Principal = ALICE, /, **quantities: int) -> None:
    """Put pieces into a cart; product ids with underscores for hyphens."""
    for name, quantity in quantities.items():
        async with commerce.database.transaction() as session:
            await commerce.services.shop.carts.add(
                session, who, user_id="", product_id=name.replace("_", "-"), quantity=quantity
            )


async def order_cart(commerce: Commerce, who: Principal = ALICE, *, key: str = "") -> OrderView:
    async with commerce.database.transaction() as session:
        return await commerce.services.shop.orders.create(
            session, who, user_id="", shipping_address=ADDRESS, payment_method="card", idempotency_key=key
        )


async def order_pieces(commerce: Commerce, who: Principal = ALICE, /, **quantities: int) -> OrderView:
    await put_in_cart(commerce, who, **(quantities or {"cartridge_01_01": 1}))
    return await order_cart(commerce, who)


async def cancel(commerce: Commerce, order_id: str, who: Principal = ALICE) -> OrderView:
    async with commerce.database.transaction() as session:
        return await commerce.services.shop.orders.cancel(session, who, order_id=order_id)


async def ship(commerce: Commerce, order_id: str) -> None:
    async with commerce.database.transaction() as session:
        await commerce.services.shop.orders.ship(session, ADMIN, order_id=order_id)


async def status_of(commerce: Commerce, order_id: str) -> OrderStatus:
    [row] = await commerce.fetch("SELECT status FROM orders WHERE order_id = $1", order_id)
    return OrderStatus(str(row["status"]))


async def stock_of(commerce: Commerce, product_id: str = GLUCOSE) -> int:
    [row] = await commerce.fetch("SELECT stock FROM products WHERE product_id = $1", product_id)
    return int(str(row["stock"]))


async def set_stock(commerce: Commerce, quantity: int, product_id: str = GLUCOSE) -> None:
    """As an administrator would: by a line in the ledger."""
    left = quantity - await stock_of(commerce, product_id)
    if left:
        async with commerce.database.transaction() as session:
            await commerce.services.shop.catalogue.restock(
                session, ADMIN, product_id=product_id, quantity=left, note="counted"
            )


async def timeline_of(commerce: Commerce, order_id: str) -> Sequence[TimelineEntry]:
    async with commerce.database.read() as session:
        return (await commerce.services.shop.orders.timelines(session, [order_id]))[order_id]


async def kinds_of(commerce: Commerce, order_id: str) -> list[str]:
    """What happened to an order, in short."""
    return [str(entry.kind) for entry in await timeline_of(commerce, order_id)]


async def payment_of(commerce: Commerce, order_id: str) -> Payment:
    """The newest payment of an order, as its payer sees it."""
    rows = await commerce.fetch(
        "SELECT payment_id, user_id FROM payments WHERE order_id = $1 ORDER BY created_at DESC, payment_id DESC",
        order_id,
    )
    async with commerce.database.read() as session:
        return await commerce.services.payments.get(session, ADMIN, str(rows[0]["payment_id"]))


async def confirm(commerce: Commerce, order_id: str, who: Principal = ALICE, *, key: str = "") -> Payment:
    """Confirm the payment of an order, with a key of its own unless one is given."""
    payments: PaymentService = commerce.services.payments
    payment = await payment_of(commerce, order_id)
    return await payments.confirm(who, payment_id=payment.payment_id, payment_key=key or f"test-{new_id()}")


@dataclass
class Messenger:
    """Hands the events that were committed to the group's consumers, as the broker would; each as often as asked."""

    commerce: Commerce
    deliveries: int = 1
    _read: int = 0
    _consumers: dict[str, list[Consumer[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        services, database = self.commerce.services, self.commerce.database
        for faces in (payment_faces, shop_faces, subscription_faces):
            for consumer in faces(services, database).consumers:
                self._consumers.setdefault(consumer.topic, []).append(consumer)

    async def deliver(self, *, only: Callable[[str], bool] = lambda _topic: True) -> list[str]:
        """Everything that is new, and what follows from it, until nothing is; the topics in their order."""
        topics: list[str] = []
        while rows := await rows_after(self.commerce.database, self._read):
            for row in rows:
                self._read = row.id
                topics.append(row.topic)
                if only(row.topic):
                    await self.hand_over(row.topic, json.dumps(opened_row(row, self.commerce.database)))
            await self.settle()
        return topics

    async def hand_over(self, topic: str, payload: str, *, service: str = "") -> None:
        """An event to all that listen to it, or to one service alone."""
        for consumer in self._consumers.get(topic, []):
            if service not in ("", consumer.service):
                continue
            event: DomainEvent = consumer.event.model_validate_json(payload)
            for _ in range(self.deliveries):
                async with self.commerce.database.transaction() as session:
                    await consumer.handle(session, event, metadata(topic, event.key))

    async def settle(self) -> None:
        """The background work that carries out what was asked of the provider."""
        while await self.commerce.services.payments.settle_unclear():
            pass


async def assert_books_balance(commerce: Commerce, toss: TossSandbox | None = None) -> None:
    """Once every event was handled: the rows add up, to the won to what the provider has in its own books."""
    async with commerce.database.read() as session:
        assert await check_books(session) == []
        ours = await totals(session)
    if toss is not None:
        theirs = toss.ledger.everything()
        assert ours.captured_krw == sum(payment.amount for payment in theirs)
        assert ours.refunded_krw == sum(payment.amount - payment.balance for payment in theirs)


def metadata(
    topic: str, key: str = "key", *, occurred_at: datetime = datetime(2026, 11, 22, tzinfo=UTC)
) -> EventMetadata:
    return EventMetadata(
        event_id=new_id(),
        topic=topic,
        key=key,
        source="test",
        occurred_at=occurred_at,
        correlation_id="",
        traceparent="",
    )
