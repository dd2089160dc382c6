"""The rules of subscriptions: who starts, changes and ends a plan, and what has to be paid before it is in force.

No path leads to a higher tier without money: it is either a captured payment of the exact amount that nothing else used,
or credit that such payments left.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.subscription import lifecycle
from domain.commerce.subscription.account import Account, Terms, terms_of
from domain.commerce.subscription.errors import (
    PaymentNotUsable,
    SubscriptionFieldInvalid,
    SubscriptionNotFound,
    SubscriptionOver,
    SubscriptionRunning,
    SubscriptionUnpaid,
)
from domain.commerce.subscription.events import SubscriptionCancelled, SubscriptionCreated
from domain.commerce.subscription.models import (
    Charge,
    ChargeKind,
    ChargeStatus,
    PaymentFate,
    PlanChange,
    Subscription,
    SubscriptionStatus,
)
from domain.commerce.subscription.ports import Payments
from domain.commerce.subscription.proration import seoul_day
from domain.commerce.subscription.repository import (
    ChargeRepository,
    PaymentNoteRepository,
    PlanRepository,
    SubscriptionRepository,
)
from domain.commerce.terms import SettledPayment, Tier, approval_key
from domain.errors import AppError, ErrorKind, Forbidden
from domain.ids import UserId, new_id
from domain.messaging import Outbox
from domain.principal import Principal, Scope
from domain.sessions import Sessions

MAX_USER_ID = 64
MAX_REASON = 500
MAX_PAYMENT_KEY = 200

_OURS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
"""What names a payment of the platform; providers' keys look otherwise."""

