"""The books of plans balance whatever people do, and tell each thing that does not add up."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from domain.commerce.books import SUBSCRIPTION_CHECKS, Difference, check_books
from domain.commerce.subscription.proration import Period, unused
from domain.commerce.terms import Tier
from domain.errors import AppError
from domain.ids import new_id
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ADMIN, ALICE, Commerce, person
from tests.integration.commerce.subscribing import (
    cancel,
    create,
    deliver_payments,
    get,
    pay,
    settle_refunds,
    subscribed,
    sweep,
    update,
)

BROKEN: Mapping[str, str] = {
    "a charge of a plan is settled by a captured payment of its holder, to the won": (
        "UPDATE subscription_charges SET amount_krw = amount_krw - 1"
    ),
    "money that no charge of a plan asks for was paid back": (
        "UPDATE subscription_charges SET payment_id = NULL, status = 'void'; UPDATE subscriptions SET status = 'expired'"
    ),
    "a plan that is in force is paid for until its end": (
        "UPDATE subscriptions SET expires_at = expires_at + interval '1 day'"
    ),
}


async def differences(commerce: Commerce, user_id: str = "") -> list[Difference]:
    """All of them, or those of a person."""
    async with commerce.database.read() as session:
        found = await check_books(session, SUBSCRIPTION_CHECKS)
    ids = await commerce.fetch(
        "SELECT subscription_id AS id FROM subscriptions WHERE user_id = $1 "
        "UNION SELECT charge_id FROM subscription_charges JOIN subscriptions USING (subscription_id) WHERE user_id = $1 "
        "UNION SELECT payment_id FROM payments WHERE user_id = $1",
        user_id,
    )
    own = {row["id"] for row in ids}
    return [difference for difference in found if not user_id or difference.subject in own]


@pytest.mark.parametrize("check", BROKEN)
async def test_what_does_not_add_up_is_told(commerce: Commerce, check: str) -> None:
    await subscribed(commerce, Tier.PRO)
    assert await differences(commerce) == []
    for statement in BROKEN[check].split(";"):
        await commerce.fetch(statement)
    assert [difference.check for difference in await differences(commerce)] == [check]


def test_each_check_is_tried() -> None:
    assert len(BROKEN) == len(SUBSCRIPTION_CHECKS)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.sampled_from(list(Tier))),
        st.tuples(st.just("charge"), st.sampled_from(list(Tier))),
        st.tuples(st.just("create"), st.sampled_from(list(Tier))),
        st.tuples(st.sampled_from(["pay", "cancel", "deliver", "sweep"]), st.none()),
        st.tuples(st.just("refund"), st.sampled_from([0, 1, 5_000])),  # 0: all that is left
        st.tuples(st.just("take back"), st.sampled_from([0, 1, 2])),
        st.tuples(st.just("wait"), st.sampled_from([1, 9, 27, 40])),
    ),
    min_size=3,
    max_size=12,
)


async def step(commerce: Commerce, who: str, name: str, value: object) -> None:
    """One thing that somebody does, or that happens. Refusals are fine."""
    me = person(who)
    match name, value:
        case "create", Tier() as tier:
            await create(commerce, tier, me)
        case "update", Tier() as tier:
            await update(commerce, tier, who=me)
        case "charge", Tier() as tier:
            await update(commerce, tier, f"test-{new_id()}", me)
        case "pay", _:
            shown = await get(commerce, me)
            if shown.due is not None:
                await pay(commerce, shown, me, f"test-{new_id()}")
        case "refund", int() as amount_krw:
            paid = await commerce.fetch(
                "SELECT payment_id FROM payments WHERE user_id = $1 AND status IN ('completed', 'partial_refund') "
                "ORDER BY completed_at DESC, payment_id DESC LIMIT 1",
                who,
            )
            for row in paid:
                await commerce.services.payments.refund(
                    ADMIN, payment_id=str(row["payment_id"]), amount_krw=amount_krw or None, reason=""
                )
        case "take back", int() as nth:  # of the newest, the one before ...
            paid = await commerce.fetch(
                "SELECT payment_id FROM payments WHERE user_id = $1 AND status = 'completed' "
                "ORDER BY completed_at DESC, payment_id DESC LIMIT 1 OFFSET $2",
                who,
                nth,
            )
            for row in paid:
                await commerce.services.payments.refund(
                    me, payment_id=str(row["payment_id"]), amount_krw=None, reason=""
                )
        case "cancel", _:
            await cancel(commerce, me)
        case "deliver", _:
            await deliver_payments(commerce, who)
        case "sweep", _:
            await sweep(commerce)
        case "wait", int() as days:
            commerce.clock.advance(days=days)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
# Refunds of which the plan hears after its period has ended.
@example(steps=[("charge", Tier.PRO), ("refund", 0), ("wait", 40)])
@example(steps=[("charge", Tier.BASIC), ("charge", Tier.PRO), ("refund", 0), ("wait", 40), ("update", Tier.FREE)])
@example(steps=[("charge", Tier.PRO), ("refund", 0), ("wait", 40), ("sweep", None)])
@example(steps=[("create", Tier.PRO), ("pay", None), ("cancel", None), ("refund", 0), ("wait", 40), ("sweep", None)])
# A downgrade before the plan hears of the refund, and one before the refund itself.
@example(
    steps=[
        ("charge", Tier.PRO),
        ("refund", 0),
        ("wait", 27),
        ("update", Tier.BASIC),
        ("wait", 9),
        ("update", Tier.FREE),
    ]
)
@example(steps=[("charge", Tier.PRO), ("update", Tier.BASIC), ("refund", 0), ("wait", 40), ("update", Tier.FREE)])
@example(steps=[("charge", Tier.PRO), ("update", Tier.BASIC), ("refund", 0), ("wait", 40), ("create", Tier.PRO)])
@example(steps=[("charge", Tier.PRO), ("update", Tier.BASIC), ("refund", 0), ("wait", 40), ("sweep", None)])
# Credit for days that a refund of the period took off.
@example(
    steps=[
        ("charge", Tier.CLINICAL),
        ("refund", 5_000),
        ("deliver", None),
        ("update", Tier.PRO),
        ("refund", 5_000),
        ("charge", Tier.CLINICAL),
        ("refund", 0),
    ]
)
async def test_the_books_balance_whatever_a_person_does(
    commerce: Commerce, steps: list[tuple[str, object]], toss: TossSandbox
) -> None:
    """Nothing is a bug, and once all is told nobody has a plan that is not paid for, and no won is kept for nothing."""
    who = new_id()
    for name, value in [("create", Tier.FREE), *steps]:
        try:
            await step(commerce, who, name, value)
        except AppError:
            continue
    for _ in range(3):
        await deliver_payments(commerce, who)
        await settle_refunds(commerce)
    assert await differences(commerce, who) == []
    shown = await get(commerce, person(who))
    subscription = shown.standing.subscription
    (row,) = await commerce.fetch(
        "SELECT COALESCE(sum(p.amount_krw - COALESCE(r.krw, 0)), 0)::bigint AS kept FROM payments p LEFT JOIN ("
        "SELECT payment_id, sum(amount_krw) AS krw FROM refunds WHERE status = 'succeeded' GROUP BY payment_id) r "
        "USING (payment_id) WHERE p.user_id = $1 AND p.completed_at IS NOT NULL",
        who,
    )
    kept_krw = int(str(row["kept"]))
    periods = await commerce.fetch(
        "SELECT period_starts_at, period_ends_at, period_days FROM subscription_charges WHERE subscription_id = $1 "
        "AND status = 'paid' AND period_ends_at > $2",
        subscription.subscription_id,
        commerce.clock.now(),
    )
    months = unused([Period(*row.values()) for row in periods], commerce.clock.now(), counting_today=False)  # type: ignore[arg-type]  # as the columns are
    # What is left of the plan and the credit for it was paid for, and not paid back; an upgrade is rounded by half a won.
    worth_krw = subscription.price_krw * months + subscription.credit_krw
    assert worth_krw <= kept_krw + len(steps)


async def test_many_at_once_leave_the_books_balanced(commerce: Commerce, toss: TossSandbox) -> None:
    """One person's clients change, pay, cancel and hear of payments at the same time."""
    await create(commerce, Tier.FREE)

    async def client(number: int) -> None:
        tiers = (Tier.PRO, Tier.BASIC, Tier.CLINICAL)
        for name, value in (
            ("charge", tiers[number % 3]),
            ("deliver", None),
            ("update", tiers[(number + 1) % 3]),
            ("pay", None),
            ("sweep", None),
            ("deliver", None),
        ):
            try:
                await step(commerce, "alice", name, value)
            except AppError:
                continue

    await asyncio.gather(*(client(number) for number in range(4)))
    for _ in range(3):
        await deliver_payments(commerce)
        await settle_refunds(commerce)
    assert await differences(commerce) == []
    assert (await get(commerce, ALICE)).standing.tier is not Tier.FREE
