"""Every SQL statement about payments. Lock order: the subscription's advisory lock, the payment, its attempt, its refund.

(The order or subscription that a payment is for is locked before any of them, by the service that owns it.)
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, String, any_, bindparam, case, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.payment.models import AttemptStatus, Payment, PaymentAttempt, Refund, RefundStatus
from domain.commerce.payment.states import LIVE, OPEN, PaymentStatus
from domain.keyset import OwnedList
from domain.paging import Page, PageRequest

_LOCK_SUBSCRIPTION = text("SELECT pg_advisory_xact_lock(hashtextextended('payment of ' || :subscription_id, 0))")


class PaymentRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, payment_id: str) -> Payment | None:
        return None if "\0" in payment_id else await self._session.get(Payment, payment_id)

    async def get_for_update(self, payment_id: str) -> Payment | None:
        if "\0" in payment_id:  # PostgreSQL cannot even be asked for it
            return None
        return await self._session.get(Payment, payment_id, with_for_update=True, populate_existing=True)

    async def get_one_for_update(self, payment_id: str) -> Payment:
        """One that is there, because a row of ours refers to it."""
        return await self._session.get_one(Payment, payment_id, with_for_update=True, populate_existing=True)

    async def by_ids(self, payment_ids: Collection[str]) -> dict[str, Payment]:
        wanted = [payment_id for payment_id in payment_ids if "\0" not in payment_id]
        found = await self._session.scalars(_BY_IDS, {"payment_ids": wanted})
        return {payment.payment_id: payment for payment in found}

    async def lock_subscription(self, subscription_id: str) -> None:
        """Be the only one who opens or charges payments of this subscription, until the transaction ends."""
        await self._session.execute(_LOCK_SUBSCRIPTION, {"subscription_id": subscription_id})

    async def add(self, payment: Payment) -> Payment | None:
        """The payment as it was stored, and locked; None when another one stands in its place."""
        columns = [column.key for column in Payment.__table__.columns]
        values = {name: value for name, value in vars(payment).items() if name in columns}
        statement = insert(Payment).values(values).on_conflict_do_nothing().returning(Payment)
        return (await self._session.scalars(statement)).one_or_none()

    async def live_of_order(self, order_id: str, *, user_id: str | None = None) -> Payment | None:
        """Locks it. Without a person: the furthest one, should several people have brought the same order id."""
        statement = select(Payment).where(Payment.order_id == order_id, Payment.status.in_(LIVE))
        if user_id is not None:
            statement = statement.where(Payment.user_id == user_id)
        furthest = case((Payment.completed_at.is_not(None), 0), (Payment.status == "confirming", 1), else_=2)
        statement = statement.order_by(furthest, Payment.payment_id).limit(1)
        return await self._locked(statement)

    async def open_of_subscription(self, subscription_id: str) -> Payment | None:
        """Locks it."""
        statement = select(Payment).where(Payment.subscription_id == subscription_id, Payment.status.in_(OPEN))
        return await self._locked(statement)

    async def live_with_key(self, subscription_id: str, payment_key: str) -> Payment | None:
        """The newest payment of a subscription that was asked for with this key and has not ended; not locked."""
        statement = (
            select(Payment)
            .join(PaymentAttempt, PaymentAttempt.payment_id == Payment.payment_id)
            .where(
                Payment.subscription_id == subscription_id,
                PaymentAttempt.payment_key == payment_key,
                PaymentAttempt.status.in_((AttemptStatus.STARTED, AttemptStatus.CAPTURED)),
                Payment.status.in_(LIVE),
            )
            .order_by(Payment.created_at.desc(), Payment.payment_id.desc())
            .limit(1)
        )
        return (await self._session.scalars(statement)).one_or_none()

    async def captured_with(self, payment_key: str) -> str | None:
        """The id of the payment that was captured under a key of the provider."""
        statement = select(Payment.payment_id).where(
            Payment.payment_key == payment_key, Payment.payment_key != "", Payment.completed_at.is_not(None)
        )
        return (await self._session.scalars(statement.limit(1))).one_or_none()

    async def cancel_oldest_of_its_own(self, user_id: str, *, keep: int, at: datetime) -> None:
        """Cancel a person's pending payments without order and subscription, save the newest `keep`."""
        surplus = (
            select(Payment.payment_id)
            .where(
                Payment.user_id == user_id,
                Payment.order_id == "",
                Payment.subscription_id == "",
                Payment.status == PaymentStatus.PENDING,
            )
            .order_by(Payment.created_at.desc(), Payment.payment_id.desc())
            .offset(keep)
            .with_for_update(skip_locked=True)
        )
        await self._session.execute(
            update(Payment)
            .where(Payment.payment_id.in_(surplus))
            .values(status=PaymentStatus.CANCELLED, closed_at=at)
            .execution_options(synchronize_session=False)
        )

    async def settled_of_order(self, order_id: str) -> Payment | None:
        """The newest captured payment of an order."""
        statement = (
            select(Payment)
            .where(Payment.order_id == order_id, Payment.completed_at.is_not(None))
            .order_by(Payment.completed_at.desc(), Payment.payment_id.desc())
            .limit(1)
        )
        return (await self._session.scalars(statement)).one_or_none()

    async def settled_of_subscription(self, subscription_id: str) -> Payment | None:
        """The newest captured payment of a subscription."""
        statement = (
            select(Payment)
            .where(Payment.subscription_id == subscription_id, Payment.completed_at.is_not(None))
            .order_by(Payment.completed_at.desc(), Payment.payment_id.desc())
            .limit(1)
        )
        return (await self._session.scalars(statement)).one_or_none()

    async def newest_of(self, user_id: str, *, limit: int, offset: int) -> tuple[Sequence[Payment], int]:
        """Some of a person's payments, newest first, and how many there are."""
        theirs = Payment.user_id == user_id
        order = (Payment.created_at.desc(), Payment.payment_id.desc())
        found = await self._session.scalars(select(Payment).where(theirs).order_by(*order).limit(limit).offset(offset))
        total = await self._session.scalar(select(func.count()).select_from(Payment).where(theirs))
        return found.all(), total or 0

    async def pages_of(self, user_ids: Collection[str], page: PageRequest) -> dict[str, Page[Payment]]:
        """One page for every person, in one statement; newest first."""
        return await _OF_PEOPLE.pages(self._session, user_ids, page)

    async def _locked(self, statement: Select[Payment]) -> Payment | None:
        locked = statement.with_for_update().execution_options(populate_existing=True)
        return (await self._session.scalars(locked)).one_or_none()


