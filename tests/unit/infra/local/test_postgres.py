"""The embedded PostgreSQL: starts, keeps its data, refuses in one line, and never outlives its owner."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from infra.local import postgres as module
from infra.local.errors import LocalStackError
from infra.local.postgres import EmbeddedPostgres
from infra.local.process import LOOPBACK


async def value(server: EmbeddedPostgres, query: str) -> object:
    connection = await asyncpg.connect(server.address.dsn())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.address.dsn())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def postmaster_pid(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split("\n", 1)[0])


async def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds."""
    deadline = time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
    return True


async def test_a_second_start_continues_with_the_data(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "db", durable=False) as server:
        await execute(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with EmbeddedPostgres(tmp_path / "db", durable=False) as server:
        assert await value(server, "SELECT answer FROM kept") == 42


async def test_it_has_pgvector_and_commits_wait_for_the_disk_by_default(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "db") as server:
        await execute(server, "CREATE EXTENSION vector")
        assert await value(server, "SELECT '[1,2]'::vector <-> '[1,3]'::vector") == 1.0
        assert await value(server, "SHOW fsync") == "on"
        assert await value(server, "SHOW synchronous_commit") == "on"
        assert str(await value(server, "SHOW server_version")).startswith("18")


async def test_it_listens_on_the_loopback_interface_only_and_wants_the_password(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "db", durable=False, password="right") as server:
        listening = {
            address.ip
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and (address := connection.laddr)
            if address.port == server.address.port
        }
        assert listening == {LOOPBACK}
        assert await value(server, "SHOW unix_socket_directories") == ""
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.address.dsn().replace("right", "wrong"))


async def test_another_password_than_the_data_has_is_named(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "db", durable=False, password="one"):
        pass
    with pytest.raises(LocalStackError, match="DB_PASSWORD"):
        await EmbeddedPostgres(tmp_path / "db", durable=False, password="two").start()
    assert not (tmp_path / "db" / "postmaster.pid").exists()


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalStackError, match=rf"port {port} .* is in use"):
            await EmbeddedPostgres(tmp_path / "db", port=port).start()
    assert not (tmp_path / "db").exists()


async def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "db"
    data.mkdir()
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalStackError, match=r"made by PostgreSQL 16, and this is 18"):
        await EmbeddedPostgres(data).start()


async def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "db"
    data.mkdir()
    (data / "letter.txt").write_text("mine")
    with pytest.raises(LocalStackError, match="not a PostgreSQL database"):
        await EmbeddedPostgres(data).start()
    assert [path.name for path in data.iterdir()] == ["letter.txt"]


async def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_START_BYTES", 1 << 62)
    with pytest.raises(LocalStackError, match=r"disk of .* is full"):
        await EmbeddedPostgres(tmp_path / "db").start()


async def test_a_running_server_is_not_started_twice(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "db", durable=False) as server:
        with pytest.raises(LocalStackError, match="in use by a running PostgreSQL"):
            await EmbeddedPostgres(tmp_path / "db", durable=False).start()
        assert await value(server, "SELECT 1") == 1


async def test_what_was_committed_survives_the_kill_of_the_server(tmp_path: Path) -> None:
    first = EmbeddedPostgres(tmp_path / "db")
    await first.start()
    await execute(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(postmaster_pid(tmp_path / "db"), signal.SIGKILL)
    await first.stop()
    async with EmbeddedPostgres(tmp_path / "db") as second:  # the pid file of the killed one is still there
        assert await value(second, "SELECT answer FROM kept") == 42


async def test_a_pid_file_that_names_some_other_process_does_not_matter(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "db", durable=False):
        pid_file = (tmp_path / "db" / "postmaster.pid").read_text()
    (tmp_path / "db" / "postmaster.pid").write_text(pid_file.replace(pid_file.split("\n", 1)[0], str(os.getpid()), 1))
    async with EmbeddedPostgres(tmp_path / "db", durable=False) as server:
        assert await value(server, "SELECT 1") == 1


_OWNER = """
    import asyncio, sys
    from pathlib import Path
    from infra.local.postgres import EmbeddedPostgres

    async def main():
        server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
        await server.start()
        print(server._process.supervisor_pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


def start_owner(data: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that owns a server, and the id of the server's supervisor."""
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_OWNER), str(data)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


async def test_the_server_stops_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner, _ = await asyncio.to_thread(start_owner, tmp_path / "db")
    server = postmaster_pid(tmp_path / "db")
    with owner:
        owner.kill()
    assert await gone(server)
    assert not (tmp_path / "db" / "postmaster.pid").exists()  # it was stopped in order


async def test_a_server_whose_owner_and_supervisor_were_killed_is_stopped_at_the_next_start(tmp_path: Path) -> None:
    owner, supervisor = await asyncio.to_thread(start_owner, tmp_path / "db")
    left_over = postmaster_pid(tmp_path / "db")
    with owner:
        os.kill(supervisor, signal.SIGKILL)
        owner.kill()
    assert psutil.pid_exists(left_over)
    async with EmbeddedPostgres(tmp_path / "db", durable=False) as server:
        assert await gone(left_over)
        assert await value(server, "SELECT 1") == 1
