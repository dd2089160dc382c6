"""The answers of one subscription: each event of its subgraph, completed by the others.

A subscription goes on with the supergraph that it was planned for, also when the router takes over another.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from router.errors import ClientError
from router.execution.errors import SubgraphFailure, of_failure
from router.serving.engine import Engine, Prepared
from router.serving.http import error_entries, payload
from router.serving.identity import Identity
from router.serving.transport import HttpTransport


class StreamFailed(Exception):
    """No further answer comes, and not because the operation is complete. errors: why, as the client is told."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(str(errors[0]["message"]))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Subscription:
    """headers: as sent to subgraphs. identity: the caller's; the subscription ends with their token and their session."""

    engine: Engine
    transport: HttpTransport
    prepared: Prepared
    headers: Mapping[str, str]
    identity: Identity

    async def answers(self) -> AsyncGenerator[dict[str, Any], None]:
        """One answer for each event. The next event is read when the answer before it was taken.

        Raises:
            StreamFailed: the subgraph failed, the token has expired, or the sign-in has ended.
        """
        primary = self.prepared.compiled.subscription
        if primary is None:
            raise TypeError("the operation is no subscription")
        redact = self.engine.settings.redact_errors
        request: dict[str, Any] = {"query": primary.operation}
        given = self.prepared.variables
        if used := {name: given[name] for name in primary.variables if name in given}:
            request["variables"] = used
        try:
            async with contextlib.aclosing(self.transport.subscribe(primary.subgraph, request, self.headers)) as events:
                while True:
                    try:
                        event = await self._next(events)
                    except StopAsyncIteration:
                        return
                    run = self.engine.start(self.prepared, self.transport, self.headers)
                    self.prepared.compiled.merge_root(run, primary, event)
                    response = await self.prepared.compiled.run(run)
                    yield payload(response.data, response.errors, redact=redact)
        except SubgraphFailure as failure:
            raise StreamFailed([of_failure(failure, primary.subgraph, None).formatted(redact=redact)]) from failure

    async def _next(self, events: AsyncGenerator[Any, None]) -> Any:
        """Raises:
        StreamFailed: the token expired, or the sign-in ended, before there was an event.
        """
        expires_at, session = self.identity.expires_at, self.identity.session
        if expires_at is None and session is None:
            return await anext(events)
        try:
            async with asyncio.timeout(None if expires_at is None else expires_at - time.time()) as wait:
                forget = session.on_end(partial(_end, wait)) if session is not None else None
                try:
                    return await anext(events)
                finally:
                    if forget is not None:
                        forget()
        except TimeoutError as error:
            has_expired = expires_at is not None and expires_at <= time.time()
            message = "The token has expired." if has_expired else "The sign-in has ended."
            ended = ClientError(message, code="UNAUTHENTICATED", status=401)
            raise StreamFailed(error_entries(ended)) from error


def _end(wait: asyncio.Timeout) -> None:
    if not wait.expired():
        wait.reschedule(asyncio.get_running_loop().time())
