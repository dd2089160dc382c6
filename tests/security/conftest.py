"""The platform under attack: one that wants proof of who is calling, and one that lets everybody in."""

from collections.abc import AsyncIterator, Iterator

import pytest

from devices.client.platform import Platform as ReaderSide
from tests.e2e.running import running_platform
from tests.support.platform import Platform
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Platform]:
    """Callers must prove who they are; it logs all that it ever would."""
    home = tmp_path_factory.mktemp("attacked")
    extra = {"GRPC_AUTH": "strict", "LOG_LEVEL": "debug"}
    with running_platform(home, postgres.settings, extra) as started:
        yield started


@pytest.fixture(scope="package")
def open_platform(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Platform]:
    """A development network: callers without credentials are let in."""
    home = tmp_path_factory.mktemp("attacked-open")
    extra = {"GRPC_AUTH": "permissive", "LOG_LEVEL": "debug"}
    with running_platform(home, postgres.settings, extra) as started:
        yield started


@pytest.fixture
async def readers(platform: Platform) -> AsyncIterator[ReaderSide]:
    """The platform as readers see it."""
    async with platform.reader_side() as side:
        yield side
