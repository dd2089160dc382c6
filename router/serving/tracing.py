"""OpenTelemetry, for those who have set it up before the router starts to serve."""

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping

from opentelemetry import propagate, trace
from opentelemetry.trace import Status, StatusCode

_tracer = trace.get_tracer("router")


def is_set_up() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextlib.contextmanager
def span(headers: Mapping[str, str]) -> Iterator[None]:
    """A span around one request, child of the caller's.

    Of an error only the class is told: its text repeats what was sent, and that may be a password.
    """
    context = propagate.extract(dict(headers)) if "traceparent" in headers else None
    with _tracer.start_as_current_span(
        "graphql.request", context=context, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def pass_on(headers: MutableMapping[str, str]) -> None:
    """Names the current span to whoever gets these headers."""
    propagate.inject(headers)
