"""A fair share of a group's database connections: no account, and no network without an account, can hold all of them.

A session of the database waits for a share of its caller first, and for a connection of the pool then. What a call does
within a session it holds already (a nested one, a loader's) passes; so do services, events and background work, which are bounded
where they are started, and which a caller that waits for them may depend on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from domain.errors import LimitExceeded
from domain.principal import PrincipalKind
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.proxies import network_of
from subgraphs.runtime.slots import account_of

MOST_WAITING = 200
"""Of one caller: a page that joins many things asks for some dozens at once."""

WAIT_S = 10.0

_holds: ContextVar[bool] = ContextVar("holds_a_share", default=False)


class TooManyQueries(LimitExceeded):
    """The caller has as many queries at work, and waiting, as one caller may have."""

    reason = "TOO_MANY_QUERIES"


@dataclass(slots=True)
class _Share:
    free: asyncio.Semaphore
    users: int = field(default=0)


class Shares:
    """The shares of one process's connections to one database.

    Args:
        connections: how many the pool has.
    """

    def __init__(self, connections: int, *, wait_s: float = WAIT_S) -> None:
        self.size = max(2, connections * 2 // 5)
        self._wait_s = wait_s
        self._shares: dict[str, _Share] = {}

    @asynccontextmanager
    async def hold(self, context: RequestContext) -> AsyncIterator[None]:
        """A part of the caller's share for the length of the block.

        Raises:
            TooManyQueries: too many wait already, or none became free in time.
        """
        key = _key_of(context)
        if key is None or _holds.get():
            yield
            return
        share = self._shares.setdefault(key, _Share(asyncio.Semaphore(self.size)))
        if share.users >= self.size + MOST_WAITING:
            raise TooManyQueries("Too many requests of yours wait already; try again later.", retry_after_s=1)
        share.users += 1
        try:
            await self._acquire(share)
            _holds.set(True)
            try:
                yield
            finally:
                _holds.set(False)
                share.free.release()
        finally:
            share.users -= 1
            if not share.users:
                self._shares.pop(key, None)

    async def _acquire(self, share: _Share) -> None:
        if not share.free.locked():
            await share.free.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_s):
                await share.free.acquire()
        except TimeoutError as error:
            message = "Your other requests take too long; try again when they are answered."
            raise TooManyQueries(message, retry_after_s=5) from error


def _key_of(context: RequestContext) -> str | None:
    principal = context.principal
    if principal.kind in (PrincipalKind.USER, PrincipalKind.DEVICE):
        return f"account:{account_of(principal) or principal.subject}"
    if principal.kind is PrincipalKind.ANONYMOUS and context.peer:
        return f"network:{network_of(context.peer)}"
    return None
