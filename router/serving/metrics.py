"""What is counted while requests run, and how Prometheus reads it.

Counting is an addition to a plain number, made for every request and every fetch; names, labels and buckets are put
together only when somebody asks for them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """How many took how long."""

    __slots__ = ("_counts", "_total_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._total_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._total_s += seconds

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """The count up to each bound, by its name, and the sum in seconds: a histogram as Prometheus has it."""
        below = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self._counts, strict=True):
            below += count
            buckets.append((bound, below))
        return buckets, self._total_s


class Metrics:
    """Everything that `/metrics` tells.

    requests: by result; reloads: by result; failures: by subgraph and code; subgraphs: the time each took to answer;
    gauges: read when asked, by name and documentation.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.seconds = Durations()
        self.reloads: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.subgraphs: dict[str, Durations] = {}
        self.gauges: dict[tuple[str, str], Callable[[], float]] = {}
        self._registry: CollectorRegistry | None = None

    def of_subgraph(self, name: str) -> Durations:
        """The time a subgraph took to answer; the same object every time, also after a reload."""
        return self.subgraphs.setdefault(name, Durations())

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        self.gauges[name, documentation] = read

    @property
    def registry(self) -> "CollectorRegistry":
        """What Prometheus's own library reads."""
        if self._registry is None:
            from router.serving.prometheus import registry_of  # noqa: PLC0415  most starts need not wait for it

            self._registry = registry_of(self)
        return self._registry
