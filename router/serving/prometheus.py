"""The metrics in the form that Prometheus's library writes."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from router.serving.metrics import Metrics

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def registry_of(metrics: Metrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Collector(metrics))
    return registry


class _Collector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        metrics = self._metrics
        yield _counter("router_requests", "GraphQL requests by result.", metrics.requests)
        buckets, total_s = metrics.seconds.read()
        yield HistogramMetricFamily("router_request_seconds", "Time to answer.", buckets, total_s)
        yield _counter("router_reloads", "Supergraphs taken over.", metrics.reloads)
        for (name, documentation), read in metrics.gauges.items():
            yield GaugeMetricFamily(name, documentation, read())
        subgraphs = HistogramMetricFamily(
            "router_subgraph_request_seconds", "Time a subgraph took to answer.", labels=["subgraph"]
        )
        for subgraph, durations in metrics.subgraphs.items():
            subgraphs.add_metric([subgraph], *durations.read())
        yield subgraphs
        failures = CounterMetricFamily(
            "router_subgraph_failures", "Requests that brought no GraphQL answer.", labels=["subgraph", "code"]
        )
        for labels, count in metrics.failures.items():
            failures.add_metric(labels, count)
        yield failures


def _counter(name: str, documentation: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=["result"])
    for result, count in counts.items():
        family.add_metric([result], count)
    return family
