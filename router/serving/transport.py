"""How plans reach their subgraphs: which server each has, and what becomes of an answer that is none."""

import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from router.execution.errors import SubgraphFailure
from router.execution.files import Placed
from router.serving.client import OutgoingHeaders, Peer, address_of, encode_headers
from router.serving.connection import HttpAnswer, MalformedAnswer, Unreachable
from router.serving.headers import HeaderRewrite
from router.serving.metrics import Durations, Metrics
from router.serving.settings import HeaderRules, RouterSettings, SubgraphSubscriptions
from router.serving.upstream.session import StreamSession
from router.serving.upstream.source import EventSource
from router.supergraph.model import SubgraphName, Supergraph

HTTP_OK_BELOW = 300
_QUERIES = (b'{"query":"query', b'{"query":"{')
"""How the body of a request begins that may be sent twice. A mutation's, and what is not known, may not."""


class HttpTransport:
    """Asks subgraphs over HTTP; for one supergraph.

    streams: for the event streams of subscriptions; before: the transport of the supergraph that this one replaces,
    whose connections are kept where a subgraph's address is the same. To be made inside the event loop. tls: for https URLs; None: the
    system's authorities.
    """

    def __init__(
        self,
        supergraph: Supergraph,
        settings: RouterSettings,
        streams: StreamSession,
        metrics: Metrics,
        before: "HttpTransport | None" = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._streams = streams
        self._metrics = metrics
        self._urls: dict[SubgraphName, str] = {}
        self.peers: dict[SubgraphName, Peer] = {}
        self._sources: dict[SubgraphName, EventSource] = {}
        self._seconds: dict[SubgraphName, Durations] = {}
        self._rewrites: dict[SubgraphName, HeaderRewrite] = {}
        known = dict(before.peers) if before is not None else {}
        for name, subgraph in supergraph.subgraphs.items():
            override = settings.subgraphs.get(name)
            url = (override.url if override and override.url else None) or subgraph.url
            timeout_s = (override.timeout_s if override else None) or settings.timeout_s
            events = override.subscriptions if override else SubgraphSubscriptions()
            self._urls[name] = url
            if override and override.headers != HeaderRules():
                self._rewrites[name] = HeaderRewrite(override.headers)
            self._seconds[name] = metrics.of_subgraph(name)
            self._sources[name] = EventSource(
                _event_url(url, events),
                events.protocol,
                timeout_s,
                events.idle_timeout_s,
                settings.limits.max_subgraph_response_bytes,
            )
            try:
                address = address_of(url)
            except ValueError:
                continue  # told to those who ask; every other subgraph can be served
            if name in known and known[name].address == address:
                self.peers[name] = known.pop(name)
            else:
                self.peers[name] = Peer(
                    address,
                    connections=settings.connections_per_subgraph,
                    timeout_s=timeout_s,
                    max_bytes=settings.limits.max_subgraph_response_bytes,
                    tls=tls,
                )
        for peer in known.values():
            peer.retire()

    def url(self, subgraph: SubgraphName) -> str:
        return self._urls[subgraph]

    async def close(self) -> None:
        for peer in self.peers.values():
            await peer.close()

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The body of a subgraph's answer. headers: encoded once if they are `OutgoingHeaders`.

        Raises:
            SubgraphFailure: there is none, or none that could be GraphQL.
        """
        started = time.perf_counter()
        try:
            headers = self._rewritten(subgraph, headers)
            encoded = headers.encoded if isinstance(headers, OutgoingHeaders) else encode_headers(headers)
            return _graphql(await self.peers[subgraph].post(body, encoded, repeatable=body.startswith(_QUERIES)))
        except (KeyError, ValueError, TimeoutError, Unreachable, MalformedAnswer, SubgraphFailure) as error:
            failure = self._failure(subgraph, error)
            self._metrics.failures[subgraph, failure.code] += 1
            raise failure from error
        finally:
            self._seconds[subgraph].add(time.perf_counter() - started)

    async def post_files(
        self, subgraph: SubgraphName, body: bytes, files: Sequence[Placed], headers: Mapping[str, str]
    ) -> bytes:
        """As `post`, with files among the variables; never sent twice."""
        from router.serving.upstream.form import SubgraphForm, post_form  # noqa: PLC0415  see `StreamSession`

        started = time.perf_counter()
        source = self._sources[subgraph]
        try:
            return _graphql(
                await post_form(
                    self._streams.get(),
                    self._urls[subgraph],
                    SubgraphForm(body, files),
                    self._rewritten(subgraph, headers),
                    timeout_s=source.timeout_s,
                    max_bytes=source.max_bytes,
                )
            )
        except (ValueError, TimeoutError, Unreachable, SubgraphFailure) as error:
            failure = self._failure(subgraph, error)
            self._metrics.failures[subgraph, failure.code] += 1
            raise failure from error
        finally:
            self._seconds[subgraph].add(time.perf_counter() - started)

    def subscribe(
        self, subgraph: SubgraphName, request: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncGenerator[Any, None]:
        """The subgraph's events, as answered.

        Raises:
            SubgraphFailure: the stream cannot be opened, or breaks.
        """
        from router.serving.upstream.streams import subscribe  # noqa: PLC0415  see `StreamSession`

        return subscribe(self._streams.get(), self._sources[subgraph], request, self._rewritten(subgraph, headers))

    def _rewritten(self, subgraph: SubgraphName, headers: Mapping[str, str]) -> Mapping[str, str]:
        rewrite = self._rewrites.get(subgraph)
        return headers if rewrite is None else rewrite(headers)

    def _failure(self, subgraph: SubgraphName, error: Exception) -> SubgraphFailure:
        match error:
            case SubgraphFailure():
                return error
            case TimeoutError():
                return SubgraphFailure("it did not answer in time.", code="SUBGRAPH_TIMEOUT")
            case MalformedAnswer():
                return SubgraphFailure(str(error), code="SUBGRAPH_MALFORMED_RESPONSE")
            case Unreachable():
                return SubgraphFailure(str(error), code="SERVICE_UNAVAILABLE")
            case KeyError() if subgraph not in self.peers:
                return SubgraphFailure("its URL cannot be used.", code="SERVICE_UNAVAILABLE")
            case _:
                return SubgraphFailure("it cannot be sent these headers.", code="SERVICE_UNAVAILABLE")


def _graphql(answer: HttpAnswer) -> bytes:
    """Raises:
    SubgraphFailure: it tells of an error in another form than GraphQL's.
    """
    if answer.status >= HTTP_OK_BELOW and not answer.body.lstrip().startswith(b"{"):
        raise SubgraphFailure(f"it answered HTTP {answer.status}.", code="SUBGRAPH_HTTP_ERROR", status=answer.status)
    return answer.body


def _event_url(url: str, events: SubgraphSubscriptions) -> str:
    if events.url is not None:
        return events.url
    return url if events.path is None else urlunsplit((*urlsplit(url)[:2], events.path, "", ""))
