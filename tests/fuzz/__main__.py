"""The entry of `make fuzz`: random operations over random federations, then the suite's properties with new examples.

Half of the time each; every seed is printed before it is tried, and a failure prints what is needed to see it again.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time

from tests.federation.test_random_federations import check

_MODES: tuple[dict[str, object], ...] = (
    {},
    {},
    {"faults": 0.15},
    {"lost": 0.2},
    {"broken": "a"},
    {"broken": "b"},
    {"broken": "c", "faults": 0.1},
)


async def federations(seed: int, *, seconds: float, operations: int | None) -> int:
    """Random operations until the time or the number is reached; how many were asked."""
    until, asked, number = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until and (operations is None or asked < operations):
        mode = _MODES[number % len(_MODES)]
        if number % 100 == 0:
            print(f"federations from seed {seed + number}: {asked} operations so far", flush=True)
        asked += await check(seed + number, operations=6, **mode)  # type: ignore[arg-type]  # each mode's own arguments
        number += 1
    print(f"{asked} operations on {number} federations without a difference (seeds {seed} to {seed + number - 1})")
    return asked


def properties(seed: int, *, seconds: float) -> int:
    """The suite's hypothesis tests with new examples, round after round; the exit code of the first that fails."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        print(f"properties with seed {seed}", flush=True)
        command = [sys.executable, "-m", "pytest", "-m", "hypothesis", "-n", "auto", "-x", "tests"]
        command += ["--hypothesis-profile", "fuzz", "--hypothesis-seed", str(seed)]
        try:
            code = subprocess.run(command, check=False, timeout=max(60.0, until - time.monotonic())).returncode
        except subprocess.TimeoutExpired:
            return 0
        if code:
            return code
        seed += 1
    return 0


def main() -> int:
    """The exit code: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--operations", type=int, help="ask so many of the federations, and end")
    chosen = parser.parse_args()
    half = chosen.seconds if chosen.operations is not None else chosen.seconds / 2
    asyncio.run(federations(chosen.seed, seconds=half, operations=chosen.operations))
    return 0 if chosen.operations is not None else properties(chosen.seed, seconds=chosen.seconds / 2)


if __name__ == "__main__":
    raise SystemExit(main())
