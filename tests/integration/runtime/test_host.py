"""A host on free ports and a real database, with a group made for the test."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import aiohttp
import asyncpg
import grpc.aio
import pytest
import strawberry
from manpasik.v1 import user_pb2, user_pb2_grpc
from structlog.testing import capture_logs

from domain.catalog import Group
from domain.sealing import SealBroken
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import Background, GroupFaces, GroupResources, GrpcServicer, ServiceFaces
from subgraphs.runtime.graphql import GraphQLContext, build_schema
from subgraphs.runtime.host import Host, _restarted, when_database_answers
from subgraphs.runtime.keys import load_sealer
from subgraphs.runtime.serving import PortInUse
from subgraphs.runtime.settings import Settings
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer


@strawberry.type
class _Query:
    @strawberry.field
    def hello(self) -> str:
        return "hello"


class _Users(user_pb2_grpc.UserServiceServicer):
    async def GetProfile(  # noqa: N802 - the method's name on the wire
        self,
        request: user_pb2.GetProfileRequest,
        context: "grpc.aio.ServicerContext[user_pb2.GetProfileRequest, Awaitable[user_pb2.UserProfile]]",
    ) -> user_pb2.UserProfile:
        return user_pb2.UserProfile(user_id=request.user_id, display_name=current().principal.kind.value)


@dataclass
class _Built:
    """What the test's group was given, and what became of it."""

    resources: list[GroupResources] = field(default_factory=list)
    closed: int = 0
    background_runs: int = 0
    background_ended: bool = False

    def builder(self, _: Group) -> Callable[[GroupResources], Awaitable[GroupFaces]]:
        async def build(resources: GroupResources) -> GroupFaces:
            self.resources.append(resources)
            return self._faces()

        return build

    def _faces(self) -> GroupFaces:
        async def run() -> None:
            self.background_runs += 1
            if self.background_runs == 1:
                raise RuntimeError("the first run fails")
            try:
                await asyncio.Event().wait()
            finally:
                self.background_ended = True

        async def close() -> None:
            self.closed += 1
            raise RuntimeError("even this must not keep the rest")

        servicer = GrpcServicer(
            "manpasik.v1.UserService",
            lambda server: user_pb2_grpc.add_UserServiceServicer_to_server(_Users(), server),  # type: ignore[abstract]  # the rest is unimplemented
        )
        user = ServiceFaces(name="user", servicers=(servicer,), background=(Background("user test", run),))
        return GroupFaces(
            group=Group.IDENTITY,
            services=(user, ServiceFaces(name="auth")),
            schema=build_schema(_Query),
            graphql_context=lambda request: GraphQLContext(request=request),
            close=close,
        )


