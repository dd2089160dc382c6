"""What auth needs from the outside."""

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.identity.person import NewProfile, SocialProvider
from domain.ids import UserId


class AttemptCounter(Protocol):
    """Counts attempts over sliding windows, for all processes together."""

    async def check(self, key: str, *, limit: int, window_s: float) -> None:
        """Raises: LimitExceeded: `limit` attempts are counted already; says `retry_after_s`."""
        ...

    async def hit(self, key: str, *, limit: int, window_s: float) -> None:
        """Count one. Raises: LimitExceeded: as `check`; this one is not counted."""
        ...


class Profiles(Protocol):
    """The user service, as far as auth needs it."""

    async def create(self, session: AsyncSession, user_id: UserId, profile: NewProfile) -> str:
        """Open a profile and return the display name as stored.

        Raises:
            InvalidInput: a field breaks its rule.
        """
        ...

    async def replace(self, session: AsyncSession, user_id: UserId, profile: NewProfile) -> None:
        """Replace all that a profile states, health details included; the plan that it holds stays.

        Raises:
            InvalidInput: a field breaks its rule.
        """
        ...

    async def language_of(self, session: AsyncSession, user_id: UserId) -> str | None:
        """The BCP 47 tag of messages to the person; None without a profile."""
        ...


@dataclass(frozen=True, slots=True)
class SocialProof:
    """What a provider proved about a person.

    Args:
        email_is_proven: whether the provider says that the person reads this mail, and said so to *this* platform. A bare
            OAuth access token may have been given to another app, so the address that it opens proves nothing here.
    """

    provider: SocialProvider
    social_id: str
    email: str | None = None
    email_is_proven: bool = False
    name: str = ""
    picture_url: str = ""


@dataclass(frozen=True, slots=True)
class SocialToken:
    """What a client brings from a provider: an ID token (Google, Apple) or an access token (Kakao, Naver)."""

    provider: SocialProvider
    id_token: str = ""
    access_token: str = ""
    nonce: str = ""


class SocialVerifier(Protocol):
    async def verify(self, token: SocialToken) -> SocialProof:
        """Raises:
        InvalidInput: the token that this provider needs is missing.
        InvalidSocialToken: the token does not prove anything here.
        SocialSignInUnavailable: the provider is not configured.
        Unavailable: the provider does not answer.
        """
        ...
