"""Payments against the provider's sandbox over HTTP: who may open, confirm, see and pay back what."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from domain.commerce.payment.errors import (
    AmountMismatch,
    OrderNotFound,
    OrderNotPayable,
    PaymentFieldInvalid,
    PaymentInProgress,
    PaymentKeyUsed,
    PaymentNotFound,
    PaymentNotPending,
)
from domain.commerce.payment.models import Payment, PaymentType
from domain.commerce.payment.opening import MAX_OPEN_OF_ITS_OWN
from domain.commerce.payment.ports import ProviderPayment
from domain.commerce.payment.service import PaymentService
from domain.commerce.payment.states import PaymentStatus
from domain.commerce.shop import ports as shop
from domain.commerce.subscription import ports as subscription
from domain.commerce.terms import Cancellation, Debt
from domain.errors import Forbidden, Unauthenticated
from domain.ids import UserId
from domain.paging import PageRequest
from domain.principal import ANONYMOUS, DEVELOPMENT, Principal, PrincipalKind
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce
from tests.integration.commerce.paying import (
    KEY,
    ORDER,
    PRICE_KRW,
    Instance,
    KnownDebts,
    assert_books_balance,
    instance,
    told,
)


def satisfies_what_others_need(payments: PaymentService) -> tuple[shop.Payments, subscription.Payments]:
    """The type checker sees here that the service is what the shop and subscription ask for."""
    return payments, payments


async def test_the_flow_of_existing_clients_again_and_again(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        for _ in range(2):  # under the same order id and with the same key
            opened = await one.open()
            assert opened.status == PaymentStatus.PENDING
            confirmed = await one.payments.confirm(  # without a credential, as on a development network
                DEVELOPMENT, payment_id=opened.payment_id, payment_key=KEY, pg_provider="toss"
            )
            assert confirmed.status == PaymentStatus.COMPLETED
            assert (confirmed.amount_krw, confirmed.payment_method) == (PRICE_KRW, "card")
            assert confirmed.pg_transaction_id
            async with commerce.database.read() as session:
                found = await one.payments.get(session, ALICE, opened.payment_id)
            assert (found.status, found.pg_transaction_id) == ("completed", confirmed.pg_transaction_id)
            refund = await one.payments.refund(ALICE, payment_id=opened.payment_id, amount_krw=None, reason="변심")
            assert (refund.refund.amount_krw, refund.payment_status) == (PRICE_KRW, PaymentStatus.REFUNDED)
    assert [(p.amount, p.balance) for p in toss.ledger.everything()] == [(PRICE_KRW, 0)] * 2
    await assert_books_balance(commerce, toss)


async def test_an_order_has_one_live_payment_for_each_payer(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        first = await one.open()
        assert (await one.open()).payment_id == first.payment_id
        assert (await one.open(BOB)).payment_id != first.payment_id
        await one.payments.confirm(ALICE, payment_id=first.payment_id, payment_key=KEY)
        with pytest.raises(OrderNotPayable):
            await one.open()


async def test_a_client_that_changes_the_amount_of_its_own_order_gets_another_payment(
    commerce: Commerce, toss: TossSandbox
) -> None:
    async with instance(commerce, toss) as one:
        first = await one.open()
        second = await one.open(amount_krw=10_000)
        assert second.payment_id != first.payment_id
        with pytest.raises(PaymentNotPending):
            await one.payments.confirm(ALICE, payment_id=first.payment_id, payment_key=KEY)
        paid = await one.payments.confirm(ALICE, payment_id=second.payment_id, payment_key=KEY)
    assert paid.amount_krw == 10_000
    assert [payment.amount for payment in toss.ledger.everything()] == [10_000]


async def test_an_amount_is_not_changed_while_it_is_captured(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()

        async def change() -> None:
            with pytest.raises(PaymentInProgress):
                await one.open(amount_krw=1)

        one.wire.before_confirm = change
        paid = await one.payments.confirm(ALICE, payment_id=opened.payment_id, payment_key=KEY)
    assert (paid.status, paid.amount_krw) == ("completed", PRICE_KRW)


async def test_an_order_of_the_shop_is_paid_by_its_buyer_in_its_amount_while_it_is_open(
    commerce: Commerce, toss: TossSandbox
) -> None:
    debts = KnownDebts(orders={"order-1": Debt(UserId("alice"), PRICE_KRW, is_open=True)})
    async with instance(commerce, toss, debts=debts) as one:
        with pytest.raises(OrderNotFound):
            await one.open(BOB, order_id="order-1")
        with pytest.raises(AmountMismatch):
            await one.open(order_id="order-1", amount_krw=100)
        opened = await one.open(order_id="order-1")
        debts.orders["order-1"] = Debt(UserId("alice"), PRICE_KRW, is_open=False)
        with pytest.raises(OrderNotPayable):
            await one.payments.confirm(ALICE, payment_id=opened.payment_id, payment_key=KEY)
        debts.orders["order-1"] = Debt(UserId("alice"), PRICE_KRW + 1, is_open=True)
        with pytest.raises(AmountMismatch):
            await one.payments.confirm(ALICE, payment_id=opened.payment_id, payment_key=KEY)
        assert toss.ledger.everything() == []
        debts.orders["order-1"] = Debt(UserId("alice"), PRICE_KRW, is_open=True)
        paid = await one.payments.confirm(ALICE, payment_id=opened.payment_id, payment_key=KEY)
    assert paid.status == PaymentStatus.COMPLETED


async def open_for_plan(one: Instance, subscription_id: str = "sub-1", amount_krw: int = PRICE_KRW) -> str:
    async with one.commerce.database.transaction() as session:
        opened = await one.payments.create(
            session,
            ALICE,
            user_id="",
            order_id="",
            subscription_id=subscription_id,
            payment_type=PaymentType.SUBSCRIPTION,
            amount_krw=amount_krw,
            payment_method="card",
        )
    return opened.payment_id


async def test_a_subscription_has_one_open_payment_and_takes_its_order_on(
    commerce: Commerce, toss: TossSandbox
) -> None:
    debt = Debt(UserId("alice"), PRICE_KRW, is_open=True)
    async with instance(commerce, toss, debts=KnownDebts(subscriptions={"sub-1": debt})) as one:
        with pytest.raises(OrderNotPayable):
            await open_for_plan(one, "sub-2")
        with pytest.raises(AmountMismatch):
            await open_for_plan(one, amount_krw=1)
        payment_id = await open_for_plan(one)
        assert await open_for_plan(one) == payment_id
        async with commerce.database.transaction() as session:
            same = await one.payments.open_for_order(
                session,
                order_id="order-7",
                user_id="alice",
                subscription_id="sub-1",
                amount_krw=PRICE_KRW,
                payment_method="",
            )
        assert same is not None
        assert (same.payment_id, same.order_id) == (payment_id, "order-7")
        paid = await one.payments.confirm(ALICE, payment_id=payment_id, payment_key=KEY)
    (event,) = await told(commerce, "payment.completed")
    assert (event["order_id"], event["subscription_id"]) == ("order-7", "sub-1")
    assert paid.payment_type == "subscription"


async def test_a_plans_order_is_a_subscription_payment_by_whichever_name_it_is_paid(
    commerce: Commerce, toss: TossSandbox
) -> None:
    debt = Debt(UserId("alice"), PRICE_KRW, is_open=True, subscription_id="sub-1")
    async with instance(commerce, toss, debts=KnownDebts(orders={ORDER: debt})) as one:
        opened = await one.open()  # as a client does that knows nothing of the plan
    assert (opened.payment_type, opened.subscription_id) == ("subscription", "sub-1")


async def test_what_belongs_to_another_person_is_not_found(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        payment_id = opened.payment_id
        with pytest.raises(PaymentNotFound):
            await one.payments.confirm(BOB, payment_id=payment_id, payment_key=KEY)
        with pytest.raises(PaymentNotFound):
            await one.payments.refund(BOB, payment_id=payment_id, amount_krw=None, reason="")
        async with commerce.database.read() as session:
            with pytest.raises(PaymentNotFound):
                await one.payments.get(session, BOB, payment_id)
            with pytest.raises(Forbidden):
                await one.payments.list_of(session, BOB, user_id="alice", limit=0, offset=0)
            with pytest.raises(Forbidden):
                await one.payments.pages_of(session, BOB, user_ids=["bob", "alice"], page=PageRequest())
            assert await one.payments.visible(session, BOB, [payment_id]) == {}
            assert (await one.payments.get(session, ADMIN, payment_id)).payment_id == payment_id
            assert (await one.payments.get(session, DEVELOPMENT, payment_id)).payment_id == payment_id
    assert toss.ledger.everything() == []


async def test_a_token_needs_the_scope(commerce: Commerce, toss: TossSandbox) -> None:
    reader = Principal(kind=PrincipalKind.USER, subject="alice", scopes=frozenset({"commerce:read"}))
    writer = Principal(kind=PrincipalKind.USER, subject="alice", scopes=frozenset({"commerce:write"}))
    async with instance(commerce, toss) as one:
        opened = await one.open(writer)
        with pytest.raises(Forbidden):
            await one.open(reader)
        with pytest.raises(Forbidden):
            await one.payments.confirm(reader, payment_id=opened.payment_id, payment_key=KEY)
        with pytest.raises(Forbidden):
            await one.payments.refund(reader, payment_id=opened.payment_id, amount_krw=None, reason="")
        with pytest.raises(Unauthenticated):
            await one.payments.confirm(ANONYMOUS, payment_id=opened.payment_id, payment_key=KEY)
        async with commerce.database.read() as session:
            with pytest.raises(Forbidden):
                await one.payments.get(session, writer, opened.payment_id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("order_id", "a\0b"),
        ("order_id", "x" * 65),
        ("order_id", "주문"),
        ("subscription_id", "sub-1"),
        ("amount_krw", 0),
        ("amount_krw", -1),
        ("amount_krw", 2**31),
        ("payment_method", "x" * 41),
        ("payment_method", "card\n"),
        ("payment_method", "\ud800"),
    ],
)
async def test_fields_that_no_payment_has_are_refused(
    commerce: Commerce, toss: TossSandbox, field: str, value: object
) -> None:
    fields: dict[str, object] = {
        "order_id": ORDER,
        "subscription_id": "",
        "amount_krw": PRICE_KRW,
        "payment_method": "card",
        field: value,
    }
    async with instance(commerce, toss) as one, commerce.database.transaction() as session:
        with pytest.raises(PaymentFieldInvalid) as refused:
            await one.payments.create(
                session,
                ALICE,
                user_id="",
                payment_type=PaymentType.ONE_TIME,
                **fields,  # type: ignore[arg-type]  # wrong on purpose
            )
    assert refused.value.details["field"] == field


@pytest.mark.parametrize(
    "confirmation",
    [
        {"payment_key": ""},
        {"payment_key": "a b"},
        {"payment_key": ".."},
        {"payment_key": "결제"},
        {"payment_key": "k" * 201},
        {"payment_key": "key\0"},
        {"pg_provider": "kakaopay"},
        {"pg_transaction_id": "\n"},
    ],
)
async def test_confirmations_that_cannot_be_meant_are_refused(
    commerce: Commerce, toss: TossSandbox, confirmation: dict[str, str]
) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        with pytest.raises(PaymentFieldInvalid):
            await one.payments.confirm(ALICE, payment_id=opened.payment_id, **{"payment_key": KEY, **confirmation})
        assert (await one.get(opened.payment_id)).status == PaymentStatus.PENDING


async def test_the_open_payment_of_an_order_is_given_up(commerce: Commerce, toss: TossSandbox) -> None:
    async def cancel(one: Instance) -> Cancellation:
        async with commerce.database.transaction() as session:
            return await one.payments.cancel_open(session, order_id=ORDER)

    async with instance(commerce, toss) as one:
        assert await cancel(one) is Cancellation.NOTHING_OPEN
        opened = await one.open()
        assert await cancel(one) is Cancellation.CANCELLED
        with pytest.raises(PaymentNotPending):
            await one.payments.confirm(ALICE, payment_id=opened.payment_id, payment_key=KEY)
        seen: list[Cancellation] = []

        async def cancel_meanwhile() -> None:
            seen.append(await cancel(one))

        one.wire.before_confirm = cancel_meanwhile
        await one.paid()
        seen.append(await cancel(one))
    assert seen == [Cancellation.IN_FLIGHT, Cancellation.COMPLETED]


async def test_giving_an_order_up_leaves_what_others_named_alike(commerce: Commerce, toss: TossSandbox) -> None:
    debts = KnownDebts()
    async with instance(commerce, toss, debts=debts) as one:
        of_bob = await one.open(BOB)  # before the shop had an order of this name
        debts.orders[ORDER] = Debt(UserId("alice"), PRICE_KRW, is_open=True)
        of_alice = await one.open(ALICE)
        async with commerce.database.transaction() as session:
            assert await one.payments.cancel_open(session, order_id=ORDER) is Cancellation.CANCELLED
        assert (await one.get(of_alice.payment_id)).status == PaymentStatus.CANCELLED
        assert (await one.get(of_bob.payment_id)).status == PaymentStatus.PENDING
        with pytest.raises(OrderNotFound):
            await one.payments.confirm(BOB, payment_id=of_bob.payment_id, payment_key=KEY)


async def test_a_page_of_a_persons_payments_never_skips_or_repeats(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = []
        for number in range(5):
            opened.append((await one.open(order_id=f"order-{number}")).payment_id)
            commerce.clock.advance(seconds=number % 2)  # some at the very same moment
        await one.open(BOB)
        async with commerce.database.read() as session:
            newest, total = await one.payments.list_of(session, ALICE, user_id="", limit=2, offset=1)
            assert ([p.payment_id for p in newest], total) == (opened[::-1][1:3], 5)
            seen: list[str] = []
            request: PageRequest | None = PageRequest(first=2)
            while request:
                pages = await one.payments.pages_of(session, ALICE, user_ids=["alice"], page=request)
                page = pages["alice"]
                seen += [payment.payment_id for payment in page.items]
                assert page.total == 5
                last = page.items[-1]
                request = PageRequest(first=2, after=(last.created_at, last.payment_id)) if page.has_next else None
    assert seen == opened[::-1]


async def test_a_payment_without_an_order_is_one_of_its_own(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        first, second = [await one.open(order_id="", amount_krw=9_900) for _ in range(2)]
        assert first.payment_id != second.payment_id
        paid = await one.payments.confirm(ALICE, payment_id=first.payment_id, payment_key=KEY)
        assert (paid.status, paid.order_id, paid.subscription_id) == (PaymentStatus.COMPLETED, "", "")
        with pytest.raises(PaymentNotFound):
            await one.payments.confirm(BOB, payment_id=second.payment_id, payment_key="test-of-bob")
        done = await one.payments.refund(ALICE, payment_id=first.payment_id, amount_krw=None, reason="")
        assert (done.refund.amount_krw, done.payment_status) == (9_900, PaymentStatus.REFUNDED)
        assert (await one.get(second.payment_id)).status == PaymentStatus.PENDING
    (completed,) = await told(commerce, "payment.completed")
    assert (completed["order_id"], completed["amount_krw"]) == ("", 9_900)
    await assert_books_balance(commerce, toss)


async def test_a_person_has_a_bounded_number_of_open_payments_without_an_order(
    commerce: Commerce, toss: TossSandbox
) -> None:
    async with instance(commerce, toss) as one:
        of_bob = await one.open(BOB, order_id="")
        opened = []
        for _ in range(MAX_OPEN_OF_ITS_OWN + 3):
            opened.append((await one.open(order_id="")).payment_id)
            commerce.clock.advance(seconds=1)
        states = [(await one.get(payment_id)).status for payment_id in opened]
        assert states == ["cancelled"] * 3 + ["pending"] * MAX_OPEN_OF_ITS_OWN
        assert (await one.get(of_bob.payment_id)).status == PaymentStatus.PENDING


async def test_a_key_of_the_provider_captures_one_payment_whatever_the_provider_says(
    commerce: Commerce, toss: TossSandbox
) -> None:
    """The sandbox approves a key that begins with `test-` as often as it is sent."""
    async with instance(commerce, toss) as one, instance(commerce, toss) as other:
        orders = [await one.open(order_id=f"order-{n}") for n in range(6)]
        of_bob = await one.open(BOB, order_id="order-of-bob")
        answers = await asyncio.gather(
            *(
                (one if n % 2 else other).payments.confirm(ALICE, payment_id=order.payment_id, payment_key=KEY)
                for n, order in enumerate(orders)
            ),
            other.payments.confirm(BOB, payment_id=of_bob.payment_id, payment_key=KEY),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers].count(Payment) == 1
        assert [type(answer) for answer in answers].count(PaymentKeyUsed) == 6
        assert len(toss.ledger.everything()) == 1
        (paid,) = [answer for answer in answers if isinstance(answer, Payment)]
        payer = ALICE if paid.user_id == "alice" else BOB
        assert (await one.payments.confirm(payer, payment_id=paid.payment_id, payment_key=KEY)).status == "completed"
        # Not even when the money has gone back; a key of its own pays for each of the others.
        await one.payments.refund(payer, payment_id=paid.payment_id, amount_krw=None, reason="")
        unpaid = next(order for order in orders if order.payment_id != paid.payment_id)
        with pytest.raises(PaymentKeyUsed):
            await one.payments.confirm(ALICE, payment_id=unpaid.payment_id, payment_key=KEY)
        again = await one.payments.confirm(ALICE, payment_id=unpaid.payment_id, payment_key="test-another-key")
    assert again.status == PaymentStatus.COMPLETED
    await assert_books_balance(commerce, toss)


async def test_a_capture_under_the_key_of_another_payment_completes_nothing(
    commerce: Commerce, toss: TossSandbox
) -> None:
    async with instance(commerce, toss) as one:
        first = await one.paid(order_id="order-1")
        second = await one.open(order_id="order-2")
        confirmed = one.wire.confirm

        async def answer_with_the_first_key(**request: Any) -> ProviderPayment:
            return replace(await confirmed(**request), payment_key=first.payment_key)

        one.wire.confirm = answer_with_the_first_key  # type: ignore[method-assign]  # the provider errs
        with pytest.raises(AmountMismatch):
            await one.payments.confirm(ALICE, payment_id=second.payment_id, payment_key="test-second")
        assert (await one.get(second.payment_id)).status == PaymentStatus.FAILED
