"""Published events of profiles."""

from datetime import datetime
from typing import ClassVar

from domain.events import DomainEvent
from domain.units import ResultUnits


class ResultUnitsChosen(DomainEvent):
    """A person has chosen the kind of unit that they read results in.

    Args:
        chosen_at: of two choices the later one counts.
    """

    topic: ClassVar[str] = "profile.result_units_chosen"
    source: ClassVar[str] = "user"

    user_id: str
    result_units: ResultUnits
    chosen_at: datetime

    @property
    def key(self) -> str:
        return self.user_id
