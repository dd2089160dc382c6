"""A locked subscription with its charges: every change of its state or its money is made here.

Credit is reserved when a charge is opened and comes back when the charge comes to nothing, so that no won of it is used
twice or lost. At most one charge is open at a time; what replaces it first gives its open payment up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.subscription import lifecycle
from domain.commerce.subscription.errors import PaymentInProgress
from domain.commerce.subscription.events import SubscriptionChanged, SubscriptionPaymentDue
from domain.commerce.subscription.models import (
    Charge,
    ChargeKind,
    ChargeStatus,
    Plan,
    Standing,
    Subscription,
    SubscriptionStatus,
)
from domain.commerce.subscription.ports import Payments
from domain.commerce.subscription.proration import (
    Period,
    downgrade_credit_krw,
    kept_days,
    next_period,
    seoul_day,
    unused,
    upgrade_cost_krw,
)
from domain.commerce.subscription.repository import (
    ChargeRepository,
    PaymentNoteRepository,
    PlanRepository,
    SubscriptionRepository,
)
from domain.commerce.terms import Cancellation, Tier
from domain.ids import new_id
from domain.messaging import Outbox

Reason = Literal["activated", "upgraded", "downgraded", "renewed", "suspended", "expired", "refunded"]

_DAY = timedelta(days=1)
_RUNNING = (SubscriptionStatus.ACTIVE, SubscriptionStatus.CANCELLED)
_REASON_OF: Mapping[ChargeKind, Reason] = {
    ChargeKind.START: "activated",
    ChargeKind.UPGRADE: "upgraded",
    ChargeKind.RENEWAL: "renewed",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a change is made by: the moment, the plans at that moment, and the payments of the group."""

    now: datetime
    plans: Mapping[Tier, Plan]
    payments: Payments


