"""Events: facts that were committed. Each service's `events.py` defines its own on `DomainEvent`.

On the wire an event is a CloudEvent 1.0 in structured JSON; `subgraphs/runtime/events.py` wraps and unwraps it.
Fields are only ever added, and consumers ignore those that they do not know.
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class DomainEvent(BaseModel):
    """The payload of an event.

    Subclasses set `topic` (also the CloudEvents type) and `source` (the service that tells it), and implement `key`;
    `carries_health_data` when the payload says something of a person's health, so that the outbox keeps it sealed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[str]
    source: ClassVar[str]
    carries_health_data: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The aggregate's id: events with one key are published in the order of their commits (partition key)."""
        raise NotImplementedError
