"""What the router's README shows works as it is written there."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from infra.local.process import free_port

README = (Path(__file__).parents[2] / "router" / "README.md").read_text(encoding="utf-8")

SUBGRAPH = """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"])
type Query { user: User }
type User @key(fields: "id") { id: ID! name: String }
"""


def _block(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(block)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the commands name."""
    (tmp_path / "users.graphql").write_text(SUBGRAPH)
    (tmp_path / "supergraph.yaml").write_text(
        "subgraphs: {users: {routing_url: 'http://users', schema: {file: users.graphql}}}"
    )
    (tmp_path / "operation.graphql").write_text("{ user { name } }")
    (tmp_path / "router.yaml").write_text(_block("yaml"))
    return tmp_path


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def test_the_commands_of_the_readme_run_in_their_order(folder: Path) -> None:
    compose, plan, serve, check = (line.split("#")[0].split()[1:] for line in _block("sh").splitlines())
    router = [sys.executable, "-m", "router.cli"]
    subprocess.run([*router, *compose], cwd=folder, check=True)
    planned = subprocess.run([*router, *plan], cwd=folder, check=True, capture_output=True, text=True)
    assert planned.stdout.startswith("QueryPlan {")
    for name in ("old.graphql", "new.graphql"):
        (folder / name).write_text((folder / "supergraph.graphql").read_text())
    subprocess.run([*router, *check], cwd=folder, check=True)
    address = f"127.0.0.1:{free_port()}"
    serving = subprocess.Popen(
        [*router, *(address if part == "127.0.0.1:4000" else part for part in serve)], cwd=folder
    )
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"http://{address}/ready"):
            assert serving.poll() is None, "the router ended at its start"
            assert time.monotonic() < deadline, "the router did not start"
            time.sleep(0.1)
        asked = urllib.request.Request(
            f"http://{address}/graphql", b'{"query": "{ __typename }"}', {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as said:
            assert json.load(said) == {"data": {"__typename": "Query"}}
    finally:
        serving.terminate()
        assert serving.wait(timeout=30) in (0, -signal.SIGTERM)


def test_the_files_that_the_readme_names_are_there() -> None:
    named = re.findall(r"`((?:serving|planning|execution|composition|supergraph)/\w+\.py)`", README)
    assert len(named) >= 5
    for name in named:
        assert (Path(__file__).parents[2] / "router" / name).is_file(), name