class Account:
    """One subscription within one transaction. `save` writes back what was changed.

    Args:
        subscription: locked by the session.
        charges: all of it, the first opened first.
    """

    def __init__(self, session: AsyncSession, subscription: Subscription, charges: list[Charge], terms: Terms) -> None:
        self._session = session
        self._terms = terms
        self.subscription = subscription
        self.charges = charges

    @classmethod
    async def of(cls, session: AsyncSession, subscription: Subscription, terms: Terms) -> "Account":
        """The account of a subscription that the session has locked."""
        charges = await ChargeRepository(session).of(subscription.subscription_id)
        return cls(session, subscription, list(charges), terms)

    @property
    def now(self) -> datetime:
        return self._terms.now

    @property
    def standing(self) -> Standing:
        return lifecycle.standing(self.subscription, self._terms.plans, self.now)

    @property
    def open_charge(self) -> Charge | None:
        return next((charge for charge in self.charges if charge.status == ChargeStatus.OPEN), None)

    def charge_of(self, payment_id: str) -> Charge | None:
        """The charge that a payment has settled."""
        return next((charge for charge in self.charges if charge.payment_id == payment_id), None)

    # What is owed

    async def open(self, kind: ChargeKind, tier: Tier, *, due_at: datetime, announce: bool = True) -> Charge:
        """Open a charge at today's price; one that credit covers whole is settled at once.

        The one that was open before has to be given up first.

        Args:
            announce: whether a payment is asked for by `subscription.payment_due`.
        """
        subscription, price_krw = self.subscription, self._terms.plans[tier].monthly_price_krw
        gross_krw = price_krw
        if kind is ChargeKind.UPGRADE and subscription.tier != Tier.FREE:
            months = unused(self._periods(), self.now, counting_today=True)
            gross_krw = upgrade_cost_krw(subscription.price_krw, price_krw, months)
        credit_krw = min(subscription.credit_krw, gross_krw)
        subscription.credit_krw -= credit_krw
        charge = Charge(
            charge_id=new_id(),
            subscription_id=subscription.subscription_id,
            kind=kind,
            status=ChargeStatus.OPEN,
            tier=tier,
            price_krw=price_krw,
            from_tier=Tier.FREE if kind is ChargeKind.START else subscription.tier,
            from_price_krw=subscription.price_krw,
            amount_krw=gross_krw - credit_krw,
            credit_used_krw=credit_krw,
            refunded_krw=0,
            opened_at=self.now,
            due_at=due_at,
        )
        await ChargeRepository(self._session).add(charge)
        self.charges.append(charge)
        if charge.amount_krw == 0 and kind is not ChargeKind.START:
            await self.settle(charge, payment_id=None, at=self.now)
        elif announce and kind is not ChargeKind.START:
            await self._announce(charge)
        return charge

    async def _announce(self, charge: Charge) -> None:
        await Outbox(self._session).add(
            SubscriptionPaymentDue(
                subscription_id=charge.subscription_id,
                user_id=self.subscription.user_id,
                charge_id=charge.charge_id,
                kind="upgrade" if charge.kind == ChargeKind.UPGRADE else "renewal",
                tier=Tier(charge.tier),
                amount_krw=charge.amount_krw,
                due_at=charge.due_at,
            )
        )

    async def open_renewal(self) -> Charge:
        """Ask for the next period, at the price of the chosen plan.

        There is no stored card to charge: the provider's API in use captures what a payer has approved. A renewal is a charge
        that waits until somebody pays it, and is asked for by a notification.

        Raises:
            PaymentInProgress: a refund that concerns the credit has not been applied yet.
        """
        subscription = self.subscription
        if subscription.credit_krw:
            await self.require_refunds_applied()
        ends_at = subscription.expires_at or self.now
        due_at = max(ends_at, self.now) + lifecycle.GRACE
        return await self.open(ChargeKind.RENEWAL, Tier(subscription.tier), due_at=due_at)

    async def give_up_open(self) -> None:
        """Give up the open charge and its open payment, if there are any.

        Raises:
            PaymentInProgress: the payment is being captured, or was and will be told.
        """
        charge = self.open_charge
        if charge is None:
            return
        subscription_id = self.subscription.subscription_id
        outcome = await self._terms.payments.cancel_open(self._session, subscription_id=subscription_id)
        if outcome in (Cancellation.IN_FLIGHT, Cancellation.COMPLETED) or await self._is_paid_untold(charge):
            raise PaymentInProgress
        await self._come_to_nothing(charge, ChargeStatus.VOID)

    async def _is_paid_untold(self, charge: Charge) -> bool:
        """Whether the charge was paid and the event is still on its way: the broker may have been away."""
        settled = await self._terms.payments.settled_for_subscription(self._session, charge.subscription_id)
        if settled is None or settled.amount_krw != charge.amount_krw or settled.refunded_krw:
            return False
        return await PaymentNoteRepository(self._session).fate_of(settled.payment_id) is None

    async def _come_to_nothing(self, charge: Charge, status: ChargeStatus) -> None:
        charge.status = status
        self.subscription.credit_krw += charge.credit_used_krw
        # Before another one is opened: the database takes one open charge, and would see the new row first.
        await self._session.flush()

    # Money that came

    def payable(self, amount_krw: int) -> Charge | None:
        """The charge that a captured amount settles, to the won; None: nothing of it is owed.

        A charge whose payment was refused can still be settled by another payment, as long as it is the newest and nothing has
        changed since: the provider's answers about the two may be told in either order.
        """
        for charge in reversed(self.charges):
            is_newest = charge is self.charges[-1]
            is_payable = charge.status == ChargeStatus.OPEN or (charge.status == ChargeStatus.FAILED and is_newest)
            if is_payable and charge.amount_krw == amount_krw and self._fits(charge):
                return charge
        return None

    def _fits(self, charge: Charge) -> bool:
        subscription = self.subscription
        status = SubscriptionStatus(subscription.status)
        if charge.status == ChargeStatus.FAILED and subscription.credit_krw < charge.credit_used_krw:
            return False
        match ChargeKind(charge.kind):
            case ChargeKind.START:
                was_refused = status is SubscriptionStatus.EXPIRED and charge.status == ChargeStatus.FAILED
                return status is SubscriptionStatus.AWAITING or was_refused
            case ChargeKind.UPGRADE:
                return status in _RUNNING and subscription.tier == charge.from_tier
            case ChargeKind.RENEWAL:
                in_time = status in (SubscriptionStatus.ACTIVE, SubscriptionStatus.SUSPENDED)
                return in_time and subscription.tier == charge.tier

    async def settle(self, charge: Charge, *, payment_id: str | None, at: datetime) -> None:
        """What was owed is paid: the plan, or its next period, is in force.

        Args:
            payment_id: None when credit has paid all.
            at: when it was captured. A period that is paid before the one in force ends begins at its end; one that is
                paid after that begins with the payment, for nothing was in force in between.
        """
        subscription, previous = self.subscription, lifecycle.tier_at(self.subscription, self.now)
        if charge.status == ChargeStatus.FAILED:
            subscription.credit_krw -= charge.credit_used_krw
        charge.status, charge.payment_id, charge.settled_at = ChargeStatus.PAID, payment_id, at
        lifecycle.move(subscription, SubscriptionStatus.ACTIVE)
        subscription.ended_at = subscription.cancelled_at = None
        subscription.cancel_reason = ""
        subscription.tier, subscription.price_krw = charge.tier, charge.price_krw
        if lifecycle.opens_period(charge):
            self._begin_period(charge, at)
        await self.tell(_REASON_OF[ChargeKind(charge.kind)], previous)

    def _begin_period(self, charge: Charge, at: datetime) -> None:
        subscription = self.subscription
        follows_on = charge.kind == ChargeKind.RENEWAL and subscription.expires_at is not None
        starts_at = at
        if follows_on and subscription.expires_at is not None and at <= subscription.expires_at:
            starts_at = subscription.expires_at
        else:
            subscription.anchor_day = seoul_day(at)
        if charge.kind == ChargeKind.START:
            subscription.started_at = at
        period = next_period(starts_at, subscription.anchor_day)
        charge.period_starts_at, charge.period_ends_at, charge.period_days = (
            period.starts_at,
            period.ends_at,
            period.days,
        )
        subscription.expires_at = period.ends_at

    async def refuse(self, charge: Charge) -> None:
        """The provider has refused the payment of an open charge.

        A first period is over before it began; an upgrade leaves the plan as it is; a renewal is asked for again.
        """
        await self._come_to_nothing(charge, ChargeStatus.FAILED)
        match ChargeKind(charge.kind):
            case ChargeKind.START:
                self._end()
            case ChargeKind.RENEWAL if self.now < charge.due_at:
                await self.open(ChargeKind.RENEWAL, Tier(charge.tier), due_at=charge.due_at)
            case _:
                pass

    async def require_refunds_applied(self) -> None:
        """Let credit be made or moved only from payments whose refunds the plan knows of.

        Raises:
            PaymentInProgress: the event of a refund is on its way.
        """
        for charge in self.charges:
            if charge.status != ChargeStatus.PAID or charge.payment_id is None:
                continue
            settled = await self._terms.payments.settled(self._session, charge.payment_id)
            if settled is not None and settled.refunded_krw > charge.refunded_krw:
                raise PaymentInProgress

    # Changes of plan

    async def downgrade(self, tier: Tier) -> None:
        """Move to a lower paid plan at once; what the higher one was worth more for the days left becomes credit.

        Raises:
            PaymentInProgress: a refund of what was paid has not been applied yet.
        """
        await self.require_refunds_applied()
        subscription, previous = self.subscription, lifecycle.tier_at(self.subscription, self.now)
        price_krw = self._terms.plans[tier].monthly_price_krw
        months = unused(self._periods(), self.now, counting_today=False)
        subscription.credit_krw += downgrade_credit_krw(subscription.price_krw, price_krw, months)
        subscription.tier, subscription.price_krw = tier, min(price_krw, subscription.price_krw)
        self.resume()
        await self.tell("downgraded", previous)

    def resume(self) -> None:
        """Take a cancellation back."""
        lifecycle.move(self.subscription, SubscriptionStatus.ACTIVE)
        self.subscription.cancelled_at = None
        self.subscription.cancel_reason = ""

    async def suspend(self) -> None:
        """The period is over, and the next one is not paid yet."""
        previous = Tier(self.subscription.tier)
        lifecycle.move(self.subscription, SubscriptionStatus.SUSPENDED)
        await self.tell("suspended", previous)

    async def expire(self) -> None:
        """The plan is over; the person is on the free one."""
        previous = Tier(self.subscription.tier)
        began = self.subscription.status != SubscriptionStatus.AWAITING
        self._end()
        if began:  # of a plan that never was in force there is nothing to tell
            await self.tell("expired", previous)

    def _end(self) -> None:
        lifecycle.move(self.subscription, SubscriptionStatus.EXPIRED)
        self.subscription.ended_at = self.now

    # Money that went back

    async def refund(self, charge: Charge, *, refunded_total_krw: int, is_full: bool, at: datetime) -> None:
        """A payment was paid back, whole or in part: what it had bought goes with it.

        Whole: the running plan ends, and whatever else was paid for it is paid back as well; a period that has not
        begun is taken off; an upgrade falls back to the plan before. In part: the time that is no longer paid for is taken
        off, by whole days. So no order of payments and refunds leaves a plan in force for less than its price. The event may
        arrive after the period has ended by the clock: a whole refund ends the plan then as well, unless another paid
        period follows.

        Args:
            at: when the provider paid back.
        """
        if charge.status != ChargeStatus.PAID:
            return
        before_krw, charge.refunded_krw = charge.refunded_krw, max(charge.refunded_krw, refunded_total_krw)
        if is_full:
            charge.status = ChargeStatus.REFUNDED
        is_last = lifecycle.opens_period(charge) and charge.period_ends_at == self.subscription.expires_at
        if self.subscription.status == SubscriptionStatus.EXPIRED and is_full and is_last:
            # Credit that is left came from this period: see `_end_refunded`.
            self.subscription.credit_krw = min(self.subscription.credit_krw, charge.credit_used_krw)
        if self.subscription.status == SubscriptionStatus.EXPIRED or charge.refunded_krw == before_krw:
            return
        if not lifecycle.opens_period(charge):
            await self._take_upgrade_back(charge, is_full=is_full)
        elif charge.period_ends_at is not None and charge.period_ends_at > self.now:
            await self._take_time_back(charge, before_krw, is_full=is_full)
        elif is_full and is_last and charge.period_ends_at is not None:
            await self._end_refunded(charge, cause=charge, with_rest=at < charge.period_ends_at)

    async def _take_time_back(self, charge: Charge, before_krw: int, *, is_full: bool) -> None:
        subscription, days = self.subscription, charge.period_days
        starts_at, ends_at = charge.period_starts_at, charge.period_ends_at
        if starts_at is None or ends_at is None or days is None or subscription.expires_at is None:
            return
        if is_full and starts_at <= self.now:
            await self._end_refunded(charge, cause=charge)
            return
        kept = [
            kept_days(days, paid_krw=charge.amount_krw, refunded_krw=krw) for krw in (before_krw, charge.refunded_krw)
        ]
        lost = ends_at - starts_at if is_full else timedelta(days=kept[0] - kept[1])
        # It is paid back at the price of then; what a lower plan made of that since is credit, and goes back too.
        credit_krw = upgrade_cost_krw(subscription.price_krw, charge.price_krw, Fraction(lost // _DAY, days))
        if credit_krw > subscription.credit_krw:
            await self._end_refunded(charge, cause=charge)
            return
        subscription.credit_krw -= credit_krw
        # The days that were used are used: nothing ends before now.
        shortened = (
            max(ends_at - lost, starts_at, self.now) if starts_at <= self.now else max(ends_at - lost, starts_at)
        )
        previous = lifecycle.tier_at(subscription, self.now)
        for later in self._paid_periods():
            if (
                later is not charge
                and later.period_starts_at
                and later.period_ends_at
                and later.period_starts_at >= ends_at
            ):
                later.period_starts_at -= ends_at - shortened
                later.period_ends_at -= ends_at - shortened
        charge.period_ends_at = shortened
        subscription.expires_at -= ends_at - shortened
        if subscription.expires_at <= self.now:
            await self._end_refunded(charge, cause=charge)
            return
        subscription.anchor_day = seoul_day(subscription.expires_at)
        if is_full:
            subscription.credit_krw += charge.credit_used_krw
        await self.tell("refunded", previous)

    async def _take_upgrade_back(self, charge: Charge, *, is_full: bool) -> None:
        subscription = self.subscription
        running = next((c for c in self._paid_periods() if (c.period_starts_at or self.now) <= self.now), None)
        # A period that was paid ahead begins after the upgrades that were paid for it.
        if running is None or self.charges.index(charge) < self.charges.index(running):
            return  # it was for a period that is over
        if subscription.tier != charge.tier:
            # Another change came after it, and was paid by its worth.
            await self._end_refunded(running, cause=charge)
            return
        months = unused(self._periods(), self.now, counting_today=False)
        worth_krw = downgrade_credit_krw(charge.price_krw, charge.from_price_krw, months)
        previous = lifecycle.tier_at(subscription, self.now)
        left_krw = self._credit_of(charge) if is_full else max(worth_krw - charge.refunded_krw, 0)
        subscription.tier, subscription.price_krw = charge.from_tier, charge.from_price_krw
        subscription.credit_krw += left_krw
        if (open_charge := self.open_charge) is not None:
            # At the price of a plan that is gone. A payment of it that is captured meanwhile finds nothing owed.
            await self._terms.payments.cancel_open(self._session, subscription_id=subscription.subscription_id)
            await self._come_to_nothing(open_charge, ChargeStatus.VOID)
        await self.tell("refunded", previous)

    def _credit_of(self, upgrade: Charge) -> int:
        """The credit that comes back with a whole refund of an upgrade.

        Days that were taken off since, by a refund of the period itself, are worth nothing any more: what the upgrade of the
        days that are left would have cost, less the money, and at most the credit that was used.
        """
        before = self.charges[: self.charges.index(upgrade)]
        months = unused(self._periods(before), upgrade.opened_at, counting_today=True)
        cost_krw = upgrade_cost_krw(upgrade.from_price_krw, upgrade.price_krw, months)
        return min(max(cost_krw - upgrade.amount_krw, 0), upgrade.credit_used_krw)

    async def _end_refunded(self, running: Charge, *, cause: Charge, with_rest: bool = True) -> None:
        """End the plan now, and pay back what was paid for the running period and since, save the cause of it.

        Credit that is there came from the running period, since a charge uses all that there is before it asks for money:
        only what its own charge had used is older, and stays.

        Args:
            with_rest: whether the other charges of the period are paid back: not when it was used to its end before.
        """
        subscription, previous = self.subscription, lifecycle.tier_at(self.subscription, self.now)
        ends_at = max(running.period_starts_at or self.now, self.now)
        running.period_ends_at = min(running.period_ends_at or ends_at, ends_at)
        for charge in self.charges[self.charges.index(running) :]:
            if charge is cause or charge.status != ChargeStatus.PAID or not with_rest:
                continue
            charge.status = ChargeStatus.REFUNDED
            if charge.payment_id is not None:
                await self._terms.payments.request_refund(
                    self._session, payment_id=charge.payment_id, amount_krw=None, reason="The plan was refunded."
                )
        if (open_charge := self.open_charge) is not None:
            await self._terms.payments.cancel_open(self._session, subscription_id=subscription.subscription_id)
            open_charge.status = ChargeStatus.VOID
        subscription.credit_krw = running.credit_used_krw
        subscription.expires_at = min(subscription.expires_at or self.now, self.now)
        self._end()
        await self.tell("refunded", previous)

    # Periods

    def _paid_periods(self) -> list[Charge]:
        """Charges whose period is paid for and not over, the earlier first."""
        found = [
            charge
            for charge in self.charges
            if charge.status == ChargeStatus.PAID
            and charge.period_ends_at is not None
            and charge.period_ends_at > self.now
        ]
        return sorted(found, key=lambda charge: charge.period_starts_at or self.now)

    def _periods(self, among: Sequence[Charge] | None = None) -> list[Period]:
        return [
            Period(charge.period_starts_at, charge.period_ends_at, charge.period_days)
            for charge in self._paid_periods()
            if charge.period_starts_at and charge.period_ends_at and charge.period_days
            if among is None or charge in among
        ]

    # Writing

    async def tell(self, reason: Reason, previous: Tier) -> None:
        """Tell what is in force now."""
        subscription = self.subscription
        subscription.revision += 1
        standing = self.standing
        await Outbox(self._session).add(
            SubscriptionChanged(
                subscription_id=subscription.subscription_id,
                user_id=subscription.user_id,
                reason=reason,
                tier=standing.tier,
                previous_tier=previous,
                status=standing.status.value,
                started_at=subscription.started_at,
                expires_at=subscription.expires_at,
                max_devices=standing.plan.max_devices,
                max_family_members=standing.plan.max_family_members,
                ai_coaching_enabled=standing.plan.ai_coaching_enabled,
                telemedicine_enabled=standing.plan.telemedicine_enabled,
                revision=subscription.revision,
                changed_at=self.now,
            )
        )

    async def save(self) -> None:
        """Write everything back, and when the scheduler has to look again."""
        self.subscription.act_at = lifecycle.next_look(self.subscription, self.open_charge)
        await self._session.flush()

    async def look_again_soon(self) -> None:
        """As `save`, for a subscription that waits for the outcome of a payment."""
        self.subscription.act_at = self.now + lifecycle.RETRY_LATER
        await self._session.flush()


async def terms_of(session: AsyncSession, now: datetime, payments: Payments) -> Terms:
    """The terms of a change at this moment."""
    return Terms(now, await PlanRepository(session).all(), payments)


async def lock_account(session: AsyncSession, subscription_id: str, terms: Terms) -> Account | None:
    """The account of a subscription, locked; None when there is none."""
    subscription = await SubscriptionRepository(session).get_for_update(subscription_id)
    return None if subscription is None else await Account.of(session, subscription, terms)
