"""Pages of a list in a fixed order, by keyset: a cursor is the sort key of the last item, so pages never skip or repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from domain.errors import InvalidInput

T = TypeVar("T")

DEFAULT_PAGE = 20
MAX_PAGE = 100
_LONGEST_ID = 256


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`first` items after the cursor (exclusive); the newest first unless a list says otherwise.

    Raises:
        InvalidInput: `first` is not within [1, MAX_PAGE].
    """

    first: int = DEFAULT_PAGE
    after: tuple[datetime, str] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.first <= MAX_PAGE:
            raise InvalidInput(f"first is {self.first}; it must be between 1 and {MAX_PAGE}.", field="first")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of one page, whether more follow, and how many there are in all."""

    items: Sequence[T]
    has_next: bool
    total: int


def page_limit(limit: int, offset: int, *, default: int = DEFAULT_PAGE) -> tuple[int, int]:
    """Limit and offset as the gRPC lists take them: 0 means the default; at most MAX_PAGE.

    Raises:
        InvalidInput: a negative limit or offset.
    """
    if limit < 0 or offset < 0:
        raise InvalidInput(f"limit {limit} and offset {offset} must not be negative.", field="limit")
    return min(limit or default, MAX_PAGE), offset


def encode_cursor(at: datetime, item_id: str) -> str:
    """An opaque cursor for an item sorted by (at, id)."""
    return f"{at.astimezone(UTC).isoformat(timespec='microseconds')}~{item_id}"


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises: InvalidInput: not a cursor that a list of ours gave out."""
    at, separator, item_id = cursor.partition("~")
    try:
        parsed = datetime.fromisoformat(at)
        if parsed.tzinfo is None or not separator or not 0 < len(item_id) <= _LONGEST_ID or "\0" in item_id:
            raise ValueError(cursor)
        return parsed.astimezone(UTC), item_id
    except (ValueError, OverflowError) as error:  # overflow: the year 1 or 9999 in a zone that leaves them
        raise InvalidInput("after is not a cursor of this list.", field="after") from error
