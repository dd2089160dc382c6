"""Connections by the Relay specification: what the connections of all groups share."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import strawberry

from domain.paging import DEFAULT_PAGE, PageRequest, decode_cursor

T = TypeVar("T")


@strawberry.federation.type(shareable=True, description="Where a page of a connection stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more items follow this page.")
    has_previous_page: bool = strawberry.field(description="Whether a cursor was given, so items came before.")
    start_cursor: str | None = strawberry.field(description="Cursor of the page's first item.")
    end_cursor: str | None = strawberry.field(description="Cursor of the page's last item: the next page's `after`.")


def page_request(first: int | None, after: str | None) -> PageRequest:
    """The page that `first` and `after` ask for.

    Raises:
        InvalidInput: `first` is out of range, or `after` is not a cursor.
    """
    return PageRequest(
        first=DEFAULT_PAGE if first is None else first, after=decode_cursor(after) if after is not None else None
    )


def page_info(cursors: Sequence[str], *, has_next: bool, request: PageRequest) -> PageInfo:
    """The page info of a page whose items have these cursors."""
    return PageInfo(
        has_next_page=has_next,
        has_previous_page=request.after is not None,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )


def cursors_of(items: Sequence[T], cursor: Callable[[T], str]) -> list[str]:
    """The cursor of each item, in their order."""
    return [cursor(item) for item in items]
