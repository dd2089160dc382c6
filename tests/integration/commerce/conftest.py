"""The commerce services on a database of the test's own, with a clock that tests control."""

from dataclasses import dataclass

from domain.principal import ROLE_SCOPES, Principal, PrincipalKind, Role
from subgraphs.commerce.services import CommerceServices
from subgraphs.runtime.database import Database
from tests.support.clock import FakeClock


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