@pytest.fixture
async def environ(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The environment of a process on free ports, with a migrated database of its own."""
    template = await postgres.template_of(Group.IDENTITY)
    name = await postgres.create_database(template=template)
    await _rename(postgres, name, f"{name[:30]}_identity")
    settings = postgres.settings
    yield {
        "DB_HOST": settings.host,
        "DB_PORT": str(settings.port),
        "DB_USER": settings.user,
        "DB_PASSWORD": settings.password.get_secret_value() or "unused",
        "DB_NAME": name[:30],
        "DB_MAX_CONNS": "5",
        "REDIS_HOST": "memory",
        "KAFKA_BROKERS": "127.0.0.1:1",
        "LISTEN_HOST": "127.0.0.1",
        "SUBGRAPH_PORT": "0",
        "METRICS_PORT": "0",
        "SERVICE_KEYS_DIR": str(tmp_path / "keys"),
        "GRPC_AUTH": "permissive",
        "SHUTDOWN_TIMEOUT_SECONDS": "1",
    }
    await postgres.drop_database(f"{name[:30]}_identity")


async def _rename(postgres: PostgresServer, old: str, new: str) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute(f'ALTER DATABASE "{old}" RENAME TO "{new}"')
    await connection.close()


async def _connections(postgres: PostgresServer, database: str) -> int:
    connection = await asyncpg.connect(postgres.dsn())
    count: int = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", database)
    await connection.close()
    return count


def _host(environ: dict[str, str], **changed: str) -> Host:
    ports = {"user": 0, "auth": 0}
    return Host(Settings.load({**environ, "OBJECTS_DIR": "", **changed}), ["user", "auth-service", "user"], ports=ports)


async def _nothing_is_left(before: set["asyncio.Task[object]"]) -> bool:
    """Whether all tasks that were started since have ended."""
    for _ in range(50):
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        if not left:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_host_serves_and_lets_go_of_everything(environ: dict[str, str], postgres: PostgresServer) -> None:
    before, built = asyncio.all_tasks(), _Built()
    host = _host(environ)
    await host.start(built.builder)
    base = f"http://127.0.0.1:{host.subgraph_port}"
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{base}/graphql", json={"query": "{ hello }"}) as answer:
            assert await answer.json() == {"data": {"hello": "hello"}}
        async with http.get(f"{base}/ready") as answer:
            assert await answer.json() == {"ready": True, "checks": {"database identity": "up", "ended sign-ins": "up"}}
        async with http.get(f"http://127.0.0.1:{host.metrics_port}/metrics") as answer:
            assert 'background_failures_total{task="user test"}' in await answer.text()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.grpc_ports['user']}") as channel:
        users = user_pb2_grpc.UserServiceStub(channel)
        profile = await users.GetProfile(user_pb2.GetProfileRequest(user_id="u1"), timeout=20)
        assert (profile.user_id, profile.display_name) == ("u1", "development")
    async with asyncio.timeout(PATIENCE_S):
        while built.background_runs < 2:  # noqa: ASYNC110 - the pause after the first failure has no event
            await asyncio.sleep(0.05)
    [resources] = built.resources
    with capture_logs() as logs:
        await host.stop()
    assert built.background_ended
    assert built.closed == 1
    assert [log["what"] for log in logs if log["event"] == "not released cleanly"] == ["group identity"]
    assert await _connections(postgres, resources.database.name) == 0
    for port in (host.subgraph_port, host.metrics_port, *host.grpc_ports.values()):
        _bind(port).close()
    assert await _nothing_is_left(before)


async def test_a_host_stops_within_its_time_although_background_work_and_a_group_do_not_end(
    environ: dict[str, str],
) -> None:
    go_on = asyncio.Event()

    async def deaf() -> None:
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()

    async def close() -> None:
        await go_on.wait()

    class _Deaf(_Built):
        def _faces(self) -> GroupFaces:
            faces = super()._faces()
            user = ServiceFaces(name="user", background=(Background("deaf", deaf),))
            return replace(faces, services=(user, ServiceFaces(name="auth")), close=close)

    host = _host(environ)
    await host.start(_Deaf().builder)
    started = time.monotonic()
    with capture_logs() as logs:
        await host.stop()
    assert time.monotonic() - started < 1 + 1.5  # the time it has, and a moment each for what came too late
    assert [log["task"] for log in logs if log["event"] == "background work does not end"] == ["deaf"]
    assert [log["what"] for log in logs if log["event"] == "not released cleanly"] == ["group identity"]
    go_on.set()


def _bind(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


async def test_a_start_that_finds_a_port_in_use_names_it_and_lets_go_of_everything(
    environ: dict[str, str], postgres: PostgresServer
) -> None:
    before, built = asyncio.all_tasks(), _Built()
    with _bind() as taken:
        port = taken.getsockname()[1]
        host = _host(environ, METRICS_PORT=str(port))
        with pytest.raises(PortInUse, match=f"port {port} of metrics is in use"):
            await host.start(built.builder)
        other = Host(Settings.load(environ), ["user"], ports={"user": port})
        with pytest.raises(PortInUse, match=f"port {port} of user-service is in use"):
            await other.start(built.builder)
    assert built.closed == 2
    assert host.grpc_ports
    for free in host.grpc_ports.values():
        _bind(free).close()
    assert await _connections(postgres, built.resources[0].database.name) == 0
    assert await _nothing_is_left(before)


async def test_a_start_with_another_master_key_is_refused(environ: dict[str, str], postgres: PostgresServer) -> None:
    before = asyncio.all_tasks()
    settings = Settings.load(environ)
    database = Database(settings.database, Group.IDENTITY)
    await load_sealer(database, settings.master_secret)
    await database.close()
    with pytest.raises(SealBroken, match="ENCRYPTION_MASTER_KEY"):
        await _host(environ, ENCRYPTION_MASTER_KEY="mistyped").start(_Built().builder)
    assert await _connections(postgres, database.name) == 0
    assert await _nothing_is_left(before)


async def test_a_start_whose_group_fails_to_build_lets_go_of_everything(
    environ: dict[str, str], postgres: PostgresServer
) -> None:
    before = asyncio.all_tasks()

    def failing(_: Group) -> Callable[[GroupResources], Awaitable[GroupFaces]]:
        async def build(resources: GroupResources) -> GroupFaces:
            raise LookupError("no such file")

        return build

    with pytest.raises(LookupError):
        await _host(environ).start(failing)
    assert await _nothing_is_left(before)


# --- waiting for the database


async def test_work_waits_for_a_database_that_is_not_there_yet() -> None:
    attempts = 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise ConnectionRefusedError("not yet")

    with capture_logs() as logs:
        await when_database_answers(work, within_s=5, every_s=0.01)
    assert attempts == 4
    assert [log["event"] for log in logs] == ["waiting for the database"]


async def test_waiting_for_the_database_ends() -> None:
    async def work() -> None:
        raise asyncpg.CannotConnectNowError("starting up")

    started = time.monotonic()
    with capture_logs(), pytest.raises(asyncpg.CannotConnectNowError):
        await when_database_answers(work, within_s=0.2, every_s=0.05)
    assert 0.1 < time.monotonic() - started < 2


async def test_what_is_no_outage_is_not_waited_for() -> None:
    attempts = 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        raise asyncpg.InvalidPasswordError("wrong password")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await when_database_answers(work, within_s=5, every_s=0.01)
    assert attempts == 1


# --- background work


async def test_failed_work_is_run_again_after_longer_and_longer_pauses() -> None:
    loop = asyncio.get_running_loop()
    runs: list[float] = []

    async def run() -> None:
        runs.append(loop.time())
        if len(runs) < 5:
            raise RuntimeError("again")

    with capture_logs() as logs:
        await _restarted(Background("test", run), pauses_s=(0.02, 0.06, 0.12))
    pauses = [later - earlier for earlier, later in pairwise(runs)]
    assert len(pauses) == 4
    for pause, wanted in zip(pauses, (0.02, 0.06, 0.12, 0.12), strict=True):
        assert wanted <= pause + 0.005
        assert pause < wanted + 1.0
    assert [str(log["exc_info"]) for log in logs] == ["again"] * 4


async def test_background_work_ends_when_it_is_cancelled() -> None:
    begun = asyncio.Event()

    async def run() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(_restarted(Background("test", run)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
