"""How often people may try. Keys hold hashes: the counters' store need not know who signs in."""

import hashlib
from dataclasses import dataclass

from domain.errors import LimitExceeded
from domain.identity.auth.errors import TooManyRegistrations, TooManyResets, TooManySignIns
from domain.identity.auth.ports import AttemptCounter

WINDOW_S = 60
PER_ACCOUNT = 5
PER_ADDRESS = 50
RESETS_PER_ACCOUNT = 5
RESET_WINDOW_S = 900
REGISTRATION_WINDOW_S = 3600


@dataclass(frozen=True, slots=True)
class _Limit:
    key: str
    limit: int


class FailedSignIns:
    """At most 5 failed sign-ins a minute for an account, wherever they come from, whether or not it exists.

    A network address has a wider limit over all accounts: it may be a whole clinic's or a mobile network's, but it may not
    try one password on thousands of accounts either. A sign-in asks first and counts when it has failed; one that
    succeeded asks again, so that of many guesses sent at once no more than the limit are told right from wrong.
    """

    def __init__(self, counter: AttemptCounter) -> None:
        self._counter = counter

    async def require_room(self, email: str, address: str) -> None:
        """Raises: TooManySignIns: the account or the address has failed too often within a minute."""
        try:
            for limit in _limits(email, address):
                await self._counter.check(limit.key, limit=limit.limit, window_s=WINDOW_S)
        except LimitExceeded as error:
            raise _too_many(error) from error

    async def count(self, email: str, address: str) -> None:
        """Raises: TooManySignIns: the limit was reached by others while this one was checked."""
        try:
            for limit in _limits(email, address):
                await self._counter.hit(limit.key, limit=limit.limit, window_s=WINDOW_S)
        except LimitExceeded as error:
            raise _too_many(error) from error


class ResetRequests:
    """At most 5 reset mails in a quarter of an hour to one address, whether or not it has an account."""

    def __init__(self, counter: AttemptCounter) -> None:
        self._counter = counter

    async def count(self, email: str) -> None:
        """Raises: TooManyResets: there were too many already."""
        try:
            await self._counter.hit(f"reset:{_hashed(email)}", limit=RESETS_PER_ACCOUNT, window_s=RESET_WINDOW_S)
        except LimitExceeded as error:
            raise TooManyResets(_retry_after_s(error)) from error


class Registrations:
    """At most so many accounts an hour from a network address, those counted that failed because the mail address was taken:
    whoever opens accounts in bulk, or tries which addresses have one, is held up; a clinic or a mobile network is not.

    Args:
        per_hour: for one address.
    """

    def __init__(self, counter: AttemptCounter, *, per_hour: int) -> None:
        self._counter = counter
        self._per_hour = per_hour

    async def count(self, address: str) -> None:
        """Raises: TooManyRegistrations: there were too many already. An unknown address, "", is not counted."""
        if not address:
            return
        key = f"registration:address:{_hashed(address)}"
        try:
            await self._counter.hit(key, limit=self._per_hour, window_s=REGISTRATION_WINDOW_S)
        except LimitExceeded as error:
            raise TooManyRegistrations(_retry_after_s(error)) from error


def _limits(email: str, address: str) -> list[_Limit]:
    limits = [_Limit(f"sign-in:account:{_hashed(email)}", PER_ACCOUNT)]
    if address:
        limits.append(_Limit(f"sign-in:address:{_hashed(address)}", PER_ADDRESS))
    return limits


def _hashed(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:32]


def _too_many(error: LimitExceeded) -> TooManySignIns:
    return TooManySignIns(_retry_after_s(error))


def _retry_after_s(error: LimitExceeded) -> float:
    return float(error.details.get("retry_after_s", 1))
