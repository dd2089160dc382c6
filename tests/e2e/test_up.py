"""`manpasik up` as a person runs it: from an empty folder to an answer to the query that it prints, and down again."""

import json
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default as mail_policy
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from domain.catalog import built_groups, services_of
from infra.local.process import LOOPBACK, free_port
from infra.serve import expand

pytestmark = [pytest.mark.xdist_group("e2e-up"), pytest.mark.timeout(400)]

_log = logging.getLogger(__name__)

# Far above what a quiet machine takes (8 s, 4 s): these catch a start that hangs, and leave its speed to be read in the log.
FIRST_START_S = 90.0
WARM_START_S = 90.0
STOP_S = 12.0
MEMORY_MB = 700.0


README = Path(__file__).parents[2] / "README.md"


def readme_blocks() -> list[str]:
    """The commands that the README shows, a block each."""
    return re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)


def environment_of(home: Path) -> dict[str, str]:
    """Ports of its own for everything."""
    ports = [service.port for group in built_groups() for service in services_of(group)]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "MANPASIK_HOME": str(home),
        "GRPC_PORT_OFFSET": str(_free_offset(ports)),
        **{
            name: str(free_port())
            for name in (
                "HTTP_PORT",
                "SUBGRAPH_PORT",
                "METRICS_PORT",
                "ROUTER_METRICS_PORT",
                "MAIL_PORT",
                "TOSS_SANDBOX_PORT",
                "PUSH_SANDBOX_PORT",
                "SMS_SANDBOX_PORT",
            )
        },
        "COLUMNS": "200",
    }


