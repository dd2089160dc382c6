"""Passwords: the policy, and Argon2id hashes made away from the event loop.

Argon2id with m = 19 MiB, t = 2, p = 1 is the least that the OWASP Password Storage Cheat Sheet accepts; argon2-cffi lets
go of the interpreter lock meanwhile, so a thread a core does as many as the machine can.
"""

import asyncio
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.identity.auth.errors import PasswordChecksBusy, WeakPassword

T = TypeVar("T")

MIN_LENGTH = 8
MAX_LENGTH = 128
MAX_WAITING = 128
"""Passwords that may be with the threads at once: one to three seconds of work; more are turned away at once."""

_NEEDS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("length", f"at least {MIN_LENGTH} characters", lambda p: len(p) >= MIN_LENGTH),
    ("max_length", f"at most {MAX_LENGTH} characters", lambda p: len(p) <= MAX_LENGTH),
    ("upper", "an upper-case letter", lambda p: any(c.isupper() for c in p)),
    ("lower", "a lower-case letter", lambda p: any(c.islower() for c in p)),
    ("digit", "a digit", lambda p: any(c.isdecimal() for c in p)),
    ("special", "a special character", lambda p: any(unicodedata.category(c)[0] in "PS" for c in p)),
)


def require_strong(password: str, *, field: str = "password") -> None:
    """Raises: WeakPassword: the policy is not met; names everything that is missing at once."""
    # Of a text that is far too long, only that is said: the other rules look at every character.
    needs = [need for need in _NEEDS if need[0] == "max_length"] if len(password) > MAX_LENGTH else _NEEDS
    broken = [(name, need) for name, need, is_met in needs if not is_met(password)]
    if broken:
        raise WeakPassword([name for name, _ in broken], [need for _, need in broken], field=field)


def owasp_hasher() -> PasswordHasher:
    """Source: OWASP Password Storage Cheat Sheet, Argon2id."""
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the password is right, and whether its hash was made with other parameters than today's."""

    is_right: bool
    needs_rehash: bool = False


class Passwords:
    """Hashes and checks passwords in threads of its own, as many at once as the machine has cores.

    Args:
        hasher: Argon2id with the parameters for new hashes.
    """

    def __init__(self, hasher: PasswordHasher | None = None, *, threads: int | None = None) -> None:
        self._hasher = hasher or owasp_hasher()
        self._threads = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys = self._hasher.hash(os.urandom(16).hex())

    async def hash(self, password: str) -> str:
        """Raises: PasswordChecksBusy: too many wait already. WeakPassword: it is longer than a password may be."""
        if len(password) > MAX_LENGTH:
            require_strong(password)
        return await self._run(lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Check a password; one that belongs to nobody (`stored` None) takes the same work, and is never right.

        So does one that is longer than any that was ever set; only its beginning is hashed.

        Raises:
            PasswordChecksBusy: too many wait already.
        """
        is_possible = stored is not None and len(password) <= MAX_LENGTH
        shown, known = password[:MAX_LENGTH], stored if is_possible and stored is not None else self._nobodys
        verdict = await self._run(lambda: self._verify(known, shown))
        return verdict if is_possible else Verdict(is_right=False)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: str) -> Verdict:
        try:
            self._hasher.verify(stored, _bytes(password))
        except (VerificationError, InvalidHashError):
            return Verdict(is_right=False)
        return Verdict(is_right=True, needs_rehash=self._hasher.check_needs_rehash(stored))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise PasswordChecksBusy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _bytes(password: str) -> bytes:
    # The same letters typed on another keyboard may come composed or decomposed (NIST SP 800-63B, 5.1.1.2).
    return unicodedata.normalize("NFKC", password).encode()
