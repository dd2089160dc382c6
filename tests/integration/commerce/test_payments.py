"""Payments against the provider's sandbox over HTTP: opened, captured once, paid back, whatever goes wrong between."""

import asyncio

import pytest

from domain.commerce.payment.models import Payment, PaymentType
from domain.commerce.payment.states import PaymentStatus
from domain.principal import Principal
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ALICE, BOB, Commerce

ORDER = "test-order-001"
PRICE_KRW = 29_900


async def open_payment(
    commerce: Commerce, payer: Principal = ALICE, *, order_id: str = ORDER, amount_krw: int = PRICE_KRW
) -> Payment:
    async with commerce.database.transaction() as session:
        return await commerce.services.payments.create(
            session,
            payer,
            user_id="",
            order_id=order_id,
            subscription_id="",
            payment_type=PaymentType.ONE_TIME,
            amount_krw=amount_krw,
            payment_method="card",
        )


async def test_the_flow_of_existing_clients(commerce: Commerce, toss: TossSandbox) -> None:
    payments = commerce.services.payments
    for _ in range(2):  # again and again, under the same order id and with the same key
        opened = await open_payment(commerce)
        assert opened.status == PaymentStatus.PENDING
        confirmed = await payments.confirm(
            ALICE, payment_id=opened.payment_id, payment_key="test-payment-key", pg_provider="toss"
        )
        assert confirmed.status == PaymentStatus.COMPLETED
        assert (confirmed.amount_krw, confirmed.payment_method, confirmed.pg_provider) == (PRICE_KRW, "card", "toss")
        async with commerce.database.read() as session:
            found = await payments.get(session, ALICE, opened.payment_id)
        assert (found.status, found.pg_transaction_id) == ("completed", confirmed.pg_transaction_id)
        refund = await payments.refund(ALICE, payment_id=opened.payment_id, amount_krw=0, reason="변심")
        assert refund.refund.refund_id
        assert (refund.refund.amount_krw, refund.payment_status) == (PRICE_KRW, PaymentStatus.REFUNDED)
    assert [(p.amount, p.balance) for p in toss.ledger.everything()] == [(PRICE_KRW, 0)] * 2


async def test_fifty_clients_confirming_at_once_charge_once(commerce: Commerce, toss: TossSandbox) -> None:
    opened = await open_payment(commerce)
    answers = await asyncio.gather(
        *(
            commerce.services.payments.confirm(ALICE, payment_id=opened.payment_id, payment_key="test-payment-key")
            for _ in range(50)
        )
    )
    assert {(a.status, a.pg_transaction_id) for a in answers} == {("completed", answers[0].pg_transaction_id)}
    assert len(toss.ledger.everything()) == 1


async def test_the_payment_of_another_person_is_not_found(commerce: Commerce, toss: TossSandbox) -> None:
    opened = await open_payment(commerce)
    with pytest.raises(Exception, match="no payment"):
        await commerce.services.payments.confirm(BOB, payment_id=opened.payment_id, payment_key="test-payment-key")
    assert toss.ledger.everything() == []
