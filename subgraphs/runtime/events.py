"""Events on the wire: CloudEvents 1.0 in structured JSON, one per Kafka record, signed, and sealed where they must be.

The producing service signs all attributes and the data with its own key (extension attributes `keyid`, `signedat`,
`signature`, and `path` where several events share a signature: see `signature_trees`). Fields that are health data travel in the property `sealed` of the data. A consumer takes an event only
after `EventReader` has found it genuine: within bounds, signed by a service that the catalogue names as a publisher of the
topic, of the topic's own type, neither too old to be told from a replay nor from the future, and opened.

The signed content is the JSON of the attributes without `signature` and `path`, a line feed, and the JSON of the data, both with
sorted keys and without spaces: parsing and writing it again gives the same bytes.

Source: CloudEvents 1.0.2 with its JSON event format and distributed tracing extension.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

import orjson
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from domain.catalog import topic as catalogued_topic
from domain.events import SEALED
from domain.sealing import EventSealer, SealBroken
from subgraphs.runtime.faces import EventMetadata
from subgraphs.runtime.service_keys import PublicKeys, ServiceKey, SigningKeys
from subgraphs.runtime.signature_trees import GROUP, PathMalformed, leaf_of, root_of, tree_of

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
MAX_EVENT_BYTES = 256 * 1024
MAX_HEADERS = 32
MAX_ATTRIBUTES = 24
MAX_ATTRIBUTE_CHARACTERS = 1024
MAX_DEPTH = 16
CLOCK_SKEW = timedelta(minutes=5)
"""How far the clocks of a producer and a consumer may differ."""

_MOST_CHECKED = 4096
_PURPOSE = b"manpasik events 1\n"
_SOURCE_PREFIX = "/manpasik/"
_NEEDED = frozenset({"id", "source", "specversion", "subject", "time", "type"})


class MalformedEvent(Exception):
    """A record that is no CloudEvent of ours. The message says what is wrong, without the record's content."""


class EventRefused(Exception):
    """A CloudEvent that is not genuine, or not for this topic and time. The message says why, without its content.

    Args:
        reason: stable, for metrics and dead letters.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CommittedEvent:
    """An event of the outbox, opened. `id` is that of its row.

    Args:
        key: of the partition; where the event has health data, a pseudonym of the person.
        payload: the fields that travel plain.
        health: the fields that travel sealed; None where there are none.
    """

    id: int
    event_id: str
    topic: str
    key: str
    source: str
    occurred_at: datetime
    payload: dict[str, object]
    correlation_id: str = ""
    traceparent: str = ""
    health: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What a record says of its signature.

    Args:
        root: of the hash tree, as the record's content and path give it.
    """

    kid: str
    value: bytes
    signed_at: datetime
    root: bytes


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """A decoded record: what it says about itself, and its payload, which the consumer's model still has to accept.

    Nothing in it is proven before `EventReader` has read it.
    """

    metadata: EventMetadata
    payload: dict[str, object]
    signature: Signature | None = None


