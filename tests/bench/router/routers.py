"""Which routers are measured, and how each is started and stopped."""

import contextlib
import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

PEERS = Path(__file__).parent / "peers"
INSTALLED = Path(__file__).parents[3] / ".manpasik" / "bench-peers"
_STOP_S = 10.0


class CannotMeasure(Exception):
    """A router is not here or does not start; the message says why."""


@dataclass(frozen=True, slots=True)
class Router:
    """A router by name, and the command that starts it with the placeholders {supergraph}, {folder} and {port}."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def started_with(self, folder: Path, port: int) -> list[str]:
        """The command for the supergraph in a folder, listening at a port of this machine."""
        values = {"supergraph": str(folder / "supergraph.graphql"), "folder": str(folder), "port": str(port)}
        return [part.format_map(values) for part in self.command]


def this_router() -> Router:
    files = ("--supergraph", "{supergraph}", "--config", "{folder}/router.yaml")
    command = ("-m", "router.cli", "serve", *files, "--listen", "127.0.0.1:{port}")
    return Router("router", (sys.executable, *command), {})


def node_router(name: str) -> Router:
    """A gateway of peers/, installed when it is not yet, from the versions in package-lock.json.

    Raises:
        CannotMeasure: there is no Node here, or npm fails.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise CannotMeasure(f"{name} needs Node 20 or newer with npm, and there is none on the PATH")
    _install(npm)
    script = INSTALLED / f"{name}.js"
    return Router(name, (node, str(script), "{supergraph}", "{port}"), {"NODE_ENV": "production"})


def _install(npm: str) -> None:
    INSTALLED.mkdir(parents=True, exist_ok=True)
    for file in PEERS.iterdir():
        if file.suffix in {".js", ".json"}:
            shutil.copy(file, INSTALLED)
    wanted = hashlib.sha256((PEERS / "package-lock.json").read_bytes()).hexdigest()
    stamp = INSTALLED / "installed.sha256"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print("installing the gateways that run on Node (once)", flush=True)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    installed = subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise CannotMeasure(f"npm ci fails: {installed.stderr.strip()[-500:]}")
    stamp.write_text(wanted, encoding="utf-8")


def other_router(option: str) -> Router:
    """A router given as NAME=COMMAND.

    Raises:
        CannotMeasure: the option is malformed, or there is no such command.
    """
    name, separator, line = option.partition("=")
    command = tuple(shlex.split(line))
    if not name or not separator or not command:
        raise CannotMeasure(f"--peer must be NAME=COMMAND, not {option!r}")
    if shutil.which(command[0]) is None:
        raise CannotMeasure(f"{name}: there is no command {command[0]!r}")
    return Router(name, command, {})


def cores() -> tuple[int, int] | None:
    """Which core the router gets and which one everything else; None: they cannot be told apart here."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return (available[-1], available[0]) if len(available) > 1 else None


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started inside runs on one core, all its threads and children too."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def started(
    command: list[str], environment: Mapping[str, str], *, core: int | None, log: Path
) -> Iterator[psutil.Popen]:
    """A process on one core, stopped afterwards with all that it started."""
    with log.open("wb") as output, pinned(core):
        process = psutil.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: psutil.Popen) -> None:
    family: list[psutil.Process] = [process]
    with contextlib.suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, timeout=_STOP_S)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def peak_rss_bytes(process: psutil.Process) -> int:
    """The most memory that a process and its present children ever had, each at its own time, summed."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        status = Path(f"/proc/{member.pid}/status")
        if not status.exists():
            total += member.memory_info().rss
            continue
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total
