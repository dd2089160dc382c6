"""Nobody comes by more of a plan than was paid for it, in whatever order they pay, change plans and are paid back."""

from datetime import timedelta

import pytest

from domain.commerce.payment.errors import OrderNotFound, RefundNotAllowed
from domain.commerce.payment.models import PaymentType
from domain.commerce.terms import Tier
from domain.principal import Principal
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ADMIN, ALICE, Commerce
from tests.integration.commerce.shop_scene import order_pieces
from tests.integration.commerce.subscribing import (
    create,
    deliver_payments,
    get,
    pay,
    settle_refunds,
    subscribed,
    sweep,
    update,
)


async def take_back(commerce: Commerce, payment_id: str, amount_krw: int | None = None, who: Principal = ALICE) -> None:
    """A person has a payment paid back, None in full, and all hear of it and of what follows from it."""
    await commerce.services.payments.refund(who, payment_id=payment_id, amount_krw=amount_krw, reason="")
    await deliver_payments(commerce)
    await settle_refunds(commerce)
    await deliver_payments(commerce)


async def payment_of(commerce: Commerce, kind: str) -> str:
    """The payment of the newest charge of a kind."""
    (row,) = await commerce.fetch(
        "SELECT payment_id FROM subscription_charges WHERE kind = $1 ORDER BY charge_id DESC LIMIT 1", kind
    )
    return str(row["payment_id"])


async def renewed_ahead(commerce: Commerce, tier: Tier) -> str:
    """Pay the next period two days before the first one ends; the payment."""
    begun = await subscribed(commerce, tier)
    assert begun.standing.subscription.expires_at is not None
    left = begun.standing.subscription.expires_at - commerce.clock.now() - timedelta(days=2)
    commerce.clock.advance(days=left.days)
    await sweep(commerce)
    renewal = await pay(commerce, await get(commerce))
    await deliver_payments(commerce)
    return renewal


async def test_an_upgrade_paid_for_the_next_period_too_is_lost_when_it_is_paid_back_in_it(commerce: Commerce) -> None:
    await renewed_ahead(commerce, Tier.BASIC)
    await update(commerce, Tier.CLINICAL, "test-upgrade")
    await deliver_payments(commerce)
    commerce.clock.advance(days=3)  # the next period has begun
    assert (await get(commerce)).standing.tier is Tier.CLINICAL
    await take_back(commerce, await payment_of(commerce, "upgrade"))
    assert (await get(commerce)).standing.tier is Tier.BASIC


async def test_a_part_that_is_paid_back_takes_the_credit_of_its_days(commerce: Commerce) -> None:
    """It is paid back at the price of the higher plan, whose worth is credit since the move to the lower one."""
    await subscribed(commerce, Tier.CLINICAL)
    commerce.clock.advance(hours=1)
    await update(commerce, Tier.BASIC)
    start = await payment_of(commerce, "start")
    with pytest.raises(RefundNotAllowed):
        await take_back(commerce, start, 29_950)
    await take_back(commerce, start, 29_950, who=ADMIN)
    standing = (await get(commerce)).standing
    assert standing.subscription.expires_at == commerce.clock.now() + timedelta(days=15, hours=-1)
    assert standing.subscription.credit_krw == 50_000 * 29 // 30 - 25_000


async def test_a_payment_for_goods_does_not_pay_for_a_plan_too(commerce: Commerce, toss: TossSandbox) -> None:
    """Where both happen to be owed the same."""
    owed = await create(commerce, Tier.BASIC)
    await order_pieces(commerce, accessory_lancets=1)
    [order] = await commerce.fetch("SELECT order_id, total_krw FROM orders WHERE kind = 'goods'")
    assert owed.due is not None
    assert order["total_krw"] == owed.due.amount_krw
    with pytest.raises(OrderNotFound):
        async with commerce.database.transaction() as session:
            await commerce.services.payments.create(
                session,
                ALICE,
                user_id="",
                order_id=str(order["order_id"]),
                subscription_id=owed.standing.subscription.subscription_id,
                payment_type=PaymentType.SUBSCRIPTION,
                amount_krw=owed.due.amount_krw,
                payment_method="card",
            )


async def test_credit_of_a_period_that_has_not_begun_is_lost_when_the_period_is_paid_back(commerce: Commerce) -> None:
    renewal = await renewed_ahead(commerce, Tier.PRO)
    await update(commerce, Tier.BASIC)
    await take_back(commerce, renewal, who=ADMIN)
    assert (await get(commerce)).standing.subscription.credit_krw <= 20_000 * 2 // 28


async def test_what_was_exchanged_for_credit_is_not_taken_back(commerce: Commerce) -> None:
    """Else the credit of an upgrade pays for the next period, and the upgrade is paid back in that."""
    begun = await subscribed(commerce, Tier.BASIC)
    assert begun.standing.subscription.expires_at is not None
    commerce.clock.advance(days=24)
    await update(commerce, Tier.CLINICAL, "test-upgrade")
    await deliver_payments(commerce)
    upgrade = await payment_of(commerce, "upgrade")
    commerce.clock.advance(hours=1)
    await update(commerce, Tier.BASIC)
    with pytest.raises(RefundNotAllowed, match="lower plan"):
        await take_back(commerce, upgrade)
    commerce.clock.advance(days=3)
    await sweep(commerce)
    renewal = await pay(commerce, await get(commerce))
    await deliver_payments(commerce)
    commerce.clock.advance(days=3)
    with pytest.raises(RefundNotAllowed, match="lower plan"):
        await take_back(commerce, upgrade)
    await take_back(commerce, renewal)
    with pytest.raises(RefundNotAllowed, match="lower plan"):  # over, and the credit has come back
        await take_back(commerce, upgrade)


async def test_a_key_for_the_same_plan_pays_for_no_period_that_is_not_owed(
    commerce: Commerce, toss: TossSandbox
) -> None:
    """Else each time would add a month, of which a later plan's price makes credit."""
    await create(commerce, Tier.FREE)
    await update(commerce, Tier.CLINICAL)  # is owed, and never paid
    await update(commerce, Tier.FREE, "test-nothing")
    standing = (await get(commerce)).standing
    assert (standing.tier, standing.subscription.expires_at) == (Tier.FREE, None)
    await update(commerce, Tier.CLINICAL, "test-clinical")
    await deliver_payments(commerce)
    assert (await update(commerce, Tier.BASIC)).standing.subscription.credit_krw <= 50_000
    assert sum(payment.amount for payment in toss.ledger.everything()) == 59_900
