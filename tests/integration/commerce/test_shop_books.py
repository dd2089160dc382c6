"""The books see what does not add up in the shop: each row is bent once, and the check that is for it tells."""

import pytest

from domain.commerce.books import Difference, check_books
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import BOB, Commerce
from tests.integration.commerce.shop_scene import Messenger, assert_books_balance, cancel, confirm, order_pieces

LEDGER = "a product's stock is the sum of its ledger"
RESERVED = "an order of goods has reserved each of its lines once"
RELEASED = "what an order has reserved is free again when it is over and was not shipped, and only then"
TOTAL = "an order's total is the sum of its lines"
PAID = "an order that was paid has one captured payment: its buyer's, of its amount"
REFUNDED = "an order knows what was paid back of it, and is refunded when that is all"
STRAY = "money that no standing order asks for was paid back"


async def differences(commerce: Commerce) -> set[str]:
    async with commerce.database.read() as session:
        found: list[Difference] = await check_books(session)
    return {difference.check for difference in found}


@pytest.mark.parametrize(
    ("bend", "told"),
    [
        ("UPDATE products SET stock = stock + 1 WHERE product_id = 'reader-r1'", {LEDGER}),
        ("UPDATE order_items SET quantity = 3, unit_price_krw = 10600 WHERE quantity = 2", {RESERVED}),
        (
            """INSERT INTO stock_movements (product_id, kind, quantity, order_id, note, recorded_by, recorded_at)
            SELECT product_id, 'released', 2, order_id, '', '', now() FROM stock_movements
            WHERE kind = 'reserved' AND quantity = -2""",
            {LEDGER, RELEASED},
        ),
        ("UPDATE order_items SET unit_price_krw = unit_price_krw - 1", {TOTAL}),
        ("UPDATE orders SET user_id = 'mallory' WHERE status = 'paid'", {PAID}),
        ("UPDATE orders SET payment_id = NULL WHERE status = 'paid'", {PAID, STRAY}),
        ("UPDATE orders SET status = 'paid' WHERE status = 'cancelled'", {PAID, RELEASED}),
        ("UPDATE orders SET refunded_krw = 1 WHERE status = 'paid'", {REFUNDED}),
        ("UPDATE orders SET status = 'cancelled' WHERE status = 'paid'", {RELEASED, STRAY}),
    ],
)
async def test_each_check_sees_what_it_is_for(commerce: Commerce, toss: TossSandbox, bend: str, told: set[str]) -> None:
    paid = (await order_pieces(commerce, cartridge_01_01=2)).order.order_id
    given_up = (await order_pieces(commerce, BOB)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    await confirm(commerce, paid)
    await cancel(commerce, given_up, BOB)
    await messenger.deliver()
    await assert_books_balance(commerce, toss)
    await commerce.fetch(bend)
    assert await differences(commerce) == told
