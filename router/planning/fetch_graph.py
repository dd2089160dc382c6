"""The fetch graph: groups of fields that one subgraph request answers, and which group needs which.

A group is asked of one subgraph at one response path: root fields, or entities by their representations. Groups grow while
the builder places the walk's choices; what meets at one path, subgraph and stage shares a group from the start.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from router.supergraph.model import SubgraphName
from router.supergraph.selection import Argument, Field, Fragment, merge_items, print_item

Path = tuple[str, ...]
"""Response keys from the root; "@" steps into each element of a list."""

Items = tuple[Field | Fragment, ...]


class GroupKind(Enum):
    ROOT = "root"
    ENTITIES = "entities"


@dataclass(slots=True)
class FetchField:
    key: str
    name: str
    arguments: tuple[Argument, ...]
    arguments_text: str
    selection: "FetchSelection | None"
    type_text: str


@dataclass(slots=True)
class FetchSelection:
    """A selection set of a subgraph operation while it grows."""

    typename: bool = False
    fields: dict[str, FetchField] = field(default_factory=dict)
    fragments: dict[str, "FetchSelection"] = field(default_factory=dict)

    def fragment(self, type_name: str) -> "FetchSelection":
        return self.fragments.setdefault(type_name, FetchSelection())

    def is_empty(self) -> bool:
        return not self.typename and not self.fields and all(f.is_empty() for f in self.fragments.values())


@dataclass(slots=True)
class Representation:
    """What is sent for an object of one type.

    type_name: its `__typename` for the receiver, the interface's name when the receiver has an interface object.
    applies_to: the object types (as the answer so far names them) that are sent so; empty: any object at the path.
    fields: the key and what is required, under the keys where the answer so far holds them.
    key_names: names of the key's fields: an object without any of them is not sent.
    inputs: names of required fields of which some value must not be null; an object without it is not sent.
    """

    type_name: str
    applies_to: frozenset[str]
    fields: list[Field | Fragment] = field(default_factory=list)
    key_names: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()

    def agrees_with(self, items: Iterable[Field | Fragment]) -> bool:
        """Whether no field would have to be sent with two values, because its arguments differ."""
        return _agree(self.fields, items)

    def add(self, items: Iterable[Field | Fragment]) -> None:
        """Send these fields too. What is sent of one object is sent together, whichever field needs it."""
        new = [item for item in items if item not in self.fields]
        if not new:
            return
        if not self.fields:
            self.fields.extend(new)
        elif {print_item(item) for item in new} - {print_item(item) for item in self.fields}:
            self.fields[:] = merge_items((*self.fields, *new)).items


def _agree(items: Iterable[Field | Fragment], others: Iterable[Field | Fragment]) -> bool:
    """Whether what two selections send under one name, at any depth, is one value."""
    known: dict[str, list[Field]] = {}
    for field_ in _fields(items):
        known.setdefault(field_.name, []).append(field_)
    for other in _fields(others):
        for mine in known.get(other.name, ()):
            if (mine.arguments_text, mine.key) != (other.arguments_text, other.key):
                return False
            both = mine.selection is not None and other.selection is not None
            if both and not _agree(mine.selection.items, other.selection.items):  # type: ignore[union-attr]  # both have one
                return False
    return True


def _fields(items: Iterable[Field | Fragment]) -> Iterator[Field]:
    """The fields of one object, whatever its type."""
    for item in items:
        if isinstance(item, Field):
            yield item
        else:
            yield from _fields(item.selection.items)


@dataclass(slots=True)
class ContextRead:
    """Where the value of a contextual argument is read: what of which object type, at paths around the entities.

    Places with several kinds of surroundings share one, and add to it.
    """

    name: str
    type_text: str
    levels: dict[Path, dict[str, Items]] = field(default_factory=dict)

    def add(self, path: Path, type_name: str, items: Items) -> None:
        self.levels.setdefault(path, {})[type_name] = items


@dataclass(slots=True)
class FetchGroup:
    """One request to one subgraph.

    stage: of a mutation, the position of the root fields that it belongs to.
    contexts: the variables that carry values of objects around its entities, by name.
    parts: with several, the groups (this one first) whose entities one request fetches for several paths.
    """

    number: int
    subgraph: SubgraphName
    kind: GroupKind
    path: Path
    stage: int = 0
    selection: FetchSelection = field(default_factory=FetchSelection)
    needs: set[int] = field(default_factory=set)
    representations: dict[str, Representation] = field(default_factory=dict)
    shapes: dict[tuple[Path, str], list[tuple[str, str, str, str]]] = field(default_factory=dict)
    parts: "list[FetchGroup]" = field(default_factory=list)
    contexts: dict[str, ContextRead] = field(default_factory=dict)


class FetchGraph:
    """All groups of one operation, by number."""

    def __init__(self) -> None:
        self.groups: dict[int, FetchGroup] = {}
        self._by_place: dict[tuple[Path, SubgraphName, GroupKind, int], list[FetchGroup]] = {}
        self._next = 0

    def add(
        self, subgraph: SubgraphName, kind: GroupKind, path: Path, needs: Iterable[int] = (), stage: int = 0
    ) -> FetchGroup:
        group = FetchGroup(self._next, subgraph, kind, path, stage, needs=set(needs))
        self.groups[group.number] = group
        self._by_place.setdefault((path, subgraph, kind, stage), []).append(group)
        self._next += 1
        return group

    def part(self, numbers: Iterable[int]) -> "FetchGraph":
        """Some of the groups alone; what they need of the others counts as there."""
        graph = FetchGraph()
        graph.groups = {number: self.groups[number] for number in numbers}
        graph.groups = {n: replace(group, needs=group.needs & graph.groups.keys()) for n, group in graph.groups.items()}
        return graph

    def at(self, path: Path, subgraph: SubgraphName, kind: GroupKind, stage: int) -> list[FetchGroup]:
        """The groups at a place of a graph that was made by `add`, in the order of their numbers."""
        return [g for g in self._by_place.get((path, subgraph, kind, stage), ()) if g.number in self.groups]

    def ancestors(self, numbers: Iterable[int]) -> set[int]:
        """The groups, and every group that must be answered before them."""
        found: set[int] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.groups[number].needs)
        return found

    def depth(self, number: int, known: dict[int, int]) -> int:
        """How many groups are asked one after another before this one."""
        if number not in known:
            known[number] = 1 + max((self.depth(n, known) for n in self.groups[number].needs), default=-1)
        return known[number]

    def __str__(self) -> str:
        lines = []
        for group in self.groups.values():
            needs = f" after {sorted(group.needs)}" if group.needs else ""
            lines.append(f"{group.number}: {group.subgraph} at {'.'.join(group.path) or '(root)'}{needs}")
        return "\n".join(lines)
