"""A message that an event turns into: which template, for whom, with which values."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.operations.notification.voice import Value


@dataclass(frozen=True, slots=True)
class Announcement:
    """What people are told about an event, each in their language.

    Args:
        people: user ids; nobody is told twice.
    """

    template: str
    people: tuple[str, ...]
    values: Mapping[str, Value]
