"""A platform whose database and broker a test may stop, and what it has left behind when they are back."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import SecretStr

from infra.local.broker import EmbeddedBroker
from infra.local.postgres import EmbeddedPostgres
from infra.local.process import free_port
from subgraphs.runtime.settings import DatabaseSettings
from tests.e2e.running import running_platform
from tests.support.platform import Platform
from tests.support.shared import run


@dataclass(frozen=True, slots=True)
class Fragile:
    """A platform with a database and a broker of its own, each of which a test may stop."""

    platform: Platform
    postgres: EmbeddedPostgres
    broker: EmbeddedBroker

    async def rows(self, group: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """What the database of a group holds, read past the platform."""
        database = self.platform.plan.external["DB_NAME"]
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.postgres.address.dsn(f"{database}_{group}"))
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        finally:
            await connection.close()
        return found

    async def stored_us(self, session_ids: Sequence[str]) -> dict[str, list[int]]:
        """Times of the stored frames by session, in microseconds, in the order of their sequence."""
        rows = await self.rows(
            "measurement",
            "SELECT session_id::text AS id, (extract(epoch FROM measured_at) * 1000000)::bigint AS us"
            " FROM measurement_frames WHERE session_id = ANY($1::uuid[]) ORDER BY sequence",
            session_ids,
        )
        found: dict[str, list[int]] = {session_id: [] for session_id in session_ids}
        for row in rows:
            found[row["id"]].append(row["us"])
        return found

    def bugs_logged(self) -> list[str]:
        """What the services have logged about errors of theirs that nobody foresaw.

        Without the futures that asyncpg itself leaves behind when a connection ends under it: they reach nobody.
        """
        lines = [line for log in self.platform.plan.home.glob("*.log") for line in log.read_text().splitlines()]
        entries = [json.loads(line) for line in lines if line.startswith('{"') and '"level": "error"' in line]
        told = [f"{entry['event']}: {entry.get('exception', '')[-500:]}" for entry in entries]
        left_behind = ("Future exception was never retrieved", "ConnectionDoesNotExistError")
        return [line for line in told if not all(part in line for part in left_behind)]

    async def handled(self) -> dict[tuple[str, str], int]:
        """How many events took effect in this run of the process, by consumer and topic."""
        samples = await self.platform.samples(self.platform.plan.metrics_port, "events_consumed_total")
        return {
            (labels["service"], labels["topic"]): int(value)
            for labels, value in samples
            if labels["outcome"] == "handled"
        }


@contextmanager
def fragile_platform(home: Path) -> Iterator[Fragile]:
    """A started one."""
    postgres = EmbeddedPostgres(home / "postgres", port=free_port(), durable=True)
    broker = EmbeddedBroker(home / "broker", port=free_port())
    try:
        address = run(postgres.start)
        run(broker.start)
        settings = DatabaseSettings(
            host=address.host, port=address.port, user=address.user, password=SecretStr(address.password)
        )
        with running_platform(home, settings, {"GRPC_AUTH": "strict"}, broker=broker) as platform:
            yield Fragile(platform, postgres, broker)
    finally:
        run(broker.stop)
        run(postgres.stop)
