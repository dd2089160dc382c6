"""Wakes whoever waits for something about one key (a reader, a person), in whichever process it happened.

PostgreSQL delivers NOTIFY when the transaction that told it commits. A signal only says "look": what there is stands in
the tables, so a lost or a doubled signal does no harm, as long as the waiting also look from time to time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from subgraphs.runtime.database import Database

KEEPALIVE_S = 15.0


class Signals:
    """The waiting of this process, by key.

    Args:
        channel: of NOTIFY; the payload is the key.
    """

    def __init__(self, database: Database, channel: str) -> None:
        self._database = database
        self._channel = channel
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def subscribe(self, key: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever there may be something for the key."""
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]

    async def listen(self) -> None:
        """Pass signals on until cancelled; raises when the database goes away, for the runtime to start it again."""
        connection = await self._database.listen_connection()
        try:
            await connection.add_listener(self._channel, self._notified)
            # What was told while nobody listened.
            for key in list(self._waiting):
                self._wake(key)
            while True:
                await asyncio.sleep(KEEPALIVE_S)
                await connection.execute("SELECT 1")
        finally:
            await connection.close(timeout=1)

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._wake(str(payload))

    def _wake(self, key: str) -> None:
        for event in self._waiting.get(key, ()):
            event.set()
