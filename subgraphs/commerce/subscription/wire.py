"""Between the wire's enumerations and the domain's."""

from manpasik.v1 import common_pb2, subscription_pb2

from domain.commerce.subscription.models import AccessLevel, SubscriptionStatus
from domain.commerce.terms import Tier
from domain.errors import InvalidInput

TIERS = {
    common_pb2.SUBSCRIPTION_TIER_FREE: Tier.FREE,
    common_pb2.SUBSCRIPTION_TIER_BASIC: Tier.BASIC,
    common_pb2.SUBSCRIPTION_TIER_PRO: Tier.PRO,
    common_pb2.SUBSCRIPTION_TIER_CLINICAL: Tier.CLINICAL,
}
TIER_NUMBERS = {tier: number for number, tier in TIERS.items()}
STATUS_NUMBERS = {
    # Of a plan that was never paid for the wire knows only that it is paused.
    SubscriptionStatus.AWAITING: subscription_pb2.SUBSCRIPTION_STATUS_SUSPENDED,
    SubscriptionStatus.ACTIVE: subscription_pb2.SUBSCRIPTION_STATUS_ACTIVE,
    SubscriptionStatus.CANCELLED: subscription_pb2.SUBSCRIPTION_STATUS_CANCELLED,
    SubscriptionStatus.SUSPENDED: subscription_pb2.SUBSCRIPTION_STATUS_SUSPENDED,
    SubscriptionStatus.EXPIRED: subscription_pb2.SUBSCRIPTION_STATUS_EXPIRED,
}
LEVEL_NUMBERS = {
    AccessLevel.INCLUDED: common_pb2.CARTRIDGE_ACCESS_INCLUDED,
    AccessLevel.LIMITED: common_pb2.CARTRIDGE_ACCESS_LIMITED,
    AccessLevel.ADD_ON: common_pb2.CARTRIDGE_ACCESS_ADD_ON,
    AccessLevel.RESTRICTED: common_pb2.CARTRIDGE_ACCESS_RESTRICTED,
    AccessLevel.BETA: common_pb2.CARTRIDGE_ACCESS_BETA,
}


def tier_of(number: "common_pb2.SubscriptionTier.ValueType", *, field: str) -> Tier:
    """Raises: InvalidInput: no such number; proto3 lets unknown ones through."""
    tier = TIERS.get(number)
    if tier is None:
        raise InvalidInput(f"{field} is {number}, which is no tier.", field=field)
    return tier


def required_number(tier: Tier | None) -> "common_pb2.SubscriptionTier.ValueType":
    """The wire has no word for "no tier": the highest stands for it, and the sentence beside it says so."""
    return TIER_NUMBERS[tier or Tier.CLINICAL]
