"""Between the wire's enumerations and the domain's. The wire's 0 means: not stated."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from manpasik.v1 import common_pb2

from domain.errors import InvalidInput
from domain.identity.person import Gender, SocialProvider
from domain.identity.user.models import SubscriptionTier

_GENDERS = {
    common_pb2.GENDER_UNSPECIFIED: None,
    common_pb2.GENDER_MALE: Gender.MALE,
    common_pb2.GENDER_FEMALE: Gender.FEMALE,
    common_pb2.GENDER_OTHER: Gender.OTHER,
    common_pb2.GENDER_PREFER_NOT_TO_SAY: Gender.PREFER_NOT_TO_SAY,
}
_TO_GENDER = {gender: number for number, gender in _GENDERS.items()}
_PROVIDERS = {
    common_pb2.SOCIAL_PROVIDER_UNSPECIFIED: None,
    common_pb2.SOCIAL_PROVIDER_GOOGLE: SocialProvider.GOOGLE,
    common_pb2.SOCIAL_PROVIDER_APPLE: SocialProvider.APPLE,
    common_pb2.SOCIAL_PROVIDER_KAKAO: SocialProvider.KAKAO,
    common_pb2.SOCIAL_PROVIDER_NAVER: SocialProvider.NAVER,
}
_TO_PROVIDER = {provider: number for number, provider in _PROVIDERS.items()}
_TO_TIER = {
    SubscriptionTier.FREE: common_pb2.SUBSCRIPTION_TIER_FREE,
    SubscriptionTier.BASIC: common_pb2.SUBSCRIPTION_TIER_BASIC,
    SubscriptionTier.PRO: common_pb2.SUBSCRIPTION_TIER_PRO,
    SubscriptionTier.CLINICAL: common_pb2.SUBSCRIPTION_TIER_CLINICAL,
}


def gender_of(number: "common_pb2.Gender.ValueType") -> Gender | None:
    """Raises: InvalidInput: no such number; proto3 lets unknown ones through."""
    if number not in _GENDERS:
        raise InvalidInput(f"gender {number} is not known.", field="gender")
    return _GENDERS[number]


def gender_number(gender: Gender | None) -> "common_pb2.Gender.ValueType":
    return _TO_GENDER[gender]


def provider_of(number: "common_pb2.SocialProvider.ValueType") -> SocialProvider:
    """Raises: InvalidInput: unspecified or unknown."""
    provider = _PROVIDERS.get(number)
    if provider is None:
        raise InvalidInput(f"provider {number} is not one of Google, Apple, Kakao and Naver.", field="provider")
    return provider


def provider_number(provider: SocialProvider | None) -> "common_pb2.SocialProvider.ValueType":
    return _TO_PROVIDER[provider]


def tier_number(tier: SubscriptionTier) -> "common_pb2.SubscriptionTier.ValueType":
    return _TO_TIER[tier]


def timestamp_of(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
