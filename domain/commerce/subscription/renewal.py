"""What becomes due by itself: renewals are asked for, plans that are not paid are paused and end, cancelled ones end.

Every instance runs it. Rows are locked and those that another instance works on are skipped, so each is looked at once; what
has to be done follows from the row and the clock alone, so a run after a long downtime does what is right now instead of
replaying what was missed. Who was never asked for a renewal has the whole grace to pay it from when they are.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.subscription.account import Account, lock_account, terms_of
from domain.commerce.subscription.errors import PaymentInProgress
from domain.commerce.subscription.lifecycle import RENEWAL_LEAD
from domain.commerce.subscription.models import ChargeKind, SubscriptionStatus
from domain.commerce.subscription.ports import Payments
from domain.commerce.subscription.repository import SubscriptionRepository

BATCH = 100

POSTPONED = timedelta(minutes=10)
"""When to try again with a subscription that could not be worked on because of a bug: the others must not wait for it."""


class RenewalService:
    """Commands of the scheduler. One for the process."""

    def __init__(self, clock: Clock, *, payments: Payments) -> None:
        self._clock = clock
        self._payments = payments

    async def claim(self, session: AsyncSession) -> Sequence[str]:
        """Ids of up to 100 subscriptions that something is due of, locked for this transaction."""
        return await SubscriptionRepository(session).due(self._clock.now(), limit=BATCH)

    async def renew(self, session: AsyncSession, subscription_id: str) -> None:
        """Do what is due of a claimed subscription."""
        terms = await terms_of(session, self._clock.now(), self._payments)
        account = await lock_account(session, subscription_id, terms)
        if account is None:
            return
        try:
            await _advance(account)
        except PaymentInProgress:
            await account.look_again_soon()
        else:
            await account.save()

    async def postpone(self, session: AsyncSession, subscription_id: str) -> None:
        """Leave a subscription for later."""
        await SubscriptionRepository(session).look_again(subscription_id, at=self._clock.now() + POSTPONED)


async def _advance(account: Account) -> None:
    """Raises: PaymentInProgress: what is due depends on a payment whose outcome will be told."""
    match SubscriptionStatus(account.subscription.status):
        case SubscriptionStatus.EXPIRED:
            return
        case SubscriptionStatus.AWAITING:
            if _is_overdue(account):
                await account.give_up_open()
                await account.expire()
        case SubscriptionStatus.CANCELLED:
            if _is_over(account):
                await account.give_up_open()
                await account.expire()
        case SubscriptionStatus.ACTIVE:
            await _advance_active(account)
        case SubscriptionStatus.SUSPENDED:
            await _advance_suspended(account)
        case _ as never:
            assert_never(never)


async def _advance_active(account: Account) -> None:
    charge = account.open_charge
    if charge is not None and charge.kind == ChargeKind.UPGRADE and (_is_overdue(account) or _is_over(account)):
        await account.give_up_open()
        charge = None
    ends_at = account.subscription.expires_at
    if charge is None and ends_at is not None and account.now >= ends_at - RENEWAL_LEAD:
        await account.open_renewal()  # settled at once where credit covers it, which moves the end
    if not _is_over(account):
        return
    if _is_overdue(account):
        await account.give_up_open()
        await account.expire()
    else:
        await account.suspend()


async def _advance_suspended(account: Account) -> None:
    if _is_overdue(account):
        await account.give_up_open()
        await account.expire()


def _is_over(account: Account) -> bool:
    ends_at = account.subscription.expires_at
    return ends_at is not None and ends_at <= account.now


def _is_overdue(account: Account) -> bool:
    """Whether the open charge cannot be paid any more; also when there is none left to pay."""
    charge = account.open_charge
    return charge is None or charge.due_at <= account.now
