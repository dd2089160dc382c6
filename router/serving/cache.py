"""A bounded cache whose entries are made once, also when many ask for the same at the same time.

Making an entry (parsing, validating, planning) may take long, and whatever runs on the event loop holds up every other
request. Large ones are therefore made in a worker thread: others go on meanwhile, and those who ask for the same entry
wait for it. Small ones are made at once, which is cheaper than handing them over.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Generic, TypeVar

_V = TypeVar("_V")


class Cache(Generic[_V]):
    """The least recently used entry leaves when it is full. To be used inside one event loop."""

    def __init__(self, size: int, workers: Executor) -> None:
        self._size = size
        self._workers = workers
        self._entries: OrderedDict[Hashable, _V] = OrderedDict()
        self._making: dict[Hashable, asyncio.Future[_V]] = {}

    def known(self, key: Hashable) -> _V | None:
        """The entry, if it is there."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    async def get(self, key: Hashable, make: Callable[[], _V], *, apart: bool) -> _V:
        """The entry, made first if it is not there. apart: in a worker thread.

        When making it fails, everyone who waits for it gets the same exception, and nothing is kept. It is made to the
        end even if everyone who waits for it goes away.
        """
        entry = self.known(key)
        if entry is not None:
            return entry
        making = self._making.get(key)
        if making is None:
            if not apart:
                return self._keep(key, make())
            making = asyncio.ensure_future(self._make_apart(key, make))
            self._making[key] = making
            making.add_done_callback(_noticed)
        return await asyncio.shield(making)

    def __len__(self) -> int:
        return len(self._entries)

    async def _make_apart(self, key: Hashable, make: Callable[[], _V]) -> _V:
        try:
            return self._keep(key, await asyncio.get_running_loop().run_in_executor(self._workers, make))
        finally:
            del self._making[key]

    def _keep(self, key: Hashable, entry: _V) -> _V:
        self._entries[key] = entry
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return entry


def _noticed(making: "asyncio.Future[_V]") -> None:
    """Takes note of a failure, else it is logged as forgotten if everyone who waited has gone."""
    if not making.cancelled():
        making.exception()
