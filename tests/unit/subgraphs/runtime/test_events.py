"""Events on the wire: what they look like, what is taken, and what a forger cannot do."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from domain.sealing import EventSealer
from subgraphs.runtime.events import (
    MAX_EVENT_BYTES,
    CommittedEvent,
    EventReader,
    EventRefused,
    EventWriter,
    MalformedEvent,
    ReceivedEvent,
    decode,
)
from subgraphs.runtime.service_keys import PublicKeys, ServiceKey, SigningKeys
from tests.support.trust import EVENT_SEALER, event_writer, service_keys

AT = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)
DAY = timedelta(days=1)
EVENT = CommittedEvent(
    id=1, event_id="0190-1", topic="cartridge.replaced", key="device-1", source="device", occurred_at=AT, payload={}
)
PAID = replace(
    EVENT,
    topic="payment.completed",
    source="payment",
    key="p-1",
    payload={"payment_id": "p-1", "amount_krw": 29_000, "user_id": "u-1"},
    correlation_id="c-1",
)
MEASURED = replace(
    EVENT,
    topic="measurement.completed",
    source="measurement",
    key="a-pseudonym",
    payload={"session_id": "s-1"},
    health={"user_id": "u-1", "primary_value": 168.5, "type_name_en": "Glucose"},
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


def reader(*, now: datetime | None = None, publishers: Collection[str] | None = None) -> EventReader:
    """Believes the keys of all services; at a time of its own, on topics of its own where they are given."""
    chosen: dict[str, Any] = {} if publishers is None else {"publishers": lambda _: publishers}
    return EventReader(service_keys()[1], EVENT_SEALER, now=lambda: now or datetime.now(UTC), **chosen)


def read(
    raw: bytes | None, *, topic: str = PAID.topic, key: bytes | None = None, by: EventReader | None = None, **more: Any
) -> ReceivedEvent:
    """What a consumer of the topic gets to see of a record, whose key is the event's unless another one is given."""
    if key is None:
        try:
            key = str(json.loads(raw or b"")["subject"]).encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            key = b"k"
    return (by or reader()).read(topic, key, raw, **{"max_age": DAY, **more})


def altered(raw: bytes, **changes: object) -> bytes:
    """A record with some attributes changed, or left out where None."""
    event = json.loads(raw) | changes
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


# --- what was written


