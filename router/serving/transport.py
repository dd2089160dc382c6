"""Connections to the subgraphs: one session for all, a pool of kept-alive connections for each."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Histogram

from router.execution.errors import SubgraphFailure
from router.serving.settings import RouterSettings, SubgraphSubscriptions
from router.serving.upstream import EventSource, subscribe
from router.supergraph.model import SubgraphName, Supergraph

HTTP_OK_BELOW = 300


class SubgraphMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "router_subgraph_request_seconds", "Time a subgraph took to answer.", ["subgraph"], registry=registry
        )
        self.failures = Counter(
            "router_subgraph_failures_total",
            "Requests that brought no GraphQL answer.",
            ["subgraph", "code"],
            registry=registry,
        )


class HttpTransport:
    """Asks subgraphs over HTTP. The session is shared between supergraph generations, so a reload keeps connections."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        streams: aiohttp.ClientSession,
        supergraph: Supergraph,
        settings: RouterSettings,
        metrics: SubgraphMetrics,
    ) -> None:
        self._session = session
        self._streams = streams
        self._max_bytes = settings.limits.max_subgraph_response_bytes
        self._metrics = metrics
        self._urls: dict[SubgraphName, str] = {}
        self._timeouts: dict[SubgraphName, aiohttp.ClientTimeout] = {}
        self._sources: dict[SubgraphName, EventSource] = {}
        self._seconds = {name: metrics.seconds.labels(name) for name in supergraph.subgraphs}
        for name, subgraph in supergraph.subgraphs.items():
            override = settings.subgraphs.get(name)
            self._urls[name] = (override.url if override and override.url else None) or subgraph.url
            timeout_s = (override.timeout_s if override else None) or settings.timeout_s
            self._timeouts[name] = aiohttp.ClientTimeout(total=timeout_s)
            events = override.subscriptions if override else SubgraphSubscriptions()
            self._sources[name] = EventSource(
                _event_url(self._urls[name], events),
                events.protocol,
                timeout_s,
                events.idle_timeout_s,
                settings.limits.max_subgraph_response_bytes,
            )

    def url(self, subgraph: SubgraphName) -> str:
        return self._urls[subgraph]

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        try:
            with self._seconds[subgraph].time():
                return await self._post(subgraph, body, headers)
        except TimeoutError as error:
            failure = SubgraphFailure("it did not answer in time.", code="SUBGRAPH_TIMEOUT")
            self._metrics.failures.labels(subgraph, failure.code).inc()
            raise failure from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            failure = SubgraphFailure(f"it could not be reached ({type(error).__name__}).", code="SERVICE_UNAVAILABLE")
            self._metrics.failures.labels(subgraph, failure.code).inc()
            raise failure from error
        except SubgraphFailure as failure:
            self._metrics.failures.labels(subgraph, failure.code).inc()
            raise

    def subscribe(
        self, subgraph: SubgraphName, request: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncGenerator[Any, None]:
        """The subgraph's events, as answered.

        Raises:
            SubgraphFailure: the stream cannot be opened, or breaks.
        """
        return subscribe(self._streams, self._sources[subgraph], request, headers)

    async def _post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        async with self._session.post(
            self._urls[subgraph], data=body, headers=headers, timeout=self._timeouts[subgraph], allow_redirects=False
        ) as response:
            raw = await self._read(response)
            if response.status >= HTTP_OK_BELOW and not raw.lstrip().startswith(b"{"):
                raise SubgraphFailure(
                    f"it answered HTTP {response.status}.", code="SUBGRAPH_HTTP_ERROR", status=response.status
                )
            return raw

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if response.content_length is not None and response.content_length <= self._max_bytes:
            return await response.read()
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_bytes:
                raise SubgraphFailure("its answer is too large.", code="SUBGRAPH_MALFORMED_RESPONSE")
            chunks.append(chunk)
        return b"".join(chunks)


def _event_url(url: str, events: SubgraphSubscriptions) -> str:
    if events.url is not None:
        return events.url
    return url if events.path is None else urlunsplit((*urlsplit(url)[:2], events.path, "", ""))


def open_session(settings: RouterSettings) -> aiohttp.ClientSession:
    """The session of a router's life; to be opened inside its event loop."""
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=settings.connections_per_subgraph, keepalive_timeout=60)
    return aiohttp.ClientSession(
        connector=connector,
        headers={"content-type": "application/json", "accept": "application/graphql-response+json, application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
    )
