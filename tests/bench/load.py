"""Closed loops: a fixed number of callers, each of whom waits for an answer before it asks again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import numpy as np
import psutil

Step = Callable[[], Awaitable[None]]

WARM_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a closed loop saw. `cpu_s` are the CPU seconds of the measured processes over `seconds`."""

    name: str
    count: int
    seconds: float
    p50_ms: float
    p99_ms: float
    callers: int
    cpu_s: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    @property
    def per_core_second(self) -> float:
        """How many one fully busy core would do."""
        return self.count / self.cpu_s if self.cpu_s else float("nan")


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time that processes and their descendants have used so far, in seconds."""
    total = 0.0
    for root in processes:
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total


async def closed_loop(
    name: str, steps: list[Step], *, seconds: float, processes: list[psutil.Process], weight: int = 1
) -> Result:
    """Run every step over and over, side by side, for some seconds after a warm-up.

    Args:
        processes: whose CPU time is counted, with their descendants.
        weight: how many units one step does.
    """
    latencies: list[float] = []
    measuring = asyncio.Event()
    stop = asyncio.Event()

    async def caller(step: Step) -> None:
        while not stop.is_set():
            started = time.perf_counter()
            await step()
            if measuring.is_set() and not stop.is_set():
                latencies.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(caller(step))
        await asyncio.sleep(WARM_UP_S)
        cpu_before, started = cpu_seconds(processes), time.perf_counter()
        measuring.set()
        await asyncio.sleep(seconds)
        stop.set()
        elapsed, cpu = time.perf_counter() - started, cpu_seconds(processes) - cpu_before
    p50, p99 = (float(q) * 1000 for q in np.percentile(latencies, [50, 99])) if latencies else (float("nan"),) * 2
    return Result(name, len(latencies) * weight, elapsed, p50, p99, len(steps), cpu)
