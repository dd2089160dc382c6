"""A gRPC server for one workload: authentication, context, error mapping, deadlines, metrics, health and reflection."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc.aio
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from domain.catalog import may_call
from domain.errors import ErrorKind, Unauthenticated
from domain.principal import ANONYMOUS, DEVELOPMENT, Principal, PrincipalKind
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.context import RequestContext, current, enter, locale_of, request_id_of
from subgraphs.runtime.errors import BUG_MESSAGE, as_app_error, to_grpc
from subgraphs.runtime.faces import GrpcServicer
from subgraphs.runtime.grpc_health import Health, health_names
from subgraphs.runtime.grpc_requests import PUBLIC_MESSAGE_BYTES, Requests
from subgraphs.runtime.service_tokens import check_peer
from subgraphs.runtime.settings import ServiceSettings
from subgraphs.runtime.slots import ANONYMOUS_CALLS, STREAMS, Slots
from subgraphs.runtime.telemetry import GRPC_HANDLED, GRPC_OPEN_STREAMS, GRPC_SECONDS, ServerSpan, traceparent_of
from subgraphs.runtime.tokens import CallNotAllowed

_log = structlog.get_logger("grpc")

_MOST_CALLS = 4_000
"""Calls of all kinds that run at the same time on one port; more are answered RESOURCE_EXHAUSTED before they are read."""

_CONNECTION_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a share of the callers
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),  # a peer that has gone without a word is noticed, and its streams end
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.server_handshake_timeout_ms", 10_000),  # of connections that say nothing
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 7_200_000),  # callers find new processes; open streams have another hour
    ("grpc.max_connection_age_grace_ms", 3_600_000),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.absolute_max_metadata_size", 24_576),
    ("grpc.max_allowed_incoming_connections", 2_000),
)

_INFRASTRUCTURE = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call what on one workload.

    Args:
        workload: short name of the service, the audience of service tokens.
        permissive: take callers without a credential as the development network's (logged, never in production).
    """

    workload: str
    authenticator: Authenticator
    servicers: dict[str, GrpcServicer]
    permissive: bool

    async def principal(
        self, service: str, method: str, authorization: str, *, peer_names: Sequence[str] = ()
    ) -> Principal:
        """The caller of a method.

        Args:
            peer_names: the names in the caller's verified certificate; none without mutual TLS.

        Raises:
            Unauthenticated: no credential, or one that does not hold.
            CallNotAllowed: a service that the catalogue does not let in, or no service where only those may call.
            PeerDisagrees: the certificate is that of another service than the token.
        """
        servicer = self.servicers[service]
        principal = await self._proven(servicer, method, authorization)
        if principal.kind is PrincipalKind.SERVICE:
            check_peer(principal.subject, peer_names)
        if principal.kind is PrincipalKind.SERVICE and not may_call(principal.subject, self.workload):
            raise CallNotAllowed(f"{principal.subject} may not call {self.workload}.")
        if servicer.service_only and principal.kind is not PrincipalKind.SERVICE:
            raise CallNotAllowed("Only services may call this.")
        if principal.kind is PrincipalKind.ANONYMOUS and method not in servicer.public_methods:
            if not self.permissive:
                raise Unauthenticated("Send a credential: authorization: Bearer <access token>.")
            _log.debug("call without a credential let in", service=service, method=method)
            return DEVELOPMENT
        return principal

    async def _proven(self, servicer: GrpcServicer, method: str, authorization: str) -> Principal:
        try:
            return await self.authenticator.principal(authorization, callee=self.workload)
        except Unauthenticated:
            # A client that refreshes its tokens may well attach the expired one: a public method needs none.
            if method in servicer.public_methods:
                return ANONYMOUS
            raise


class FacesInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of a port; those of health and reflection are open to everybody, within the limits of all."""

    def __init__(self, access: Access, *, default_deadline_s: float, streams: Slots) -> None:
        self._access = access
        self._default_deadline_s = default_deadline_s
        self._streams = streams
        self._anonymous = Slots(ANONYMOUS_CALLS, what="calls without a credential")
        self._wrapped: dict[str, Any] = {}  # by method; only methods that exist come in

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler of a method, with everything around it that every method needs."""
        name = str(details.method)
        wrapped = self._wrapped.get(name)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                return None
            _, service, method = name.split("/")
            wrapped = self._wrapped[name] = self._wrap(handler, service, method)
        return wrapped

    def _wrap(self, handler: Any, service: str, method: str) -> Any:
        """The method as one that takes a stream of raw bytes: they are read once the caller is known."""
        servicer = self._access.servicers.get(service)
        most_bytes = servicer.most_request_bytes if servicer is not None else PUBLIC_MESSAGE_BYTES
        if servicer is not None and method in servicer.public_methods:
            most_bytes = PUBLIC_MESSAGE_BYTES
        requests = Requests(handler.request_deserializer, most_bytes)
        slots = self._streams if handler.request_streaming or handler.response_streaming else self._anonymous
        call = _Call(self._access, service, method, self._default_deadline_s, requests, slots)
        behavior = next(
            found
            for found in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
            if found is not None
        )
        if handler.response_streaming:
            handle = call.streaming(behavior, reads_stream=handler.request_streaming)
            return grpc.stream_stream_rpc_method_handler(handle, None, handler.response_serializer)
        handle = call.unary(behavior, reads_stream=handler.request_streaming)
        return grpc.stream_unary_rpc_method_handler(handle, None, handler.response_serializer)


