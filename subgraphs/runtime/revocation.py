"""Ended sign-ins: every process refuses their tokens, and ends the calls that they have open, within two seconds.

An access token names its sign-in (`sid`). The row of a sign-in says when it was ended, whatever the cause (logout, a change or
reset of the password, a disabled account, another role). Each process reads the rows of the last `WINDOW` from auth-service, at
the start and then every `POLL_EVERY_S`: from the database where it hosts auth, else over HTTP from beside the key set, so that
it hears of an ended sign-in from the party that it believes about tokens. Each answer is a heartbeat as well. An event on
Kafka was rejected: a broker that forgets its log, or is away, would let tokens pass that auth knows to be ended.

Rows become visible in another order than that of their times, because transactions last. Each round therefore reads the last
`OVERLAP_S` again.

Readers have no sign-in: their credential is checked again at its source every `POLL_EVERY_S` while a call of theirs is open.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import aiohttp
import structlog

from domain.errors import Unauthenticated, Unavailable
from domain.principal import Principal, PrincipalKind
from subgraphs.runtime.errors import as_app_error

POLL_EVERY_S = 0.7
OVERLAP_S = 60.0
SILENT_AFTER_S = 30.0
WINDOW = timedelta(minutes=65)
"""The longest life of an access token (`JWT_ACCESS_TTL_MINUTES` is 60 at most), and the leeway of clocks."""
PAGE = 10_000
_FIRST_WITHIN_S = 3.0
_ANSWER_WITHIN_S = 2.0
_ANSWER_BYTES = 4 * 1024 * 1024

_log = structlog.get_logger("revocation")


class SignInEnded(Unauthenticated):
    """The sign-in of the token, or the credential of the reader, was revoked."""

    reason = "SIGN_IN_ENDED"


@dataclass(frozen=True, slots=True)
class EndedSignIn:
    """The id of a sign-in (`sid`), and when it ended."""

    id: str
    at: datetime


class EndedSignIns(Protocol):
    """The source that knows which sign-ins ended."""

    async def after(self, at: datetime, sign_in_id: str) -> Sequence[EndedSignIn]:
        """The next `PAGE` of those that follow this time and id, in their order; ids order sign-ins of the same time."""
        ...


class RemoteEndedSignIns:
    """Ended sign-ins behind the address that auth-service serves them at."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def after(self, at: datetime, sign_in_id: str) -> Sequence[EndedSignIn]:
        """Raises: Unavailable: the address does not answer with a list of sign-ins."""
        try:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
            asked = {"after": at.isoformat(), "id": sign_in_id}
            async with (
                aiohttp.ClientSession(timeout=timeout, read_bufsize=_ANSWER_BYTES) as http,
                http.get(self._url, params=asked) as response,
            ):
                response.raise_for_status()
                document = await response.json(content_type=None)
            return [EndedSignIn(str(row[0]), datetime.fromisoformat(row[1])) for row in document["ended"][:PAGE]]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, IndexError) as error:
            raise Unavailable("The sign-ins that ended cannot be fetched.") from error