_UNCLEAR = (ErrorKind.TIMEOUT, ErrorKind.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How long a cancelled plan goes on."""

    cancelled_at: datetime
    effective_until: datetime


@dataclass(frozen=True, slots=True)
class _ToCapture:
    """A charge that a key of the provider's is to pay for."""

    subscription_id: str
    charge_id: str
    amount_krw: int


class SubscriptionService:
    """Commands of the subscription service. One for the process."""

    def __init__(self, clock: Clock, *, sessions: Sessions, payments: Payments) -> None:
        self._clock = clock
        self._sessions = sessions
        self._payments = payments

    async def create(self, session: AsyncSession, principal: Principal, *, user_id: str, tier: Tier) -> PlanChange:
        """Start a plan. The free one is in force at once, a paid one once its first month is paid.

        Raises:
            SubscriptionRunning: the person has one that is not over.
            PaymentInProgress: a refund that concerns the credit of the one before has not been applied yet.
            Unauthenticated, Forbidden, InvalidInput: see `Principal.acting_for`; the token lacks commerce:write.
        """
        holder = holder_of(principal, user_id, scope=Scope.COMMERCE_WRITE)
        terms = await self._terms(session)
        subscriptions = SubscriptionRepository(session)
        before = await subscriptions.latest_for_update(holder)
        if before is not None:
            await self._require_over(session, before, terms)
            if before.credit_krw:
                await (await Account.of(session, before, terms)).require_refunds_applied()
        added = await subscriptions.add(self._fresh(holder, tier, before, terms))
        subscription = await subscriptions.running_of(holder)
        if not added or subscription is None:
            raise SubscriptionRunning
        if before is not None:
            before.credit_krw = 0  # it went on with the new one
        account = await Account.of(session, subscription, terms)
        charge = None
        if tier is not Tier.FREE:
            charge = await account.open(ChargeKind.START, tier, due_at=terms.now + lifecycle.CHARGE_TTL)
        await self._tell_created(session, subscription, charge)
        if charge is None:
            await account.tell("activated", Tier.FREE)
        elif charge.amount_krw == 0:
            await account.settle(charge, payment_id=None, at=terms.now)
        await account.save()
        return PlanChange(account.standing, account.open_charge)

    async def _require_over(self, session: AsyncSession, before: Subscription, terms: Terms) -> None:
        if lifecycle.status_at(before, terms.now) is not SubscriptionStatus.EXPIRED:
            raise SubscriptionRunning
        if before.status != SubscriptionStatus.EXPIRED:  # over by the clock, and the scheduler has not come by yet
            account = await Account.of(session, before, terms)
            await account.expire()
            await account.save()

    @staticmethod
    def _fresh(holder: UserId, tier: Tier, before: Subscription | None, terms: Terms) -> Subscription:
        return Subscription(
            subscription_id=new_id(),
            user_id=holder,
            tier=tier,
            status=SubscriptionStatus.ACTIVE if tier is Tier.FREE else SubscriptionStatus.AWAITING,
            price_krw=terms.plans[tier].monthly_price_krw,
            credit_krw=before.credit_krw if before else 0,
            created_at=terms.now,
            started_at=terms.now,
            expires_at=None,
            anchor_day=seoul_day(terms.now),
            cancelled_at=None,
            cancel_reason="",
            ended_at=None,
            # Goes on from the one before: whoever follows a person's plan tells old news from new by it.
            revision=before.revision + 1 if before else 1,
            act_at=None,
        )

    @staticmethod
    async def _tell_created(session: AsyncSession, subscription: Subscription, charge: Charge | None) -> None:
        await Outbox(session).add(
            SubscriptionCreated(
                subscription_id=subscription.subscription_id,
                user_id=subscription.user_id,
                tier=Tier(subscription.tier),
                status="active" if charge is None else "suspended",
                amount_due_krw=charge.amount_krw if charge else 0,
                created_at=subscription.created_at,
                expires_at=subscription.expires_at,
            )
        )

    async def get(self, session: AsyncSession, principal: Principal, *, user_id: str) -> PlanChange:
        """A person's newest subscription as it stands, and what of it is to be paid.

        Raises:
            SubscriptionNotFound: there never was one.
            Others: see `Principal.acting_for`; the token lacks commerce:read.
        """
        holder = holder_of(principal, user_id, scope=Scope.COMMERCE_READ)
        found = (await self.of_people(session, principal, [holder])).get(holder)
        if found is None:
            raise SubscriptionNotFound
        return found

    async def of_people(
        self, session: AsyncSession, principal: Principal, user_ids: Collection[UserId]
    ) -> dict[UserId, PlanChange]:
        """The newest subscription of each person that ever had one, and what of it is to be paid.

        Raises:
            Forbidden: one of them is somebody else.
        """
        for user_id in user_ids:
            holder_of(principal, user_id, scope=Scope.COMMERCE_READ)
        found = await SubscriptionRepository(session).latest_of(user_ids)
        return {UserId(shown.holder): shown for shown in await self._shown(session, list(found.values()))}

    async def visible(
        self, session: AsyncSession, principal: Principal, subscription_ids: Collection[str]
    ) -> dict[str, PlanChange]:
        """Those of the subscriptions that the caller may see, by id; for references from elsewhere."""
        principal.require_scope(Scope.COMMERCE_READ)
        found = await SubscriptionRepository(session).by_ids(subscription_ids)
        own = [subscription for subscription in found if _is_for(principal, subscription)]
        return {shown.standing.subscription.subscription_id: shown for shown in await self._shown(session, own)}

    async def _shown(self, session: AsyncSession, subscriptions: Sequence[Subscription]) -> list[PlanChange]:
        now, plans = self._clock.now(), await PlanRepository(session).all()
        open_charges = await ChargeRepository(session).open_of([s.subscription_id for s in subscriptions])
        return [
            PlanChange(lifecycle.standing(subscription, plans, now), open_charges.get(subscription.subscription_id))
            for subscription in subscriptions
        ]

    async def tier_of(self, session: AsyncSession, user_id: UserId) -> Tier:
        """The tier in force now; `FREE` for who never had a plan. For the group's other services."""
        found = (await SubscriptionRepository(session).latest_of([user_id])).get(user_id)
        return lifecycle.tier_at(found, self._clock.now()) if found else Tier.FREE

    async def update(
        self, principal: Principal, *, user_id: str, new_tier: Tier, payment_id: str = "", reason: str = ""
    ) -> PlanChange:
        """Move to another plan, in transactions of its own.

        Down: at once, the unused value becomes credit; to the free plan: as `cancel`. Up: once the difference is paid,
        which is either

        - by `payment_id`, a completed payment of the holder's for this subscription, of the exact amount and not used before;
        - by `payment_id`, the key that the provider gave the payer on approval, which is captured here and now; or
        - later, without `payment_id`: the plan stays until the charge that this answers is paid.

        The same plan again takes a cancellation back, and with `payment_id` pays for the plan's first or next period where
        that is owed; else it changes nothing.

        Raises:
            SubscriptionNotFound: there is none.
            SubscriptionOver: it has ended; start a new one.
            SubscriptionUnpaid: the chosen plan was not paid for yet.
            PaymentNotUsable: the named payment does not pay for this.
            PaymentInProgress: another payment of the plan is on its way.
            TimedOut: the provider has not answered; the plan changes once it has.
            AppError: as the provider has refused the key.
        """
        holder = holder_of(principal, user_id, scope=Scope.COMMERCE_WRITE)
        _require_text(payment_id, field="payment_id", at_most=MAX_PAYMENT_KEY)
        async with self._sessions.transaction() as session:
            done = await self._change(session, holder, new_tier, payment_id, reason)
        if not isinstance(done, _ToCapture):
            return done
        key = approval_key(principal, payment_id, done.charge_id)
        return await self._capture(holder, new_tier, done, payment_key=key)

    async def _change(
        self, session: AsyncSession, holder: UserId, new_tier: Tier, payment_id: str, reason: str
    ) -> PlanChange | _ToCapture:
        """The change, or the charge that has to be captured for it first."""
        account = await self._running(session, holder)
        subscription, tier = account.subscription, Tier(account.subscription.tier)
        if payment_id and await self._was_used_for(session, account, new_tier, payment_id):
            return PlanChange(account.standing, account.open_charge)
        # Of the same plan only what is owed for it: a charge for another one stays as it is.
        owes_period = new_tier is tier and account.open_charge is not None and account.open_charge.tier == tier
        if new_tier.rank > tier.rank or (payment_id and owes_period):
            return await self._pay_up(session, account, new_tier, payment_id)
        if new_tier is tier:
            if subscription.status == SubscriptionStatus.CANCELLED:
                account.resume()
                await account.tell("activated", tier)
        elif new_tier is Tier.FREE:
            await self._end_renewal(session, account, reason or "Moved to the free plan.")
        else:
            _require_in_force(account)
            await account.give_up_open()
            await account.downgrade(new_tier)
        await account.save()
        return PlanChange(account.standing, account.open_charge)

    async def _pay_up(
        self, session: AsyncSession, account: Account, new_tier: Tier, payment_id: str
    ) -> PlanChange | _ToCapture:
        """Take what is owed for a plan: of an upgrade, or of the same plan's first or next period."""
        settled = await self._payments.settled(session, payment_id) if payment_id else None
        if settled is None and _OURS.match(payment_id):
            raise PaymentNotUsable(payment_id)
        charge = account.open_charge
        if charge is None or charge.tier != new_tier or charge.due_at <= account.now:
            _require_in_force(account)
            if account.subscription.credit_krw:
                await account.require_refunds_applied()
            await account.give_up_open()
            charge = await account.open(
                ChargeKind.UPGRADE,
                new_tier,
                due_at=account.now + lifecycle.CHARGE_TTL,
                announce=not payment_id,
            )
        outcome: PlanChange | _ToCapture | None = None
        if charge.status == ChargeStatus.OPEN and settled is not None:
            await self._settle_with(session, account, charge, settled)
        elif charge.status == ChargeStatus.OPEN and payment_id:
            outcome = _ToCapture(account.subscription.subscription_id, charge.charge_id, charge.amount_krw)
        await account.save()
        return outcome or PlanChange(account.standing, account.open_charge)

    async def _settle_with(
        self, session: AsyncSession, account: Account, charge: Charge, settled: SettledPayment
    ) -> None:
        subscription = account.subscription
        notes = PaymentNoteRepository(session)
        is_usable = (
            settled.user_id == subscription.user_id
            and settled.subscription_id == subscription.subscription_id
            and settled.amount_krw == charge.amount_krw
            and settled.refunded_krw == 0
            and await notes.fate_of(settled.payment_id) is None
        )
        if not is_usable:
            raise PaymentNotUsable(settled.payment_id)
        await notes.note(settled.payment_id, subscription.subscription_id, PaymentFate.APPLIED, at=account.now)
        await account.settle(charge, payment_id=settled.payment_id, at=settled.completed_at)

    @staticmethod
    async def _was_used_for(session: AsyncSession, account: Account, new_tier: Tier, payment_id: str) -> bool:
        """Whether this very change was made with this payment before: the call is made again.

        Raises:
            PaymentNotUsable: the payment was used for something else.
        """
        if await PaymentNoteRepository(session).fate_of(payment_id) is None:
            return False
        charge = account.charge_of(payment_id)
        if charge is None or charge.tier != new_tier or account.standing.tier is not new_tier:
            raise PaymentNotUsable(payment_id)
        return True

    async def _capture(self, holder: UserId, new_tier: Tier, wanted: _ToCapture, *, payment_key: str) -> PlanChange:
        """Have the provider capture a charge, with no transaction open meanwhile, and take note of it."""
        try:
            settled = await self._payments.charge(
                user_id=holder,
                subscription_id=wanted.subscription_id,
                amount_krw=wanted.amount_krw,
                payment_key=payment_key,
            )
        except AppError as refusal:
            if refusal.kind not in _UNCLEAR:
                await self._forget(holder, wanted)
            raise
        async with self._sessions.transaction() as session:
            account = await self._running(session, holder)
            fate = await PaymentNoteRepository(session).fate_of(settled.payment_id)
            if fate is None:
                charge = account.payable(settled.amount_krw)
                if charge is None or charge.tier != new_tier:
                    # Given up meanwhile. `payment.completed`, which is on its way, has it paid back.
                    raise PaymentNotUsable(settled.payment_id)
                await self._settle_with(session, account, charge, settled)
                await account.save()
            elif not await self._was_used_for(session, account, new_tier, settled.payment_id):
                raise PaymentNotUsable(settled.payment_id)
            return PlanChange(account.standing, account.open_charge)

    async def _forget(self, holder: UserId, wanted: _ToCapture) -> None:
        """Close the upgrade that a refused key was to pay for; a first period stays payable by other means."""
        async with self._sessions.transaction() as session:
            account = await self._running(session, holder)
            charge = account.open_charge
            if charge is not None and charge.charge_id == wanted.charge_id and charge.kind == ChargeKind.UPGRADE:
                await account.give_up_open()
                await account.save()

    async def cancel(self, session: AsyncSession, principal: Principal, *, user_id: str, reason: str) -> Cancelled:
        """End renewal: the plan stays usable until the period that was paid for is over.

        A plan for which nothing is paid (the free one, or one that waits for its payment) ends at once. While the plan is
        usable, repeating the call answers the same.

        Raises:
            SubscriptionNotFound: there is none.
            SubscriptionOver: it has ended before.
            PaymentInProgress: its renewal is being paid at this moment.
        """
        holder = holder_of(principal, user_id, scope=Scope.COMMERCE_WRITE)
        account = await self._running(session, holder)
        if account.subscription.status != SubscriptionStatus.CANCELLED:
            await self._end_renewal(session, account, reason)
            await account.save()
        subscription = account.subscription
        cancelled_at = subscription.cancelled_at or account.now
        return Cancelled(cancelled_at, subscription.ended_at or subscription.expires_at or cancelled_at)

    async def _end_renewal(self, session: AsyncSession, account: Account, reason: str) -> None:
        subscription = account.subscription
        if subscription.status == SubscriptionStatus.CANCELLED:
            return
        await account.give_up_open()
        subscription.cancelled_at = account.now
        subscription.cancel_reason = _shown(reason)
        if account.standing.status is SubscriptionStatus.ACTIVE and subscription.expires_at is not None:
            lifecycle.move(subscription, SubscriptionStatus.CANCELLED)
            effective_until = subscription.expires_at
        else:
            await account.expire()
            effective_until = account.now
        await Outbox(session).add(
            SubscriptionCancelled(
                subscription_id=subscription.subscription_id,
                user_id=subscription.user_id,
                tier=Tier(subscription.tier),
                reason=subscription.cancel_reason,
                cancelled_at=account.now,
                effective_until=effective_until,
            )
        )

    async def _terms(self, session: AsyncSession) -> Terms:
        return await terms_of(session, self._clock.now(), self._payments)

    async def _running(self, session: AsyncSession, holder: UserId) -> Account:
        """Raises: SubscriptionNotFound, SubscriptionOver."""
        subscription = await SubscriptionRepository(session).latest_for_update(holder)
        if subscription is None:
            raise SubscriptionNotFound
        terms = await self._terms(session)
        if lifecycle.status_at(subscription, terms.now) is SubscriptionStatus.EXPIRED:
            raise SubscriptionOver
        return await Account.of(session, subscription, terms)


def holder_of(principal: Principal, user_id: str, *, scope: Scope) -> UserId:
    """Whom a call is about.

    Raises:
        SubscriptionFieldInvalid: an id that nobody has.
        Others: see `Principal.acting_for`; the token lacks the scope.
    """
    principal.require_scope(scope)
    holder = principal.acting_for(user_id)
    _require_text(holder, field="user_id", at_most=MAX_USER_ID)
    return holder


def _is_for(principal: Principal, subscription: Subscription) -> bool:
    try:
        principal.acting_for(subscription.user_id)
    except Forbidden:
        return False
    return True


def _require_text(value: str, *, field: str, at_most: int) -> None:
    if len(value) > at_most or (value and not value.isprintable()):
        raise SubscriptionFieldInvalid(f"{field} must have at most {at_most} printable characters.", field=field)


def _shown(reason: str) -> str:
    """A person's words as they are kept: one line of at most 500 characters."""
    return "".join(c if c.isprintable() else " " for c in reason[: 2 * MAX_REASON]).strip()[:MAX_REASON]


def _require_in_force(account: Account) -> None:
    """Raises: SubscriptionUnpaid: the chosen plan waits for the payment of its first or next period."""
    if account.standing.status in (SubscriptionStatus.AWAITING, SubscriptionStatus.SUSPENDED):
        raise SubscriptionUnpaid
