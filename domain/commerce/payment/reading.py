"""Who may see which payment, and what the others in the group are told of captured ones."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.payment import balances
from domain.commerce.payment.errors import PaymentNotFound
from domain.commerce.payment.fields import require_id
from domain.commerce.payment.models import Payment, Refund
from domain.commerce.payment.repository import PaymentRepository, RefundRepository
from domain.commerce.payment.states import SETTLED
from domain.commerce.terms import SettledPayment
from domain.errors import Forbidden
from domain.ids import UserId
from domain.paging import Page, PageRequest, page_limit
from domain.principal import Principal, Scope


def is_for(principal: Principal, payment: Payment) -> bool:
    """Whether a payment is the caller's, or the caller may act for its payer."""
    try:
        principal.acting_for(payment.user_id)
    except Forbidden:
        return False
    return True


def require_visible(principal: Principal, payment_id: str, payment: Payment | None) -> Payment:
    """The payment. Raises: PaymentNotFound: there is none, or it is somebody else's."""
    if payment is None or not is_for(principal, payment):
        raise PaymentNotFound(payment_id)
    return payment


async def as_settled(session: AsyncSession, payment: Payment) -> SettledPayment:
    """A captured payment, with what was paid back of it."""
    assert payment.completed_at is not None  # noqa: S101 - the table's constraint says so
    return SettledPayment(
        payment_id=payment.payment_id,
        user_id=UserId(payment.user_id),
        order_id=payment.order_id,
        subscription_id=payment.subscription_id,
        amount_krw=payment.amount_krw,
        refunded_krw=balances.refunded_krw(await RefundRepository(session).of(payment.payment_id)),
        completed_at=payment.completed_at,
    )


class PaymentReading:
    """The queries of the payment service."""

    async def get(self, session: AsyncSession, principal: Principal, payment_id: str) -> Payment:
        """Raises: PaymentNotFound: none, or somebody else's."""
        principal.require_scope(Scope.COMMERCE_READ)
        return require_visible(principal, payment_id, await PaymentRepository(session).get(payment_id))

    async def visible(
        self, session: AsyncSession, principal: Principal, payment_ids: Collection[str]
    ) -> dict[str, Payment]:
        """Those of the payments that the caller may see, by id."""
        principal.require_scope(Scope.COMMERCE_READ)
        found = await PaymentRepository(session).by_ids(payment_ids)
        return {key: payment for key, payment in found.items() if is_for(principal, payment)}

    @staticmethod
    def require_may_list(principal: Principal, user_id: str) -> UserId:
        """The person whose payments are asked for. Raises: Forbidden: it is somebody else."""
        principal.require_scope(Scope.COMMERCE_READ)
        return UserId(require_id(principal.acting_for(user_id), field="user_id", least=1))

    async def list_of(
        self, session: AsyncSession, principal: Principal, *, user_id: str, limit: int, offset: int
    ) -> tuple[Sequence[Payment], int]:
        """Some of a person's payments, newest first, and how many there are.

        Raises:
            Forbidden: it is somebody else.
        """
        payer = self.require_may_list(principal, user_id)
        limit, offset = page_limit(limit, offset)
        return await PaymentRepository(session).newest_of(payer, limit=limit, offset=offset)

    async def pages_of(
        self, session: AsyncSession, principal: Principal, *, user_ids: Collection[str], page: PageRequest
    ) -> dict[str, Page[Payment]]:
        """A page of payments for each person, newest first.

        Raises:
            Forbidden: one of them is somebody else.
        """
        for user_id in user_ids:
            self.require_may_list(principal, user_id)
        return await PaymentRepository(session).pages_of(user_ids, page)

    async def refunds_of(self, session: AsyncSession, payment_ids: Collection[str]) -> Mapping[str, Sequence[Refund]]:
        """The refunds of payments that the caller was shown, oldest first."""
        return await RefundRepository(session).of_many(payment_ids)

    async def settled(self, session: AsyncSession, payment_id: str) -> SettledPayment | None:
        """A captured payment; None: there is none with this id, or nothing was captured."""
        payment = await PaymentRepository(session).get(payment_id)
        if payment is None or payment.status not in SETTLED:
            return None
        return await as_settled(session, payment)

    async def settled_for_order(self, session: AsyncSession, order_id: str) -> SettledPayment | None:
        """The newest captured payment of an order, whatever was paid back of it since."""
        payment = await PaymentRepository(session).settled_of_order(order_id)
        return await as_settled(session, payment) if payment else None

    async def settled_for_subscription(self, session: AsyncSession, subscription_id: str) -> SettledPayment | None:
        """The newest captured payment of a subscription, whatever was paid back of it since."""
        payment = await PaymentRepository(session).settled_of_subscription(subscription_id)
        return await as_settled(session, payment) if payment else None
