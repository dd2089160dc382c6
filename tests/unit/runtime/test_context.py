import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from router.serving import tracing as router_tracing
from subgraphs.runtime import telemetry
from subgraphs.runtime.context import locale_of, request_id_of
from subgraphs.runtime.telemetry import ServerSpan, traceparent_of

_TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "locale"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("EN;q=0.1, KO;q=0.2", "ko"),
        ("fr,de", "en"),
        ("ko;q=0", "en"),
        ("ko;q=high", "en"),
    ],
)
def test_the_language_is_the_one_that_the_caller_prefers(sent: str, locale: str) -> None:
    assert locale_of(sent) == locale


@given(sent=st.text())
def test_any_text_names_a_language(sent: str) -> None:
    assert locale_of(sent) in ("ko", "en")


@given(sent=st.text(max_size=200))
def test_a_request_id_is_fit_to_be_logged(sent: str) -> None:
    request_id = request_id_of(sent)
    assert 0 < len(request_id) <= 128
    assert request_id.isprintable()


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "junk",
        _TRACEPARENT.upper(),
        _TRACEPARENT + "-00",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "ff" + _TRACEPARENT[2:],
    ],
)
def test_only_a_trace_context_is_passed_on(sent: str) -> None:
    assert traceparent_of(sent) == ""
    with ServerSpan("s", sent) as traceparent:
        assert traceparent == ""


def test_while_tracing_is_off_the_callers_trace_is_passed_on_without_a_span() -> None:
    with ServerSpan("s", _TRACEPARENT) as traceparent:
        assert traceparent == _TRACEPARENT
        assert not trace.get_current_span().get_span_context().is_valid


def test_while_tracing_is_on_a_span_continues_the_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    with ServerSpan("s", _TRACEPARENT) as traceparent:
        assert traceparent.split("-")[1] == _TRACEPARENT.split("-")[1]
        assert traceparent.split("-")[2] != _TRACEPARENT.split("-")[2]
    with ServerSpan("s", "") as traceparent:
        assert traceparent_of(traceparent) == traceparent != ""
    assert not trace.get_current_span().get_span_context().is_valid
    provider.shutdown()


@pytest.mark.parametrize("of", ["router", "services"])
def test_a_span_tells_the_class_of_an_error_and_not_what_was_sent(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    monkeypatch.setattr(router_tracing, "_tracer", provider.get_tracer("test"))
    sent = 'login(input: {password: "hunter2"}) has no field rememberMe'
    with pytest.raises(ValueError, match="hunter2"), router_tracing.span({}) if of == "router" else ServerSpan("s", ""):
        raise ValueError(sent)
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "ValueError")
    assert "hunter2" not in span.to_json()
