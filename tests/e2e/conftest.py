"""The platform under test: one for calls with credentials, one for the development network that calls without."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import grpc.aio
import pytest

from tests.support.platform import Platform
from tests.support.postgres import PostgresServer
from tests.support.shared import run


@contextmanager
def running_platform(home: Path, postgres: PostgresServer, broker: str, extra: Mapping[str, str]) -> Iterator[Platform]:
    """A started platform with databases of its own."""
    settings = postgres.settings
    database = {
        "DB_HOST": settings.host,
        "DB_PORT": str(settings.port),
        "DB_USER": settings.user,
        "DB_PASSWORD": settings.password.get_secret_value(),
        "DB_NAME": f"e2e_{uuid4().hex[:12]}",
        "KAFKA_GROUP_ID": "",
    }
    platform = Platform(home, database=database, brokers=broker, extra=extra)
    try:
        run(platform.start)
        yield platform
    finally:
        run(platform.stop)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, broker: str) -> Iterator[Platform]:
    """Callers must prove who they are."""
    with running_platform(tmp_path_factory.mktemp("strict"), postgres, broker, {"GRPC_AUTH": "strict"}) as started:
        yield started


@pytest.fixture(scope="session")
def open_platform(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, broker: str
) -> Iterator[Platform]:
    """A development network: callers without credentials are let in."""
    with running_platform(tmp_path_factory.mktemp("open"), postgres, broker, {"GRPC_AUTH": "permissive"}) as started:
        yield started


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


def unique(name: str) -> str:
    """A name that no other test of the run uses."""
    return f"{name}-{uuid4().hex[:8]}-{os.getpid()}"