@given(
    payload=st.dictionaries(st.text().filter(lambda name: name != "sealed"), json_values, max_size=5),
    health=st.none() | st.dictionaries(st.text(), json_values, max_size=5),
    key=st.text(min_size=1, max_size=200),
    correlation_id=st.text(max_size=200),
    occurred_at=st.datetimes(max_value=datetime(2026, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    beside=st.integers(0, 40),
)
def test_what_was_written_is_read_as_the_same_wherever_it_stands_in_its_batch(
    payload: dict[str, object],
    health: dict[str, object] | None,
    key: str,
    correlation_id: str,
    occurred_at: datetime,
    beside: int,
) -> None:
    if health is not None:
        health = {name: value for name, value in health.items() if name not in payload}
    row = replace(
        EVENT,
        payload=payload,
        health=health,
        key=key,
        correlation_id=correlation_id,
        traceparent="00-a-b-01",
        occurred_at=occurred_at,
    )
    others = [replace(EVENT, event_id=f"other-{number}") for number in range(beside)]
    raw = event_writer().write_all([*others[: beside // 2], row, *others[beside // 2 :]])[beside // 2]
    event = read(raw, topic=row.topic)
    assert event.payload == {**payload, **(health or {})}
    metadata = event.metadata
    assert (metadata.event_id, metadata.topic, metadata.key, metadata.source) == (
        row.event_id,
        row.topic,
        key,
        "device",
    )
    assert (metadata.correlation_id, metadata.traceparent) == (correlation_id, "00-a-b-01")
    assert metadata.occurred_at == occurred_at


def test_an_event_is_a_structured_cloud_event_with_a_signature() -> None:
    raw = event_writer().write(replace(EVENT, payload={"part": "말단"}, correlation_id="c-1"))
    event = json.loads(raw)
    assert event.pop("signature")
    assert event.pop("keyid") == service_keys()[0].of("device").kid
    assert datetime.fromisoformat(event.pop("signedat")) <= datetime.now(UTC)
    assert event == {
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
    assert JSONFormat().read(CloudEvent, raw).get_id() == "0190-1"  # as any other reader of CloudEvents would


def test_health_data_does_not_show_on_the_wire() -> None:
    raw = event_writer().write(MEASURED)
    for hidden in (b"168.5", b"Glucose", b"u-1", b"primary_value", b"user_id"):
        assert hidden not in raw
    assert json.loads(raw)["data"]["session_id"] == "s-1"
    assert read(raw, topic=MEASURED.topic).payload == {**MEASURED.payload, **(MEASURED.health or {})}


def test_numbers_that_postgresql_answers_as_long_integers_are_read() -> None:
    raw = event_writer().write(replace(PAID, payload={"gain": 10**300, "list": [-(10**25), 2**64 - 1]}))
    assert read(raw).payload == {"gain": 1e300, "list": [-1e25, 2**64 - 1]}


# --- what is no event of ours


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": "x" * 37},
        {"id": 7},
        {"specversion": "0.3"},
        {"specversion": "2.0"},
        {"type": ""},
        {"time": None},
        {"time": "yesterday"},
        {"time": 5},
        {"time": "2026-11-22T09:30:00"},
        {"subject": None},
        {"subject": "s" * 2000},
        {"subject": ["s"]},
        {"data": None},
        {"data": [1]},
        {"data": "text"},
        {"Upper": "x"},
        {"signature": "?"},
        {"signature": 7},
        {"signedat": "never"},
        {"signedat": None},
        {"path": "AAAA"},
        {"path": ["x"]},
        {"path": urlsafe_b64encode(b"\2" + bytes(32)).decode()},
        {"path": urlsafe_b64encode(bytes(33 * 20)).decode()},
        {f"a{number}": "x" for number in range(30)},
    ],
)
def test_what_is_no_event_of_ours_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedEvent):
        read(altered(event_writer().write(PAID), **change))


def _nested(levels: int) -> bytes:
    return b'{"data":' + b'{"a":' * levels + b"1" + b"}" * levels + b"," + event_writer().write(PAID)[1:]


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
        b'{"data":' * 50_000,
        b" " * (MAX_EVENT_BYTES + 1),
        b'{"a": NaN}',
    ],
)
def test_bytes_that_are_no_event_are_malformed(raw: bytes | None) -> None:
    with pytest.raises(MalformedEvent):
        read(raw)


def test_data_is_nested_sixteen_levels_deep_at_most() -> None:
    deep: dict[str, object] = {}
    for _ in range(15):
        deep = {"a": deep}
    assert read(event_writer().write(replace(PAID, payload=deep))).payload == deep
    with pytest.raises(MalformedEvent, match="levels"):
        read(event_writer().write(replace(PAID, payload={"a": deep})))


def test_a_record_with_many_headers_is_malformed() -> None:
    with pytest.raises(MalformedEvent, match="headers"):
        read(event_writer().write(PAID), header_count=1000)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_bytes_come_they_are_an_event_or_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvent):
        read(raw)


@given(
    change=st.dictionaries(
        st.sampled_from(["id", "source", "type", "subject", "time", "data", "signature", "keyid", "signedat", "path"]),
        json_values,
        min_size=1,
    )
)
def test_whatever_is_changed_in_a_genuine_event_it_is_refused_or_malformed(change: dict[str, object]) -> None:
    raw = event_writer().write(PAID)
    forged = altered(raw, **change)
    if json.loads(forged) == json.loads(raw):
        return
    with pytest.raises((EventRefused, MalformedEvent)):
        read(forged, key=b"p-1")


# --- what is not genuine

_SHOP, _STRANGER = ServiceKey.generate("shop"), ServiceKey.generate("payment")


def _by_stranger(row: CommittedEvent = PAID, *, kid: str = "", **changes: object) -> bytes:
    """Signed with a key that nobody published, under a key id of the forger's choice."""
    key = replace(_STRANGER, public=replace(_STRANGER.public, kid=kid or _STRANGER.kid))
    return altered(EventWriter(SigningKeys([key]), EVENT_SEALER).write(row), **changes)


def _own(row: CommittedEvent) -> bytes:
    """A genuine event of the row's source."""
    return event_writer().write(row)


