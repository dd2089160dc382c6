"""TLS on real connections: gRPC with certificates on both sides, HTTPS, PostgreSQL, Redis and the broker."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
import grpc.aio
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from fakeredis import TcpFakeServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from infra.local.broker import EmbeddedBroker
from infra.local.process import free_port
from subgraphs.runtime import serving as serving_module
from subgraphs.runtime.channels import ReplaceableChannel
from subgraphs.runtime.database import connect
from subgraphs.runtime.host import redis_of
from subgraphs.runtime.kafka import ensure_topics
from subgraphs.runtime.serving import HttpServer
from subgraphs.runtime.settings import KafkaSettings, RedisSettings, SettingsError, TransportSettings
from subgraphs.runtime.tls import (
    LOOK_EVERY_S,
    WatchedFiles,
    client_context,
    grpc_channel_credentials,
    grpc_server_credentials,
    kafka_connection,
    server_context,
)
from tests.support.certificates import Authority, Pair
from tests.support.postgres import PostgresServer

_CHECK = health_pb2.HealthCheckRequest()


class _Health(health_pb2_grpc.HealthServicer):
    async def Check(  # noqa: N802 - the name of the wire
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def transport(pair: Pair, authority: Authority, **changed: str) -> TransportSettings:
    values = {"grpc_cert": str(pair.cert), "grpc_key": str(pair.key), "grpc_ca": str(authority.file), **changed}
    return TransportSettings.model_validate(values)


@asynccontextmanager
async def grpc_server(settings: TransportSettings) -> AsyncIterator[str]:
    """The address of a server that answers health checks."""
    credentials = grpc_server_credentials(settings)
    assert credentials is not None
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(_Health(), server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def asked(channel: Any) -> health_pb2.HealthCheckResponse:
    """One call over a channel."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer: health_pb2.HealthCheckResponse = await stub.Check(_CHECK, timeout=10)
    return answer


