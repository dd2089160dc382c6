"""The books balance to the won whatever happens, and every check of them can fail."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from domain.commerce.books import PAYMENT_CHECKS, check_books, totals
from domain.commerce.payment.ports import OutcomeUnclear
from domain.errors import AppError
from domain.ids import new_id
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ALICE, Commerce
from tests.integration.commerce.paying import PRICE_KRW, Instance, assert_books_balance, instance, told
from tests.integration.commerce.test_payment_captures import PowerFailure

FAULTS = ("nothing", "lost before", "lost after", "crash before", "crash after")
ORDERS = ("order-a", "order-b", "order-c")


@dataclass(frozen=True)
class Step:
    """One thing that clients do at the same time, and what the wire does meanwhile."""

    kind: str
    orders: tuple[str, ...]
    amounts: tuple[int, ...]
    faults: tuple[str, ...]
    key: str


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(("confirm", "refund", "settle", "cancel")),
        orders=st.lists(st.sampled_from(ORDERS), min_size=1, max_size=4).map(tuple),
        amounts=st.lists(st.sampled_from((0, 1, 9_900, 15_000, PRICE_KRW)), min_size=4, max_size=4).map(tuple),
        faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=6).map(tuple),
        key=st.sampled_from(
            ("test-pay", "test-pay", "test-decline", "test-500", "test-error", "test-refund-500", "test-refund-error")
        ),
    ),
    min_size=3,
    max_size=10,
)


@dataclass
class Weather:
    """Faults of the wire, one for each message."""

    faults: list[str] = field(default_factory=list)

    async def strike(self, *moments: str) -> None:
        if self.faults and self.faults[0] in moments:
            fault = self.faults.pop(0)
            if fault.startswith("crash"):
                raise PowerFailure
            raise OutcomeUnclear(fault)
        if self.faults and self.faults[0] == "nothing":
            self.faults.pop(0)

    async def before(self) -> None:
        await self.strike("lost before", "crash before")

    async def after(self) -> None:
        await self.strike("lost after", "crash after")


async def take(one: Instance, step: Step, order_id: str, amount_krw: int) -> None:
    """What one client does. Refusals and crashes are part of the story; bugs are not."""
    with suppress(AppError, PowerFailure):
        match step.kind:
            case "confirm":
                opened = await one.open(order_id=order_id)
                await one.payments.confirm(ALICE, payment_id=opened.payment_id, payment_key=step.key)
            case "refund":
                async with one.commerce.database.read() as session:
                    settled = await one.payments.settled_for_order(session, order_id)
                if settled:
                    await one.payments.refund(ALICE, payment_id=settled.payment_id, amount_krw=amount_krw, reason="")
            case "settle":
                one.commerce.clock.advance(minutes=6)
                await one.payments.settle_unclear()
            case _:
                async with one.commerce.database.transaction() as session:
                    await one.payments.cancel_open(session, order_id=order_id)


async def live_through(commerce: Commerce, toss: TossSandbox, steps: list[Step]) -> None:
    names = {order_id: f"{order_id}-{new_id()}" for order_id in ORDERS}  # examples share a database
    async with (
        instance(commerce, toss, patience_s=0.35) as one,
        instance(commerce, toss, patience_s=0.35) as other,
    ):
        weather = Weather()
        for process in (one, other):
            process.wire.before_confirm = process.wire.before_refund = weather.before
            process.wire.after_confirm = process.wire.after_refund = weather.after
        for step in steps:
            weather.faults = list(step.faults)
            await asyncio.gather(
                *(
                    take(one if n % 2 else other, step, names[order_id], step.amounts[n])
                    for n, order_id in enumerate(step.orders)
                )
            )
            async with commerce.database.read() as session:  # at every moment
                assert await check_books(session, PAYMENT_CHECKS) == []
        weather.faults = []
        for _ in range(6):  # fair weather: everything is found out
            commerce.clock.advance(minutes=6)
            if await one.payments.settle_unclear() == 0:
                break
    await assert_books_balance(commerce, toss)
    async with commerce.database.read() as session:
        ours = await totals(session)
    captured = await told(commerce, "payment.completed")
    paid_back = await told(commerce, "payment.refunded")
    assert sum(event["amount_krw"] for event in captured) == ours.captured_krw
    assert sum(event["refund_amount_krw"] for event in paid_back) == ours.refunded_krw
    assert await commerce.fetch("SELECT 1 FROM payments WHERE status = 'confirming'") == []


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=STEPS)
@pytest.mark.timeout(300)
async def test_whatever_clients_and_the_wire_do_the_books_equal_the_providers(
    commerce: Commerce, toss: TossSandbox, steps: list[Step]
) -> None:
    await live_through(commerce, toss, steps)


BROKEN: dict[str, tuple[str, ...]] = {
    "a payment is captured by exactly one attempt, in its whole amount": (
        "DELETE FROM payment_attempts",
        "UPDATE payment_attempts SET captured_krw = captured_krw - 1",
        "UPDATE payments SET status = 'pending', completed_at = NULL",
    ),
    "a payment is confirming as long as one attempt is open": (
        "UPDATE payments SET status = 'confirming', completed_at = NULL",
        "UPDATE payment_attempts SET status = 'started', ended_at = NULL",
    ),
    "the provider has captured what was asked for": ("UPDATE payment_attempts SET status = 'mismatched'",),
    "refunds never exceed their payment, those in hand included": (
        "UPDATE refunds SET amount_krw = 99999, status = 'started', ended_at = NULL",
        "UPDATE payments SET status = 'failed', completed_at = NULL",
    ),
    "the state of a captured payment follows from its refunds": (
        "DELETE FROM refunds",
        "UPDATE payments SET status = 'completed'",
        "UPDATE payments SET status = 'refunded'",
    ),
    "a person's order has one captured payment that was not paid back": (
        (
            "DROP INDEX uq_payments_live_order; INSERT INTO payments SELECT 'twice', user_id, order_id, subscription_id, "
            "payment_type, amount_krw, status, payment_method, pg_provider, pg_transaction_id, payment_key, failure_code, "
            "failure_message, created_at, completed_at, closed_at FROM payments"
        ),
    ),
}


@pytest.mark.parametrize(("check", "broken"), [(check, broken) for check in BROKEN for broken in BROKEN[check]])
async def test_what_does_not_add_up_is_told(commerce: Commerce, toss: TossSandbox, check: str, broken: str) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        await one.payments.refund(ALICE, payment_id=paid.payment_id, amount_krw=100, reason="")
    await assert_books_balance(commerce, toss)
    async with commerce.database.transaction() as session:
        for statement in broken.split("; "):
            await session.execute(text(statement))
        differences = await check_books(session, PAYMENT_CHECKS)
    assert check in {difference.check for difference in differences}
    assert {difference.subject for difference in differences} & {paid.payment_id, paid.order_id}


async def test_totals_are_counted_from_attempts_and_refunds(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        await one.payments.refund(ALICE, payment_id=paid.payment_id, amount_krw=100, reason="")
        async with commerce.database.transaction() as session:
            await one.payments.request_refund(session, payment_id=paid.payment_id, amount_krw=50, reason="")
    async with commerce.database.read() as session:
        ours = await totals(session)
    assert (ours.captured_krw, ours.refunded_krw, ours.reserved_krw) == (PRICE_KRW, 100, 50)
