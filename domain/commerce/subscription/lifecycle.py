"""The states of a subscription, how it stands at a moment, and when the scheduler has to look at it again.

    awaiting --paid--> active --cancelled--> cancelled --period over--> expired
       |               |  ^  ^                   |
       |      not paid |  |  +----changed plan---+
       |               v  |paid
       |            suspended --not paid in the grace--> expired
       +--refused, given up or not paid in time--------> expired

A refund ends a plan from every state. `expired` is left in one case: the provider tells that it has refused a payment of
the first period and that it has captured another one, and the two events arrive in this order or in the other; both
orders must end in a plan that is paid for.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from domain.commerce.subscription.errors import SubscriptionMoveRefused
from domain.commerce.subscription.models import Charge, ChargeKind, Plan, Standing, Subscription, SubscriptionStatus
from domain.commerce.terms import Tier

_S = SubscriptionStatus

MOVES: Mapping[SubscriptionStatus, frozenset[SubscriptionStatus]] = {
    _S.AWAITING: frozenset({_S.ACTIVE, _S.EXPIRED}),
    _S.ACTIVE: frozenset({_S.CANCELLED, _S.SUSPENDED, _S.EXPIRED}),
    _S.CANCELLED: frozenset({_S.ACTIVE, _S.EXPIRED}),
    _S.SUSPENDED: frozenset({_S.ACTIVE, _S.EXPIRED}),
    _S.EXPIRED: frozenset({_S.ACTIVE}),
}
"""From each state, the states that it may change to. Staying is always allowed."""

RENEWAL_LEAD = timedelta(days=3)
"""How long before the end of a period its renewal is asked for."""

GRACE = timedelta(days=3)
"""How long after the end a renewal can still be paid. The plan is paused meanwhile: what is not paid is not in force."""

CHARGE_TTL = timedelta(days=1)
"""How long a first period or an upgrade can be paid; after that its price is another one."""

RETRY_LATER = timedelta(minutes=1)
"""When to look again at a charge whose payment is being captured at this moment."""


def move(subscription: Subscription, to: SubscriptionStatus) -> None:
    """Change the state.

    Raises:
        SubscriptionMoveRefused: the table has no such move.
    """
    status = SubscriptionStatus(subscription.status)
    if to is not status and to not in MOVES[status]:
        raise SubscriptionMoveRefused(subscription.subscription_id, status, to)
    subscription.status = to


def status_at(subscription: Subscription, now: datetime) -> SubscriptionStatus:
    """The state as it is by the clock, also when the scheduler has not come by yet."""
    status = SubscriptionStatus(subscription.status)
    is_over = subscription.expires_at is not None and subscription.expires_at <= now
    if is_over and status is _S.CANCELLED:
        return _S.EXPIRED
    if is_over and status is _S.ACTIVE:
        return _S.SUSPENDED
    return status


def tier_at(subscription: Subscription, now: datetime) -> Tier:
    """The tier in force: nothing that is not paid for."""
    in_force = status_at(subscription, now) in (_S.ACTIVE, _S.CANCELLED)
    return Tier(subscription.tier) if in_force else Tier.FREE


def standing(subscription: Subscription, plans: Mapping[Tier, Plan], now: datetime) -> Standing:
    """The subscription as its holder should see it."""
    status = status_at(subscription, now)
    return Standing(
        subscription=subscription,
        status=status,
        plan=plans[tier_at(subscription, now)],
        auto_renew=subscription.tier != Tier.FREE and status in (_S.ACTIVE, _S.SUSPENDED),
    )


def opens_period(charge: Charge) -> bool:
    """Whether it buys a period, and not only the difference for the rest of one."""
    return charge.kind != ChargeKind.UPGRADE or charge.from_tier == Tier.FREE


def next_look(subscription: Subscription, open_charge: Charge | None) -> datetime | None:
    """When something becomes due by itself; None: never."""
    ends_at = subscription.expires_at
    match SubscriptionStatus(subscription.status):
        case _S.EXPIRED:
            return None
        case _S.AWAITING | _S.SUSPENDED:
            return open_charge.due_at if open_charge else subscription.created_at
        case _S.CANCELLED:
            return ends_at
        case _S.ACTIVE if open_charge is not None and open_charge.kind == ChargeKind.UPGRADE:
            return open_charge.due_at if ends_at is None else min(open_charge.due_at, ends_at)
        case _S.ACTIVE if ends_at is None or open_charge is not None:
            return ends_at
        case _S.ACTIVE:
            return ends_at - RENEWAL_LEAD
