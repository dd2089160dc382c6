"""What stands behind the transports: the engine in use, the connections to the subgraphs, and one operation at a time."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError, OperationType

from router.errors import ClientError, InvalidSupergraph, PlanningError
from router.execution.files import FilesOf
from router.execution.request import Transport
from router.execution.run import Response
from router.serving.client import OutgoingHeaders
from router.serving.documents import TrustedDocuments
from router.serving.engine import Engine, GraphQLRequest, Prepared
from router.serving.http import error_entries, payload
from router.serving.identity import Authenticator, Identity, LoginSessions, NoAuthenticator
from router.serving.incremental import PartsForm, parts, stream_parts, tells_errors
from router.serving.metrics import Metrics
from router.serving.settings import RouterSettings, SubgraphTls
from router.serving.shares import Shares, holder_of
from router.serving.sharing import SharingTransport
from router.serving.subscriptions import StreamFailed, Subscription
from router.serving.tls import client_context
from router.serving.transport import HttpTransport
from router.serving.upstream.session import StreamSession

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger("router")
access_log = logging.getLogger("router.access")


def _authenticator(settings: RouterSettings, sessions: LoginSessions | None) -> Authenticator:
    if not settings.jwt:
        return NoAuthenticator()
    from router.serving.tokens import JwtAuthenticator  # noqa: PLC0415  a third of the start is spent on its libraries

    return JwtAuthenticator(settings.jwt, sessions=sessions)


def _tracing() -> ModuleType | None:
    """None while nobody has set up tracing, which nobody can without having imported its library."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from router.serving import tracing  # noqa: PLC0415  reads all installed packages when it is imported

    return tracing if tracing.is_set_up() else None


def _complete_engine(supergraph_sdl: str, settings: RouterSettings) -> Engine:
    """An engine whose API schema is whole: types are made when first asked for, and one that is wrong must not be.

    Raises:
        InvalidSupergraph: it is not.
    """
    engine = Engine(supergraph_sdl, settings)
    try:
        for named in engine.supergraph.api_schema.type_map.values():
            for member in getattr(named, "fields", {}).values():
                _ = member.type, [argument.type for argument in getattr(member, "args", {}).values()]
            _ = getattr(named, "interfaces", ()), getattr(named, "types", ())
    except (LookupError, TypeError, ValueError, AttributeError, GraphQLError) as error:
        engine.close()
        raise InvalidSupergraph(f"The supergraph has no usable API schema: {error}") from error
    return engine


