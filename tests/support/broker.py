"""The event broker that the tests of a run share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.broker import EmbeddedBroker
from tests.support.shared import shared_server


@contextmanager
def shared_broker(root: Path) -> Iterator[str]:
    """Its address."""

    async def start(lifeline: int) -> tuple[EmbeddedBroker, str]:
        server = EmbeddedBroker(root, lifeline=lifeline)
        return server, await server.start()

    with shared_server(root, "broker", start) as address:
        yield address
