"""What composition reports: errors that stop it, and hints that do not.

The codes are the ones that federation tooling agrees on, so that documentation written for any composer applies here.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class SourceLocation:
    """A place in one subgraph's SDL; line and column count from 1."""

    subgraph: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.subgraph}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class CompositionError:
    """One reason why the subgraphs do not compose."""

    code: str
    message: str
    subgraphs: tuple[str, ...] = ()
    locations: tuple[SourceLocation, ...] = ()

    def __str__(self) -> str:
        where = f" ({', '.join(str(location) for location in self.locations)})" if self.locations else ""
        return f"{self.code}: {self.message}{where}"


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that composes, but that the owners of the subgraphs may want to look at."""

    code: str
    message: str
    subgraphs: tuple[str, ...] = ()
    locations: tuple[SourceLocation, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class CompositionFailed(Exception):
    """The subgraphs do not compose. `errors` holds every reason found, in a stable order."""

    def __init__(self, errors: Sequence[CompositionError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def quoted(names: Sequence[str], noun: str = "subgraph") -> str:
    """The names as an English list: `subgraph "a"`, `subgraphs "a", "b" and "c"`."""
    if len(names) == 1:
        return f'{noun} "{names[0]}"'
    marked = [f'"{name}"' for name in names]
    return f"{noun}s {', '.join(marked[:-1])} and {marked[-1]}"
