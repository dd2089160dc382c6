"""Fixtures that every test may use: real servers shared by the run, a database of its own for each test."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]  # it has no types
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has no types

from domain.catalog import Group
from domain.sealing import Sealer
from subgraphs.runtime.database import Database
from tests.support.broker import shared_broker
from tests.support.postgres import DatabaseFor, PostgresServer, shared_postgres
from tests.support.shared import shared_root

# The same examples in every run of `make test`; `make fuzz` explores new ones (`--hypothesis-profile fuzz`). A busy machine
# is slow, so time is no failure in either.
settings.register_profile("test", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile(
    "fuzz", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("test")

_GROUP = re.compile(r'xdist_group\("([^"]+)"\)')


class _GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # Any, for the same reason
    """Tests of the files that are marked with the same `xdist_group` run in one worker, all others wherever there is room.

    `--dist loadgroup` is to do that, but xdist 3.8 hands the group over in an attribute that pytest 9.2 does not read.
    Once it does again, this can go.
    """

    _groups: dict[str, str | None] = {}  # noqa: RUF012 - a cache over the life of the process

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path not in self._groups:
            marked = _GROUP.search((self.config.rootpath / path).read_text(encoding="utf-8"))
            self._groups[path] = marked.group(1) if marked else None
        return self._groups[path] or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _GroupScheduling | None:
    """The scheduler of `--dist loadgroup`."""
    return _GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The embedded PostgreSQL of this run, shared by its workers."""
    with shared_postgres(shared_root(tmp_path_factory)) as server:
        yield server


@pytest.fixture
async def empty_database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The asyncpg connection string of a database without tables."""
    name = await postgres.create_database()
    yield postgres.dsn(name)
    await postgres.drop_database(name)


@pytest.fixture
async def database_for(postgres: PostgresServer, sealer: Sealer) -> AsyncIterator[DatabaseFor]:
    """`await database_for(Group.IDENTITY)`: a fresh, migrated database of the group; asked twice, two of them."""
    async with AsyncExitStack() as stack:

        async def make(group: Group) -> Database:
            name = await stack.enter_async_context(postgres.lent(await postgres.template_of(group)))
            database = Database(postgres.settings, group, name=name)
            stack.push_async_callback(database.close)
            database.sealer = sealer
            return database

        yield make


@pytest.fixture
def sealer() -> Sealer:
    """Seals with a key of this test's own."""
    return Sealer({1: AESGCM.generate_key(256)})


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the event broker of this run, shared by its workers; use topics and groups of your own on it."""
    with shared_broker(shared_root(tmp_path_factory)) as address:
        yield address
