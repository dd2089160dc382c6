"""Measures this router beside others over the same four subgraphs, one after another, and prints a table.

    python -m tests.bench.router [--only router apollo-gateway hive-gateway] [--peer NAME=COMMAND ...]

The router under measurement has one core; the clients and the subgraphs share another. Every answer is compared with
what one server that holds the whole graph would say. On a machine that does other work too, compare "CPU ms", the
processor time per request, and "a core", its inverse: the wall-clock figures are then lower bounds. So they are when
"load" comes near 100 %: then clients and subgraphs are the limit, not the router.

For each scenario a router is started afresh, so that "RSS MB" (its peak) is that of the scenario. "fetches" are
subgraph requests per operation, "core" and "load" how busy the two cores were kept, "ratio" the CPU beside the first
line's. Requests, their order and the data are the same in every run and for every router.

A peer is given as NAME=COMMAND with the placeholders {supergraph} (a file), {folder} (with that file, each subgraph's
SDL as NAME.graphql, and supergraph.yaml as Rover reads it) and {port}. Switch its in-flight sharing of identical
requests off, for it is off in the others, and let it serve /graphql or /.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import orjson
import psutil
import uvloop

from tests.bench.router.measure import SCENARIOS, Effort, Measured, Stage, measure
from tests.bench.router.routers import (
    CannotMeasure,
    Router,
    cores,
    node_router,
    other_router,
    started,
    this_router,
)
from tests.bench.router.world import SUBGRAPH_SDL

_ROUTERS: dict[str, Callable[[], Router]] = {
    "router": this_router,
    "apollo-gateway": partial(node_router, "apollo-gateway"),
    "hive-gateway": partial(node_router, "hive-gateway"),
}
_WITHIN_S = 30.0


def main() -> None:
    defaults = Effort()
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.router", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=sorted(_ROUTERS), default=list(_ROUTERS))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--scenario", nargs="*", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--warm-up", type=float, default=defaults.warm_up_s, metavar="SECONDS")
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--operations", type=int, default=defaults.operations, help="how many different ones")
    options = parser.parse_args()
    effort = Effort(
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        connections=options.connections,
        operations=options.operations,
    )
    wanted = [_ROUTERS[name] for name in options.only] + [partial(other_router, peer) for peer in options.peer]
    routers = []
    for make in wanted:
        try:
            routers.append(make())
        except CannotMeasure as reason:
            print(f"skipped: {reason}", file=sys.stderr)
    measured = uvloop.run(_measure_all(routers, options.scenario, effort))
    sys.exit(0 if measured and all(not result.tally.wrong + result.tally.failed for result in measured) else 1)


async def _measure_all(routers: list[Router], scenarios: list[str], effort: Effort) -> list[Measured]:
    """Measure and print; a router that cannot be measured costs a line and stops nothing."""
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="router-bench-") as folder, _stage(Path(folder)) as stage:
        where = "each on a core of its own" if stage.router_core is not None else "not pinned to cores"
        print(f"{os.cpu_count()} cores; router and load {where}; {effort.connections} connections\n")
        for scenario in scenarios:
            print(_HEAD.format(scenario))
            first: Measured | None = None
            for router in routers:
                try:
                    result = await measure(router, scenario, stage, effort)
                except CannotMeasure as reason:
                    print(f"{router.name:<16}cannot be measured: {reason}", flush=True)
                    continue
                first = first or result
                measured.append(result)
                print(_line(result, first), flush=True)
                if result.tally.sample:
                    print(f"{'':<16}not expected: {result.tally.sample[:300]!r}", flush=True)
            print()
    return measured


_HEAD = "{:<16}   req/s   a core   p50 ms   p95 ms   p99 ms   CPU ms   ratio   RSS MB  fetches   right  wrong failed  core  load"


def _line(result: Measured, first: Measured) -> str:
    p50, p95, p99 = result.quantiles_ms
    tally = result.tally
    fetches = result.subgraph_requests / tally.asked if tally.asked else float("nan")
    return (
        f"{result.router:<16}{result.per_second:>8.1f}{result.per_core_second:>9.1f}{p50:>9.2f}{p95:>9.2f}{p99:>9.2f}"
        f"{result.cpu_ms:>9.3f}{result.cpu_ms / first.cpu_ms:>7.2f}x{result.peak_rss_bytes / 1e6:>9.0f}{fetches:>9.2f}"
        f"{tally.right:>8}{tally.wrong:>7}{tally.failed:>7}"
        f"{result.cpu_s / result.seconds:>6.0%}{result.load_cpu_s / result.seconds:>6.0%}"
    )


@contextmanager
def _stage(folder: Path) -> Iterator[Stage]:
    """The subgraphs running, and in the folder all that a router needs to know of them."""
    router_core, load_core = cores() or (None, None)
    supergraph = folder / "supergraph.graphql"
    (folder / "router.yaml").write_text("share_in_flight: false\n", encoding="utf-8")
    output = folder / "subgraphs.log"
    command = [sys.executable, "-m", "tests.bench.router.subgraphs", "--supergraph", str(supergraph)]
    with started(command, {}, core=load_core, log=output) as process:
        urls = _urls(process, output)
        lines = ["federation_version: =2.3.2", "subgraphs:"]
        for name, sdl in SUBGRAPH_SDL.items():
            (folder / f"{name}.graphql").write_text(sdl, encoding="utf-8")
            lines += [f"  {name}:", f"    routing_url: {urls[name]}", "    schema:", f"      file: {name}.graphql"]
        (folder / "supergraph.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield Stage(folder, process, urls["accounts"], router_core, load_core)


def _urls(process: psutil.Popen, output: Path) -> dict[str, str]:
    give_up_at = time.perf_counter() + _WITHIN_S
    while time.perf_counter() < give_up_at and process.poll() is None:
        printed = output.read_text(encoding="utf-8")
        if printed.endswith("\n"):
            urls: dict[str, str] = orjson.loads(printed.splitlines()[-1])
            return urls
        time.sleep(0.05)
    raise RuntimeError(f"the subgraphs do not start: {output.read_text(encoding='utf-8')}")


if __name__ == "__main__":
    main()