class Revocations:
    """What this process knows of ended sign-ins, and the calls that end with them.

    Args:
        source: None where no access token is taken.
    """

    def __init__(self, source: EndedSignIns | None = None) -> None:
        self._source = source
        self._ended: dict[str, float] = {}
        self._open: defaultdict[str, set[_Call | _Watched]] = defaultdict(set)
        self._cursor: datetime | None = None
        self._heard_at = time.monotonic()
        self._first = asyncio.Lock()

    async def require(self, principal: Principal) -> None:
        """Check that the caller's sign-in goes on.

        Raises:
            SignInEnded: it does not.
            Unavailable: the process has just started, and cannot learn which sign-ins ended.
        """
        if principal.sign_in:
            await self.require_sign_in(principal.sign_in)

    async def require_sign_in(self, sign_in_id: str) -> None:
        """Check that a sign-in goes on; raises what `require` raises."""
        if self._cursor is None and self._source is not None:
            await self._load_first()
        if sign_in_id in self._ended:
            raise _ended()

    def on_end(self, sign_in_id: str, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when a sign-in ends, at once if it has ended; the answer forgets the call."""
        watched = _Watched(call)
        if sign_in_id in self._ended:
            watched.end()
            return watched.forget
        self._open[sign_in_id].add(watched)

        def forget() -> None:
            watched.forget()
            self._close(sign_in_id, watched)

        return forget

    def _close(self, sign_in_id: str, call: "_Call | _Watched") -> None:
        watching = self._open.get(sign_in_id)
        if watching is not None:
            watching.discard(call)
            if not watching:
                del self._open[sign_in_id]

    @asynccontextmanager
    async def while_valid(
        self, principal: Principal, verify: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Run the block for as long as the caller's sign-in, or credential, is valid; then cancel it.

        Args:
            verify: checks the caller again at the source; for readers.

        Raises:
            SignInEnded: it was revoked while the block ran.
        """
        if not principal.sign_in and (verify is None or principal.kind is not PrincipalKind.DEVICE):
            yield
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        call = _Call(task)
        if principal.sign_in in self._ended:
            raise _ended()
        if principal.sign_in:
            self._open[principal.sign_in].add(call)
        checking = asyncio.create_task(_check_again(verify, call)) if verify and not principal.sign_in else None
        try:
            yield
        except asyncio.CancelledError:
            if call.is_ended and task.uncancel() == call.cancelled_before:
                raise _ended() from None
            raise
        finally:
            call.is_over = True
            if checking is not None:
                checking.cancel()
            if principal.sign_in:
                self._close(principal.sign_in, call)

    async def follow(self) -> None:
        """Learn of ended sign-ins until cancelled; a source that is away is asked again."""
        if self._source is None:
            await asyncio.Event().wait()
        away = False
        while True:
            try:
                await self._load()
                away = False
            except Exception as error:
                known = as_app_error(error)
                if known is None:
                    raise
                if not away:
                    _log.warning("ended sign-ins cannot be fetched", error=repr(error))
                away = True
            await asyncio.sleep(POLL_EVERY_S)

    @property
    def is_current(self) -> bool:
        """Whether the source was heard within `SILENT_AFTER_S`."""
        return self._source is None or time.monotonic() - self._heard_at <= SILENT_AFTER_S

    async def check(self) -> None:
        """For `/ready`. Raises: Unavailable: nothing was heard for `SILENT_AFTER_S`."""
        if not self.is_current:
            raise Unavailable("Which sign-ins ended has not been heard for 30 seconds.")

    async def _load_first(self) -> None:
        async with self._first:
            if self._cursor is None:
                try:
                    async with asyncio.timeout(_FIRST_WITHIN_S):
                        await self._load()
                except TimeoutError as error:
                    raise Unavailable("The sign-ins that ended cannot be fetched.") from error

    async def _load(self) -> None:
        assert self._source is not None  # noqa: S101 - callers have checked
        started = time.monotonic()
        oldest = datetime.now(UTC) - WINDOW
        at = oldest if self._cursor is None else max(oldest, self._cursor - timedelta(seconds=OVERLAP_S))
        last_id = ""
        while True:
            page = await self._source.after(at, last_id)
            for ended in page:
                self.learn(ended.id)
            if page:
                at, last_id = page[-1].at, page[-1].id
            if len(page) < PAGE:
                break
        self._cursor = max(at, self._cursor or at)
        self._heard_at = started
        self._forget()

    def learn(self, sign_in_id: str) -> None:
        """Take note that a sign-in ended, and end the calls that it has open in this process."""
        if sign_in_id not in self._ended:
            self._ended[sign_in_id] = time.monotonic() + WINDOW.total_seconds()
            for call in tuple(self._open.get(sign_in_id, ())):
                call.end()

    def _forget(self) -> None:
        """Forget those whose tokens have expired: the first in the dictionary, which keeps the order of learning."""
        now = time.monotonic()
        while self._ended:
            oldest = next(iter(self._ended))
            if self._ended[oldest] > now:
                return
            del self._ended[oldest]


class _Call:
    """A call in hand; compared by identity."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self.cancelled_before = task.cancelling()
        self.is_ended = False
        self.is_over = False

    def end(self) -> None:
        if not (self.is_ended or self.is_over):
            self.is_ended = True
            self._task.cancel()


class _Watched:
    """What is to happen at the end of a sign-in; compared by identity."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def end(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()

    def forget(self) -> None:
        self._call = None


async def _check_again(verify: Callable[[], Awaitable[object]], call: _Call) -> None:
    while not call.is_over:
        await asyncio.sleep(POLL_EVERY_S)
        try:
            await verify()
        except Unauthenticated:
            call.end()
            return
        except Exception as error:  # noqa: BLE001 - the source is away: a reader goes on, and is checked again
            _log.info("a credential cannot be checked again", error=repr(error))


def _ended() -> SignInEnded:
    return SignInEnded("The sign-in has ended; sign in again.")