_BY_IDS = select(Payment).where(Payment.payment_id == any_(bindparam("payment_ids", type_=ARRAY(String))))


_OF_PEOPLE = OwnedList(Payment, owner=Payment.user_id, at=Payment.created_at, id=Payment.payment_id)


class AttemptRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, attempt: PaymentAttempt) -> bool:
        """Store a new attempt; False when its key has another payment. Waits for a transaction that is just using the key."""
        columns = [column.key for column in PaymentAttempt.__table__.columns]
        values = {name: value for name, value in vars(attempt).items() if name in columns}
        statement = insert(PaymentAttempt).values(values).on_conflict_do_nothing().returning(PaymentAttempt.attempt_id)
        return await self._session.scalar(statement) is not None

    async def get_for_update(self, attempt_id: str) -> PaymentAttempt:
        """Its payment is locked before."""
        return await self._session.get_one(PaymentAttempt, attempt_id, with_for_update=True, populate_existing=True)

    async def of(self, payment_id: str) -> Sequence[PaymentAttempt]:
        """All of a payment's, oldest first."""
        found = await self._session.scalars(
            select(PaymentAttempt).where(PaymentAttempt.payment_id == payment_id).order_by(PaymentAttempt.attempt_id)
        )
        return found.all()

    async def claim_unclear(self, *, now: datetime, lease: timedelta, limit: int) -> Sequence[PaymentAttempt]:
        """Attempts whose outcome somebody has to find out, and nobody is at it: from now on the caller is."""
        due = (
            select(PaymentAttempt.attempt_id)
            .where(PaymentAttempt.status == AttemptStatus.STARTED, PaymentAttempt.settle_after <= now)
            .order_by(PaymentAttempt.settle_after)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = await self._session.scalars(
            update(PaymentAttempt)
            .where(PaymentAttempt.attempt_id.in_(due))
            .values(settle_after=now + lease, tries=func.least(PaymentAttempt.tries + 1, 1000))
            .returning(PaymentAttempt)
            .execution_options(synchronize_session=False)
        )
        return found.all()

    async def settle_after(self, attempt_id: str, moment: datetime) -> None:
        """Leave it to anybody from a moment on."""
        await self._session.execute(
            update(PaymentAttempt)
            .where(PaymentAttempt.attempt_id == attempt_id, PaymentAttempt.status == AttemptStatus.STARTED)
            .values(settle_after=moment)
        )


class RefundRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, refund: Refund) -> None:
        self._session.add(refund)
        await self._session.flush()

    async def get(self, refund_id: str) -> Refund:
        return await self._session.get_one(Refund, refund_id)

    async def get_for_update(self, refund_id: str) -> Refund:
        """Its payment is locked before."""
        return await self._session.get_one(Refund, refund_id, with_for_update=True, populate_existing=True)

    async def of(self, payment_id: str) -> Sequence[Refund]:
        """All of a payment's, oldest first."""
        return (await self.of_many([payment_id]))[payment_id]

    async def of_many(self, payment_ids: Collection[str]) -> Mapping[str, Sequence[Refund]]:
        """All of each payment's, oldest first."""
        found = await self._session.scalars(
            select(Refund)
            .where(Refund.payment_id == any_(bindparam("payment_ids", list(payment_ids), type_=ARRAY(String))))
            .order_by(Refund.requested_at, Refund.refund_id)
            .execution_options(populate_existing=True)
        )
        by_payment: defaultdict[str, list[Refund]] = defaultdict(list)
        for refund in found:
            by_payment[refund.payment_id].append(refund)
        return {payment_id: by_payment[payment_id] for payment_id in payment_ids}

    async def claim_unclear(self, *, now: datetime, lease: timedelta, limit: int) -> Sequence[Refund]:
        """Refunds that somebody has to carry out, and nobody is at it: from now on the caller is."""
        due = (
            select(Refund.refund_id)
            .where(Refund.status == RefundStatus.STARTED, Refund.settle_after <= now)
            .order_by(Refund.settle_after)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = await self._session.scalars(
            update(Refund)
            .where(Refund.refund_id.in_(due))
            .values(settle_after=now + lease, tries=func.least(Refund.tries + 1, 1000))
            .returning(Refund)
            .execution_options(synchronize_session=False)
        )
        return found.all()

    async def settle_after(self, refund_id: str, moment: datetime) -> None:
        """Leave it to anybody from a moment on."""
        await self._session.execute(
            update(Refund)
            .where(Refund.refund_id == refund_id, Refund.status == RefundStatus.STARTED)
            .values(settle_after=moment)
        )
