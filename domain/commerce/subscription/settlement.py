"""What payments mean for subscriptions: they are told by events, each more than once and in any order.

What became of a payment is kept in a row of its own, and each rule looks at what is there and not at what came last: a
refund that is told before its payment first does what the payment would have done.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.subscription.account import Account, lock_account, terms_of
from domain.commerce.subscription.models import PaymentFate, SubscriptionStatus
from domain.commerce.subscription.ports import Payments
from domain.commerce.subscription.repository import PaymentNoteRepository, SubscriptionRepository


@dataclass(frozen=True, slots=True)
class ToldPayment:
    """A payment of a subscription, as an event tells of it.

    Args:
        at: when it was captured, refused or paid back.
    """

    payment_id: str
    user_id: str
    subscription_id: str
    amount_krw: int
    at: datetime


class SettlementService:
    """What payment events do. One for the process; each command runs in its consumer's transaction."""

    def __init__(self, clock: Clock, *, payments: Payments) -> None:
        self._clock = clock
        self._payments = payments

    async def completed(self, session: AsyncSession, payment: ToldPayment) -> None:
        """Apply a captured payment to the charge that it pays to the won; without one it is paid back."""
        account = await self._account(session, payment)
        await self._apply(session, account, payment, at=payment.at)

    async def failed(self, session: AsyncSession, payment: ToldPayment) -> None:
        """Nothing was captured: the open charge of that amount comes to nothing."""
        account = await self._account(session, payment)
        notes = PaymentNoteRepository(session)
        if account is None or await notes.fate_of(payment.payment_id) is not None:
            return
        await notes.note(payment.payment_id, payment.subscription_id, PaymentFate.FAILED, at=account.now)
        charge = account.open_charge
        if charge is not None and charge.amount_krw == payment.amount_krw:
            await account.refuse(charge)
            await account.save()

    async def refunded(
        self, session: AsyncSession, payment: ToldPayment, *, refunded_total_krw: int, is_full: bool
    ) -> None:
        """Take back what the payment had bought, as far as it was paid back."""
        account = await self._account(session, payment)
        if account is None:
            return
        if await PaymentNoteRepository(session).fate_of(payment.payment_id) is None:
            settled = await self._payments.settled(session, payment.payment_id)
            captured_at = settled.completed_at if settled else payment.at
            await self._apply(session, account, payment, at=captured_at, is_refunded=True)
        charge = account.charge_of(payment.payment_id)
        if charge is not None:
            await account.refund(charge, refunded_total_krw=refunded_total_krw, is_full=is_full, at=payment.at)
            await account.save()

    async def _apply(
        self,
        session: AsyncSession,
        account: Account | None,
        payment: ToldPayment,
        *,
        at: datetime,
        is_refunded: bool = False,
    ) -> None:
        notes = PaymentNoteRepository(session)
        if await notes.fate_of(payment.payment_id) in (PaymentFate.APPLIED, PaymentFate.RETURNED):
            return
        now = self._clock.now()
        charge = account.payable(payment.amount_krw) if account else None
        if account is not None and charge is not None and await self._may_begin(session, account):
            await notes.note(payment.payment_id, payment.subscription_id, PaymentFate.APPLIED, at=now)
            await account.settle(charge, payment_id=payment.payment_id, at=at)
            await account.save()
            return
        await notes.note(payment.payment_id, payment.subscription_id, PaymentFate.RETURNED, at=now)
        if not is_refunded:
            await self._payments.request_refund(
                session, payment_id=payment.payment_id, amount_krw=None, reason="Nothing was owed for the plan."
            )

    @staticmethod
    async def _may_begin(session: AsyncSession, account: Account) -> bool:
        """Whether a payment may bring the subscription back into force: not when the person has started another one."""
        if account.subscription.status != SubscriptionStatus.EXPIRED:
            return True
        return await SubscriptionRepository(session).running_of(account.subscription.user_id) is None

    async def _account(self, session: AsyncSession, payment: ToldPayment) -> Account | None:
        """The subscription of a payment, locked; None when there is none, or it is somebody else's."""
        terms = await terms_of(session, self._clock.now(), self._payments)
        account = await lock_account(session, payment.subscription_id, terms)
        return account if account is not None and account.subscription.user_id == payment.user_id else None
