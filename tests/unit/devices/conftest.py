from collections.abc import AsyncIterator

import pytest

from devices.client.platform import Platform
from tests.unit.devices.fake_platform import FakePlatform, Server, connected, serving


@pytest.fixture
def fake() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
async def server(fake: FakePlatform) -> AsyncIterator[Server]:
    async with serving(fake) as running:
        yield running


@pytest.fixture
async def platform(server: Server) -> AsyncIterator[Platform]:
    async with connected(server.port) as connection:
        yield connection
