"""measurement-service in a process of its own, so that a test can kill it.

`python -m tests.integration.measurement.host <database settings as JSON> <database> <sealing key, hex> <folder>` serves
until it is killed, and writes its port on one line.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import uvloop

from domain.catalog import Group
from domain.sealing import Sealer
from subgraphs.runtime.database import Database
from subgraphs.runtime.settings import DatabaseSettings
from tests.integration.measurement.conftest import CARTRIDGE, DEVICE, USER, MovableClock, running
from tests.integration.measurement.hardware import Hardware
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]


class Killable:
    """The process, and a channel to it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    async def kill(self) -> None:
        """SIGKILL, as a power failure would."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def killable(database: Database, settings: DatabaseSettings, key: bytes, folder: Path) -> AsyncIterator[Killable]:
    """A started process; killed at the end if it still lives."""
    told = settings.model_dump(mode="json", by_alias=True) | {"DB_PASSWORD": settings.password.get_secret_value()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.measurement.host",
        json.dumps(told),
        database.name,
        key.hex(),
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ".:proto", "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
    host = Killable(process, int(line))
    try:
        yield host
    finally:
        await host.kill()
        await host.channel.close()


async def main(settings: str, database: str, key: str, folder: str) -> None:
    """Serve for ever."""
    hardware = Hardware()  # type: ignore[abstract]  # what measurement never calls stays unimplemented
    hardware.register(DEVICE, USER)
    hardware.read(CARTRIDGE, alpha=0.95, uses=100_000)
    hardware.calibrate(DEVICE, channel_gains=[1.0], channel_offsets=[0.0])
    own = Database(DatabaseSettings.model_validate_json(settings), Group.MEASUREMENT, name=database)
    sealer = Sealer({1: bytes.fromhex(key)})
    async with running(own, sealer, hardware, MovableClock(), folder) as measurement:
        sys.stdout.write(f"{measurement.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:5]))
