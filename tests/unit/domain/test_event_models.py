"""What of which event is health data."""

from typing import Annotated, ClassVar

import pytest

from domain.events import HEALTH_DATA, DomainEvent
from infra.codegen.schema import event_types, wire_schema
from subgraphs.runtime.events import publishers_of

_EVENTS = {event.topic: event for event in event_types()}


class _Partly(DomainEvent):
    topic: ClassVar[str] = "test.partly"
    source: ClassVar[str] = "device"

    plain: str
    value: Annotated[float | None, HEALTH_DATA] = None


def test_an_event_with_a_marked_field_carries_health_data() -> None:
    assert _Partly.carries_health_data
    assert _Partly.health_fields == {"value"}


def test_an_event_that_carries_health_data_without_marked_fields_travels_sealed_as_a_whole() -> None:
    class Marked(_Partly):
        carries_health_data = True
        more: int

    assert Marked.health_fields == {"value"}  # where there are marks, they tell

    class All(DomainEvent):
        topic: ClassVar[str] = "test.all"
        carries_health_data = True
        one: str
        two: int

    assert All.health_fields == {"one", "two"}


def test_a_field_must_not_have_the_name_of_what_is_sealed() -> None:
    with pytest.raises(TypeError, match="sealed"):
        type("Odd", (DomainEvent,), {"__annotations__": {"sealed": str}})


@pytest.mark.parametrize("topic", ["measurement.completed", "health_alert.triggered"])
def test_everything_of_a_result_travels_sealed(topic: str) -> None:
    event = _EVENTS[topic]
    assert event.health_fields == set(event.model_fields)


@pytest.mark.parametrize(
    ("topic", "fields"),
    [
        ("notification.sent", {"user_id", "type"}),
        ("shop.order_created", {"items"}),  # what a person buys
        ("subscription.cancelled", {"reason"}),  # free text
        ("payment.refunded", {"reason"}),
        ("cartridge.replaced", {"user_id", "cartridge_uid", "cartridge_category", "cartridge_type_index", "lot_id"}),
    ],
)
def test_what_tells_of_a_persons_health_travels_sealed(topic: str, fields: set[str]) -> None:
    assert fields <= _EVENTS[topic].health_fields


def test_no_event_of_a_person_names_what_was_measured_in_plain_words() -> None:
    """A new event must not bring back in the open what the others seal."""
    words = (
        "primary_value",
        "type_name",
        "loinc",
        "reference_",
        "critical",
        "glucose",
        "diagnosis",
        "symptom",
        "allerg",
    )
    for event in _EVENTS.values():
        plain = set(event.model_fields) - event.health_fields
        assert not [name for name in plain if any(word in name for word in words)], event.topic


def test_the_published_schema_tells_which_fields_are_sealed() -> None:
    schema = wire_schema(_Partly)
    assert set(schema["properties"]) == {"plain", "sealed"}
    assert schema["required"] == ["plain", "sealed"]
    assert set(schema["properties"]["sealed"]["contentSchema"]["properties"]) == {"value"}
    assert wire_schema(_EVENTS["payment.completed"]) == _EVENTS["payment.completed"].model_json_schema()


@pytest.mark.parametrize("topic", sorted(_EVENTS))
def test_the_source_of_an_event_is_a_publisher_of_its_topic(topic: str) -> None:
    """Consumers refuse it otherwise."""
    assert _EVENTS[topic].source in publishers_of(topic)
