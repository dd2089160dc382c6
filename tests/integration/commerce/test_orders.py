"""Orders: made from carts at the prices of the moment, never of more than there is, seen by their buyers alone."""

import asyncio

import pytest

from domain.commerce.payment.errors import PaymentNotPending
from domain.commerce.payment.repository import PaymentRepository
from domain.commerce.payment.states import PaymentStatus
from domain.commerce.shop.catalogue import ProductChange
from domain.commerce.shop.debts import payment_opened
from domain.commerce.shop.errors import (
    CartEmpty,
    OrderMoveRefused,
    OrderNotFound,
    OutOfStock,
    PaymentUnderWay,
    ProductNotOnSale,
    ShopFieldInvalid,
    TierTooLow,
)
from domain.commerce.shop.models import OrderStatus, OrderView
from domain.commerce.shop.saga import SWEEP_SIZE
from domain.commerce.terms import MAX_AMOUNT_KRW
from domain.errors import Forbidden, InvalidInput
from domain.principal import Principal
from subgraphs.commerce.shop.unpaid import UnpaidSweep
from subgraphs.runtime.database import Database
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce, person
from tests.integration.commerce.shop_scene import (
    ADDRESS,
    CASE,
    GLUCOSE,
    LIPIDS,
    Messenger,
    assert_books_balance,
    cancel,
    confirm,
    kinds_of,
    order_cart,
    order_pieces,
    payment_of,
    put_in_cart,
    set_stock,
    ship,
    status_of,
    stock_of,
    timeline_of,
)
from tests.integration.messaging.scene import until


async def reprice(commerce: Commerce, product_id: str, price_krw: int) -> None:
    async with commerce.database.transaction() as session:
        await commerce.services.shop.catalogue.change(
            session, ADMIN, product_id=product_id, change=ProductChange(price_krw=price_krw)
        )


async def get(commerce: Commerce, order_id: str, who: Principal = ALICE) -> OrderView:
    async with commerce.database.read() as session:
        return await commerce.services.shop.orders.get(session, who, order_id)


def sweep_of(commerce: Commerce) -> UnpaidSweep:
    return UnpaidSweep(commerce.services.shop.saga, commerce.database)


