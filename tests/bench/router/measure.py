"""One router under one scenario: start it afresh, warm it up, ask, and count what it took."""

import asyncio
import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson
import psutil

from tests.bench.load import cpu_seconds
from tests.bench.router.load import Question, Tally, ask, until
from tests.bench.router.operations import NESTED, ONE_FETCH, different
from tests.bench.router.routers import CannotMeasure, Router, free_port, peak_rss_bytes, pinned, started
from tests.bench.router.world import expected

_START_S = 60.0
_PATHS = ("/graphql", "/")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard is asked.

    seconds: of measuring one operation, and a sixth of the most for the different ones.
    warm_up_s: the least; longer, up to six times, until `warm_up_requests`: a just-in-time compiler needs some.
    operations: how many different ones, after `warm_up_operations` others.
    """

    seconds: float = 10.0
    warm_up_s: float = 10.0
    warm_up_requests: int = 500
    connections: int = 50
    operations: int = 1000
    warm_up_operations: int = 50


@dataclass(frozen=True, slots=True)
class Measured:
    """What one router did under one scenario.

    cpu_s: user and system time of the router's processes. load_cpu_s: that of the clients and the subgraphs.
    """

    router: str
    scenario: str
    tally: Tally
    seconds: float
    cpu_s: float
    load_cpu_s: float
    peak_rss_bytes: int
    subgraph_requests: int

    @property
    def per_second(self) -> float:
        return self.tally.right / self.seconds

    @property
    def per_core_second(self) -> float:
        """How many it would answer with a core of its own all the time."""
        return self.tally.right / self.cpu_s if self.cpu_s else float("nan")

    @property
    def cpu_ms(self) -> float:
        """Per request."""
        return self.cpu_s * 1000 / self.tally.asked if self.tally.asked else float("nan")

    @property
    def quantiles_ms(self) -> tuple[float, float, float]:
        """p50, p95 and p99, as far as there were enough answers."""
        if not self.tally.latencies_s:
            return (float("nan"),) * 3
        p50, p95, p99 = (float(value) * 1000 for value in np.percentile(self.tally.latencies_s, [50, 95, 99]))
        return p50, p95, p99


@dataclass(frozen=True, slots=True)
class Phases:
    """What is asked to warm up, then what is measured, and over how many connections."""

    warm_up: Callable[[], Iterator[Question]]
    measured: Callable[[], Iterator[Question]]
    connections: int


def _same(operation: str) -> Callable[[str, Effort], Phases]:
    def phases(url: str, effort: Effort) -> Phases:
        question = Question(url, operation, _expected(operation))
        return Phases(
            lambda: until(effort.warm_up_s, question, at_least=effort.warm_up_requests, at_most_s=6 * effort.warm_up_s),
            lambda: until(effort.seconds, question),
            effort.connections,
        )

    return phases


def _different(url: str, effort: Effort) -> Phases:
    """One after another on one connection, so that the latency is that of an operation never seen before."""
    questions = (
        Question(url, operation, _expected(operation))
        for operation in different(effort.warm_up_operations + effort.operations)
    )
    prepared = list(questions)

    def measured() -> Iterator[Question]:
        stop_at = time.perf_counter() + 6 * effort.seconds
        for question in prepared[effort.warm_up_operations :]:
            if time.perf_counter() > stop_at:
                return
            yield question

    return Phases(lambda: islice(prepared, effort.warm_up_operations), measured, 1)


_expected = cache(expected)

SCENARIOS: dict[str, Callable[[str, Effort], Phases]] = {
    "nested": _same(NESTED),
    "one-fetch": _same(ONE_FETCH),
    "different": _different,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where routers are measured: the folder of the supergraph, its subgraphs, and which core is whose."""

    folder: Path
    subgraphs: psutil.Process
    count_url: str
    router_core: int | None
    load_core: int | None

    def subgraph_requests(self) -> int:
        """How many requests the subgraphs got so far."""
        address = urlsplit(self.count_url)
        connection = http.client.HTTPConnection(address.netloc, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/count")
            counts: dict[str, int] = orjson.loads(connection.getresponse().read())
        return sum(counts.values())


async def measure(router: Router, scenario: str, stage: Stage, effort: Effort) -> Measured:
    """Start a router, ask it, stop it.

    Raises:
        CannotMeasure: it does not start, or gives no right answer; the message has the end of what it printed.
    """
    port = free_port()
    log = stage.folder / "router.log"
    command = router.started_with(stage.folder, port)
    with started(command, router.environment, core=stage.router_core, log=log) as process, pinned(stage.load_core):
        try:
            url = await _ready(process, port)
            phases = SCENARIOS[scenario](url, effort)
            await ask("127.0.0.1", port, phases.warm_up(), connections=phases.connections, tally=Tally())
            tally = Tally()
            load = [psutil.Process(), stage.subgraphs]
            asked_before = stage.subgraph_requests()
            cpu_before, load_before, began = cpu_seconds([process]), _own_cpu_s(load), time.perf_counter()
            await ask("127.0.0.1", port, phases.measured(), connections=phases.connections, tally=tally)
            seconds = time.perf_counter() - began
            cpu_s, load_cpu_s = cpu_seconds([process]) - cpu_before, _own_cpu_s(load) - load_before
            return Measured(
                router=router.name,
                scenario=scenario,
                tally=tally,
                seconds=seconds,
                cpu_s=cpu_s,
                load_cpu_s=load_cpu_s,
                peak_rss_bytes=peak_rss_bytes(process),
                subgraph_requests=stage.subgraph_requests() - asked_before,
            )
        except (OSError, CannotMeasure) as error:
            printed = log.read_text(encoding="utf-8", errors="replace").strip()[-1500:]
            raise CannotMeasure(f"{router.name}: {error}\n{printed}") from error


def _own_cpu_s(processes: list[psutil.Process]) -> float:
    """User and system time of just these, in seconds: the router is a child of the clients' process."""
    times = [process.cpu_times() for process in processes]
    return sum(used.user + used.system for used in times)


async def _ready(process: psutil.Popen, port: int) -> str:
    """The URL at which the router answers rightly.

    Raises:
        CannotMeasure: it ended, or does not answer in time.
    """
    give_up_at = time.perf_counter() + _START_S
    tally = Tally()
    while time.perf_counter() < give_up_at:
        if process.poll() is not None:
            raise CannotMeasure(f"it ended with status {process.returncode}")
        for path in _PATHS:
            tally = Tally(sample=tally.sample)
            url = f"http://127.0.0.1:{port}{path}"
            question = Question(url, ONE_FETCH, _expected(ONE_FETCH))
            with contextlib.suppress(OSError):
                await ask("127.0.0.1", port, iter([question]), connections=1, tally=tally)
            if tally.right:
                return url
        await asyncio.sleep(0.1)
    raise CannotMeasure(f"no right answer within {_START_S:.0f} s; the last was {tally.sample[:300]!r}")