def _free_offset(ports: list[int]) -> int:
    """An offset that takes the ports above those that the system gives to outgoing connections."""
    for offset in range(61_000 - min(ports), 65_535 - max(ports), 11):
        if all(_is_free(port + offset) for port in ports):
            return offset
    raise AssertionError("no free block of ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind((LOOPBACK, port))
        return True
    return False


@dataclass
class Up:
    """A running `manpasik up`."""

    environment: dict[str, str]
    lines: list[str] = field(default_factory=list)
    started_s: float = 0.0

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "up"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._thread = Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready after"):
                self.started_s = time.monotonic() - self._began
            self.lines.append(line.rstrip("\n"))

    def line(self, beginning: str, *, within_s: float) -> str:
        """The first line that begins so."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            for line in list(self.lines):
                if line.startswith(beginning):
                    return line
            assert self._process.poll() is None, "\n".join(self.lines)
            time.sleep(0.02)
        raise AssertionError(f"no line begins with {beginning!r}:\n" + "\n".join(self.lines))

    def query(self, *, within_s: float) -> str:
        """The command that it offers to paste: three lines from `curl` on."""
        self.line("Ctrl-C", within_s=within_s)
        first = next(number for number, line in enumerate(self.lines) if line.startswith("curl "))
        return "\n".join(self.lines[first : first + 3])

    def tree(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def interrupt(self) -> tuple[float, int]:
        """Ctrl-C; seconds until it has ended, and its exit code."""
        asked = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(60)
        self._thread.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return time.monotonic() - asked, code

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        code = self._process.wait(60)
        self._thread.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def end(self) -> None:
        if self._process.poll() is None:
            self.interrupt()


def run_to_its_end(environment: dict[str, str]) -> tuple[int, list[str], float]:
    """Exit code, lines and seconds of a start that fails."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "infra.cli", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    return ended.returncode, ended.stdout.strip().splitlines(), time.monotonic() - began


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    return environment_of(home)


@pytest.fixture(scope="module")
def first(environment: dict[str, str]) -> Iterator[Up]:
    running = Up(environment)
    yield running
    running.end()


def paste(command: str) -> Any:
    """What the printed curl command would do."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["curl", "-s"]
    headers, body, url, rest = {}, "", words[2], iter(words[3:])
    for option in rest:
        value = next(rest)
        if option == "-H":
            name, _, content = value.partition(": ")
            headers[name] = content
        else:
            assert option == "-d", option
            body = value
    request = urllib.request.Request(url, data=body.encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def memory_mb(processes: list[psutil.Process]) -> tuple[float, float]:
    """Sums of RSS (pages that processes share count for each) and of PSS (they count once)."""
    rss = pss = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            rss += process.memory_info().rss
            pss += process.memory_full_info().pss
    return rss / 1e6, pss / 1e6


def test_the_first_start_offers_a_query_that_answers_from_three_subgraphs(first: Up, home: Path) -> None:
    first.line("ready after", within_s=FIRST_START_S)
    answer = paste(first.query(within_s=30))
    assert "errors" not in answer, answer
    me = answer["data"]["me"]
    assert me["displayName"]  # identity
    assert me["devices"]["edges"][0]["node"]["id"].startswith("demo-")  # hardware
    assert me["devices"]["edges"][0]["node"]["verified"] is True  # by its claim code
    measured = me["measurements"]["edges"][0]["node"]  # measurement
    assert measured["session"]["verified"] is True  # its cartridge's tag is signed
    assert measured["unit"] == "mg/dL"
    assert 20 < measured["value"] < 500
    assert measured["session"]["cartridge"]["type"]["nameEn"] == "Glucose"  # and hardware again
    _log.info("first start: %.1f s", first.started_s)
    told = first.line("15 readings", within_s=60)
    assert float(told.rpartition(" of ")[2].split()[0]) < 5, told  # per cent of MARD
    assert oct((home / "secrets.json").stat().st_mode)[-3:] == "600"


def test_the_first_query_of_the_readme_answers(first: Up) -> None:
    first.query(within_s=FIRST_START_S)
    block = next(block for block in readme_blocks() if "manpasik token" in block)
    command = block[block.index("curl") :]
    printed = subprocess.run(
        [sys.executable, "-m", "infra.cli", "token"], env=first.environment, capture_output=True, text=True, check=True
    )
    command = command.replace("$TOKEN", printed.stdout.strip())
    answer = paste(command.replace("localhost:8090", f"localhost:{first.environment['HTTP_PORT']}"))
    assert "errors" not in answer, answer
    assert answer["data"]["me"]["measurements"]["edges"]


def test_a_mail_address_and_a_phone_are_proven_as_the_readme_says(first: Up) -> None:
    text = README.read_text()
    for named in ("requestEmailVerification", "verifyEmail", "requestPhoneCode", "confirmPhone", "/sandbox/sent"):
        assert named in text
    home = Path(first.environment["MANPASIK_HOME"])
    url = f"http://{LOOPBACK}:{first.environment['HTTP_PORT']}/graphql"

    def ask(operation: str, token: str = "") -> Any:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(url, json.dumps({"query": operation}).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def until_found(pattern: str, texts: Callable[[], Iterable[str]]) -> str:
        end = time.monotonic() + 60
        while True:  # the outside has no event
            for each in texts():
                if found := re.search(pattern, each):
                    return found[1]
            assert time.monotonic() < end, pattern
            time.sleep(0.1)

    person = f'email: "proof-{os.getpid()}@example.com", password: "E2e-Passw0rd!"'
    ask(f'mutation {{ register(input: {{{person}, displayName: "Proof"}}) {{ userId }} }}')
    token = ask(f"mutation {{ login(input: {{{person}}}) {{ accessToken }} }}")["login"]["accessToken"]
    ask("mutation { requestEmailVerification { __typename } }", token)
    mailed = until_found(
        r"\b([A-Z0-9]{5}-[A-Z0-9]{5})\b",
        lambda: [
            message_from_bytes(path.read_bytes(), policy=mail_policy).get_content()
            for path in (home / "mail").glob("*.eml")
            if f"proof-{os.getpid()}@" in path.read_text(errors="replace")
        ],
    )
    ask(f'mutation {{ verifyEmail(input: {{code: "{mailed}"}}) {{ __typename }} }}', token)
    ask('mutation { requestPhoneCode(phone: "+82 10-1234-5678") { phone } }', token)

    def sent() -> list[str]:
        with urllib.request.urlopen(
            f"http://{LOOPBACK}:{first.environment['SMS_SANDBOX_PORT']}/sandbox/sent", timeout=30
        ) as response:
            return [response.read().decode()]

    code = until_found(r"\b([0-9]{6})\b", sent)
    confirmed = ask(f'mutation {{ confirmPhone(code: "{code}") }}', token)["confirmPhone"]
    assert confirmed.endswith("78")


def test_something_is_bought_as_the_readme_says_and_the_books_balance(first: Up) -> None:
    query = first.query(within_s=FIRST_START_S)

    def ask(operation: str) -> Any:
        answer = paste(query[: query.index("-d '")] + f"-d '{json.dumps({'query': operation})}'")
        assert "errors" not in answer, answer
        return answer["data"]

    products = ask("{ products(category: CARTRIDGE, first: 1) { edges { node { id } } } }")
    product = products["products"]["edges"][0]["node"]["id"]
    order = ask(
        f'mutation {{ addToCart(input: {{productId: "{product}"}}) {{ totalKrw }}'
        ' createOrder(input: {shippingAddress: "Sejong-daero 110, Seoul"}) { id totalKrw } }'
    )["createOrder"]
    payment = ask(
        f'mutation {{ createPayment(input: {{orderId: "{order["id"]}", amountKrw: {order["totalKrw"]}}}) {{ id }} }}'
    )["createPayment"]["id"]
    confirmed = ask(
        f'mutation {{ confirmPayment(input: {{id: "{payment}", paymentKey: "test-readme"}}) {{ status }} }}'
    )
    assert confirmed["confirmPayment"]["status"] == "COMPLETED"
    assert "`.venv/bin/manpasik books`" in README.read_text()
    until = time.monotonic() + 60
    while True:  # the order hears of its payment by an event
        books = subprocess.run(
            [sys.executable, "-m", "infra.cli", "books"],
            env=first.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if books.returncode == 0 or time.monotonic() > until:
            break
        time.sleep(0.5)
    assert books.returncode == 0, books.stdout + books.stderr
    assert books.stdout.splitlines()[-1] == "the books balance"
    assert f"captured {order['totalKrw']:,} won" in books.stdout


def test_everything_together_is_small(first: Up) -> None:
    first.query(within_s=FIRST_START_S)
    rss_mb, pss_mb = memory_mb(first.tree())
    for process in first.tree():
        with suppress(psutil.NoSuchProcess):
            _log.info("%6.1f MB RSS: %s", process.memory_info().rss / 1e6, " ".join(process.cmdline())[:90])
    _log.info("all together: %.0f MB RSS, %.0f MB PSS", rss_mb, pss_mb)
    assert pss_mb < MEMORY_MB


def test_a_taken_port_gives_one_line_that_says_what_to_do(first: Up, environment: dict[str, str], home: Path) -> None:
    first.query(within_s=FIRST_START_S)
    code, lines, _ = run_to_its_end(environment | {"MANPASIK_HOME": str(home.with_name("other"))})
    assert code == 1
    assert len(lines) == 1, lines
    assert f"port {environment['HTTP_PORT']}" in lines[0]
    assert "HTTP_PORT" in lines[0]
    # The running one does not suffer from it.
    assert "errors" not in paste(first.query(within_s=5))


def test_ctrl_c_stops_all_of_it_soon_and_a_second_start_keeps_the_data(
    first: Up, environment: dict[str, str], home: Path
) -> None:
    first.query(within_s=FIRST_START_S)
    before = paste(first.query(within_s=5))["data"]["me"]["measurements"]["edges"]
    ours = first.tree()
    took_s, code = first.interrupt()
    _log.info("stopped after %.1f s", took_s)
    assert code == 0, first.lines
    assert took_s < STOP_S
    assert [process for process in ours if process.is_running()] == []
    assert first.lines[-1] == "stopped"

    second = Up(environment)
    try:
        second.line("ready after", within_s=WARM_START_S)
        _log.info("warm start: %.1f s", second.started_s)
        command = second.query(within_s=30).replace("measurements(first: 3)", "measurements(first: 100)")
        after = paste(command)["data"]["me"]["measurements"]["edges"]
        kept = [edge["node"]["measuredAt"] for edge in after]
        assert all(edge["node"]["measuredAt"] in kept for edge in before)
        assert len(after) > len(before)
        # Without its broker no alert reaches anybody: it says so, instead of going on.
        next(process for process in second.tree() if process.name() == "tansu").kill()
        assert second.ended() == 1
        assert [line for line in second.lines if "the broker stopped" in line], second.lines[-5:]
    finally:
        second.end()


def test_damaged_secrets_give_one_line(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    code, lines, _ = run_to_its_end(environment_of(tmp_path))
    assert code == 1
    assert len(lines) == 1, lines
    assert "secrets.json is damaged" in lines[0]


def test_a_missing_schema_gives_one_line_and_leaves_nothing_running(tmp_path: Path) -> None:
    environment = environment_of(tmp_path) | {"SUPERGRAPH_FILE": str(tmp_path / "none.graphql")}
    code, lines, _ = run_to_its_end(environment)
    assert code == 1
    assert [line for line in lines if line.startswith("manpasik:")] == [lines[-1]], lines
    assert "none.graphql" in lines[-1]
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]
    assert left == []


def test_a_data_folder_that_cannot_be_made_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, lines, _ = run_to_its_end(environment_of(tmp_path / "file" / "home"))
    assert code == 1
    assert len(lines) == 1, lines
    assert "MANPASIK_HOME" in lines[0]
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_plan_of_a_query_can_be_printed_as_the_readme_says(tmp_path: Path) -> None:
    block = next(block for block in readme_blocks() if "manpasik token" in block)
    operation = tmp_path / "query.graphql"
    operation.write_text(json.loads(block[block.index("-d '") + 4 : block.rindex("'")])["query"])
    (command,) = re.findall(r"`\.venv/bin/router (plan [^`]*)`", README.read_text())
    arguments = command.replace("FILE", str(operation)).split()
    printed = subprocess.run(
        [sys.executable, "-m", "router.cli", *arguments], cwd=README.parent, capture_output=True, text=True, check=True
    )
    assert printed.stdout.startswith("QueryPlan {")
    for group in ("identity", "hardware", "measurement"):
        assert f'Fetch(service: "{group}")' in printed.stdout


def test_the_readme_names_targets_and_commands_that_there_are() -> None:
    text = README.read_text()
    makefile = (README.parent / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)\b", "\n".join([*readme_blocks(), *re.findall(r"`[^`\n]+`", text)]))):
        assert f"\n{target}:" in makefile, target
    served = re.findall(r"manpasik serve ([a-z]+)", text)
    assert expand(served)