async def test_an_order_is_made_at_the_prices_of_its_moment_and_keeps_them(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    await put_in_cart(commerce, cartridge_01_01=2, accessory_case=1)
    await reprice(commerce, GLUCOSE, 16_500)
    order = await order_cart(commerce)
    await reprice(commerce, GLUCOSE, 99_000)
    found = await get(commerce, order.order.order_id)
    assert [(item.product_id, item.quantity, item.unit_price_krw) for item in found.items] == [
        (GLUCOSE, 2, 16_500),
        (CASE, 1, 29_000),
    ]
    assert found.order.total_krw == 2 * 16_500 + 29_000
    assert found.order.status == OrderStatus.PENDING
    assert await stock_of(commerce) == before - 2
    with pytest.raises(CartEmpty):
        await order_cart(commerce)


async def test_an_address_is_kept_sealed_and_shown_to_its_owner(commerce: Commerce) -> None:
    order = await order_pieces(commerce)
    [row] = await commerce.fetch("SELECT shipping_address FROM orders")
    stored = row["shipping_address"]
    assert isinstance(stored, bytes)
    assert "강남구".encode() not in stored
    assert (await get(commerce, order.order.order_id)).shipping_address == ADDRESS


async def test_an_order_without_an_address_is_refused_unless_nothing_is_sent(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=1)
    with pytest.raises(ShopFieldInvalid):
        async with commerce.database.transaction() as session:
            await commerce.services.shop.orders.create(
                session, ALICE, user_id="", shipping_address=" \n ", payment_method=""
            )


async def test_too_little_stock_names_the_product_and_keeps_everything_as_it_was(commerce: Commerce) -> None:
    await put_in_cart(commerce, accessory_case=1, cartridge_01_01=5)
    await set_stock(commerce, 4)
    cases = await stock_of(commerce, CASE)
    with pytest.raises(OutOfStock) as refused:
        await order_cart(commerce)
    assert refused.value.details == {"product_id": GLUCOSE, "left": "4", "wanted": "5"}
    assert await stock_of(commerce, CASE) == cases
    assert await commerce.fetch("SELECT 1 FROM orders") == []
    await set_stock(commerce, 5)
    assert (await order_cart(commerce)).order.status == OrderStatus.PENDING  # the cart was kept


async def test_what_left_the_catalogue_is_not_ordered(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=1)
    async with commerce.database.transaction() as session:
        await commerce.services.shop.catalogue.change(
            session, ADMIN, product_id=GLUCOSE, change=ProductChange(is_active=False)
        )
    with pytest.raises(ProductNotOnSale):
        await order_cart(commerce)


async def test_a_product_of_a_higher_plan_is_not_ordered(commerce: Commerce) -> None:
    before = await stock_of(commerce, "cartridge-04-01")
    await put_in_cart(commerce, cartridge_04_01=1)
    with pytest.raises(TierTooLow) as refused:
        await order_cart(commerce)
    assert refused.value.details["required_tier"] == "pro"
    assert await stock_of(commerce, "cartridge-04-01") == before


async def test_the_largest_cart_at_the_highest_price_fits_the_wire(commerce: Commerce) -> None:
    for product_id in (GLUCOSE, LIPIDS, CASE):
        await reprice(commerce, product_id, 10_000_000)
    order = await order_pieces(commerce, cartridge_01_01=99, cartridge_01_02=99, accessory_case=2)
    assert order.order.total_krw == 2_000_000_000 <= MAX_AMOUNT_KRW


async def test_a_double_click_with_a_key_makes_one_order(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    await put_in_cart(commerce, cartridge_01_01=1)
    orders = await asyncio.gather(*(order_cart(commerce, key="click-1") for _ in range(5)))
    assert len({order.order.order_id for order in orders}) == 1
    assert {order.shipping_address for order in orders} == {ADDRESS}
    assert await stock_of(commerce) == before - 1


async def test_the_same_key_of_two_people_makes_two_orders(commerce: Commerce) -> None:
    for who in (ALICE, BOB):
        await put_in_cart(commerce, who, cartridge_01_01=1)
    orders = [await order_cart(commerce, who, key="click-1") for who in (ALICE, BOB)]
    assert orders[0].order.order_id != orders[1].order.order_id


async def test_a_double_click_without_a_key_makes_one_order_too(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=1)
    answers = await asyncio.gather(*(order_cart(commerce) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, OrderView) for answer in answers) == 1
    assert sum(isinstance(answer, CartEmpty) for answer in answers) == 4


async def test_two_hundred_buyers_of_the_last_ten_make_ten_orders(commerce: Commerce) -> None:
    buyers = [person(f"buyer-{number}") for number in range(200)]
    for buyer in buyers:
        await put_in_cart(commerce, buyer, cartridge_01_01=1)
    await set_stock(commerce, 10)
    answers = await asyncio.gather(*(order_cart(commerce, buyer) for buyer in buyers), return_exceptions=True)
    assert sum(isinstance(answer, OrderView) for answer in answers) == 10
    assert sum(isinstance(answer, OutOfStock) for answer in answers) == 190
    assert await stock_of(commerce) == 0
    await assert_books_balance(commerce)


async def test_orders_of_the_same_products_in_any_order_do_not_deadlock(commerce: Commerce) -> None:
    buyers = [person(f"buyer-{number}") for number in range(30)]
    baskets = [
        ("cartridge_01_01", "cartridge_01_02", "accessory_case"),
        ("accessory_case", "cartridge_01_02", "cartridge_01_01"),
    ]
    for number, buyer in enumerate(buyers):
        await put_in_cart(commerce, buyer, **dict.fromkeys(baskets[number % 2], 1))
    orders = await asyncio.gather(*(order_cart(commerce, buyer) for buyer in buyers))
    # While some are given up, others are made of the same products.
    for number, buyer in enumerate(buyers):
        await put_in_cart(commerce, buyer, **dict.fromkeys(baskets[(number + 1) % 2], 1))
    await asyncio.gather(
        *(cancel(commerce, order.order.order_id, buyer) for order, buyer in zip(orders, buyers, strict=True)),
        *(order_cart(commerce, buyer) for buyer in buyers),
    )
    await assert_books_balance(commerce)


async def test_an_order_is_seen_and_cancelled_by_its_buyer_alone(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    with pytest.raises(OrderNotFound):
        await get(commerce, order_id, BOB)
    with pytest.raises(OrderNotFound):
        await cancel(commerce, order_id, BOB)
    with pytest.raises(Forbidden):
        async with commerce.database.read() as session:
            await commerce.services.shop.orders.list(session, BOB, user_id="alice", limit=0, offset=0)
    with pytest.raises(Forbidden):
        async with commerce.database.transaction() as session:
            await commerce.services.shop.orders.create(
                session, BOB, user_id="alice", shipping_address=ADDRESS, payment_method=""
            )
    async with commerce.database.read() as session:
        assert await commerce.services.shop.orders.visible(session, BOB, [order_id]) == {}
    assert await status_of(commerce, order_id) == OrderStatus.PENDING
    assert (await get(commerce, order_id, ADMIN)).order.user_id == "alice"


async def test_a_customer_ships_nothing(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    with pytest.raises(Forbidden):
        async with commerce.database.transaction() as session:
            await commerce.services.shop.orders.ship(session, ALICE, order_id=order_id)


async def test_orders_are_listed_newest_first_page_by_page(commerce: Commerce) -> None:
    made = []
    for _ in range(5):
        made.append((await order_pieces(commerce)).order.order_id)
        commerce.clock.advance(seconds=1)
    orders = commerce.services.shop.orders
    async with commerce.database.read() as session:
        first, total = await orders.list(session, ALICE, user_id="", limit=2, offset=0)
        rest, _ = await orders.list(session, ALICE, user_id="", limit=10, offset=2)
        nothing, _ = await orders.list(session, BOB, user_id="", limit=0, offset=0)
    assert [view.order.order_id for view in (*first, *rest)] == made[::-1]
    assert (total, list(nothing)) == (5, [])


async def test_giving_up_a_pending_order_frees_its_stock_and_its_payment(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    order_id = (await order_pieces(commerce, cartridge_01_01=3)).order.order_id
    await Messenger(commerce).deliver()
    await cancel(commerce, order_id)
    again = await cancel(commerce, order_id)
    assert again.order.status == OrderStatus.CANCELLED
    assert await stock_of(commerce) == before
    assert (await payment_of(commerce, order_id)).status == PaymentStatus.CANCELLED
    with pytest.raises(PaymentNotPending):
        await confirm(commerce, order_id)
    assert await kinds_of(commerce, order_id) == ["created", "payment_opened", "cancelled"]
    assert (await timeline_of(commerce, order_id))[-1].reason == "by_customer"


async def test_giving_up_a_paid_order_pays_it_back(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    order = await order_pieces(commerce, cartridge_01_01=3)
    order_id, total = order.order.order_id, order.order.total_krw
    messenger = Messenger(commerce)
    await messenger.deliver()
    await confirm(commerce, order_id)
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.PAID
    assert (await cancel(commerce, order_id)).order.status == OrderStatus.CANCELLED
    assert await stock_of(commerce) == before
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.REFUNDED
    assert (await payment_of(commerce, order_id)).status == PaymentStatus.REFUNDED
    assert await stock_of(commerce) == before
    entries = [(str(entry.kind), entry.amount_krw) for entry in await timeline_of(commerce, order_id)]
    assert entries == [
        ("created", total),
        ("payment_opened", total),
        ("paid", total),
        ("cancelled", None),
        ("refund_requested", total),
        ("refunded", total),
    ]


async def test_a_captured_payment_that_was_not_heard_of_is_paid_back_when_its_order_is_given_up(
    commerce: Commerce,
) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    await confirm(commerce, order_id)
    assert (await cancel(commerce, order_id)).order.status == OrderStatus.CANCELLED  # payment.completed is on its way
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.REFUNDED
    assert (await payment_of(commerce, order_id)).status == PaymentStatus.REFUNDED


async def test_a_shipped_order_is_not_given_up_and_its_stock_stays_out(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    with pytest.raises(OrderMoveRefused):
        await ship(commerce, order_id)  # it is not paid
    await confirm(commerce, order_id)
    await messenger.deliver()
    left = await stock_of(commerce)
    await ship(commerce, order_id)
    await ship(commerce, order_id)
    with pytest.raises(OrderMoveRefused):
        await cancel(commerce, order_id)
    async with commerce.database.transaction() as session:
        delivered = await commerce.services.shop.orders.deliver(session, ADMIN, order_id=order_id)
    assert delivered.order.status == OrderStatus.DELIVERED
    payment = await payment_of(commerce, order_id)
    await commerce.services.payments.refund(ADMIN, payment_id=payment.payment_id, amount_krw=None, reason="반품")
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.REFUNDED
    assert await stock_of(commerce) == left
    assert await kinds_of(commerce, order_id) == [
        "created",
        "payment_opened",
        "paid",
        "shipped",
        "delivered",
        "refunded",
    ]


async def test_an_order_that_nobody_pays_is_given_up_in_time(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    order_id = (await order_pieces(commerce, cartridge_01_01=2)).order.order_id
    await Messenger(commerce).deliver()
    commerce.clock.advance(minutes=29, seconds=59)
    await sweep_of(commerce).sweep()
    assert await status_of(commerce, order_id) == OrderStatus.PENDING
    commerce.clock.advance(seconds=1)
    await sweep_of(commerce).sweep()
    assert await status_of(commerce, order_id) == OrderStatus.CANCELLED
    assert (await timeline_of(commerce, order_id))[-1].reason == "timed_out"
    assert (await payment_of(commerce, order_id)).status == PaymentStatus.CANCELLED
    assert await stock_of(commerce) == before


async def test_several_sweeps_at_once_give_each_order_up_once(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    for number in range(SWEEP_SIZE + 10):
        await order_pieces(commerce, person(f"buyer-{number}"))
    commerce.clock.advance(minutes=31)
    looked_at = await asyncio.gather(*(sweep_of(commerce).sweep() for _ in range(4)))
    assert sum(looked_at) == SWEEP_SIZE + 10
    assert await stock_of(commerce) == before
    await assert_books_balance(commerce)
    [row] = await commerce.fetch("SELECT count(*) AS told FROM outbox WHERE topic = 'shop.order_cancelled'")
    assert row["told"] == SWEEP_SIZE + 10


async def test_an_order_whose_payment_is_being_captured_is_left_to_it(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    commerce.clock.advance(minutes=31)
    confirming = asyncio.create_task(confirm(commerce, order_id, key="test-late-1"))

    async def in_flight() -> bool:
        return (await payment_of(commerce, order_id)).status == PaymentStatus.CONFIRMING

    await until(in_flight)
    assert await sweep_of(commerce).sweep() == 1
    assert await status_of(commerce, order_id) == OrderStatus.PENDING
    with pytest.raises(PaymentUnderWay):
        await cancel(commerce, order_id)
    assert await sweep_of(commerce).sweep() == 0  # not asked again at once
    assert (await confirming).status == PaymentStatus.COMPLETED
    commerce.clock.advance(minutes=2)
    assert await sweep_of(commerce).sweep() == 1  # captured, and the event is on its way
    assert await status_of(commerce, order_id) == OrderStatus.PENDING
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.PAID


async def test_who_confirms_while_the_order_is_given_up_is_refused(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    await Messenger(commerce).deliver()
    commerce.clock.advance(minutes=31)
    async with commerce.database.transaction() as session:
        assert await commerce.services.shop.saga.time_out(session, order_id)
        confirming = asyncio.create_task(confirm(commerce, order_id))
        await until(lambda: _waits_for_a_lock(commerce.database))
    with pytest.raises(PaymentNotPending):
        await confirming
    assert await status_of(commerce, order_id) == OrderStatus.CANCELLED


async def test_payment_writes_the_story_of_an_order_that_is_being_given_up_without_waiting_for_it(
    commerce: Commerce,
) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    await Messenger(commerce).deliver()
    payment = await payment_of(commerce, order_id)
    commerce.clock.advance(minutes=31)

    async def give_up() -> bool:
        async with commerce.database.transaction() as session:
            return await commerce.services.shop.saga.time_out(session, order_id)

    async with commerce.database.transaction() as session:
        await PaymentRepository(session).get_for_update(payment.payment_id)
        giving_up = asyncio.create_task(give_up())  # holds the order, and waits for the payment that we hold
        await until(lambda: _waits_for_a_lock(commerce.database))
        await payment_opened(session, order_id, payment_id="another", amount_krw=1, at=commerce.clock.now())
    assert await giving_up


async def _waits_for_a_lock(database: Database) -> bool:
    async with database.raw() as connection:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )


@pytest.mark.parametrize("order_id", ["", "nothing", "\0", "x" * 100_000, "'; --"])
async def test_an_unknown_order_is_not_found(commerce: Commerce, order_id: str) -> None:
    with pytest.raises(OrderNotFound):
        await get(commerce, order_id)
    with pytest.raises(OrderNotFound):
        await cancel(commerce, order_id)


@pytest.mark.parametrize(
    ("address", "method", "key"),
    [
        ("x" * 501, "card", ""),
        ("\0", "card", ""),
        ("가" * 100_000, "card", ""),
        (ADDRESS, "c\0rd", ""),
        (ADDRESS, "x" * 100_000, ""),
        (ADDRESS, "card", "\0"),
        (ADDRESS, "card", "k" * 65),
    ],
)
async def test_an_order_cannot_have_every_text(commerce: Commerce, address: str, method: str, key: str) -> None:
    await put_in_cart(commerce, cartridge_01_01=1)
    with pytest.raises(InvalidInput):
        async with commerce.database.transaction() as session:
            await commerce.services.shop.orders.create(
                session, ALICE, user_id="", shipping_address=address, payment_method=method, idempotency_key=key
            )
    assert await commerce.fetch("SELECT 1 FROM orders") == []
