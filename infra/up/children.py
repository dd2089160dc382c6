"""The platform's own processes under `manpasik up`."""

import asyncio
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local.errors import LocalStackError
from infra.local.process import ServerProcess, StopPlan

_READY_WITHIN_S = 60.0


class Child:
    """One `manpasik serve ...` process, whose log is in the data folder."""

    def __init__(
        self, title: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str], grace_s: float
    ) -> None:
        self.title = title
        self._log = log
        self._process = ServerProcess(
            [sys.executable, "-m", "infra.cli", "serve", *arguments],
            log=log,
            environment=environment,
            plan=StopPlan(grace_s=grace_s + 2),
        )

    @property
    def pid(self) -> int:
        """The process that watches over the child (its parent)."""
        return self._process.supervisor_pid

    def check(self) -> None:
        """Raises: LocalStackError: the process has ended; with the last line that it wrote."""
        if self._process.exit_code is not None:
            lines = self._process.output().strip().splitlines()
            reason = lines[-1] if lines else f"exit code {self._process.exit_code}"
            raise LocalStackError(f"{self.title} stopped: {reason} (log: {self._log})")

    async def ready(self, url: str) -> None:
        """Wait until the address answers 200.

        Raises:
            LocalStackError: the process ended, or did not get ready in a minute.
        """
        deadline = asyncio.get_running_loop().time() + _READY_WITHIN_S
        while not await asyncio.to_thread(_answers, url):
            self.check()
            if asyncio.get_running_loop().time() > deadline:
                raise LocalStackError(f"{self.title} is not ready after {_READY_WITHIN_S:.0f} s; see {self._log}")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        await self._process.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own loopback address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