_PAYMENT_KID = service_keys()[0].of("payment").kid
_FORGED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "no signature": ("NOT_SIGNED", lambda: altered(_own(PAID), signature=None, keyid=None, signedat=None)),
    "an unknown key": ("KEY_UNKNOWN", _by_stranger),
    "an unknown key under a known id": ("SIGNATURE_INVALID", lambda: _by_stranger(kid=_PAYMENT_KID)),
    "no key id": ("KEY_UNKNOWN", lambda: altered(_own(PAID), keyid=None)),
    "shop publishes payment.completed": ("NOT_A_PUBLISHER", lambda: _own(replace(PAID, source="shop"))),
    "shop signs in the name of payment": (
        "KEY_UNKNOWN",
        lambda: altered(_own(replace(PAID, source="shop")), source="/manpasik/payment"),
    ),
    "shop signs in the name of payment under its key id": (
        "SIGNATURE_INVALID",
        lambda: altered(_own(replace(PAID, source="shop")), source="/manpasik/payment", keyid=_PAYMENT_KID),
    ),
    "a service that does not exist": (
        "NOT_A_PUBLISHER",
        lambda: altered(_own(PAID), source="/manpasik/nobody"),
    ),
    "another source path": ("NOT_A_PUBLISHER", lambda: altered(_own(PAID), source="/evil/payment")),
    "an altered amount": (
        "SIGNATURE_INVALID",
        lambda: altered(_own(PAID), data={**PAID.payload, "amount_krw": 1}),
    ),
    "an added field": ("SIGNATURE_INVALID", lambda: altered(_own(PAID), data={**PAID.payload, "more": 1})),
    "a removed field": ("SIGNATURE_INVALID", lambda: altered(_own(PAID), data={"payment_id": "p-1"})),
    "another id, to pass the inbox": ("SIGNATURE_INVALID", lambda: altered(_own(PAID), id="another")),
    "another person": ("SIGNATURE_INVALID", lambda: altered(_own(PAID), subject="p-2")),
    "another time": ("SIGNATURE_INVALID", lambda: altered(_own(PAID), time="2026-11-22T09:30:01Z")),
    "another time of signature": (
        "SIGNATURE_INVALID",
        lambda: altered(_own(PAID), signedat=datetime.now(UTC).isoformat()),
    ),
    "another correlation": ("SIGNATURE_INVALID", lambda: altered(_own(PAID), correlationid="c-2")),
    "an added attribute": ("SIGNATURE_INVALID", lambda: altered(_own(PAID), more="x")),
    "a path of its own": (
        "SIGNATURE_INVALID",
        lambda: altered(_own(PAID), path=urlsafe_b64encode(b"\0" + bytes(32)).decode()),
    ),
    "the signature of another event": (
        "SIGNATURE_INVALID",
        lambda: altered(_own(PAID), signature=json.loads(_own(replace(PAID, event_id="0190-2")))["signature"]),
    ),
    "the type of another topic": ("TYPE_OF_ANOTHER_TOPIC", lambda: _own(replace(PAID, topic="payment.refunded"))),
    "a genuine event of another topic under this type": (
        "SIGNATURE_INVALID",
        lambda: altered(_own(replace(PAID, topic="payment.refunded")), type=PAID.topic),
    ),
    "the type of another topic, upper case": (
        "TYPE_OF_ANOTHER_TOPIC",
        lambda: altered(_own(PAID), type="PAYMENT.COMPLETED"),
    ),
}


@pytest.mark.parametrize("forgery", _FORGED)
def test_a_forged_event_is_refused(forgery: str) -> None:
    reason, make = _FORGED[forgery]
    with pytest.raises(EventRefused) as refusal:
        read(make())
    assert refusal.value.reason == reason
    assert "29000" not in str(refusal.value)


def test_another_key_of_the_record_is_refused() -> None:
    for key in (b"p-2", b""):
        with pytest.raises(EventRefused) as refusal:
            read(_own(PAID), key=key)
        assert refusal.value.reason == "KEY_MISMATCH"
    with pytest.raises(EventRefused):
        reader().read(PAID.topic, None, _own(PAID), max_age=DAY)


def test_a_genuine_event_on_another_topic_is_refused() -> None:
    with pytest.raises(EventRefused) as refusal:
        read(_own(PAID), topic="payment.refunded")
    assert refusal.value.reason == "TYPE_OF_ANOTHER_TOPIC"


def test_a_topic_that_the_catalogue_does_not_name_has_no_publisher() -> None:
    with pytest.raises(EventRefused) as refusal:
        read(_own(replace(PAID, topic="payment.invented")), topic="payment.invented")
    assert refusal.value.reason == "NOT_A_PUBLISHER"


def test_an_event_is_taken_for_as_long_as_a_replay_is_recognized() -> None:
    raw, now = _own(PAID), datetime.now(UTC)
    assert read(raw, by=reader(now=now + timedelta(hours=23))).metadata.event_id == PAID.event_id
    with pytest.raises(EventRefused) as refusal:
        read(raw, by=reader(now=now + timedelta(hours=25)))
    assert refusal.value.reason == "TOO_OLD"


