"""The commerce services on a database of the test's own, with a clock that tests control.

The payment provider is the sandbox, over real HTTP; what it has captured and paid back is in `toss.ledger`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from domain.catalog import Group
from domain.principal import ROLE_SCOPES, Principal, PrincipalKind, Role
from domain.sealing import Sealer
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.payment.adapters.toss import TossPayments
from subgraphs.commerce.services import CommerceServices, commerce_services
from subgraphs.runtime.database import Database
from subgraphs.runtime.settings import TossSettings
from tests.support.clock import FakeClock
from tests.support.postgres import DatabaseFor


def person(user_id: str, role: Role = Role.USER) -> Principal:
    scopes = frozenset(scope.value for scope in ROLE_SCOPES[role])
    return Principal(kind=PrincipalKind.USER, subject=user_id, role=role, scopes=scopes)


ALICE, BOB = person("alice"), person("bob")
ADMIN = person("admin", Role.ADMIN)


@dataclass(frozen=True)
class Commerce:
    """The group as one process has it."""

    services: CommerceServices
    database: Database
    clock: FakeClock

    async def fetch(self, statement: str, *arguments: object) -> list[dict[str, object]]:
        """Rows of a plain SQL statement."""
        async with self.database.raw() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]


def toss_settings(toss: TossSandbox, *, timeout_s: float = 5.0) -> TossSettings:
    """How the services find the sandbox."""
    return TossSettings(secret_key=SecretStr(toss.secret_key), api_url=toss.url, timeout_seconds=timeout_s)


@pytest.fixture
async def toss() -> AsyncIterator[TossSandbox]:
    """The payment provider: approves keys that begin with `test-` (see `infra/sandbox/toss.py`)."""
    sandbox = TossSandbox(":memory:")
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def commerce(database_for: DatabaseFor, toss: TossSandbox, sealer: Sealer) -> AsyncIterator[Commerce]:
    clock = FakeClock()
    gateway = TossPayments(toss_settings(toss))
    database = await database_for(Group.COMMERCE)
    yield Commerce(commerce_services(database, clock, gateway, sealer), database, clock)
    await gateway.close()
