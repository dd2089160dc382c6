"""Calls from one service to another: deadline, retry, circuit breaker, service token and trace on every call.

A call that is safe to repeat is tried again when the callee is away or stops, twice, after 50 and 200 ms (with jitter).
A callee that failed `BREAKER_FAILURES` times in a row is left alone for `BREAKER_OPEN_S` seconds; then one call tries it.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message

from domain.catalog import Workload, may_call, workload
from domain.errors import AppError, TimedOut, Unavailable
from domain.principal import PrincipalKind
from subgraphs.runtime.channels import ServiceChannels
from subgraphs.runtime.context import current
from subgraphs.runtime.errors import from_grpc, told_by_callee
from subgraphs.runtime.outages import is_gone
from subgraphs.runtime.service_tokens import ServiceTokens
from subgraphs.runtime.settings import Settings
from subgraphs.runtime.tokens import CallNotAllowed

Stub = TypeVar("Stub")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

RETRY_AFTER_S = (0.05, 0.2)
BREAKER_FAILURES = 5
BREAKER_OPEN_S = 2.0


class CalleeAway(Unavailable):
    """The called service did not answer, or has failed so often that it is left alone for a moment."""

    reason = "CALLEE_UNAVAILABLE"


class CalleeTooSlow(TimedOut):
    """The called service did not answer within its deadline."""

    reason = "CALLEE_TOO_SLOW"


class CircuitBreaker:
    """Closed while a callee answers; open for a while after too many failures in a row; then lets one call try."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Whether a call may be made now. Each time the pause is over this allows one call, and starts a new pause."""
        if self._failures < BREAKER_FAILURES:
            return True
        now = self._clock()
        if now < self._open_until:
            return False
        self._open_until = now + BREAKER_OPEN_S
        return True

    def record(self, *, failed: bool) -> None:
        """Note how a call ended: failures are only those of the callee's being there, not its refusals."""
        self._failures = self._failures + 1 if failed else 0
        if self._failures == BREAKER_FAILURES:
            self._open_until = self._clock() + BREAKER_OPEN_S


class Channels:
    """The process's channels to other services, one for each callee, with their breakers."""

    def __init__(self, settings: Settings) -> None:
        self._made = ServiceChannels(settings)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.breakers: dict[str, CircuitBreaker] = {}

    def to(self, callee: Workload) -> grpc.aio.Channel:
        """The channel to a service; made at its first use (channels belong to the running event loop)."""
        if callee.name not in self._channels:
            self._channels[callee.name] = self._made.make(callee)
            self.breakers[callee.name] = CircuitBreaker()
        return self._channels[callee.name]

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(grace=1.0)
        self._channels.clear()


class ServiceClient:
    """Calls other services in the name of one.

    Args:
        caller: short name of the calling service.
    """

    def __init__(self, caller: str, *, channels: Channels, tokens: ServiceTokens) -> None:
        self._caller = caller
        self._channels = channels
        self._tokens = tokens
        self._stubs: list[object] = []  # kept alive: `_callees` knows their methods by identity
        self._callees: dict[int, Workload] = {}

    def stub(self, callee: str, stub_class: Callable[[grpc.aio.Channel], Stub]) -> Stub:
        """A stub for a service; its methods are called through `unary`.

        Raises:
            CallNotAllowed: the catalogue does not let this caller call that service.
        """
        target = workload(callee)
        if not may_call(self._caller, target.name):
            raise CallNotAllowed(f"{self._caller} may not call {target.name}; domain/catalog.py lists what may.")
        stub = stub_class(self._channels.to(target))
        self._stubs.append(stub)
        for method in vars(stub).values():
            self._callees[id(method)] = target
        return stub

    async def unary(
        self,
        method: Callable[..., grpc.aio.UnaryUnaryCall[Request, Response]],
        request: Request,
        *,
        timeout_s: float = 5.0,
        safe: bool = False,
    ) -> Response:
        """Call a unary method of a stub that `stub` made.

        Args:
            timeout_s: for all attempts together; never longer than what the request in hand has left.
            safe: whether the call may be repeated when it is not known whether the first one arrived.

        Raises:
            AppError: what the callee raised, with its reason.
            CalleeAway, CalleeTooSlow: it did not answer.
        """
        callee = self._callees[id(method)]
        breaker = self._channels.breakers[callee.name]
        remaining_s = current().deadline_s
        cut_short = remaining_s is not None and remaining_s < timeout_s
        deadline = time.monotonic() + (remaining_s if cut_short and remaining_s is not None else timeout_s)
        pauses = iter(RETRY_AFTER_S if safe else ())
        while True:
            if not breaker.allows():
                raise CalleeAway(f"{callee.full_name} is not available at the moment; try again soon.")
            try:
                response = await method(
                    request, timeout=max(deadline - time.monotonic(), 0.001), metadata=self._metadata(callee)
                )
            except grpc.aio.AioRpcError as error:
                breaker.record(failed=_is_away(error, cut_short=cut_short))
                pause = next(pauses, None) if is_gone(error) else None
                if pause is not None and time.monotonic() + pause < deadline:
                    await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
                    continue
                raise _as_domain_error(error, callee) from error
            breaker.record(failed=False)
            return response

    def _metadata(self, callee: Workload) -> tuple[tuple[str, str], ...]:
        context = current()
        principal = context.principal
        behalf = principal.user_id if principal.kind is not PrincipalKind.ANONYMOUS else None
        token = self._tokens.issue(self._caller, callee.name, on_behalf_of=behalf or "")
        metadata: list[tuple[str, str]] = [("authorization", f"Service {token}"), ("accept-language", context.locale)]
        if context.request_id:
            metadata.append(("x-request-id", context.request_id))
        if context.traceparent:
            metadata.append(("traceparent", context.traceparent))
        return tuple(metadata)


def _is_away(error: grpc.aio.AioRpcError, *, cut_short: bool) -> bool:
    """Whether a status says that the callee is not there; what the callee says itself shows that it is.

    Args:
        cut_short: whether the caller had less time than the call is usually given, so that running out of it says
            nothing about the callee.
    """
    if told_by_callee(error) is not None:
        return False
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return not cut_short
    return is_gone(error)


def _as_domain_error(error: grpc.aio.AioRpcError, callee: Workload) -> AppError:
    if told_by_callee(error) is None:
        if is_gone(error):
            return CalleeAway(f"{callee.full_name} does not answer; try again soon.")
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return CalleeTooSlow(f"{callee.full_name} did not answer in time; try again soon.")
    return from_grpc(error)


def client_factory(channels: Channels, tokens: ServiceTokens) -> Callable[[str], ServiceClient]:
    """Clients by the short name of the caller."""

    def for_caller(caller: str) -> ServiceClient:
        return ServiceClient(workload(caller).name, channels=channels, tokens=tokens)

    return for_caller
