"""A small workload on a real socket, whose servicers do what a request's text tells them to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from manpasik.v1 import ai_inference_pb2, ai_inference_pb2_grpc, device_pb2, device_pb2_grpc, user_pb2, user_pb2_grpc

from domain.errors import AppError, Unauthenticated, Unavailable, WrongState
from domain.ids import UserId
from domain.principal import Principal, PrincipalKind
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.clients import Channels, ServiceClient
from subgraphs.runtime.context import RequestContext, current
from subgraphs.runtime.faces import GrpcServicer
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.service_tokens import ServiceTokens
from subgraphs.runtime.settings import Settings
from tests.support.trust import service_tokens

USER_SERVICE = "manpasik.v1.UserService"
Context = grpc.aio.ServicerContext[Any, Any]


class SessionClosed(WrongState):
    reason = "SESSION_CLOSED"


class ModelAway(Unavailable):
    reason = "MODEL_AWAY"


@dataclass
class Seen:
    """What the servicers have seen."""

    calls: list[RequestContext] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)


class _Users(user_pb2_grpc.UserServiceServicer):
    """`GetProfile` obeys the user id of the request."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def GetProfile(  # noqa: N802 - the method's name on the wire
        self, request: user_pb2.GetProfileRequest, context: Context
    ) -> user_pb2.UserProfile:
        seen = self._seen
        seen.calls.append(current())
        seen.texts.append(request.user_id)
        seen.begun.set()
        match request.user_id:
            case "closed":
                raise SessionClosed("The session is closed.", session_id="s1")
            case "away":
                raise ModelAway("The model is away.")
            case "bug":
                raise RuntimeError("password=hunter2")
            case "database down":
                raise ConnectionRefusedError("10.0.0.7:5432")
            case "abort":
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, "by itself")
            case "wait":
                try:
                    await seen.release.wait()
                except asyncio.CancelledError:
                    seen.cancelled.set()
                    raise
            case "away once" if len(seen.texts) < 2:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "no details: as if the connection had been lost")
            case "stops once" if len(seen.texts) < 2:
                await context.abort(grpc.StatusCode.CANCELLED, "as a server that stops")
            case "large":
                return user_pb2.UserProfile(user_id="large", display_name="x" * 200_000)
        principal = current().principal
        return user_pb2.UserProfile(user_id=request.user_id, display_name=principal.kind.value, email=principal.subject)


class _Chat(ai_inference_pb2_grpc.AiInferenceServiceServicer):
    """`StreamChat` answers as an asynchronous generator."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def StreamChat(  # noqa: N802 - the method's name on the wire
        self, request: ai_inference_pb2.StreamChatRequest, context: Context
    ) -> AsyncIterator[ai_inference_pb2.StreamChatResponse]:
        self._seen.calls.append(current())
        try:
            for word in request.message.split():
                if word == "bug":
                    raise RuntimeError("password=hunter2")
                if word == "closed":
                    raise SessionClosed("The session is closed.")
                if word == "wait":
                    self._seen.begun.set()
                    await self._seen.release.wait()
                while word == "flood":
                    yield ai_inference_pb2.StreamChatResponse(chunk="x" * 60_000)
                yield ai_inference_pb2.StreamChatResponse(chunk=word)
        except asyncio.CancelledError:
            self._seen.cancelled.set()
            raise
        finally:
            self._seen.closed.set()


class _Devices(device_pb2_grpc.DeviceServiceServicer):
    """`StreamDeviceStatus` writes the context by itself."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def StreamDeviceStatus(  # type: ignore[override]  # noqa: N802 - gRPC lets a coroutine write
        self, request_iterator: AsyncIterator[device_pb2.DeviceStatusUpdate], context: Context
    ) -> None:
        self._seen.calls.append(current())
        try:
            async for update in request_iterator:
                if update.device_id == "closed":
                    raise SessionClosed("The session is closed.")
                self._seen.begun.set()
                await context.write(device_pb2.DeviceCommand(command_id=update.device_id))
        except asyncio.CancelledError:
            self._seen.cancelled.set()
            raise
        finally:
            self._seen.closed.set()


class _Readers:
    async def verify(self, device_id: str, credential: str) -> Principal:
        if credential != "secret":
            raise Unauthenticated("The device credential does not hold.")
        return Principal(PrincipalKind.DEVICE, device_id, owner=UserId("u1"))


@dataclass
class World:
    """A served workload (`user`), and what calls it."""

    settings: Settings
    tokens: ServiceTokens
    seen: Seen
    server: GrpcServer
    port: int
    channel: grpc.aio.Channel
    channels: Channels

    @property
    def users(self) -> user_pb2_grpc.UserServiceStub:
        return user_pb2_grpc.UserServiceStub(self.channel)

    def metadata(self, caller: str = "gateway", behalf: str = "") -> tuple[tuple[str, str], ...]:
        """The credential of a service that calls this workload."""
        return (("authorization", f"Service {self.tokens.issue(caller, 'user', on_behalf_of=behalf)}"),)

    def client(self, caller: str = "gateway") -> ServiceClient:
        return ServiceClient(caller, channels=self.channels, tokens=self.tokens)


@asynccontextmanager
async def serving(
    environ: dict[str, str] | None = None,
    *,
    service_only: bool = False,
    public: frozenset[str] = frozenset(),
    authenticator: Authenticator | None = None,
) -> AsyncIterator[World]:
    """A world for the length of the block; `environ` as the process would read it."""
    settings = Settings.load(environ or {})
    tokens, seen = service_tokens(), Seen()

    def register(server: grpc.aio.Server) -> None:
        user_pb2_grpc.add_UserServiceServicer_to_server(_Users(seen), server)  # type: ignore[abstract]  # the rest is unimplemented

    servicers = (
        GrpcServicer(USER_SERVICE, register, public_methods=public, service_only=service_only),
        GrpcServicer(
            "manpasik.v1.AiInferenceService",
            lambda server: ai_inference_pb2_grpc.add_AiInferenceServiceServicer_to_server(  # the rest is unimplemented
                _Chat(seen),  # type: ignore[abstract]
                server,
            ),
        ),
        GrpcServicer(
            "manpasik.v1.DeviceService",
            lambda server: device_pb2_grpc.add_DeviceServiceServicer_to_server(  # the rest is unimplemented
                _Devices(seen),  # type: ignore[abstract]
                server,
            ),
        ),
    )
    authenticator = authenticator or Authenticator({}, services=tokens, devices=_Readers())
    access = access_of("user", servicers, authenticator, settings.service)
    server = GrpcServer("127.0.0.1:0", servicers, access, settings.service)
    port = await server.start()
    addressed = settings.model_copy(update={"addresses": {"USER_SERVICE_ADDR": f"127.0.0.1:{port}"}})
    channels = Channels(addressed)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield World(settings, tokens, seen, server, port, channel, channels)
        finally:
            seen.release.set()
            await channels.close()
            await server.stop(0)


async def status_of(call: object) -> grpc.aio.AioRpcError:
    """The error that a call ends with; fails when it does not."""
    try:
        await call  # type: ignore[misc]  # a call of any shape
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")


async def app_error_of(call: object) -> AppError:
    """The domain error that a call ends with; fails when it does not."""
    try:
        await call  # type: ignore[misc]  # any awaitable
    except AppError as error:
        return error
    raise AssertionError("the call did not fail")
