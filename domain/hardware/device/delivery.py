"""Which commands were sent over one open status stream, and which of them have surely arrived.

The wire has no acknowledgement. A heartbeat that is read after a command was written may have crossed it on the way, so
the first one proves nothing; the second one was sent a whole interval later over the same ordered connection. Commands
that were not seen to arrive are sent again on the next stream, under the same id, which readers execute once.
"""

from collections.abc import Iterable

HEARTBEATS_TO_ARRIVE = 2


class Delivery:
    """The commands of one stream."""

    def __init__(self) -> None:
        self._heartbeats_since: dict[str, int] = {}
        self._sent: set[str] = set()

    @property
    def sent(self) -> frozenset[str]:
        """Ids that this stream has written; they are not written twice."""
        return frozenset(self._sent)

    def record_sent(self, command_ids: Iterable[str]) -> None:
        for command_id in command_ids:
            self._sent.add(command_id)
            self._heartbeats_since[command_id] = 0

    def record_heartbeat(self) -> list[str]:
        """Ids that have arrived by now, each told once."""
        arrived = []
        for command_id in list(self._heartbeats_since):
            self._heartbeats_since[command_id] += 1
            if self._heartbeats_since[command_id] >= HEARTBEATS_TO_ARRIVE:
                del self._heartbeats_since[command_id]
                arrived.append(command_id)
        return arrived
