"""What is counted while requests run, and how Prometheus reads it.

Counting is an addition to a plain number, made for every request and every fetch; names, labels and buckets are put
together only when somebody asks for them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

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

    def write(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        below = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*BOUNDS_S, float("inf")), self._counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), below))
        family.add_metric(labels, buckets, self._total_s)


class Metrics(Collector):
    """Everything that `/metrics` tells.

    requests: by result; reloads: by result; failures: by subgraph and code.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests: Counter[str] = Counter()
        self.seconds = Durations()
        self.reloads: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self._subgraphs: dict[str, Durations] = {}
        self._gauges: dict[tuple[str, str], Callable[[], float]] = {}
        registry.register(self)

    def of_subgraph(self, name: str) -> Durations:
        """The time a subgraph took to answer; the same object every time, also after a reload."""
        return self._subgraphs.setdefault(name, Durations())

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        self._gauges[name, documentation] = read

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        yield _counter("router_requests", "GraphQL requests by result.", ["result"], self.requests)
        seconds = HistogramMetricFamily("router_request_seconds", "Time to answer.", labels=[])
        self.seconds.write(seconds, [])
        yield seconds
        yield _counter("router_reloads", "Supergraphs taken over.", ["result"], self.reloads)
        for (name, documentation), read in self._gauges.items():
            yield GaugeMetricFamily(name, documentation, value=read())
        subgraphs = HistogramMetricFamily(
            "router_subgraph_request_seconds", "Time a subgraph took to answer.", labels=["subgraph"]
        )
        for subgraph, durations in self._subgraphs.items():
            durations.write(subgraphs, [subgraph])
        yield subgraphs
        failures = CounterMetricFamily(
            "router_subgraph_failures", "Requests that brought no GraphQL answer.", labels=["subgraph", "code"]
        )
        for (subgraph, code), count in self.failures.items():
            failures.add_metric([subgraph, code], count)
        yield failures


def _counter(name: str, documentation: str, labels: list[str], counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for label, count in counts.items():
        family.add_metric([label], count)
    return family
