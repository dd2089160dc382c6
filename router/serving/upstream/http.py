"""A subgraph's events as one long HTTP response."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

import aiohttp
import orjson

from router.execution.errors import SubgraphFailure
from router.serving.upstream.source import EventSource

_SINGLE = frozenset({"application/json", "application/graphql-response+json"})
_HTTP_OK_BELOW = 300


class Ended(Exception):
    """The stream said that no event follows."""


class Decoder(Protocol):
    """Bytes in, events out; no I/O, so that any cut of the bytes can be tried."""

    def feed(self, chunk: bytes) -> Iterable[Any]:
        """The events that these bytes complete.

        Raises:
            Ended: after the last event.
            SubgraphFailure: what came is not in this form, or an event is too large.
        """


class Form(Protocol):
    """accept: the header that asks for this form; media_type: what it is answered with."""

    @property
    def accept(self) -> str: ...

    @property
    def media_type(self) -> str: ...

    def decoder(self, content_type: str, max_bytes: int) -> Decoder: ...


async def subscribe(
    session: aiohttp.ClientSession,
    source: EventSource,
    request: Mapping[str, Any],
    headers: Mapping[str, str],
    form: Form,
) -> AsyncGenerator[Any, None]:
    """As `router.serving.upstream.subscribe`."""
    async with _opened(session, source, request, headers, form) as response:
        content_type = response.headers.get("content-type", "")
        media_type = content_type.split(";", maxsplit=1)[0].strip().lower()
        if media_type in _SINGLE:  # a subgraph that refuses the operation answers it like any other
            yield await _single(response, source)
            return
        if response.status >= _HTTP_OK_BELOW:
            raise SubgraphFailure(
                f"it answered HTTP {response.status}.", code="SUBGRAPH_HTTP_ERROR", status=response.status
            )
        if media_type != form.media_type:
            raise SubgraphFailure(f"it did not answer in {form.media_type}.", code="SUBGRAPH_MALFORMED_RESPONSE")
        decoder = form.decoder(content_type, source.max_bytes)
        async for chunk in _chunks(response, source.idle_timeout_s):
            events = iter(decoder.feed(chunk))
            while True:
                try:
                    event = next(events)
                except StopIteration:
                    break
                except Ended:
                    return
                yield event
    raise SubgraphFailure("its event stream broke.", code="SERVICE_UNAVAILABLE")


@contextlib.asynccontextmanager
async def _opened(
    session: aiohttp.ClientSession,
    source: EventSource,
    request: Mapping[str, Any],
    headers: Mapping[str, str],
    form: Form,
) -> AsyncIterator[aiohttp.ClientResponse]:
    # Compressed events would be held back by many servers, and could grow without bounds when they are unpacked.
    sent = {**headers, "content-type": "application/json", "accept": form.accept, "accept-encoding": "identity"}
    try:
        async with asyncio.timeout(source.timeout_s):
            response = await session.post(
                source.url, data=orjson.dumps(request), headers=sent, allow_redirects=False, auto_decompress=False
            )
    except TimeoutError as error:
        raise SubgraphFailure("its event stream did not start in time.", code="SUBGRAPH_TIMEOUT") from error
    except (aiohttp.ClientError, ValueError, OSError) as error:
        raise SubgraphFailure("its event stream cannot be opened.", code="SERVICE_UNAVAILABLE") from error
    try:
        yield response
    finally:
        response.close()  # not released: the subgraph learns that nobody listens any more by the end of the connection


async def _chunks(response: aiohttp.ClientResponse, idle_timeout_s: float | None) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(idle_timeout_s):
                chunk = await response.content.readany()
        except TimeoutError as error:
            raise SubgraphFailure("its event stream fell silent.", code="SUBGRAPH_TIMEOUT") from error
        except (aiohttp.ClientError, OSError) as error:
            raise SubgraphFailure("its event stream broke.", code="SERVICE_UNAVAILABLE") from error
        if not chunk:
            return
        yield chunk


async def _single(response: aiohttp.ClientResponse, source: EventSource) -> Any:
    body = bytearray()
    try:
        async with asyncio.timeout(source.timeout_s):
            async for chunk in _chunks(response, None):
                body += chunk
                if len(body) > source.max_bytes:
                    raise SubgraphFailure("its answer is too large.", code="SUBGRAPH_MALFORMED_RESPONSE")
    except TimeoutError as error:
        raise SubgraphFailure("it did not answer in time.", code="SUBGRAPH_TIMEOUT") from error
    return decode_event(bytes(body))


def decode_event(body: bytes) -> Any:
    """Raises:
    SubgraphFailure: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SubgraphFailure("its event stream is not JSON.", code="SUBGRAPH_MALFORMED_RESPONSE") from error


def too_large() -> SubgraphFailure:
    return SubgraphFailure("an event is too large.", code="SUBGRAPH_MALFORMED_RESPONSE")
