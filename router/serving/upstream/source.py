"""Where a subgraph's events come from, and how."""

from dataclasses import dataclass

from router.serving.settings import EventProtocol


@dataclass(frozen=True, slots=True)
class EventSource:
    """timeout_s: until the stream has started; idle_timeout_s: between two messages (None: any time may pass)."""

    url: str
    protocol: EventProtocol
    timeout_s: float
    idle_timeout_s: float | None
    max_bytes: int
