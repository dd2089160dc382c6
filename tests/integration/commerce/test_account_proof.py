"""What an unproven holder has put into the cart and ordered ends when somebody else proves the account's address."""

from datetime import timedelta

from domain.commerce.shop.models import OrderStatus
from domain.principal import Principal
from subgraphs.commerce.shop.consumers import shop_consumers
from subgraphs.runtime.account_proof import AccountProven
from tests.integration.commerce.conftest import ALICE, BOB, Commerce
from tests.integration.commerce.shop_scene import (
    GLUCOSE,
    Messenger,
    confirm,
    order_pieces,
    put_in_cart,
    status_of,
    stock_of,
)
from tests.integration.operations.conftest import metadata_of


async def prove(commerce: Commerce, who: Principal = ALICE, *, ago: timedelta = timedelta()) -> None:
    consumers = shop_consumers(commerce.services.shop.saga)
    consumer = next(c for c in consumers if c.topic == AccountProven.topic)
    event = AccountProven(user_id=who.subject, proven_at=commerce.clock.now() - ago)
    async with commerce.database.transaction() as session:
        await consumer.handle(session, event, metadata_of())


async def test_carts_are_emptied_and_unpaid_orders_cancelled(commerce: Commerce) -> None:
    stock = await stock_of(commerce)
    order = (await order_pieces(commerce)).order
    await put_in_cart(commerce, cartridge_01_02=2)
    await put_in_cart(commerce, BOB, cartridge_01_02=1)
    await prove(commerce)
    await prove(commerce)
    assert await status_of(commerce, order.order_id) is OrderStatus.CANCELLED
    assert await stock_of(commerce, GLUCOSE) == stock
    assert [row["user_id"] for row in await commerce.fetch("SELECT user_id FROM cart_items")] == ["bob"]
    assert await commerce.fetch("SELECT 1 FROM orders WHERE shipping_address IS NOT NULL") == []


async def test_a_paid_order_stays_without_its_address(commerce: Commerce) -> None:
    messenger = Messenger(commerce)
    order = (await order_pieces(commerce)).order
    await messenger.deliver()
    await confirm(commerce, order.order_id)
    await messenger.deliver()
    await prove(commerce)
    assert await status_of(commerce, order.order_id) is OrderStatus.PAID
    assert await commerce.fetch("SELECT 1 FROM orders WHERE shipping_address IS NOT NULL") == []
    async with commerce.database.read() as session:
        view = await commerce.services.shop.orders.get(session, ALICE, order.order_id)
    assert view.shipping_address == ""


async def test_what_was_ordered_after_the_proof_stays(commerce: Commerce) -> None:
    order = (await order_pieces(commerce)).order
    await put_in_cart(commerce, cartridge_01_02=2)
    await prove(commerce, ago=timedelta(seconds=1))
    assert await status_of(commerce, order.order_id) is OrderStatus.PENDING
    assert len(await commerce.fetch("SELECT 1 FROM cart_items")) == 1
