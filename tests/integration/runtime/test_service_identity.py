"""Mutual TLS and service tokens together: the certificate and the token must be of the same service."""

from collections.abc import Awaitable
from pathlib import Path

import grpc.aio
import pytest
from manpasik.v1 import user_pb2, user_pb2_grpc

from domain.errors import AppError
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.clients import Channels, ServiceClient
from subgraphs.runtime.context import current
from subgraphs.runtime.faces import GrpcServicer
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.settings import Settings
from subgraphs.runtime.tls import grpc_server_credentials
from tests.support.certificates import Authority
from tests.support.trust import service_tokens


class _Users(user_pb2_grpc.UserServiceServicer):
    async def GetProfile(  # noqa: N802 - the method's name on the wire
        self,
        request: user_pb2.GetProfileRequest,
        context: "grpc.aio.ServicerContext[user_pb2.GetProfileRequest, Awaitable[user_pb2.UserProfile]]",
    ) -> user_pb2.UserProfile:
        return user_pb2.UserProfile(user_id=current().principal.subject)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (("coaching-service",), None),
        (("manpasik-insight",), None),  # a process of the whole group
        (("shop-service", "coaching-service"), None),
        (("shop-service",), "CERTIFICATE_OF_ANOTHER_SERVICE"),
    ],
)
async def test_a_caller_whose_certificate_is_of_another_service_is_refused(
    tmp_path: Path, certificate: tuple[str, ...], reason: str | None
) -> None:
    authority = Authority(tmp_path)

    def settings(*names: str, file: str, **more: str) -> Settings:
        pair = authority.issue(*names, file=file)
        files = {"GRPC_TLS_CERT": str(pair.cert), "GRPC_TLS_KEY": str(pair.key), "GRPC_TLS_CA": str(authority.file)}
        return Settings.load({**files, **more})

    callee = settings("127.0.0.1", file="user", GRPC_TLS_CLIENTS="require")
    servicers = (
        GrpcServicer(
            "manpasik.v1.UserService",
            lambda server: user_pb2_grpc.add_UserServiceServicer_to_server(_Users(), server),  # type: ignore[abstract]  # the rest is unimplemented
        ),
    )
    authenticator = Authenticator({}, services=service_tokens(), devices=None)
    access = access_of("user", servicers, authenticator, callee.service)
    server = GrpcServer(
        "127.0.0.1:0", servicers, access, callee.service, credentials=grpc_server_credentials(callee.transport)
    )
    port = await server.start()
    caller = settings(*certificate, file="caller").model_copy(
        update={"addresses": {"USER_SERVICE_ADDR": f"127.0.0.1:{port}"}}
    )
    channels = Channels(caller)
    client = ServiceClient("coaching", channels=channels, tokens=service_tokens())
    stub = client.stub("user", user_pb2_grpc.UserServiceStub)
    try:
        asked = client.unary(stub.GetProfile, user_pb2.GetProfileRequest(user_id="u"))
        if reason is None:
            assert (await asked).user_id == "coaching"
        else:
            with pytest.raises(AppError) as refusal:
                await asked
            assert refusal.value.reason == reason
    finally:
        await channels.close()
        await server.stop(0)