def test_an_event_that_waited_long_for_its_relay_is_taken() -> None:
    assert read(_own(replace(PAID, occurred_at=datetime.now(UTC) - timedelta(days=90)))).metadata.key == "p-1"


def test_an_event_from_the_future_is_refused() -> None:
    with pytest.raises(EventRefused) as refusal:
        read(_own(replace(PAID, occurred_at=datetime.now(UTC) + timedelta(minutes=10))))
    assert refusal.value.reason == "FROM_THE_FUTURE"
    with pytest.raises(EventRefused) as refusal:
        read(_own(PAID), by=reader(now=datetime.now(UTC) - timedelta(minutes=10)))
    assert refusal.value.reason == "FROM_THE_FUTURE"


def test_an_event_is_refused_once_its_key_is_withdrawn_even_when_its_signature_was_checked_before() -> None:
    key = ServiceKey.generate("payment")

    class Withdrawable(PublicKeys):
        def withdraw(self) -> None:
            self._keys = {}

    published = Withdrawable([key.public])
    by = EventReader(published, EVENT_SEALER)
    raw = EventWriter(SigningKeys([key]), EVENT_SEALER).write(PAID)
    read(raw, by=by)
    published.withdraw()
    with pytest.raises(EventRefused) as refusal:
        read(raw, by=by)
    assert refusal.value.reason == "KEY_UNKNOWN"


def test_a_signature_that_was_checked_before_says_nothing_of_an_event_that_claims_it() -> None:
    by = reader()
    first, second = event_writer().write_all([PAID, replace(PAID, event_id="0190-2")])
    read(first, by=by)
    with pytest.raises(EventRefused):
        read(altered(first, data={**PAID.payload, "amount_krw": 1}), by=by)
    with pytest.raises(EventRefused):
        read(altered(first, path=json.loads(second)["path"]), by=by)
    assert read(second, by=by).metadata.event_id == "0190-2"


# --- sealed fields


def _resigned(raw: bytes, data: dict[str, object], **changes: object) -> bytes:
    """As the producer itself would sign other data: what sealing has to withstand alone."""
    event = json.loads(raw)
    moment = datetime.fromisoformat(event["time"])
    row = replace(MEASURED, occurred_at=moment, payload=data, health=None, **changes)  # type: ignore[arg-type]  # fields
    return event_writer().write(row)


def test_sealed_fields_open_for_their_own_event_and_topic_only() -> None:
    raw = _own(MEASURED)
    data = json.loads(raw)["data"]
    assert read(_resigned(raw, data), topic=MEASURED.topic).payload["primary_value"] == 168.5
    for change in ({"event_id": "another"}, {"topic": "health_alert.triggered"}):
        moved = _resigned(raw, data, **change)
        with pytest.raises(EventRefused) as refusal:
            read(moved, topic=change.get("topic", MEASURED.topic))
        assert refusal.value.reason == "SEAL_BROKEN"


@pytest.mark.parametrize("position", [0, 1, 5, 40, 70, 80, -1])
def test_changed_sealed_bytes_do_not_open(position: int) -> None:
    raw = _own(MEASURED)
    data = json.loads(raw)["data"]
    sealed = bytearray(urlsafe_b64decode(data["sealed"]))
    sealed[position] ^= 1
    with pytest.raises(EventRefused) as refusal:
        read(_resigned(raw, {**data, "sealed": urlsafe_b64encode(sealed).decode()}), topic=MEASURED.topic)
    assert refusal.value.reason == "SEAL_BROKEN"


@pytest.mark.parametrize("sealed", [None, 7, "", "?", "AAAA", ["x"]])
def test_what_is_no_sealed_text_is_refused(sealed: object) -> None:
    with pytest.raises((EventRefused, MalformedEvent)):
        read(_resigned(_own(MEASURED), {"sealed": sealed}), topic=MEASURED.topic)


def test_another_master_key_does_not_open_sealed_fields() -> None:
    by = EventReader(service_keys()[1], EventSealer([bytes(32)]))
    with pytest.raises(EventRefused) as refusal:
        read(_own(MEASURED), topic=MEASURED.topic, by=by)
    assert refusal.value.reason == "SEAL_BROKEN"


def test_sealed_fields_must_not_stand_in_for_plain_ones() -> None:
    raw = _own(replace(MEASURED, health={**(MEASURED.health or {}), "session_id": "s-2"}))
    with pytest.raises(MalformedEvent):
        read(raw, topic=MEASURED.topic)


def test_decoding_alone_proves_nothing_and_opens_nothing() -> None:
    event = decode(_own(MEASURED))
    assert event.payload.keys() == {"session_id", "sealed"}
    assert orjson.dumps(event.payload)
