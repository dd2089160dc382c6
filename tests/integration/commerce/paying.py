"""What the payment tests play with: instances of the service, debts, and a provider whose wire can be cut."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.books import PAYMENT_CHECKS, check_books, totals
from domain.commerce.payment.models import Payment, PaymentType
from domain.commerce.payment.ports import Debts, PaymentGateway, ProviderPayment
from domain.commerce.payment.service import PaymentService
from domain.commerce.terms import Debt
from domain.ids import new_id
from domain.principal import Principal
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.payment.adapters.toss import TossPayments
from tests.integration.commerce.conftest import ALICE, Commerce, toss_settings
from tests.support.outbox import payloads_of

ORDER = "test-order-001"
PRICE_KRW = 29_900
KEY = "test-payment-key"


@dataclass
class KnownDebts:
    """The port `Debts`, over what a test says is owed."""

    orders: dict[str, Debt] = field(default_factory=dict)
    subscriptions: dict[str, Debt] = field(default_factory=dict)
    shipped: set[str] = field(default_factory=set)
    opened: list[str] = field(default_factory=list)

    async def of_order(self, session: AsyncSession, order_id: str) -> Debt | None:
        return self.orders.get(order_id)

    async def of_subscription(self, session: AsyncSession, subscription_id: str) -> Debt | None:
        debt = self.subscriptions.get(subscription_id)
        return replace(debt, subscription_id=subscription_id) if debt else None

    async def is_shipped(self, session: AsyncSession, order_id: str) -> bool:
        return order_id in self.shipped

    async def is_exchanged(self, session: AsyncSession, subscription_id: str, *, payment_id: str) -> bool:
        return False

    async def payment_opened(
        self, session: AsyncSession, *, order_id: str, payment_id: str, amount_krw: int, at: datetime
    ) -> None:
        self.opened.append(payment_id)


async def _nothing() -> None:
    return None


@dataclass
class Wire:
    """A gateway with something that happens before or after a call of the real one."""

    real: PaymentGateway
    before_confirm: Callable[[], Awaitable[None]] = _nothing
    after_confirm: Callable[[], Awaitable[None]] = _nothing
    before_refund: Callable[[], Awaitable[None]] = _nothing
    after_refund: Callable[[], Awaitable[None]] = _nothing
    idempotency_keys: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.real.name

    async def confirm(self, **request: Any) -> ProviderPayment:
        self.idempotency_keys.add(request["idempotency_key"])
        await self.before_confirm()
        answer = await self.real.confirm(**request)
        await self.after_confirm()
        return answer

    async def find(self, reference: str) -> ProviderPayment | None:
        return await self.real.find(reference)

    async def refund(self, **request: Any) -> ProviderPayment:
        self.idempotency_keys.add(request["idempotency_key"])
        await self.before_refund()
        answer = await self.real.refund(**request)
        await self.after_refund()
        return answer


@dataclass(frozen=True)
class Instance:
    """The payment service of one process."""

    payments: PaymentService
    wire: Wire
    commerce: Commerce

    async def open(self, payer: Principal = ALICE, *, order_id: str = ORDER, amount_krw: int = PRICE_KRW) -> Payment:
        async with self.commerce.database.transaction() as session:
            return await self.payments.create(
                session,
                payer,
                user_id="",
                order_id=order_id,
                subscription_id="",
                payment_type=PaymentType.ONE_TIME,
                amount_krw=amount_krw,
                payment_method="card",
            )

    async def paid(self, payer: Principal = ALICE, *, key: str = "", **what: Any) -> Payment:
        """A payment that was captured, with a key of its own unless one is given."""
        opened = await self.open(payer, **what)
        return await self.payments.confirm(payer, payment_id=opened.payment_id, payment_key=key or f"test-{new_id()}")

    async def get(self, payment_id: str) -> Payment:
        async with self.commerce.database.read() as session:
            found = await session.get(Payment, payment_id)
            assert found is not None
            return found


@asynccontextmanager
async def instance(
    commerce: Commerce,
    toss: TossSandbox,
    *,
    debts: Debts | None = None,
    timeout_s: float = 5.0,
    patience_s: float = 20.0,
) -> AsyncIterator[Instance]:
    """One more process of the service, on the same database and provider."""
    gateway = TossPayments(toss_settings(toss, timeout_s=timeout_s))
    wire = Wire(gateway)
    payments = PaymentService(
        commerce.clock, sessions=commerce.database, gateway=wire, debts=debts or KnownDebts(), patience_s=patience_s
    )
    try:
        yield Instance(payments, wire, commerce)
    finally:
        await gateway.close()


async def told(commerce: Commerce, topic: str) -> Sequence[Mapping[str, Any]]:
    """Payloads of the events on a topic that were committed, in their order."""
    return await payloads_of(commerce.database, topic)


async def assert_books_balance(commerce: Commerce, toss: TossSandbox) -> None:
    """Our rows add up, and to the won to what the provider has in its own books."""
    async with commerce.database.read() as session:
        assert await check_books(session, PAYMENT_CHECKS) == []  # payment alone: nobody tells the shop
        ours = await totals(session)
    theirs = toss.ledger.everything()
    assert ours.captured_krw == sum(payment.amount for payment in theirs)
    assert ours.refunded_krw == sum(payment.amount - payment.balance for payment in theirs)
    assert ours.reserved_krw == 0
