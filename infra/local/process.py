"""A server of the embedded stack as a child process that cannot outlive its owner."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.errors import LocalStackError

LOOPBACK = "127.0.0.1"
_SUPERVISE = Path(__file__).with_name("supervise.py")
_LOG_LIMIT_BYTES = 10_000_000
_OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT = 10_000
_PORT_TRIES = 1000
_random = random.SystemRandom()  # processes that start together must not look in the same order
_reservations: list[socket.socket] = []


@dataclass(frozen=True, slots=True)
class ProcessOwner:
    """The system user that a server runs as when we ourselves are root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class StopPlan:
    """How a server is asked to stop: one signal, and after `grace_s` seconds another one."""

    first: signal.Signals = signal.SIGTERM
    grace_s: float = 8.0
    last: signal.Signals = signal.SIGKILL


class ServerProcess:
    """A running server under `supervise.py`, which stops it when the lifeline ends.

    Args:
        lifeline: a readable descriptor that ends when the server is to stop; None for a pipe that this process holds.
            The caller keeps and closes its own copies.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        plan: StopPlan,
        owner: ProcessOwner | None = None,
        pass_fds: Sequence[int] = (),
        lifeline: int | None = None,
    ) -> None:
        held: int | None = None
        if lifeline is None:
            lifeline, held = os.pipe()
        arguments = [str(plan.first.value), str(plan.grace_s), str(plan.last.value)]
        if owner is not None:
            arguments += ["--uid", str(owner.uid), "--gid", str(owner.gid)]
        for descriptor in pass_fds:
            arguments += ["--pass-fd", str(descriptor)]
        rotate_log(log)
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own file
                [sys.executable, "-I", "-S", str(_SUPERVISE), *arguments, "--", *command],
                stdin=lifeline,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd="/",
                pass_fds=pass_fds,
                start_new_session=True,
            )
        if held is not None:
            os.close(lifeline)
        self._held = held
        self._log = log
        self._plan = plan

    @property
    def supervisor_pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """What the server has written to its log since it was started."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def stop(self) -> None:
        """Ask the server to stop and wait until it has; does nothing when it is gone already."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
        elif self._process.poll() is None:
            self._process.terminate()
        deadline = time.monotonic() + self._plan.grace_s + 5
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"a server does not stop (supervisor process {self._process.pid}); see {self._log}"
                )
            await asyncio.sleep(0.01)


def rotate_log(log: Path) -> None:
    """Move a log that has grown large aside, so that at most two of that size are kept."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and that no other caller of this function gets.

    It lies below those that the system gives to outgoing connections: one of these could take the port before its server
    does. The datagram port of the same number is held until this process ends, so that others who look see it taken.
    """
    for _ in range(_PORT_TRIES):
        port = _random.randrange(_LOWEST_PORT, _lowest_outgoing_port())
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind((LOOPBACK, port))
            with socket.socket() as probe:
                probe.bind((LOOPBACK, port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port
    raise LocalStackError(f"{LOOPBACK} has no free port between {_LOWEST_PORT} and {_lowest_outgoing_port()}")


def _lowest_outgoing_port() -> int:
    try:
        lowest = int(_OUTGOING_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # not Linux, which has the lowest of all
        return 32_768
    return lowest if lowest > _LOWEST_PORT + 1000 else 32_768


def require_free_port(port: int, *, server: str, setting: str) -> None:
    """Raises: LocalStackError: somebody listens on it already."""
    with socket.socket() as probe:
        # As the servers do: a port in TIME_WAIT after a restart is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise LocalStackError(
                f"port {port} of {LOOPBACK}, wanted for {server}, is in use; stop what uses it or set {setting}"
            ) from error
