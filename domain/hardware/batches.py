"""Statements about many rows, in portions that PostgreSQL's 65,535 parameters suffice for."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

ROWS = 2000


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in their order, at most `ROWS` at a time."""
    for start in range(0, len(items), ROWS):
        yield items[start : start + ROWS]