class RouterService:
    """The state behind the application: the current engine and what outlives it."""

    def __init__(
        self,
        supergraph_sdl: str,
        settings: RouterSettings,
        authenticator: Authenticator | None = None,
        sessions: LoginSessions | None = None,
    ) -> None:
        self.settings = settings
        self._sessions = sessions
        self.engine = Engine(supergraph_sdl, settings)
        self._documents = TrustedDocuments(settings.trusted_documents, required=settings.require_trusted_documents)
        self.authenticator: Authenticator = authenticator or _authenticator(settings, sessions)
        default = settings.subgraph_tls == SubgraphTls()
        self._tls = None if default else client_context(settings.subgraph_tls)
        self._metrics = Metrics()
        self._metrics.gauge(
            "router_cached_entries", "Entries in the operation cache.", lambda: len(self.engine.documents)
        )
        subscriptions = settings.subscriptions
        self._open = Shares(
            "subscriptions",
            total=subscriptions.max_streams,
            most={
                "account": subscriptions.max_streams_per_account,
                "network": subscriptions.max_streams_per_network,
            },
        )
        self._metrics.gauge("router_open_subscriptions", "Subscriptions that are running.", lambda: self._open.count)
        self._tracing: ModuleType | None = None
        self._streams: StreamSession | None = None
        self._transport: HttpTransport | None = None
        self._for_queries: Transport | None = None

    @property
    def transport(self) -> HttpTransport:
        if self._transport is None:
            raise RuntimeError("the router serves only inside its lifespan")
        return self._transport

    @property
    def registry(self) -> "CollectorRegistry":
        """The metrics, as Prometheus's library reads them."""
        return self._metrics.registry

    @property
    def is_ready(self) -> bool:
        return self._transport is not None and (self._sessions is None or self._sessions.is_current)

    async def open(self) -> None:
        self._tracing = _tracing()
        self._streams = StreamSession(self._tls)
        self._connect()

    async def close(self) -> None:
        transport, self._transport = self._transport, None
        self.engine.close()
        if transport is not None:
            await transport.close()
        if self._streams is not None:
            await self._streams.close()

    async def reload(self, supergraph_sdl: str) -> None:
        """Serves another supergraph from the next request on; requests under way end on the old one.

        Raises:
            InvalidSupergraph: the new supergraph cannot be served; the old one stays.
        """
        try:
            engine = await asyncio.to_thread(_complete_engine, supergraph_sdl, self.settings)
        except Exception:
            self.refuse_supergraph()
            raise
        self.engine = engine  # the one before goes when the last request that it began has ended
        self._connect()
        self._metrics.reloads["taken"] += 1

    def refuse_supergraph(self) -> None:
        """Counts a supergraph that is not taken over."""
        self._metrics.reloads["refused"] += 1

    def _connect(self) -> None:
        if self._streams is not None:
            self._transport = HttpTransport(
                self.engine.supergraph, self.settings, self._streams, self._metrics, self._transport, tls=self._tls
            )
            # What is not read-only is never shared, nor what is asked after an event: see `sharing.py`.
            self._for_queries = SharingTransport(self._transport) if self.settings.share_in_flight else self._transport

    # -- one operation ---------------------------------------------------------------------------------------------

    async def answer(self, request: GraphQLRequest, headers: Mapping[str, str], *, read_only: bool) -> dict[str, Any]:
        """The GraphQL response of one operation.

        Raises:
            ClientError: the request is at fault.
        """
        started = time.perf_counter()
        result = "error"
        try:
            if self._tracing is not None:
                with self._tracing.span(headers):
                    response = await self._run(request, headers, read_only=read_only)
            else:
                response = await self._run(request, headers, read_only=read_only)
            result = "partial" if response.errors else "ok"
            return payload(response.data, response.errors, redact=self.settings.redact_errors)
        except PlanningError as error:
            logger.error("planning failed: %s", error)
            message = "The operation cannot be planned." if self.settings.redact_errors else str(error)
            return {"data": None, "errors": [{"message": message, "extensions": {"code": "QUERY_PLANNING_FAILED"}}]}
        finally:
            self._note(request.operation_name, result, started)

    async def _run(self, request: GraphQLRequest, headers: Mapping[str, str], *, read_only: bool) -> Response:
        # Both of one generation: a reload may come while the operation is prepared.
        engine, transport, for_queries = self.engine, self.transport, self._for_queries
        identity = await self.authenticator.authenticate(headers)
        prepared = await self.prepare(engine, request, identity, headers)
        if prepared.kind is OperationType.QUERY and for_queries is not None:
            return await engine.run(prepared, for_queries, self.subgraph_headers(headers, identity))
        if prepared.kind is OperationType.SUBSCRIPTION:
            message = (
                "Subscriptions need a WebSocket (graphql-transport-ws), "
                "or an `Accept` of text/event-stream or multipart/mixed;subscriptionSpec=1.0."
            )
            raise ClientError(message, code="BAD_REQUEST")
        if read_only and prepared.kind is OperationType.MUTATION:
            raise ClientError("Mutations need POST.", code="METHOD_NOT_ALLOWED", status=405)
        return await engine.run(prepared, transport, self.subgraph_headers(headers, identity))

    async def deferred(
        self, request: GraphQLRequest, headers: Mapping[str, str], form: PartsForm, *, read_only: bool
    ) -> AsyncGenerator[dict[str, Any], None] | None:
        """The answer in parts, each as soon as it is there; None: the operation defers nothing.

        Raises:
            ClientError: the request is at fault.
        """
        engine, transport, for_queries = self.engine, self.transport, self._for_queries
        identity = await self.authenticator.authenticate(headers)
        try:
            prepared = await self.prepare(engine, replace(request, in_parts=True), identity, headers)
        except PlanningError:
            return None  # which is told where the operation is answered in one piece
        if prepared.compiled.deferred is None:
            return None
        if read_only and prepared.kind is OperationType.MUTATION:
            raise ClientError("Mutations need POST.", code="METHOD_NOT_ALLOWED", status=405)
        sent = self.subgraph_headers(headers, identity)
        shared = for_queries if prepared.kind is OperationType.QUERY else None
        return self._deferred(engine, prepared, shared or transport, sent, request.operation_name, form)

    async def _deferred(
        self,
        engine: Engine,
        prepared: Prepared,
        transport: Transport,
        headers: Mapping[str, str],
        name: str | None,
        form: PartsForm,
    ) -> AsyncGenerator[dict[str, Any], None]:
        started = time.perf_counter()
        result = "error"
        has_errors = False
        try:
            response, delivery = await engine.begin(prepared, transport, headers)
            answers = parts(response, delivery, form, redact=self.settings.redact_errors)
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    has_errors = has_errors or tells_errors(answer)
                    yield answer
            result = "partial" if has_errors else "ok"
        finally:
            self._note(name, result, started)

    def _note(self, name: str | None, result: str, started: float) -> None:
        elapsed = time.perf_counter() - started
        self._metrics.requests[result] += 1
        self._metrics.seconds.add(elapsed)
        if access_log.isEnabledFor(logging.INFO):
            fields = {"operation": name, "result": result, "ms": round(elapsed * 1000, 2)}
            access_log.info("request", extra={"graphql": fields})

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """Raises:
        ClientError: the credentials are not valid.
        """
        return await self.authenticator.authenticate(headers)

    async def is_subscription(self, request: GraphQLRequest, headers: Mapping[str, str], identity: Identity) -> bool:
        """Raises:
        ClientError: the request is at fault.
        """
        try:
            prepared = await self.prepare(self.engine, request, identity, headers)
        except PlanningError:
            return False  # which is told where the operation is answered
        return prepared.kind is OperationType.SUBSCRIPTION

    async def stream(
        self, request: GraphQLRequest, headers: Mapping[str, str], identity: Identity, *, read_only: bool = False
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Every response of an operation: one of a query or mutation or each of its parts, one for each event of a
        subscription.

        The generator raises `StreamFailed` when it has to end before the operation does.

        Raises:
            ClientError: the request is at fault.
        """
        engine, transport = self.engine, self.transport
        request = replace(request, in_parts=True)
        if not await self.is_subscription(request, headers, identity):
            form = stream_parts(headers.get("accept", ""))
            in_parts = await self.deferred(request, headers, form, read_only=read_only)
            if in_parts is not None:
                return in_parts
            return self._single(request, headers, read_only=read_only)
        prepared = await self.prepare(engine, request, identity, headers)
        if prepared.compiled.subscription is None:
            raise ClientError("The subscription selects nothing.")
        holder = holder_of(identity, headers)
        self._open.check(holder)
        sent = self.subgraph_headers(headers, identity)
        self._metrics.requests["subscription"] += 1
        return self._counted(Subscription(engine, transport, prepared, sent, identity), holder)

    async def _single(
        self, request: GraphQLRequest, headers: Mapping[str, str], *, read_only: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            yield await self.answer(request, headers, read_only=read_only)
        except ClientError as error:
            raise StreamFailed(error_entries(error)) from error

    async def _counted(
        self, subscription: Subscription, holder: tuple[str, str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            with self._open.held(holder):
                async with contextlib.aclosing(subscription.answers()) as answers:
                    async for answer in answers:
                        yield answer
        except ClientError as error:  # others were begun between the check and the first answer
            raise StreamFailed(error_entries(error)) from error

    async def prepare(
        self, engine: Engine, request: GraphQLRequest, identity: Identity, headers: Mapping[str, str]
    ) -> Prepared:
        """Raises:
        ClientError: the request is at fault.
        """
        if request.document_id is not None or self.settings.require_trusted_documents:
            text = self._documents.text(request.query or None, request.document_id)
            if text != request.query:
                request = replace(request, query=text or "")
        prepared = await engine.prepare(request, identity, headers)
        if (uploads := request.uploads) is not None:
            return replace(prepared, variables=uploads.variables, files=FilesOf(uploads, self.transport.post_files))
        return prepared

    def subgraph_headers(self, headers: Mapping[str, str], identity: Identity) -> Mapping[str, str]:
        sent = OutgoingHeaders({name: headers[name] for name in self.settings.forward_headers if name in headers})
        if self._tracing is not None:
            self._tracing.pass_on(sent)  # else the client's own traceparent goes through as it came
        if identity.forward:
            sent.update(identity.forward)
        return sent
