"""Refused registrations, counted for all processes together."""

from domain.errors import LimitExceeded
from domain.hardware.device.errors import TooManyClaims
from domain.ids import UserId
from subgraphs.runtime.limits import RateLimiter

REFUSALS_PER_HOUR = 10
_HOUR_S = 3600.0


class LimitedClaimAttempts:
    """The port `ClaimAttempts`."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def check(self, user_id: UserId) -> None:
        """Raises: TooManyClaims: ten were refused to this account within an hour."""
        try:
            await self._limiter.check(_key(user_id), limit=REFUSALS_PER_HOUR, window_s=_HOUR_S)
        except LimitExceeded as error:
            raise TooManyClaims(
                "Too many devices were refused to this account; try again later.",
                retry_after_s=error.details.get("retry_after_s"),
            ) from error

    async def refused(self, user_id: UserId) -> None:
        """Count one; the limit itself refuses nothing here."""
        try:
            await self._limiter.hit(_key(user_id), limit=REFUSALS_PER_HOUR, window_s=_HOUR_S)
        except LimitExceeded:
            return


def _key(user_id: UserId) -> str:
    return f"device-claim:{user_id}"