async def check(address: str, credentials: grpc.ChannelCredentials) -> int:
    """The status of a health check over a connection of its own. Raises: AioRpcError."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        return int((await asked(channel)).status)


def replace(old: Pair, new: Pair) -> None:
    """Write a new certificate and key over the files of the old ones."""
    old.key.write_bytes(new.key.read_bytes())
    old.cert.write_bytes(new.cert.read_bytes())


def client_credentials(settings: TransportSettings) -> grpc.ChannelCredentials:
    made = grpc_channel_credentials(settings)
    assert made is not None
    return made[0]()


async def test_services_prove_themselves_to_each_other(authority: Authority, tmp_path: Path) -> None:
    settings = transport(authority.issue("127.0.0.1", file="user"), authority, grpc_clients="require")
    caller = transport(authority.issue("auth-service", file="auth"), authority)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    foreign = transport(stranger.issue("auth-service", file="auth"), authority)
    async with grpc_server(settings) as address:
        assert await check(address, client_credentials(caller)) == health_pb2.HealthCheckResponse.SERVING
        without = grpc.ssl_channel_credentials(authority.file.read_bytes())
        for refused in (without, client_credentials(foreign)):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await check(address, refused)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(address) as plain:
            with pytest.raises(grpc.aio.AioRpcError):
                await asked(plain)


@pytest.mark.parametrize("names", [("user-service",), ("10.1.2.3",)])
async def test_a_server_of_another_name_is_not_believed(authority: Authority, names: tuple[str, ...]) -> None:
    settings = transport(authority.issue(*names), authority)
    async with grpc_server(settings) as address:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await check(address, client_credentials(settings))
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_grpc_server_shows_a_renewed_certificate_without_a_restart(
    authority: Authority, tmp_path: Path
) -> None:
    """Another authority signs the new one, so a client that believes only that one tells the two apart."""
    pair = authority.issue("127.0.0.1")
    settings = transport(pair, authority)
    (tmp_path / "next").mkdir()
    following = Authority(tmp_path / "next", "next authority")
    believer = grpc.ssl_channel_credentials(following.file.read_bytes())
    async with grpc_server(settings) as address:
        with pytest.raises(grpc.aio.AioRpcError):
            await check(address, believer)
        replace(pair, following.issue("127.0.0.1"))
        assert await check(address, believer) == health_pb2.HealthCheckResponse.SERVING
        # What cannot be read leaves the certificate as it is.
        await asyncio.to_thread(pair.cert.unlink)
        assert await check(address, believer) == health_pb2.HealthCheckResponse.SERVING


async def test_calls_go_over_a_new_channel_when_the_files_have_changed(authority: Authority) -> None:
    settings = transport(authority.issue("127.0.0.1"), authority, grpc_clients="require")
    made = grpc_channel_credentials(settings)
    assert made is not None
    credentials, watched = made
    opened: list[grpc.aio.Channel] = []
    now = 0.0
    async with grpc_server(settings) as address:

        def make() -> grpc.aio.Channel:
            opened.append(grpc.aio.secure_channel(address, credentials()))
            return opened[-1]

        channel = ReplaceableChannel(make, watched().changed, clock=lambda: now)
        stub: Any = health_pb2_grpc.HealthStub(cast("grpc.aio.Channel", channel))
        await stub.Check(_CHECK, timeout=10)
        authority.issue("127.0.0.1")
        await stub.Check(_CHECK, timeout=10)
        assert len(opened) == 1  # the files are looked at every ten seconds
        now += LOOK_EVERY_S
        await stub.Check(_CHECK, timeout=10)
        await stub.Check(_CHECK, timeout=10)
        assert len(opened) == 2
        await channel.close()


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    pair = authority.issue("127.0.0.1")
    assert server_context(str(pair.cert), str(pair.key)).minimum_version is ssl.TLSVersion.TLSv1_2
    assert client_context(ca=str(authority.file)).minimum_version is ssl.TLSVersion.TLSv1_2


def test_wrong_files_stop_the_start(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("127.0.0.1")
    with pytest.raises(SettingsError, match="GRPC_TLS_CERT, GRPC_TLS_KEY"):
        grpc_server_credentials(TransportSettings.model_validate({"grpc_cert": str(pair.cert)}))
    with pytest.raises(SettingsError, match="GRPC_TLS_CA"):
        grpc_server_credentials(transport(pair, authority, grpc_ca="", grpc_clients="require"))
    with pytest.raises(SettingsError, match=r"missing\.crt"):
        grpc_channel_credentials(transport(pair, authority, grpc_ca=str(tmp_path / "missing.crt")))
    with pytest.raises(SettingsError, match=r"missing\.key"):
        server_context(str(pair.cert), str(tmp_path / "missing.key"))
    with pytest.raises(SettingsError):
        server_context(str(pair.key), str(pair.cert))
    with pytest.raises(SettingsError, match=r"missing\.crt"):
        kafka_connection(KafkaSettings(security_protocol="SSL", ssl_ca=str(tmp_path / "missing.crt")))


def test_files_that_are_missing_for_a_moment_have_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "tls.crt"
    file.write_text("one")
    watched = WatchedFiles(str(file))
    file.unlink()
    assert not watched.changed()
    file.write_text("another")
    assert watched.changed()
    assert not watched.changed()


async def test_an_http_server_speaks_tls_and_shows_a_renewed_certificate(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "LOOK_EVERY_S", 0.01)

    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    pair = authority.issue("127.0.0.1", file="http")
    app = Starlette(routes=[Route("/", hello)])
    server = HttpServer(app, "127.0.0.1", 0, certificate=(str(pair.cert), str(pair.key)))
    await server.start()
    (tmp_path / "next").mkdir()
    following = Authority(tmp_path / "next", "next authority")
    url = f"https://127.0.0.1:{server.port}/"
    try:
        assert await get(url, authority) == "hello"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(url, following)
        renewed = following.issue("127.0.0.1")
        replace(pair, renewed)
        await until(lambda: get(url, following))
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get(url.replace("https", "http"))
    finally:
        await server.stop(0)


async def get(url: str, authority: Authority) -> str:
    context = ssl.create_default_context(cafile=str(authority.file))
    async with aiohttp.ClientSession() as http, http.get(url, ssl=context) as response:
        return await response.text()


async def until(attempt: Callable[[], Awaitable[object]]) -> None:
    """Repeat what fails by its connection until it does not; the test's time limit ends it."""
    while True:
        try:
            await attempt()
        except aiohttp.ClientError:
            await asyncio.sleep(0.01)
        else:
            return


