"""Where the building of a fetch graph is at: places in groups' selections, and objects with the groups they were left by."""

from dataclasses import dataclass, field

from router.planning.fetch_graph import FetchGroup, FetchSelection, Path
from router.supergraph.model import SubgraphName
from router.supergraph.selection import Selection

Groups = set[int]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a group's selection."""

    group: FetchGroup
    selection: FetchSelection
    path: Path

    @property
    def subgraph(self) -> SubgraphName:
        return self.group.subgraph


@dataclass(slots=True)
class Site:
    """An object type at a response path, at home in one subgraph, and the groups by which it was left so far.

    outer: the object around it; of an abstract type, where a field is asked of it at once.
    """

    type_name: str
    path: Path
    home: Cursor | None
    provided: Selection | None
    stage: int
    outer: "Site | None" = None
    hops: dict[SubgraphName, Cursor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the objects that a field leads to are answered. around: the object that the field is asked of."""

    cursor: Cursor
    type_name: str
    provided: Selection | None
    around: Site
