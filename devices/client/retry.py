"""Which failures are worth another try, and how long to wait before it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from devices.client.credentials import Metadata
from devices.client.errors import CallRejected, PlatformFailing, PlatformUnreachable

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

# The platform, or something in front of it, has failed at what it should be able to do. A reader in the field cannot be
# mended by hand, and a platform can: giving up for ever would throw measurements away for a bug that is gone tomorrow.
_FAILING = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
# ABORTED means a lost race that changed nothing. CANCELLED as a status is of a platform that stops: a call that this side
# cancels raises asyncio.CancelledError instead, as does a platform that ends the call in its midst (`cancelled_by_peer`).
_RETRYABLE = _FAILING | {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
}


class LostConnection(Exception):
    """A call broke off in a way that another try may mend.

    Args:
        failing: whether the platform said that something is wrong on its side.
    """

    def __init__(self, cause: str, *, failing: bool = False) -> None:
        super().__init__(cause)
        self.failing = failing

    def given_up(self, call: str, *, tried_for_s: float) -> PlatformUnreachable:
        """The error of a call that was tried for so long, this being its last failure."""
        kind = PlatformFailing if self.failing else PlatformUnreachable
        return kind(call, tried_for_s=tried_for_s, last=str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential waiting with jitter.

    The wait before try n is random between half and all of ``min(max_s, initial_s * multiplier ** n)``: the random
    half keeps a fleet from returning in step, the fixed half keeps one reader from trying again at once.
    """

    initial_s: float = 0.2
    max_s: float = 10.0
    multiplier: float = 2.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row, counted from 0."""
        # The exponent is capped so that a long outage cannot overflow the power.
        ceiling = min(self.max_s, self.initial_s * self.multiplier ** min(failures, 64))
        return ceiling * (0.5 + 0.5 * random.random())  # noqa: S311 - spreads load, protects nothing


def is_retryable(code: grpc.StatusCode) -> bool:
    """Whether the same call may succeed later without a change on this side."""
    return code in _RETRYABLE


def cancelled_by_peer() -> bool:
    """Within ``except CancelledError``: whether the call was cancelled by the platform, not this task by its owner.

    grpc.aio raises `asyncio.CancelledError` for both; a server that stops cancels its open calls.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


def _hides_the_status(error: grpc.aio.AioRpcError) -> bool:
    """Whether grpc.aio replaced the platform's status by an error of its own.

    A write that meets the end of a call overwrites the status that the call ended with. The next connection shows it.
    Source: https://github.com/grpc/grpc/issues/36066
    """
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"


def classify(call: str, error: grpc.aio.AioRpcError) -> Exception:
    """`LostConnection` when another try makes sense, else `CallRejected`."""
    if is_retryable(error.code()):
        failing = error.code() in _FAILING and not _hides_the_status(error)
        return LostConnection(f"{error.code().name}: {error.details()}", failing=failing)
    return CallRejected.of(call, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """Limits of a unary call: each try, and all tries together with the waiting between them."""

    try_timeout_s: float = 10.0
    give_up_after_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)


async def call_unary(
    method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    *,
    name: str,
    policy: CallPolicy,
    metadata: Callable[[], Awaitable[Metadata]],
) -> ResponseT:
    """The answer to a call that is safe to repeat. ``metadata`` is asked before each try: tokens expire.

    Raises:
        CallRejected: the platform gave a final status.
        PlatformUnreachable: no try succeeded in the time allowed; `PlatformFailing` when the platform failed at the last.
    """
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    failures = 0
    while True:
        left_s = policy.give_up_after_s - (loop.time() - started_at)
        timeout_s = max(0.001, min(policy.try_timeout_s, left_s))
        try:
            return await method(request, metadata=await metadata(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            failure = classify(name, error)
            if not isinstance(failure, LostConnection):
                raise failure from error
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise
            failure = LostConnection("cancelled by the platform")
        wait_s = policy.backoff.wait_s(failures)
        failures += 1
        elapsed_s = loop.time() - started_at
        if elapsed_s + wait_s >= policy.give_up_after_s:
            raise failure.given_up(name, tried_for_s=elapsed_s)
        await asyncio.sleep(wait_s)
