"""Work that is no longer wanted ends in the database as well, and nobody has all of its connections."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import grpc.aio
import pytest
import strawberry
from manpasik.v1 import user_pb2, user_pb2_grpc
from sqlalchemy import text
from strawberry.dataloader import DataLoader

from domain.catalog import Group
from domain.principal import ANONYMOUS, Principal, PrincipalKind, service_principal
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.context import OUTSIDE, RequestContext, enter
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import GroupFaces, GrpcServicer
from subgraphs.runtime.graphql import GraphQLContext, Info, build_schema
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.http_server import subgraph_app
from subgraphs.runtime.outages import outage_of
from subgraphs.runtime.serving import HttpServer
from subgraphs.runtime.settings import DatabaseSettings, Settings
from subgraphs.runtime.shares import Shares, TooManyQueries
from tests.support.patience import PATIENCE_S
from tests.support.postgres import DatabaseFor, PostgresServer
from tests.support.trust import service_tokens

_SLEEP = text("SELECT pg_sleep(600) /* the statement of this test */")
_RUNNING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database()"
    " AND query LIKE '%/* the statement of this test */%' AND query NOT LIKE '%pg_stat_activity%'"
)


async def _sleep(database: Database) -> str:
    async with database.read() as session:
        await session.execute(_SLEEP)
    return "slept"


async def _until_running(database: Database, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S), database.engine.connect() as connection:
        while await connection.scalar(_RUNNING) != count:
            await connection.rollback()  # or the view stays as it was at first
            await asyncio.sleep(0.02)


@strawberry.type
class _Query:
    @strawberry.field
    async def slow(self, info: Info[Any, None]) -> str:
        return await _sleep(info.context.database)

    @strawberry.field
    async def loaded(self, info: Info[Any, None], key: int) -> str:
        loaded: str = await info.context.loader.load(key)
        return loaded


@strawberry.type
class _Mutation:
    @strawberry.mutation
    async def slow(self, info: Info[Any, None]) -> str:
        return await _sleep(info.context.database)


class _Context(GraphQLContext):
    database: Database
    loader: DataLoader[int, str]


@asynccontextmanager
async def _subgraph(database: Database, *, within_s: float = 60.0) -> AsyncIterator[str]:
    def context_of(request: RequestContext) -> _Context:
        context = _Context(request=request)
        context.database = database

        async def load(keys: list[int]) -> list[str]:
            return [await _sleep(database) for _ in keys]

        context.loader = DataLoader(load)
        return context

    faces = GroupFaces(
        group=Group.IDENTITY, services=(), schema=build_schema(_Query, _Mutation), graphql_context=context_of
    )
    authenticator = Authenticator({}, services=service_tokens(), devices=None)
    checks = {"database": database.ping}
    app = subgraph_app((faces,), authenticator=authenticator, checks=checks, within_s=within_s)
    server = HttpServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    "query", ["{ slow }", "mutation { slow }", "{ loaded(key: 1) }", "{ a: slow b: loaded(key: 1) c: loaded(key: 2) }"]
)
async def test_a_statement_ends_when_the_caller_of_a_subgraph_goes(database_for: DatabaseFor, query: str) -> None:
    database = await database_for(Group.IDENTITY)
    async with _subgraph(database) as base, aiohttp.ClientSession() as http:
        call = asyncio.create_task(http.post(f"{base}/graphql", json={"query": query}))
        await _until_running(database, 2 if "a:" in query else 1)
        call.cancel()
        await _until_running(database, 0)


async def test_an_operation_that_takes_too_long_is_told_so_and_ends(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    async with _subgraph(database, within_s=0.5) as base, aiohttp.ClientSession() as http:
        async with http.post(f"{base}/graphql", json={"query": "{ slow }"}) as answer:
            assert answer.status == 504
            body = await answer.json()
        assert body["errors"][0]["extensions"] == {"code": "TIMEOUT", "reason": "OPERATION_TOO_SLOW"}
        await _until_running(database, 0)


class _Users(user_pb2_grpc.UserServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetProfile(  # noqa: N802 - the method's name on the wire
        self,
        request: user_pb2.GetProfileRequest,
        context: Any,
    ) -> user_pb2.UserProfile:
        return user_pb2.UserProfile(user_id=await _sleep(self._database))


@pytest.mark.parametrize("end", ["cancel", "hang up", "deadline"])
async def test_a_statement_ends_when_the_caller_of_an_rpc_goes(database_for: DatabaseFor, end: str) -> None:
    database = await database_for(Group.IDENTITY)
    settings = Settings.load({}).service
    servicer = GrpcServicer(
        "manpasik.v1.UserService",
        lambda server: user_pb2_grpc.add_UserServiceServicer_to_server(_Users(database), server),  # type: ignore[abstract]
        public_methods=frozenset({"GetProfile"}),
    )
    access = access_of("user", (servicer,), Authenticator({}, services=service_tokens(), devices=None), settings)
    server = GrpcServer("127.0.0.1:0", (servicer,), access, settings)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{await server.start()}")
    try:
        stub: Any = user_pb2_grpc.UserServiceStub(channel)
        call = stub.GetProfile(user_pb2.GetProfileRequest(), timeout=2 if end == "deadline" else None)
        await _until_running(database, 1)
        if end == "cancel":
            call.cancel()
        elif end == "hang up":
            await channel.close()
        await _until_running(database, 0)
    finally:
        await channel.close()
        await server.stop(0)


async def test_the_server_ends_a_statement_by_itself(postgres: PostgresServer, database_for: DatabaseFor) -> None:
    name = (await database_for(Group.IDENTITY)).name
    limited = postgres.settings.model_copy(update={"statement_timeout_seconds": 1.0})
    database = Database(limited, Group.IDENTITY, name=name)
    try:
        with pytest.raises(Exception, match="statement timeout") as ended:
            await _sleep(database)
        assert outage_of(ended.value) is not None
    finally:
        await database.close()


def test_the_time_of_a_statement_is_a_setting() -> None:
    assert DatabaseSettings.read({"DB_STATEMENT_TIMEOUT_SECONDS": "5"}).statement_timeout_seconds == 5


# --- shares

_PERSON = RequestContext(Principal(PrincipalKind.USER, "u1"), peer="10.0.0.1")


def _as(context: RequestContext, work: Callable[[], Any]) -> asyncio.Task[Any]:
    async def run() -> Any:
        enter(context)
        return await work()

    return asyncio.create_task(run())


async def test_one_account_leaves_connections_for_others_and_for_readiness(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    busy = [_as(_PERSON, lambda: _sleep(database)) for _ in range(60)]
    try:
        await _until_running(database, database.shares.size)
        other = replace(_PERSON, principal=Principal(PrincipalKind.USER, "u2"))

        async def one() -> int | None:
            async with database.read() as session:
                found: int | None = await session.scalar(text("SELECT 1"))
                return found

        assert await asyncio.wait_for(_as(other, one), PATIENCE_S) == 1
        await asyncio.wait_for(database.ping(), PATIENCE_S)
    finally:
        for task in busy:
            task.cancel()
        await asyncio.wait(busy)
    assert await asyncio.wait_for(_as(_PERSON, one), PATIENCE_S) == 1


async def test_readiness_needs_no_connection_of_the_pool(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    pool: Any = database.engine.pool
    held = [await database.engine.connect() for _ in range(pool.size())]
    try:
        async with _subgraph(database) as base, aiohttp.ClientSession() as http:
            for path in ("/ready", "/health/ready", "/health", "/health/live"):
                async with http.get(base + path) as answer:
                    assert answer.status == 200, path
    finally:
        for connection in held:
            await connection.close()


@pytest.mark.parametrize(
    ("context", "is_limited"),
    [
        (_PERSON, True),
        (RequestContext(Principal(PrincipalKind.DEVICE, "d1", owner=_PERSON.principal.user_id)), True),
        (RequestContext(ANONYMOUS, peer="10.0.0.1"), True),
        (RequestContext(service_principal("gateway"), peer="10.0.0.1"), False),
        (OUTSIDE, False),
    ],
    ids=["person", "reader", "network", "service", "background"],
)
async def test_whose_share_is_limited(context: RequestContext, *, is_limited: bool) -> None:
    shares = Shares(5, wait_s=0.01)
    begun, release = asyncio.Semaphore(0), asyncio.Event()

    async def work() -> None:
        async with shares.hold(context):
            begun.release()
            await release.wait()

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await begun.acquire()
    await begun.acquire()
    try:
        if is_limited:
            with pytest.raises(TooManyQueries):
                async with shares.hold(context):
                    pass
        else:
            async with shares.hold(context):
                pass
    finally:
        release.set()
        await asyncio.wait(tasks)


async def test_what_a_session_needs_within_itself_passes() -> None:
    shares = Shares(5, wait_s=0.01)

    async def nested() -> None:
        async with shares.hold(_PERSON):
            await both.wait()
            async with shares.hold(_PERSON):
                await asyncio.create_task(loader())

    async def loader() -> None:
        async with shares.hold(_PERSON):
            pass

    both = asyncio.Barrier(shares.size)
    await asyncio.gather(*(nested() for _ in range(shares.size)))
