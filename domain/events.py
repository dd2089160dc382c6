"""Events: facts that were committed. Each service's `events.py` defines its own on `DomainEvent`.

On the wire an event is a CloudEvent 1.0 in structured JSON; `subgraphs/runtime/events.py` wraps and unwraps it.
Fields are only ever added, and consumers ignore those that they do not know.
"""

from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict

SEALED: Final = "sealed"
"""The property of an event's data that holds its sealed fields on the wire."""


class HealthData:
    """Marks a field of an event that says something of a person's health, or whose health it is: it travels sealed.

    `primary_value: Annotated[float, HEALTH_DATA]`. A free text that a person wrote is such a field as well: it may say
    anything.
    """

    __slots__ = ()


HEALTH_DATA: Final = HealthData()


class DomainEvent(BaseModel):
    """The payload of an event.

    Subclasses set `topic` (also the CloudEvents type) and `source` (the service that tells it), and implement `key`.
    Fields that are health data are marked with `HEALTH_DATA`; `carries_health_data` follows from them, or is set
    without them, and then every field is sealed. An event that carries health data is sealed in the outbox as a whole.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[str]
    source: ClassVar[str]
    carries_health_data: ClassVar[bool] = False
    health_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields that travel sealed; derived from the annotations."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Derive which fields are sealed.

        Raises:
            TypeError: a field has the name under which the sealed ones travel.
        """
        super().__pydantic_init_subclass__(**kwargs)
        if SEALED in cls.model_fields:
            raise TypeError(f"{cls.__name__} has a field {SEALED!r}; that is where sealed fields travel")
        marked = {
            name for name, field in cls.model_fields.items() if any(isinstance(m, HealthData) for m in field.metadata)
        }
        if cls.carries_health_data and not marked:
            marked = set(cls.model_fields)
        cls.health_fields = frozenset(marked)
        cls.carries_health_data = bool(marked)

    @property
    def key(self) -> str:
        """The aggregate's id: events with one key are published in the order of their commits (partition key)."""
        raise NotImplementedError