class _Call:
    """What surrounds the calls of one method."""

    def __init__(
        self,
        access: Access,
        service: str,
        method: str,
        default_deadline_s: float,
        requests: Requests,
        slots: Slots,
    ) -> None:
        self._access = access
        self._service = service
        self._method = method
        self._default_deadline_s = default_deadline_s
        self._requests = requests
        self._slots = slots
        self._name = f"{service}/{method}"
        self._answered = GRPC_HANDLED.labels(service, method, "OK")
        self._seconds = GRPC_SECONDS.labels(service, method)
        self._open_streams = GRPC_OPEN_STREAMS.labels(service, method)

    def unary(self, behavior: Callable[..., Awaitable[Any]], *, reads_stream: bool) -> Callable[..., Awaitable[Any]]:
        async def answer(incoming: Any, context: grpc.aio.ServicerContext[Any, Any], overdue_s: float | None) -> Any:
            request = await self._request(incoming, reads_stream=reads_stream)
            if overdue_s is None:
                return await behavior(request, context)
            async with asyncio.timeout(overdue_s):
                return await behavior(request, context)

        async def handle(incoming: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            metadata = _metadata(context)
            with ServerSpan(self._name, metadata.get("traceparent", "")) as traceparent:
                try:
                    overdue_s = await self._enter(context, metadata, traceparent)
                    if reads_stream:
                        async with self._while_valid(metadata):
                            with self._hold():
                                response = await answer(incoming, context, overdue_s)
                    elif current().principal is ANONYMOUS:
                        with self._hold():
                            response = await answer(incoming, context, overdue_s)
                    else:
                        response = await answer(incoming, context, overdue_s)
                except asyncio.CancelledError:
                    self._count("CANCELLED")
                    raise
                except Exception as error:  # noqa: BLE001 - the boundary: every error gets its status here
                    await self._fail(context, error)
                else:
                    self._answered.inc()
                    return response
                finally:
                    self._seconds.observe(time.perf_counter() - started)

        return handle

    def streaming(self, behavior: Callable[..., Any], *, reads_stream: bool) -> Callable[..., Awaitable[None]]:
        async def handle(incoming: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            metadata = _metadata(context)
            self._open_streams.inc()
            try:
                await self._enter(context, metadata, traceparent_of(metadata.get("traceparent", "")))
                async with self._while_valid(metadata):
                    with self._hold():
                        request = await self._request(incoming, reads_stream=reads_stream)
                        answers = behavior(request, context)
                        if isinstance(answers, AsyncGenerator):
                            # Closed here and now, so that what it holds is released when the caller goes in mid-write.
                            async with aclosing(answers):
                                async for response in answers:
                                    await context.write(response)
                        else:
                            await answers  # it writes the context by itself
                self._answered.inc()
            except asyncio.CancelledError:
                self._count("CANCELLED")
                raise
            except Exception as error:  # noqa: BLE001 - the boundary: every error gets its status here
                await self._fail(context, error)
            finally:
                self._open_streams.dec()

        return handle

    async def _request(self, incoming: Any, *, reads_stream: bool) -> Any:
        """What the method takes: its message, or the stream of its messages."""
        principal = current().principal
        if reads_stream:
            return self._requests.stream(incoming, principal)
        return await self._requests.single(incoming, principal)

    def _while_valid(self, metadata: dict[str, str]) -> AbstractAsyncContextManager[None]:
        return self._access.authenticator.while_valid(
            current().principal, metadata.get("authorization", ""), callee=self._access.workload
        )

    def _hold(self) -> AbstractContextManager[None]:
        context = current()
        return self._slots.hold(context.principal, context.peer)

    async def _enter(
        self, context: grpc.aio.ServicerContext[Any, Any], metadata: dict[str, str], traceparent: str
    ) -> float | None:
        """Make the call's context the current one; answers the seconds after which we end a call of our own accord.

        That is None where the caller has set a deadline that is nearer: gRPC ends the call by itself then.
        """
        remaining_s: float | None = context.time_remaining()  # the stubs forget that it can be absent
        default_s = self._default_deadline_s
        request_id = request_id_of(metadata.get("x-request-id", ""))
        locale = locale_of(metadata.get("accept-language", ""))
        deadline_s = default_s if remaining_s is None else min(remaining_s, default_s)
        peer = _address(context.peer())
        # First without the caller: a refusal is logged with its request id, and a check may call another service.
        enter(RequestContext(ANONYMOUS, request_id, locale, traceparent, deadline_s, peer))
        if self._service in _INFRASTRUCTURE:
            return default_s if remaining_s is None or remaining_s > default_s else None
        principal = await self._access.principal(
            self._service, self._method, metadata.get("authorization", ""), peer_names=_peer_names(context)
        )
        if principal is not ANONYMOUS:
            enter(RequestContext(principal, request_id, locale, traceparent, deadline_s, peer))
        return default_s if remaining_s is None or remaining_s > default_s else None

    async def _fail(self, context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
        if isinstance(error, (grpc.aio.AbortError, grpc.aio.UsageError)):
            raise error
        trailing: tuple[tuple[str, bytes], ...] = ()
        known = as_app_error(error)
        if known is None:
            code, message = grpc.StatusCode.INTERNAL, BUG_MESSAGE
            _log.error("call failed", method=self._name, exc_info=error)
        else:
            code, message, trailing = to_grpc(known)
            if known is error or known.kind is ErrorKind.INVALID_INPUT:  # a driver's words may repeat the value
                _log.info("call refused", method=self._name, code=code.name, reason=known.reason)
            else:
                _log.warning("call failed beneath us", method=self._name, code=code.name, error=repr(error))
        self._count(code.name)
        await context.abort(code, message, trailing)

    def _count(self, code: str) -> None:
        GRPC_HANDLED.labels(self._service, self._method, code).inc()


def _metadata(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _peer_names(context: grpc.aio.ServicerContext[Any, Any]) -> list[str]:
    """The names in the caller's verified certificate: subject alternative names, else the common name."""
    verified = context.auth_context()
    names = verified.get("x509_subject_alternative_name") or verified.get("x509_common_name") or ()
    return [name.decode(errors="replace") for name in names]


def _address(peer: str) -> str:
    """The address in a gRPC peer such as `ipv4:10.0.0.1:51234` or `ipv6:%5B::1%5D:51234`, without port and brackets."""
    address = peer.partition(":")[2].rpartition(":")[0]
    return unquote(address).strip("[]") if "%" in address else address or peer


class GrpcServer:
    """The server of one workload's port.

    Args:
        address: `host:port`; port 0 takes a free one, which `start` answers.
        streams: counts the open streams of the process; one of its own when it is not given.
    """

    def __init__(
        self,
        address: str,
        servicers: Sequence[GrpcServicer],
        access: Access,
        settings: ServiceSettings,
        *,
        streams: Slots | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        interceptor = FacesInterceptor(
            access,
            default_deadline_s=settings.grpc_deadline_seconds,
            streams=streams or Slots(STREAMS, what="streams"),
        )
        most_bytes = max([PUBLIC_MESSAGE_BYTES, *(servicer.most_request_bytes for servicer in servicers)])
        self._server = grpc.aio.server(
            interceptors=[interceptor],
            maximum_concurrent_rpcs=_MOST_CALLS,
            options=[
                # gRPC stops decompressing a message at this size.
                ("grpc.max_receive_message_length", min(most_bytes, settings.grpc_max_message_bytes)),
                ("grpc.max_send_message_length", settings.grpc_max_message_bytes),
                *_CONNECTION_OPTIONS,
            ],
        )
        self._address = address
        self._credentials = credentials
        for servicer in servicers:
            servicer.register(self._server)
        names = [servicer.full_name for servicer in servicers]
        self._health = Health(health_names(access.workload, names))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*names, *_INFRASTRUCTURE], self._server)

    async def start(self) -> int:
        """Serve, and answer the port.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        port: int
        if self._credentials is None:
            port = self._server.add_insecure_port(self._address)
        else:
            port = self._server.add_secure_port(self._address, self._credentials)
        await self._server.start()
        self.set_serving(True)
        return port

    def set_serving(self, is_serving: bool) -> None:
        """What health checks are answered: whether the process is ready for work."""
        self._health.set_serving(is_serving)

    async def stop(self, grace_s: float) -> None:
        """Tell health checks, refuse new calls, and give those in hand `grace_s` seconds to end."""
        self._health.close()
        await self._server.stop(grace_s)


def access_of(
    workload: str, servicers: Sequence[GrpcServicer], authenticator: Authenticator, settings: ServiceSettings
) -> Access:
    """The access rules of a workload's port."""
    return Access(
        workload=workload,
        authenticator=authenticator,
        servicers={servicer.full_name: servicer for servicer in servicers},
        permissive=settings.grpc_auth == "permissive" and not settings.is_production,
    )
