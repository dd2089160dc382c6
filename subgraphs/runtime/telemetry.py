"""Logs, metrics and traces: structlog JSON, Prometheus, OpenTelemetry."""

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

from subgraphs.runtime.context import current
from subgraphs.runtime.settings import ServiceSettings

GRPC_HANDLED = Counter("grpc_server_handled_total", "gRPC calls that ended, by status", ["service", "method", "code"])
GRPC_SECONDS = Histogram("grpc_server_handling_seconds", "Seconds that unary gRPC calls took", ["service", "method"])
GRPC_OPEN_STREAMS = Gauge("grpc_server_open_streams", "gRPC streams that are open", ["service", "method"])
GRAPHQL_REQUESTS = Counter("graphql_subgraph_requests_total", "GraphQL requests to a subgraph", ["group", "outcome"])
BACKGROUND_FAILURES = Counter("background_failures_total", "Background tasks that failed and were restarted", ["task"])

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def _add_context(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = current()
    if context.request_id:
        event.setdefault("request_id", context.request_id)
    if context.traceparent:
        event.setdefault("traceparent", context.traceparent)
    return event


def configure_logging(settings: ServiceSettings) -> None:
    """One line of JSON (or, with `LOG_FORMAT=console`, of text) for each event, on standard error."""
    renderer: Any = structlog.processors.JSONRenderer()
    if settings.log_format == "console":
        # The default prints local variables with a traceback, which may be somebody's health data.
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def configure_tracing(settings: ServiceSettings, *, process: str) -> None:
    """Export spans over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; else only pass trace ids on."""
    if not settings.otlp_endpoint:
        return
    # Only here: the exporter and the SDK take 0.2 s to import, and most starts do without them.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": process}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    trace.set_tracer_provider(provider)


def tracer() -> Tracer:
    """The process's tracer; it records nothing unless tracing is configured."""
    return trace.get_tracer("manpasik")


def _records() -> bool:
    """Whether spans go anywhere: nobody has set a tracer provider while tracing is off."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def traceparent_of(given: str) -> str:
    """The caller's trace context when it has the form of one (W3C Trace Context, version 00), else none."""
    return given if _TRACEPARENT.fullmatch(given) else ""


class ServerSpan:
    """The span of a served request, as a context manager; `traceparent` continues its trace to whatever is called.

    While tracing is off no span is begun, and the caller's trace context is passed on as it is.
    """

    __slots__ = ("_given", "_manager")

    def __init__(self, name: str, traceparent: str) -> None:
        self._given = traceparent_of(traceparent) if traceparent else ""
        self._manager: AbstractContextManager[trace.Span] | None = None
        if _records():
            parent = _PROPAGATOR.extract({"traceparent": self._given}) if self._given else None
            # Of an error only the class is told: its text may repeat what was sent.
            self._manager = tracer().start_as_current_span(
                name, context=parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
            )

    def __enter__(self) -> str:
        if self._manager is None:
            return self._given
        self._manager.__enter__()
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", self._given)

    def __exit__(self, *exception: Any) -> None:
        if self._manager is not None:
            if exception and isinstance(exception[1], Exception):
                trace.get_current_span().set_status(Status(StatusCode.ERROR, type(exception[1]).__name__))
            self._manager.__exit__(*exception)
