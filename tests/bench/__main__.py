"""Measures the running platform: its own processes, a durable PostgreSQL, and a load of this process beside them.

    python -m tests.bench [--only NAME ...] [--seconds S] [--readers N]

"a core" is the figure per CPU second of the services (and, in brackets, with PostgreSQL's): on a machine of another
size compare that one. The load runs on the same machine, so the wall-clock figure is a lower bound.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local.broker import EmbeddedBroker
from infra.local.postgres import EmbeddedPostgres
from infra.sandbox.providers import ProviderSandboxes
from tests.bench.load import Result
from tests.bench.scenarios import SCENARIOS, Bench
from tests.support.furnish import furnish
from tests.support.platform import Platform


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=sorted(SCENARIOS), default=sorted(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--readers", type=int, default=200)
    options = parser.parse_args()
    asyncio.run(run(options.only, seconds=options.seconds, readers=options.readers))


async def run(names: list[str], *, seconds: float, readers: int) -> None:
    """Start a platform, run the scenarios one after another, print a line for each."""
    print(f"{os.cpu_count()} cores; {seconds:.0f} s each after a warm-up; {readers} readers where readers stream\n")
    print(f"{'scenario':<28}{'per second':>12}{'a core':>12}{'p50 ms':>10}{'p99 ms':>10}{'callers':>9}")
    async with platform() as bench:
        for name in names:
            for result in await SCENARIOS[name](bench, seconds, readers):
                print(line(result), flush=True)


def line(result: Result) -> str:
    return (
        f"{result.name:<28}{result.per_second:>12,.0f}{result.per_core_second:>12,.0f}"
        f"{result.p50_ms:>10.1f}{result.p99_ms:>10.1f}{result.callers:>9}"
    )


@asynccontextmanager
async def platform() -> AsyncIterator[Bench]:
    """A platform in a temporary folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="manpasik-bench-") as folder:
        home = Path(folder)
        async with EmbeddedPostgres(home / "postgres") as postgres, EmbeddedBroker(home / "broker") as broker:
            database = {
                "DB_HOST": postgres.address.host,
                "DB_PORT": str(postgres.address.port),
                "DB_PASSWORD": postgres.address.password,
            }
            running = Platform(home, database=database, brokers=broker.address, extra={"LOG_LEVEL": "error"})
            sandboxes = ProviderSandboxes(running.plan)
            try:
                await sandboxes.start()
                await running.start()
                await furnish(running)
                yield Bench(running, *running.processes())
            finally:
                await running.stop()
                await sandboxes.stop()


if __name__ == "__main__":
    main()
