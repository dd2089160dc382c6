"""A platform that runs for the length of a block."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from uuid import uuid4

from domain.catalog import Group
from infra.local.broker import EmbeddedBroker
from infra.sandbox.providers import ProviderSandboxes
from subgraphs.runtime.settings import DatabaseSettings
from tests.support.background import running_in_background
from tests.support.furnish import furnish
from tests.support.platform import Platform
from tests.support.shared import run


@contextmanager
def running_platform(
    home: Path,
    settings: DatabaseSettings,
    extra: Mapping[str, str],
    *,
    broker: EmbeddedBroker | None = None,
    apart: Sequence[Group] = (),
) -> Iterator[Platform]:
    """A started platform with databases and, unless one is given, a broker of its own.

    Two platforms on one broker would be one consumer group, and take each other's events.
    """
    database = {
        "DB_HOST": settings.host,
        "DB_PORT": str(settings.port),
        "DB_USER": settings.user,
        "DB_PASSWORD": settings.password.get_secret_value(),
        "DB_NAME": f"e2e_{uuid4().hex[:12]}",
        "KAFKA_GROUP_ID": "",
    }
    with own_broker(home / "broker") if broker is None else nullcontext(broker.address) as brokers:
        platform = Platform(home, database=database, brokers=brokers, extra=extra, apart=apart)
        with running_in_background(ProviderSandboxes(platform.plan)):
            try:
                run(platform.start)
                run(lambda: furnish(platform))
                yield platform
            finally:
                run(platform.stop)


@contextmanager
def own_broker(home: Path) -> Iterator[str]:
    """The address of a broker that runs during the block."""
    broker = EmbeddedBroker(home)
    try:
        yield run(broker.start)
    finally:
        run(broker.stop)
