"""Orders and the events of their payments and plans: each may come twice, late, and before those it follows from."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.commerce.payment.errors import OrderNotPayable, PaymentDeclined, RefundNotAllowed
from domain.commerce.payment.models import PaymentType
from domain.commerce.payment.states import PaymentStatus
from domain.commerce.shop import stock
from domain.commerce.shop.errors import OrderMoveRefused
from domain.commerce.shop.models import OrderStatus
from domain.commerce.terms import Tier
from domain.ids import UserId, new_id
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.shop.unpaid import UnpaidSweep
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce
from tests.integration.commerce.shop_scene import (
    GLUCOSE,
    WATER_PASS,
    Messenger,
    assert_books_balance,
    cancel,
    confirm,
    kinds_of,
    order_pieces,
    payment_of,
    ship,
    status_of,
    stock_of,
    timeline_of,
)

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)


def payment_event(
    topic: str, order_id: str, payment_id: str, *, amount_krw: int = 15_900, user_id: str = "alice", **more: object
) -> tuple[str, str]:
    """A topic, and a payload as payment tells it."""
    payload = {
        "payment_id": payment_id,
        "user_id": user_id,
        "order_id": order_id,
        "subscription_id": "",
        "payment_type": "one_time",
        "amount_krw": amount_krw,
        "completed_at": AT.isoformat(),
        "failed_at": AT.isoformat(),
        "refunded_at": (AT + timedelta(minutes=1)).isoformat(),
        "code": "REJECT_CARD_PAYMENT",
        **more,
    }
    return topic, json.dumps(payload)


def refund_event(order_id: str, payment_id: str, *, nth: int, amount_krw: int, total_krw: int) -> tuple[str, str]:
    return payment_event(
        "payment.refunded",
        order_id,
        payment_id,
        refund_id=f"{payment_id}-refund-{nth}",
        refund_amount_krw=amount_krw,
        refunded_total_krw=total_krw,
        is_full=total_krw == 15_900,
    )


@dataclass(frozen=True)
class End:
    """Where an order has come to."""

    status: str
    refunded_krw: int
    stock: int
    told: frozenset[str]


async def end_of(commerce: Commerce, order_id: str) -> End:
    [row] = await commerce.fetch("SELECT status, refunded_krw FROM orders WHERE order_id = $1", order_id)
    entries = await timeline_of(commerce, order_id)
    return End(
        str(row["status"]),
        int(str(row["refunded_krw"])),
        await stock_of(commerce),
        # Whether a refund was asked for depends on what was known by then.
        frozenset(f"{e.kind} {e.amount_krw}" for e in entries if e.kind != "refund_requested"),
    )


async def play(commerce: Commerce, messenger: Messenger, story: str, order: Sequence[int]) -> End:
    """A fresh order after the events of a story, in an order of their indexes, then paid back to stock."""
    order_id = (await order_pieces(commerce)).order.order_id
    if story == "late":
        await cancel(commerce, order_id)
    events = events_of(story, order_id, new_id())
    for index in order:
        await messenger.hand_over(*events[index])
    return await end_of(commerce, order_id)


def events_of(story: str, order_id: str, payment_id: str) -> list[tuple[str, str]]:
    completed = payment_event("payment.completed", order_id, payment_id)
    part = refund_event(order_id, payment_id, nth=1, amount_krw=5_900, total_krw=5_900)
    rest = refund_event(order_id, payment_id, nth=2, amount_krw=10_000, total_krw=15_900)
    return {
        "paid": [completed],
        "refused": [payment_event("payment.failed", order_id, payment_id)],
        "partly refunded": [completed, part],
        "refunded": [completed, part, rest],
        "late": [completed, part, rest],
    }[story]


EXPECTED = {
    "paid": ("paid", 0, -1),
    "refused": ("cancelled", 0, 0),
    "partly refunded": ("paid", 5_900, -1),
    "refunded": ("refunded", 15_900, 0),
    "late": ("refunded", 15_900, 0),
}


async def test_every_event_twice_and_in_any_order_comes_to_the_same_end(commerce: Commerce) -> None:
    messenger = Messenger(commerce)
    loop = asyncio.get_running_loop()
    ends: dict[str, frozenset[str]] = {}

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def any_order(data: st.DataObject) -> None:
        story = data.draw(st.sampled_from(sorted(EXPECTED)))
        twice = [*range(len(events_of(story, "", ""))), *range(len(events_of(story, "", "")))]
        order = data.draw(st.permutations(twice))

        async def example() -> None:
            before = await stock_of(commerce)
            end = await play(commerce, messenger, story, order)
            assert (end.status, end.refunded_krw, end.stock - before) == EXPECTED[story]
            assert ends.setdefault(story, end.told) == end.told

        asyncio.run_coroutine_threadsafe(example(), loop).result(60)

    await asyncio.to_thread(any_order)
    rows = await commerce.fetch(
        "SELECT product_id FROM products JOIN stock_movements USING (product_id) GROUP BY product_id, stock "
        "HAVING stock <> sum(quantity)"
    )
    assert rows == []
    [row] = await commerce.fetch(
        "SELECT count(*) AS told, count(DISTINCT payload->>'order_id') AS orders FROM outbox "
        "WHERE topic = 'shop.order_cancelled' AND payload->>'payment_id' <> ''"
    )
    assert row["told"] == row["orders"]  # a refund is asked for once an order


async def test_a_paid_order_is_the_end_of_the_whole_chain(commerce: Commerce, toss: TossSandbox) -> None:
    order = await order_pieces(commerce, cartridge_01_01=2)
    order_id = order.order.order_id
    messenger = Messenger(commerce, deliveries=2)
    assert await messenger.deliver() == ["shop.order_created"]
    payment = await payment_of(commerce, order_id)
    assert (payment.status, payment.amount_krw, payment.user_id) == ("pending", order.order.total_krw, "alice")
    await confirm(commerce, order_id)
    assert await messenger.deliver() == ["payment.completed"]
    async with commerce.database.read() as session:
        found = await commerce.services.shop.orders.get(session, ALICE, order_id)
    assert (found.order.status, found.order.payment_id) == (OrderStatus.PAID, payment.payment_id)
    assert await kinds_of(commerce, order_id) == ["created", "payment_opened", "paid"]
    await assert_books_balance(commerce, toss)


async def test_a_refused_payment_gives_the_order_up_and_its_stock_back_once(
    commerce: Commerce, toss: TossSandbox
) -> None:
    before = await stock_of(commerce)
    order_id = (await order_pieces(commerce, cartridge_01_01=2)).order.order_id
    messenger = Messenger(commerce, deliveries=2)
    await messenger.deliver()
    with pytest.raises(PaymentDeclined):
        await confirm(commerce, order_id, key="test-decline")
    assert await messenger.deliver() == ["payment.failed", "shop.order_cancelled"]
    assert await status_of(commerce, order_id) == OrderStatus.CANCELLED
    assert await stock_of(commerce) == before
    assert await kinds_of(commerce, order_id) == ["created", "payment_opened", "payment_failed", "cancelled"]
    assert (await timeline_of(commerce, order_id))[2].reason == "REJECT_CARD_PAYMENT"
    await assert_books_balance(commerce, toss)


async def test_a_refusal_that_is_heard_of_late_does_not_give_up_what_was_paid_in_a_second_try(
    commerce: Commerce, toss: TossSandbox
) -> None:
    order = await order_pieces(commerce)
    order_id = order.order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    with pytest.raises(PaymentDeclined):
        await confirm(commerce, order_id, key="test-decline")
    commerce.clock.advance(seconds=1)
    async with commerce.database.transaction() as session:
        await commerce.services.payments.create(
            session,
            ALICE,
            user_id="",
            order_id=order_id,
            subscription_id="",
            payment_type=PaymentType.ONE_TIME,
            amount_krw=order.order.total_krw,
            payment_method="card",
        )
    await confirm(commerce, order_id)
    assert await messenger.deliver() == ["payment.failed", "payment.completed"]
    assert await status_of(commerce, order_id) == OrderStatus.PAID
    await assert_books_balance(commerce, toss)


async def test_a_capture_after_the_order_was_given_up_is_paid_back(commerce: Commerce, toss: TossSandbox) -> None:
    before = await stock_of(commerce)
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    await confirm(commerce, order_id)
    # The order does not hear of it, and a sweep that did not ask payment gives it up.
    await commerce.fetch("UPDATE orders SET status = 'cancelled', cancel_reason = 'timed_out'")
    async with commerce.database.transaction() as session:
        await stock.release(session, order_id, by="shop", at=commerce.clock.now())
    assert await messenger.deliver() == ["payment.completed", "shop.order_cancelled", "payment.refunded"]
    assert await status_of(commerce, order_id) == OrderStatus.REFUNDED
    assert (await payment_of(commerce, order_id)).status == PaymentStatus.REFUNDED
    assert await stock_of(commerce) == before
    await assert_books_balance(commerce, toss)


async def test_a_refund_by_the_payer_takes_the_order_back(commerce: Commerce, toss: TossSandbox) -> None:
    before = await stock_of(commerce)
    order_id = (await order_pieces(commerce, cartridge_01_01=2)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    payment = await confirm(commerce, order_id)
    await messenger.deliver()
    with pytest.raises(RefundNotAllowed, match="whole"):  # all but a won, and the goods would come all the same
        await commerce.services.payments.refund(
            ALICE, payment_id=payment.payment_id, amount_krw=payment.amount_krw - 1, reason=""
        )
    await commerce.services.payments.refund(ADMIN, payment_id=payment.payment_id, amount_krw=1_000, reason="")
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.PAID
    await assert_books_balance(commerce, toss)
    await commerce.services.payments.refund(ALICE, payment_id=payment.payment_id, amount_krw=None, reason="")
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.REFUNDED
    assert await stock_of(commerce) == before
    await assert_books_balance(commerce, toss)


async def test_a_payment_of_another_amount_or_person_does_not_pay_an_order(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.hand_over(*payment_event("payment.completed", order_id, "p-1", amount_krw=1))
    await messenger.hand_over(*payment_event("payment.completed", order_id, "p-2", user_id="bob"))
    assert await status_of(commerce, order_id) == OrderStatus.PENDING
    assert "paid" not in await kinds_of(commerce, order_id)


async def test_another_persons_refusal_does_not_give_an_order_up(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    await Messenger(commerce).hand_over(*payment_event("payment.failed", order_id, "p-1", user_id="bob"))
    assert await status_of(commerce, order_id) == OrderStatus.PENDING


async def test_an_order_of_another_shop_is_none_of_ours(commerce: Commerce) -> None:
    messenger = Messenger(commerce)
    for event in events_of("refunded", "test-order-001", "p-1"):
        await messenger.hand_over(*event)
    await messenger.hand_over(*payment_event("payment.failed", "test-order-001", "p-2"))
    assert await commerce.fetch("SELECT 1 FROM orders") == []


async def test_a_pass_opens_cartridges_when_paid_and_closes_them_when_refunded(
    commerce: Commerce, toss: TossSandbox
) -> None:
    messenger = Messenger(commerce, deliveries=2)
    await subscribe(commerce, messenger, Tier.BASIC)
    async with commerce.database.transaction() as session:
        await commerce.services.shop.carts.add(session, ALICE, user_id="", product_id=WATER_PASS, quantity=1)
        order = await commerce.services.shop.orders.create(
            session, ALICE, user_id="", shipping_address="", payment_method="card"
        )
    order_id = order.order.order_id
    assert not await may_use_water(commerce)
    await messenger.deliver()
    payment = await confirm(commerce, order_id)
    assert not await may_use_water(commerce)
    await messenger.deliver()
    assert await may_use_water(commerce)
    await commerce.services.payments.refund(ALICE, payment_id=payment.payment_id, amount_krw=None, reason="")
    await messenger.deliver()
    assert not await may_use_water(commerce)
    await assert_books_balance(commerce, toss)


async def test_a_pass_is_not_taken_back_once_it_was_used_for_too_long(commerce: Commerce) -> None:
    messenger = Messenger(commerce)
    await subscribe(commerce, messenger, Tier.BASIC)
    order_id = (await order_pieces(commerce, pass_02=1)).order.order_id
    await messenger.deliver()
    payment = await confirm(commerce, order_id)
    await messenger.deliver()
    commerce.clock.advance(days=8)
    with pytest.raises(OrderMoveRefused, match="7 days"):
        await cancel(commerce, order_id)
    with pytest.raises(RefundNotAllowed):
        await commerce.services.payments.refund(ALICE, payment_id=payment.payment_id, amount_krw=None, reason="")
    assert await may_use_water(commerce)
    assert (await cancel(commerce, order_id, ADMIN)).order.status == OrderStatus.CANCELLED


async def test_what_is_being_paid_back_is_not_shipped(commerce: Commerce, toss: TossSandbox) -> None:
    """The shop has not heard of the refund yet."""
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    payment = await confirm(commerce, order_id)
    await messenger.deliver()
    await commerce.services.payments.refund(ALICE, payment_id=payment.payment_id, amount_krw=None, reason="")
    with pytest.raises(OrderMoveRefused, match="paid back"):
        await ship(commerce, order_id)
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.REFUNDED
    await assert_books_balance(commerce, toss)


async def may_use_water(commerce: Commerce) -> bool:
    async with commerce.database.read() as session:
        decision = await commerce.services.cartridges.check(session, ALICE, user_id="", category=0x02, type_index=0x01)
    return decision.allowed


async def plan_orders(commerce: Commerce) -> list[dict[str, object]]:
    return await commerce.fetch(
        "SELECT order_id, status, total_krw, charge_key, payment_id, product_id FROM orders "
        "JOIN order_items USING (order_id) WHERE kind = 'subscription' ORDER BY created_at, order_id"
    )


async def subscribe(commerce: Commerce, messenger: Messenger, tier: Tier) -> str:
    """A plan that was chosen, ordered and paid; its order."""
    async with commerce.database.transaction() as session:
        await commerce.services.subscriptions.create(session, ALICE, user_id="", tier=tier)
    await messenger.deliver()
    order_id = str((await plan_orders(commerce))[-1]["order_id"])
    await confirm(commerce, order_id)
    await messenger.deliver()
    return order_id


async def test_a_plan_comes_in_force_through_its_order(commerce: Commerce, toss: TossSandbox) -> None:
    order_id = await subscribe(commerce, Messenger(commerce, deliveries=2), Tier.PRO)
    [order] = await plan_orders(commerce)
    assert (order["status"], order["total_krw"], order["product_id"]) == ("paid", 29_900, "plan-pro")
    async with commerce.database.read() as session:
        assert await commerce.services.subscriptions.tier_of(session, UserId("alice")) is Tier.PRO
    assert await kinds_of(commerce, order_id) == ["created", "payment_opened", "paid"]
    await assert_books_balance(commerce, toss)


async def test_a_plan_that_was_paid_after_its_order_timed_out_is_a_sale_all_the_same(
    commerce: Commerce, toss: TossSandbox
) -> None:
    messenger = Messenger(commerce)
    async with commerce.database.transaction() as session:
        await commerce.services.subscriptions.create(session, ALICE, user_id="", tier=Tier.BASIC)
    await messenger.deliver()
    [order] = await plan_orders(commerce)
    order_id = str(order["order_id"])
    await confirm(commerce, order_id)
    await commerce.fetch("UPDATE orders SET status = 'cancelled', cancel_reason = 'timed_out', due_check_at = NULL")
    await messenger.deliver()
    assert await status_of(commerce, order_id) == OrderStatus.PAID
    assert (await payment_of(commerce, order_id)).status == PaymentStatus.COMPLETED
    await assert_books_balance(commerce, toss)


async def test_a_plan_can_be_paid_for_a_day(commerce: Commerce) -> None:
    messenger = Messenger(commerce)
    async with commerce.database.transaction() as session:
        await commerce.services.subscriptions.create(session, ALICE, user_id="", tier=Tier.PRO)
    await messenger.deliver()
    [order] = await plan_orders(commerce)
    sweep = UnpaidSweep(commerce.services.shop.saga, commerce.database)
    commerce.clock.advance(hours=23, minutes=59)
    await sweep.sweep()
    assert await status_of(commerce, str(order["order_id"])) == OrderStatus.PENDING
    commerce.clock.advance(minutes=1)
    await sweep.sweep()
    assert await status_of(commerce, str(order["order_id"])) == OrderStatus.CANCELLED
    assert (await payment_of(commerce, str(order["order_id"]))).status == PaymentStatus.CANCELLED


async def test_an_order_for_a_plan_that_nobody_wants_any_more_cannot_be_paid_and_takes_no_other_with_it(
    commerce: Commerce, toss: TossSandbox
) -> None:
    messenger = Messenger(commerce)
    await subscribe(commerce, messenger, Tier.BASIC)
    for tier in (Tier.PRO, Tier.CLINICAL):
        commerce.clock.advance(minutes=1)
        await commerce.services.subscriptions.update(ALICE, user_id="", new_tier=tier)
        await messenger.deliver()
    pro, clinical = (str(order["order_id"]) for order in (await plan_orders(commerce))[1:])
    assert (await payment_of(commerce, pro)).status == PaymentStatus.CANCELLED
    with pytest.raises(OrderNotPayable):
        async with commerce.database.transaction() as session:
            await commerce.services.payments.create(
                session,
                ALICE,
                user_id="",
                order_id=pro,
                subscription_id="",
                payment_type=PaymentType.ONE_TIME,
                amount_krw=20_000,
                payment_method="card",
            )
    [due] = await commerce.fetch("SELECT expires_at FROM orders WHERE order_id = $1", pro)
    assert isinstance(due["expires_at"], datetime)
    commerce.clock.advance(seconds=(due["expires_at"] - commerce.clock.now()).total_seconds())
    await UnpaidSweep(commerce.services.shop.saga, commerce.database).sweep()
    assert await status_of(commerce, pro) == OrderStatus.CANCELLED
    assert (await payment_of(commerce, clinical)).status == PaymentStatus.PENDING
    await confirm(commerce, clinical)
    await messenger.deliver()
    assert await status_of(commerce, clinical) == OrderStatus.PAID
    await assert_books_balance(commerce, toss)


def plan_payment(subscription_id: str, payment_id: str, *, at: datetime = AT) -> tuple[str, str]:
    return payment_event(
        "payment.completed",
        "",
        payment_id,
        amount_krw=29_900,
        subscription_id=subscription_id,
        payment_type="subscription",
        completed_at=at.isoformat(),
    )


def plan_chosen(subscription_id: str, *, at: datetime = AT - timedelta(minutes=1)) -> tuple[str, str]:
    payload = {
        "subscription_id": subscription_id,
        "user_id": "alice",
        "tier": "pro",
        "status": "suspended",
        "amount_due_krw": 29_900,
        "created_at": at.isoformat(),
        "expires_at": None,
    }
    return "subscription.created", json.dumps(payload)


async def hand_to_shop(messenger: Messenger, event: tuple[str, str]) -> None:
    """To the shop alone: the other services do not know these subscriptions."""
    await messenger.hand_over(*event, service="shop")


async def test_a_plan_and_its_payment_make_one_order_whichever_is_heard_of_first(commerce: Commerce) -> None:
    messenger = Messenger(commerce, deliveries=2)
    for number, order in enumerate([(0, 1), (1, 0)]):
        events = [plan_chosen(f"s-{number}"), plan_payment(f"s-{number}", f"p-{number}")]
        for index in order:
            await hand_to_shop(messenger, events[index])
        orders = await commerce.fetch(
            "SELECT status, payment_id, charge_key, product_id, quantity FROM orders JOIN order_items USING (order_id) "
            "WHERE subscription_id = $1",
            f"s-{number}",
        )
        assert orders == [
            {
                "status": "paid",
                "payment_id": f"p-{number}",
                "charge_key": f"start:s-{number}",
                "product_id": "plan-pro",
                "quantity": 1,
            }
        ]


async def test_a_plan_and_its_payment_heard_of_at_the_same_moment_make_one_order(commerce: Commerce) -> None:
    messenger = Messenger(commerce)
    for number in range(5):
        chosen, paid = plan_chosen(f"s-{number}"), plan_payment(f"s-{number}", f"p-{number}")
        await asyncio.gather(*(hand_to_shop(messenger, event) for event in (chosen, paid, chosen, paid)))
    orders = await plan_orders(commerce)
    assert [(order["status"], order["product_id"]) for order in orders] == [("paid", "plan-pro")] * 5


async def test_an_event_that_several_processes_handle_at_once_takes_effect_once(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    completed, part, rest = events_of("refunded", order_id, "p-1")
    await asyncio.gather(*(messenger.hand_over(*event) for event in (completed, rest, part, rest, completed)))
    assert await end_of(commerce, order_id) == End(
        "refunded", 15_900, before, frozenset({"created 15900", "paid 15900", "refunded 5900", "refunded 10000"})
    )


async def test_an_older_payment_does_not_take_the_place_of_a_later_charge(commerce: Commerce) -> None:
    messenger = Messenger(commerce)
    await hand_to_shop(messenger, plan_payment("s-1", "p-1", at=AT))
    await hand_to_shop(messenger, plan_chosen("s-1", at=AT + timedelta(days=30)))
    assert {(o["status"], o["payment_id"]) for o in await plan_orders(commerce)} == {("paid", "p-1"), ("pending", None)}


async def test_a_plan_is_neither_shipped_nor_given_up_as_an_order_once_it_is_paid(commerce: Commerce) -> None:
    order_id = await subscribe(commerce, Messenger(commerce), Tier.BASIC)
    for command in (ship, cancel):
        with pytest.raises(OrderMoveRefused):
            await command(commerce, order_id)


async def test_stock_flows_back_through_the_same_ledger(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    for who in (ALICE, BOB, ADMIN):
        order_id = (await order_pieces(commerce, who, cartridge_01_01=2)).order.order_id
        await cancel(commerce, order_id, who)
        await cancel(commerce, order_id, who)
    lines = await commerce.fetch(
        "SELECT kind, sum(quantity) AS pieces FROM stock_movements WHERE product_id = $1 AND order_id IS NOT NULL "
        "GROUP BY kind ORDER BY kind",
        GLUCOSE,
    )
    assert [(line["kind"], line["pieces"]) for line in lines] == [("released", 6), ("reserved", -6)]
    assert await stock_of(commerce) == before
