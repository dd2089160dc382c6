"""Events on the wire."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.runtime.events import CommittedEvent, MalformedEvent, decode, encode

AT = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)
EVENT = CommittedEvent(
    id=1, event_id="0190-1", topic="cartridge.replaced", key="device-1", source="device", occurred_at=AT, payload={}
)


json_values: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    payload=st.dictionaries(st.text(), json_values, max_size=5),
    key=st.text(min_size=1),
    correlation_id=st.text(),
    occurred_at=st.datetimes(timezones=st.just(UTC)),
)
def test_what_was_encoded_decodes_to_the_same(
    payload: dict[str, object], key: str, correlation_id: str, occurred_at: datetime
) -> None:
    row = replace(
        EVENT, payload=payload, key=key, correlation_id=correlation_id, traceparent="00-a-b-01", occurred_at=occurred_at
    )
    event = decode(encode(row))
    assert event.payload == payload
    metadata = event.metadata
    assert (metadata.event_id, metadata.topic, metadata.key, metadata.source) == (
        row.event_id,
        row.topic,
        key,
        "device",
    )
    assert (metadata.correlation_id, metadata.traceparent) == (correlation_id, "00-a-b-01")
    assert metadata.occurred_at == occurred_at


def test_an_event_is_a_structured_cloud_event() -> None:
    assert json.loads(encode(replace(EVENT, payload={"part": "말단"}, correlation_id="c-1"))) == {
        "specversion": "1.0",
        "id": "0190-1",
        "type": "cartridge.replaced",
        "source": "/manpasik/device",
        "subject": "device-1",
        "time": "2026-11-22T09:30:00.123456Z",
        "datacontenttype": "application/json",
        "correlationid": "c-1",
        "data": {"part": "말단"},
    }


def altered(**changes: object) -> bytes:
    """A good event with some attributes changed, or left out where None."""
    event = json.loads(encode(EVENT)) | changes
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"\xff\xfe",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"[" * 100_000,
        altered(id=None),
        altered(id="x" * 37),
        altered(id=7),
        altered(specversion="0.3"),
        altered(specversion="2.0"),
        altered(type=""),
        altered(time=None),
        altered(time="yesterday"),
        altered(time=5),
        altered(time="2026-11-22T09:30:00"),
        altered(subject=None),
        altered(data=None),
        altered(data=[1]),
        altered(data="text"),
        altered(Upper="x"),
    ],
)
def test_what_is_no_event_of_ours_is_malformed(raw: bytes | None) -> None:
    with pytest.raises(MalformedEvent):
        decode(raw)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_bytes_come_they_are_an_event_or_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(raw)
