"""The platform under test: one for calls with credentials, one for the development network that calls without."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import grpc.aio
import pytest

from devices.client.platform import Platform as ReaderSide
from domain.catalog import Group
from subgraphs.runtime.settings import DatabaseSettings
from tests.support.platform import Platform
from tests.support.postgres import PostgresServer
from tests.support.shared import run


@contextmanager
def running_platform(
    home: Path,
    settings: DatabaseSettings,
    broker: str,
    extra: Mapping[str, str],
    *,
    apart: Sequence[Group] = (),
) -> Iterator[Platform]:
    """A started platform with databases of its own."""
    database = {
        "DB_HOST": settings.host,
        "DB_PORT": str(settings.port),
        "DB_USER": settings.user,
        "DB_PASSWORD": settings.password.get_secret_value(),
        "DB_NAME": f"e2e_{uuid4().hex[:12]}",
        "KAFKA_GROUP_ID": "",
    }
    platform = Platform(home, database=database, brokers=broker, extra=extra, apart=apart)
    try:
        run(platform.start)
        yield platform
    finally:
        run(platform.stop)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, broker: str) -> Iterator[Platform]:
    """Callers must prove who they are."""
    home = tmp_path_factory.mktemp("strict")
    with running_platform(home, postgres.settings, broker, {"GRPC_AUTH": "strict"}) as started:
        yield started


@pytest.fixture(scope="session")
def open_platform(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, broker: str
) -> Iterator[Platform]:
    """A development network: callers without credentials are let in."""
    home = tmp_path_factory.mktemp("open")
    with running_platform(home, postgres.settings, broker, {"GRPC_AUTH": "permissive"}) as started:
        yield started


@pytest.fixture
async def readers(platform: Platform) -> AsyncIterator[ReaderSide]:
    """The platform as readers see it."""
    async with platform.reader_side() as side:
        yield side


ChannelTo = Callable[[Platform, str], grpc.aio.Channel]


@pytest.fixture
async def channel_to() -> AsyncIterator[ChannelTo]:
    """`channel_to(platform, "auth")`: a channel that the test need not close."""
    async with AsyncExitStack() as stack:

        def make(platform: Platform, service: str) -> grpc.aio.Channel:
            channel = platform.channel(service)
            stack.push_async_callback(channel.close)
            return channel

        yield make
