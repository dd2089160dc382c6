"""What the walk decides, and what a decision costs."""

from dataclasses import dataclass
from typing import NamedTuple

from router.supergraph.model import SubgraphName
from router.supergraph.selection import Field, Fragment, Selection


class Cost(NamedTuple):
    """Compared from left to right: subgraph requests, then sequential hops, then fields fetched."""

    hops: int
    depth: int
    fields: int

    def beside(self, other: "Cost") -> "Cost":
        return Cost(self.hops + other.hops, max(self.depth, other.depth), self.fields + other.fields)


FREE = Cost(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Assignment:
    item: Field | Fragment
    subgraph: SubgraphName


@dataclass(frozen=True, slots=True)
class Choice:
    """What a site asks of whom. leftover: what nobody reached from here can answer.

    An item is assigned whole also when part of it is left over: below it, the same choices leave that part out again.
    """

    assignments: tuple[Assignment, ...]
    cost: Cost
    hopped: frozenset[SubgraphName]
    leftover: Selection | None


@dataclass(frozen=True, slots=True)
class Option:
    """One subgraph's answer to one item: all of it, or with something left over."""

    cost: Cost
    leftover: Field | Fragment | None


@dataclass(frozen=True, slots=True)
class Split:
    """A selection on an abstract type: what is asked of it at once, and what of each object type."""

    direct: tuple[Field, ...]
    rest: Selection | None
