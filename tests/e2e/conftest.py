"""The platform under test: one for calls with credentials, one for the development network that calls without."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import grpc.aio
import pytest

from devices.client.platform import Platform as ReaderSide
from tests.e2e.fragile import Fragile, fragile_platform
from tests.e2e.running import running_platform
from tests.support.platform import Platform
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Platform]:
    """Callers must prove who they are."""
    home = tmp_path_factory.mktemp("strict")
    with running_platform(home, postgres.settings, {"GRPC_AUTH": "strict"}) as started:
        yield started


@pytest.fixture(scope="package")
def open_platform(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Platform]:
    """A development network: callers without credentials are let in."""
    home = tmp_path_factory.mktemp("open")
    with running_platform(home, postgres.settings, {"GRPC_AUTH": "permissive"}) as started:
        yield started


@pytest.fixture
async def readers(platform: Platform) -> AsyncIterator[ReaderSide]:
    """The platform as readers see it."""
    async with platform.reader_side() as side:
        yield side


@pytest.fixture(scope="package")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    """A platform with a database and a broker of its own, each of which a test may stop."""
    with fragile_platform(tmp_path_factory.mktemp("fragile")) as started:
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