class EventWriter:
    """Writes committed events for the wire: seals, signs.

    Args:
        keys: of the services that publish from here.
    """

    def __init__(self, keys: SigningKeys, sealer: EventSealer) -> None:
        self._keys = keys
        self._sealer = sealer

    @property
    def sources(self) -> list[str]:
        """The services whose events can be signed here."""
        return self._keys.services()

    def partition_key(self, key: str, *, topic: str, has_health_data: bool) -> str:
        """The key under which an event travels: of health data, a pseudonym of the person."""
        return self._sealer.pseudonym(key, topic=topic) if has_health_data else key

    def write(self, row: CommittedEvent) -> bytes:
        """The signed CloudEvent of a committed event; raises what `write_all` raises."""
        return self.write_all([row])[0]

    def write_all(self, rows: Sequence[CommittedEvent]) -> list[bytes]:
        """The signed CloudEvents of committed events; those of one source, up to `GROUP`, share a signature.

        Raises:
            ServiceKeyError: this process holds no key of an event's source.
        """
        written: list[bytes] = []
        for source, of_source in groupby(rows, key=lambda row: row.source):
            together = list(of_source)
            for start in range(0, len(together), GROUP):
                written += self._signed(self._keys.of(source), together[start : start + GROUP])
        return written

    def _signed(self, key: ServiceKey, rows: Sequence[CommittedEvent]) -> list[bytes]:
        signed_at = _written(datetime.now(UTC))
        attributes = [self._attributes(row, key.kid, signed_at) for row in rows]
        data = [_canonical(self._data(row)) for row in rows]
        leaves = [leaf_of(_canonical(a) + b"\n" + d) for a, d in zip(attributes, data, strict=True)]
        root, paths = tree_of(leaves)
        signature = urlsafe_b64encode(key.sign(_PURPOSE + root)).decode()
        for own, content, path in zip(attributes, data, paths, strict=True):
            own["signature"] = signature
            if path:
                own["path"] = urlsafe_b64encode(path).decode()
            own["data"] = orjson.Fragment(content)
        return [orjson.dumps(own) for own in attributes]

    def _data(self, row: CommittedEvent) -> dict[str, object]:
        if row.health is None:
            return row.payload
        sealed = self._sealer.seal(orjson.dumps(row.health), topic=row.topic, event_id=row.event_id)
        return {**row.payload, SEALED: urlsafe_b64encode(sealed).decode()}

    @staticmethod
    def _attributes(row: CommittedEvent, kid: str, signed_at: str) -> dict[str, object]:
        attributes: dict[str, object] = {
            "specversion": "1.0",
            "id": row.event_id,
            "type": row.topic,
            "source": f"{_SOURCE_PREFIX}{row.source}",
            "subject": row.key,
            "time": _written(row.occurred_at),
            "datacontenttype": "application/json",
            "keyid": kid,
            "signedat": signed_at,
        }
        if row.correlation_id:
            attributes["correlationid"] = row.correlation_id
        if row.traceparent:
            attributes["traceparent"] = row.traceparent
        return attributes


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def _canonical(value: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # PostgreSQL answers the JSON number 1e20 as an integer, which JSON in 64 bits does not have.
        return orjson.dumps(_in_64_bits(value), option=orjson.OPT_SORT_KEYS)


def _in_64_bits(value: object) -> object:
    match value:
        case dict():
            return {name: _in_64_bits(item) for name, item in value.items()}
        case list():
            return [_in_64_bits(item) for item in value]
        case int() if not -(2**63) <= value < 2**64:
            return float(value)
        case _:
            return value


def decode(raw: bytes | None) -> ReceivedEvent:
    """The event in a record, not yet proven to be genuine.

    Raises:
        MalformedEvent: not JSON, not a CloudEvent 1.0, beyond the bounds, or without what an event of ours has.
    """
    attributes = _attributes(raw)
    data = attributes.pop("data", None)
    occurred_at = _moment(attributes["time"], "time")
    try:
        event = CloudEvent({**attributes, "time": occurred_at}, data)  # type: ignore[arg-type]  # checked below
    except CloudEventValidationError as error:
        raise MalformedEvent(f"attributes are missing or wrong: {', '.join(sorted(error.errors))[:200]}") from error
    if not isinstance(data, dict):
        raise MalformedEvent("data is not an object")
    if len(event.get_id()) > 36:
        raise MalformedEvent("id is longer than 36 characters")
    return ReceivedEvent(
        metadata=EventMetadata(
            event_id=event.get_id(),
            topic=event.get_type(),
            key=str(event.get_subject()),
            source=event.get_source().removeprefix(_SOURCE_PREFIX),
            occurred_at=occurred_at,
            correlation_id=_text(attributes.get("correlationid")),
            traceparent=_text(attributes.get("traceparent")),
        ),
        payload=data,
        signature=_signature(attributes, data) if {"signature", "keyid"} & attributes.keys() else None,
    )


def _signature(attributes: Mapping[str, object], data: Mapping[str, object]) -> Signature:
    content = {name: value for name, value in attributes.items() if name not in ("signature", "path")}
    path = _from_base64(attributes.get("path", ""), "path")
    try:
        root = root_of(leaf_of(_canonical(content) + b"\n" + _canonical(data)), path)
    except PathMalformed as error:
        raise MalformedEvent(str(error)) from error
    return Signature(
        kid=_text(attributes.get("keyid")),
        value=_from_base64(attributes.get("signature"), "signature"),
        signed_at=_moment(attributes.get("signedat"), "signedat"),
        root=root,
    )


def _attributes(raw: bytes | None) -> dict[str, object]:
    """The members of a record's JSON object, within bounds."""
    if not raw:
        raise MalformedEvent("the record is empty")
    if len(raw) > MAX_EVENT_BYTES:
        raise MalformedEvent(f"the record has more than {MAX_EVENT_BYTES} bytes")
    try:
        attributes = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedEvent("not JSON") from error
    if not isinstance(attributes, dict):
        raise MalformedEvent("not a JSON object")
    if missing := _NEEDED - attributes.keys():
        raise MalformedEvent(f"attributes are missing: {', '.join(sorted(missing))}")
    if len(attributes) > MAX_ATTRIBUTES:
        raise MalformedEvent(f"more than {MAX_ATTRIBUTES} attributes")
    for name, value in attributes.items():
        if name == "data":
            continue
        if not isinstance(value, (str, int, bool)) or len(str(value)) > MAX_ATTRIBUTE_CHARACTERS:
            raise MalformedEvent(f"an attribute is no text of up to {MAX_ATTRIBUTE_CHARACTERS} characters")
    _check_depth(attributes.get("data"))
    return attributes


def _check_depth(data: object) -> None:
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise MalformedEvent(f"data is nested more than {MAX_DEPTH} levels deep")


def _moment(value: object, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise MalformedEvent(f"{name} is no time with its zone")


def _from_base64(value: object, name: str) -> bytes:
    try:
        if isinstance(value, str):
            return b64decode(value, altchars=b"-_", validate=True)
    except ValueError:
        pass
    raise MalformedEvent(f"{name} is not base64url")


def _text(extension: object) -> str:
    return extension if isinstance(extension, str) else ""


def publishers_of(topic: str) -> Collection[str]:
    """The services that the catalogue names as publishers of a topic; none for one that it does not name."""
    try:
        return catalogued_topic(topic).publishers
    except KeyError:
        return ()


class EventReader:
    """Reads records and takes only what is genuine.

    Args:
        published: the public keys of the services.
        max_age: since the signature. It must be so short that an event that is taken twice is still known from the first
            time: see `consumers`.
        publishers: the services that may publish on a topic.
        now: the time; another one only in tests.
    """

    def __init__(
        self,
        published: PublicKeys,
        sealer: EventSealer,
        *,
        publishers: Callable[[str], Collection[str]] = publishers_of,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._published = published
        self._sealer = sealer
        self._publishers = publishers
        self._now = now
        self._checked: set[tuple[str, str, bytes, bytes]] = set()

    def read(
        self, topic: str, key: bytes | None, value: bytes | None, *, header_count: int = 0, max_age: timedelta
    ) -> ReceivedEvent:
        """The event of a record of a topic, proven and opened.

        Raises:
            MalformedEvent: no event of ours, or beyond the bounds.
            EventRefused: not genuine, or not for this topic and time.
        """
        if header_count > MAX_HEADERS:
            raise MalformedEvent(f"the record has more than {MAX_HEADERS} headers")
        event = decode(value)
        metadata = event.metadata
        if metadata.topic != topic:
            raise EventRefused("TYPE_OF_ANOTHER_TOPIC", "the event's type is not the topic that it came on")
        if key != metadata.key.encode(errors="replace"):
            raise EventRefused("KEY_MISMATCH", "the record's key is not the event's subject")
        if metadata.source not in self._publishers(topic):
            raise EventRefused("NOT_A_PUBLISHER", "the catalogue does not name the event's source for this topic")
        signed_at = self._verified(event)
        now = self._now()
        if max(signed_at, metadata.occurred_at) > now + CLOCK_SKEW:
            raise EventRefused("FROM_THE_FUTURE", "the event is from the future; compare the clocks of the services")
        if signed_at < now - max_age:
            raise EventRefused("TOO_OLD", "the event is too old to be told from a replay")
        return self._opened(event)

    def _verified(self, event: ReceivedEvent) -> datetime:
        """When the event was signed by its source."""
        proof = event.signature
        if proof is None:
            raise EventRefused("NOT_SIGNED", "the event has no signature")
        key = self._published.find(event.metadata.source, proof.kid)
        if key is None:
            raise EventRefused("KEY_UNKNOWN", "the event's key is not published for its source")
        checked = (key.service, key.kid, proof.root, proof.value)
        if checked not in self._checked:
            if not key.verifies(proof.value, _PURPOSE + proof.root):
                raise EventRefused("SIGNATURE_INVALID", "the event's signature does not hold")
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked.add(checked)
        return proof.signed_at

    def _opened(self, event: ReceivedEvent) -> ReceivedEvent:
        if SEALED not in event.payload:
            return event
        plain = {name: value for name, value in event.payload.items() if name != SEALED}
        metadata = event.metadata
        sealed = _from_base64(event.payload[SEALED], SEALED)
        try:
            opened = self._sealer.open(sealed, topic=metadata.topic, event_id=metadata.event_id)
        except SealBroken as error:
            raise EventRefused("SEAL_BROKEN", "the sealed fields do not open; compare the master keys") from error
        health = orjson.loads(opened)
        if not isinstance(health, dict) or health.keys() & plain.keys():
            raise MalformedEvent("the sealed fields are no object of fields of their own")
        return ReceivedEvent(metadata, {**plain, **health}, event.signature)

    def seal_letter(self, value: bytes, *, topic: str, place: str) -> bytes:
        """A record that is not genuine, sealed for the dead-letter topic: it may say anything about anybody."""
        return self._sealer.seal(value, topic=topic, event_id=place)

    def open_letter(self, sealed: bytes, *, topic: str, place: str) -> bytes:
        """Raises: SealBroken: it was not sealed for this place."""
        return self._sealer.open(sealed, topic=topic, event_id=place)
