"""OpenTelemetry, for those who have set it up before the router starts to serve."""

import contextlib
from collections.abc import Mapping, MutableMapping

from opentelemetry import propagate, trace

_tracer = trace.get_tracer("router")


def is_set_up() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def span(headers: Mapping[str, str]) -> contextlib.AbstractContextManager[object]:
    """A span around one request, child of the caller's."""
    context = propagate.extract(dict(headers)) if "traceparent" in headers else None
    return _tracer.start_as_current_span("graphql.request", context=context)


def pass_on(headers: MutableMapping[str, str]) -> None:
    """Names the current span to whoever gets these headers."""
    propagate.inject(headers)
