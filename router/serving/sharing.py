"""Identical requests that are under way at the same time are one request.

Only for operations that are queries: what follows a mutation, or an event, must not be answered by a request that was sent
before it. Nothing is kept: a request is forgotten before its answer is given out, so nobody joins one that is over.
"""

import asyncio
from collections.abc import Mapping

from router.execution.errors import SubgraphFailure
from router.execution.request import Transport
from router.serving.client import OutgoingHeaders
from router.supergraph.model import SubgraphName

_Headers = bytes | frozenset[tuple[str, str]]
_Key = tuple[SubgraphName, bytes, _Headers]
_Outcome = bytes | SubgraphFailure | None

_TRACING = ("traceparent", "tracestate")
"""Headers that by their specification (W3C Trace Context) have no influence on an answer."""


class SharingTransport:
    """Asks each question once, however many ask it at the same time with the same headers.

    The first to ask sends the request in its own task, so that a request that nobody shares costs two look-ups more. If it
    is cancelled, one of those who wait sends the request again.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._under_way: dict[_Key, list[asyncio.Future[_Outcome]]] = {}

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        """As the transport's.

        Raises:
            SubgraphFailure: as the transport's, to everyone who shares the request.
        """
        key = (subgraph, body, _relevant(headers))
        while (waiting := self._under_way.get(key)) is not None:
            future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
            waiting.append(future)
            outcome = await future
            if isinstance(outcome, SubgraphFailure):
                raise SubgraphFailure(outcome.message, code=outcome.code, status=outcome.status) from outcome
            if outcome is not None:
                return outcome
        waiting = self._under_way[key] = []
        outcome = None
        try:
            outcome = await self._transport.post(subgraph, body, headers)
            return outcome
        except SubgraphFailure as failure:
            outcome = failure
            raise
        finally:
            del self._under_way[key]
            for future in waiting:
                if not future.done():  # it is when who waited has gone
                    future.set_result(outcome)


def _relevant(headers: Mapping[str, str]) -> _Headers:
    if isinstance(headers, OutgoingHeaders) and not ("traceparent" in headers or "tracestate" in headers):
        try:
            return headers.encoded  # once for all requests of an operation
        except ValueError:
            pass  # the transport says what is wrong with them
    return frozenset([item for item in headers.items() if item[0] not in _TRACING])
