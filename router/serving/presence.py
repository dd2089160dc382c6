"""Whether the client is still there: nobody needs an answer that no one will read."""

import asyncio

from starlette.types import Receive

LOOK_AFTER_S = 0.02
"""From when on a request looks out for its client. Most are answered sooner and spend a timer on it instead of a task."""


class Presence:
    """Cancels the task that made it when the client goes away, and with it every subgraph request under way."""

    __slots__ = ("_receive", "_task", "_timer", "_watcher", "has_gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Future[None] | None = None
        self.has_gone = False

    def watch(self) -> None:
        """Looks out from now on; what is still to be received of the request is thrown away."""
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look)

    def leave(self) -> None:
        """Looks out no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _look(self) -> None:
        self._watcher = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_gone = True
        if self._task is not None:
            self._task.cancel()
