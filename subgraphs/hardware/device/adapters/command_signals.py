"""Wakes the status stream of a reader when a command was queued for it, in whichever process that happened.

PostgreSQL delivers NOTIFY when the queuing transaction commits. A signal only says "look": what there is to deliver
stands in the table, so a lost or a doubled signal does no harm, and every heartbeat looks as well.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from domain.hardware.device.repository import COMMANDS_CHANNEL
from subgraphs.runtime.database import Database

KEEPALIVE_S = 15.0


class CommandSignals:
    """The open streams of this process, by device id."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def subscribe(self, device_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever there may be something for the reader."""
        event = asyncio.Event()
        self._waiting[device_id].add(event)
        try:
            yield event
        finally:
            self._waiting[device_id].discard(event)
            if not self._waiting[device_id]:
                del self._waiting[device_id]

    async def listen(self) -> None:
        """Pass signals on until cancelled; raises when the database goes away, for the runtime to start it again."""
        connection = await self._database.listen_connection()
        try:
            await connection.add_listener(COMMANDS_CHANNEL, self._notified)
            # Commands that were queued while nobody listened.
            for device_id in list(self._waiting):
                self._wake(device_id)
            while True:
                await asyncio.sleep(KEEPALIVE_S)
                await connection.execute("SELECT 1")
        finally:
            await connection.close(timeout=1)

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._wake(str(payload))

    def _wake(self, device_id: str) -> None:
        for event in self._waiting.get(device_id, ()):
            event.set()
