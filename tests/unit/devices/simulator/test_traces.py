import pytest

from devices.simulator.traces import TraceInvalid, UnknownSubject, load_trace, packaged_subjects, parse_trace

HEADER = "measured_at,glucose_mg_dl"


def test_the_packaged_traces_are_whole() -> None:
    assert packaged_subjects() == {"2133-015": "pre-diabetic", "2133-018": "diabetic", "2133-039": "diabetic"}
    traces = {subject: load_trace(subject) for subject in packaged_subjects()}
    assert {subject: len(trace.readings) for subject, trace in traces.items()} == {
        "2133-015": 1835,
        "2133-018": 1775,
        "2133-039": 2013,
    }
    assert traces["2133-018"].glucose_mg_dl.max() == 303
    assert traces["2133-039"].glucose_mg_dl.min() == 50
    assert all(reading.measured_at.tzinfo is None for trace in traces.values() for reading in trace.readings)


def test_an_unknown_subject_is_told_which_ones_there_are() -> None:
    with pytest.raises(UnknownSubject, match="2133-015"):
        load_trace("nobody")


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["measured_at", "2017-01-01T00:00:00"], 2),
        ([HEADER, "2017-01-01T00:00:00,90", "noon,90"], 3),
        ([HEADER, "2017-01-01T00:00:00,nan"], 2),
        ([HEADER, "2017-01-01T00:00:00,-4"], 2),
        ([HEADER, "2017-01-01T00:00:00,"], 2),
        ([HEADER, "2017-01-01T00:00:00"], 2),
        ([HEADER, "2017-01-01T00:00:00Z,90"], 2),
        ([HEADER, "2017-01-01T00:05:00,90", "2017-01-01T00:05:00,91"], 3),
    ],
)
def test_a_broken_line_is_named(lines: list[str], line: int) -> None:
    with pytest.raises(TraceInvalid) as caught:
        parse_trace("x", "unknown", lines)
    assert caught.value.line == line
