"""Events on the wire: CloudEvents 1.0 in structured JSON, one per Kafka record.

Source: CloudEvents 1.0.2 with its JSON event format and distributed tracing extension.
"""

from dataclasses import dataclass
from datetime import datetime

from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from subgraphs.runtime.faces import EventMetadata

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
_SOURCE_PREFIX = "/manpasik/"
_NEEDED = frozenset({"id", "source", "specversion", "subject", "time", "type"})
_FORMAT = JSONFormat()


class MalformedEvent(Exception):
    """A record that is no CloudEvent of ours. The message says what is wrong, without the record's content."""


@dataclass(frozen=True, slots=True)
class CommittedEvent:
    """An event of the outbox, its payload opened. `id` is that of its row."""

    id: int
    event_id: str
    topic: str
    key: str
    source: str
    occurred_at: datetime
    payload: dict[str, object]
    correlation_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """A decoded record: what it says about itself, and its payload, which the consumer's model still has to accept."""

    metadata: EventMetadata
    payload: dict[str, object]


def encode(row: CommittedEvent) -> bytes:
    """The CloudEvent of a committed event."""
    attributes: dict[str, object] = {
        "specversion": "1.0",
        "id": row.event_id,
        "type": row.topic,
        "source": f"{_SOURCE_PREFIX}{row.source}",
        "subject": row.key,
        "time": row.occurred_at,
        "datacontenttype": "application/json",
    }
    if row.correlation_id:
        attributes["correlationid"] = row.correlation_id
    if row.traceparent:
        attributes["traceparent"] = row.traceparent
    return bytes(_FORMAT.write(CloudEvent(attributes, row.payload)))


def _complete_event(attributes: dict[str, object], data: object) -> CloudEvent:
    """The library would make up an id and a time where they are missing: another id with each delivery."""
    if missing := _NEEDED - attributes.keys():
        raise MalformedEvent(f"attributes are missing: {', '.join(sorted(missing))}")
    return CloudEvent(attributes, data)  # type: ignore[arg-type]  # what data is, the caller checks


def decode(raw: bytes | None) -> ReceivedEvent:
    """Raises: MalformedEvent: not JSON, not a CloudEvent 1.0, or without what an event of ours has."""
    if not raw:
        raise MalformedEvent("the record is empty")
    try:
        event = _FORMAT.read(_complete_event, raw)
    except CloudEventValidationError as error:
        raise MalformedEvent(f"attributes are missing or wrong: {', '.join(sorted(error.errors))}") from error
    # The library lets whatever its JSON and date parsers raise through, and trips over JSON that is not an object.
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MalformedEvent(f"not a CloudEvent in JSON ({type(error).__name__})") from error
    payload, time, subject = event.get_data(), event.get_time(), event.get_subject()
    if not isinstance(payload, dict):
        raise MalformedEvent("data is not an object")
    if time is None or subject is None:  # only the annotations say so
        raise MalformedEvent("time or subject is missing")
    if len(event.get_id()) > 36:
        raise MalformedEvent("id is longer than 36 characters")
    return ReceivedEvent(
        metadata=EventMetadata(
            event_id=event.get_id(),
            topic=event.get_type(),
            key=subject,
            source=event.get_source().removeprefix(_SOURCE_PREFIX),
            occurred_at=time,
            correlation_id=_text(event.get_extension("correlationid")),
            traceparent=_text(event.get_extension("traceparent")),
        ),
        payload=payload,
    )


def _text(extension: object) -> str:
    return extension if isinstance(extension, str) else ""