# --- clients of other servers


@asynccontextmanager
async def tls_in_front_of(target: int, pair: Pair, *, port: int = 0, postgres: bool = False) -> AsyncIterator[int]:
    """The port of a server that ends TLS before a plain one on this machine.

    The embedded PostgreSQL is built without TLS, `fakeredis` has none, and the embedded broker's command line takes no
    certificate together with its key.

    Args:
        postgres: a client asks for TLS first, and is answered `S`. Source: PostgreSQL, message flow, SSLRequest.
    """
    context = server_context(str(pair.cert), str(pair.key))
    serving: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            if postgres:
                await reader.readexactly(8)
                writer.write(b"S")
                await writer.start_tls(context)
            inward, outward = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(copy(reader, outward), copy(inward, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=None if postgres else context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@pytest.mark.parametrize(
    ("names", "mode", "connects"),
    [
        (("127.0.0.1",), "verify-full", True),
        (("db.internal",), "verify-full", False),
        (("db.internal",), "verify-ca", True),
    ],
)
async def test_the_database_proves_itself(
    postgres: PostgresServer, authority: Authority, names: tuple[str, ...], mode: str, connects: bool
) -> None:
    plain = postgres.settings
    async with tls_in_front_of(plain.port, authority.issue(*names), postgres=True) as port:
        changed = {"host": "127.0.0.1", "port": port, "sslmode": mode, "ssl_root_cert": str(authority.file)}
        settings = plain.model_copy(update=changed)
        if connects:
            connection = await connect(settings, "postgres")
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(settings, "postgres")
        # The system's authorities do not know the test's.
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(settings.model_copy(update={"ssl_root_cert": ""}), "postgres")


async def test_redis_is_asked_over_tls_and_proves_itself(authority: Authority) -> None:
    plain = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    serving = asyncio.create_task(asyncio.to_thread(plain.serve_forever))
    pair = authority.issue("127.0.0.1", file="redis")
    try:
        async with tls_in_front_of(plain.server_address[1], pair) as port:
            trusted = RedisSettings(host="127.0.0.1", port=port, tls=True, ssl_ca=str(authority.file))
            client = redis_of(trusted)
            assert await client.set("key", "value")
            assert await client.get("key") == b"value"
            await client.aclose()
            doubtful = redis_of(trusted.model_copy(update={"ssl_ca": ""}))
            with pytest.raises(RedisConnectionError, match="certificate verify failed"):
                await doubtful.get("key")
            await doubtful.aclose()
    finally:
        plain.shutdown()
        plain.server_close()
        await serving


async def test_the_broker_is_reached_over_tls_and_proves_itself(authority: Authority, tmp_path: Path) -> None:
    pair, port = authority.issue("127.0.0.1", file="broker"), free_port()
    kafka = KafkaSettings(brokers=f"127.0.0.1:{port}", security_protocol="SSL", ssl_ca=str(authority.file))
    async with (
        EmbeddedBroker(tmp_path / "broker", port=free_port(), topics=(), advertised=kafka.brokers) as broker,
        tls_in_front_of(int(broker.address.rpartition(":")[2]), pair, port=port),
    ):
        await ensure_topics(kafka_connection(kafka), ["measurement.completed"])
        assert await topics(kafka) == ["measurement.completed"]
        for doubtful in ({"ssl_ca": ""}, {"security_protocol": "PLAINTEXT"}):
            with pytest.raises((KafkaError, OSError)):
                await topics(kafka.model_copy(update=doubtful))


async def topics(kafka: KafkaSettings) -> list[str]:
    admin = AIOKafkaAdminClient(**kafka_connection(kafka), request_timeout_ms=3000)
    try:
        await admin.start()
        return list(await admin.list_topics())
    finally:
        await admin.close()


def test_sasl_is_what_the_settings_say() -> None:
    made = kafka_connection(
        KafkaSettings.read(
            {
                "KAFKA_BROKERS": "kafka:9093",
                "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "KAFKA_SASL_USERNAME": "identity",
                "KAFKA_SASL_PASSWORD": "hunter2",
            }
        )
    )
    context = made.pop("ssl_context")
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert made == {
        "bootstrap_servers": "kafka:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "identity",
        "sasl_plain_password": "hunter2",
    }
