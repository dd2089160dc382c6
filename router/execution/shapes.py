"""What a selection asks of the API schema: for each object type its fields in order, and where the answer holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graphql import (
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLString,
    GraphQLUnionType,
)

from router.execution.values import Json
from router.planning.fetch_graph import Path
from router.supergraph.model import Supergraph
from router.supergraph.selection import Field, Selection

Renamed = Mapping[tuple[Path, str, str], str]
"""Under which other keys the answer holds fields: (path, type, the client's key) -> key."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A place for values. selection: None for leaves; path: where the values are stored."""

    output: GraphQLOutputType
    coordinate: str
    selection: Selection | None
    path: Path

    def items(self) -> "Shape":
        """The same for the items of a list there."""
        return replace(self, path=(*self.path, "@"))


@dataclass(frozen=True, slots=True)
class FieldShape:
    """A field of an object. key: the client's; stored: the answer's."""

    key: str
    stored: str
    is_typename: bool
    is_required: bool
    shape: Shape


class Shapes:
    """Looks up what one operation asks, and remembers it."""

    def __init__(self, supergraph: Supergraph, renamed: Renamed) -> None:
        self._supergraph = supergraph
        self._schema = supergraph.api_schema
        self._renamed = renamed
        self._roots = frozenset(supergraph.root_types.values())
        self._fields: dict[tuple[str, Selection, Path], tuple[FieldShape, ...]] = {}
        self._possible: dict[str, frozenset[str]] = {}

    def type_named(self, name: str) -> GraphQLOutputType:
        """An object, interface or union type of the API."""
        named = self._schema.type_map[name]
        assert isinstance(named, GraphQLObjectType | GraphQLInterfaceType | GraphQLUnionType)  # noqa: S101
        return named

    def fields_of(self, type_name: str, selection: Selection, path: Path) -> tuple[FieldShape, ...]:
        """The fields that a selection asks of objects of one type, stored at a path."""
        memo = (type_name, selection, path)
        if memo not in self._fields:
            by_key: dict[str, list[Field]] = {}
            self._collect(type_name, selection, by_key)
            self._fields[memo] = tuple(self._field(type_name, same, path) for same in by_key.values())
        return self._fields[memo]

    def member(self, abstract: str, told: Json) -> str | None:
        """Which type's fields an object of an abstract type has, by the `__typename` told; None for one it cannot have.

        Objects of an interface object, whose real type nobody asked for, have those of the interface.
        """
        if told is None or told == abstract:
            return abstract if self._is_interface_object(abstract) else None
        if abstract not in self._possible:
            named = self._schema.type_map[abstract]
            assert isinstance(named, GraphQLInterfaceType | GraphQLUnionType)  # noqa: S101  the caller asked
            self._possible[abstract] = frozenset(member.name for member in self._schema.get_possible_types(named))
        return told if isinstance(told, str) and told in self._possible[abstract] else None

    def _is_interface_object(self, name: str) -> bool:
        views = (subgraph.types.get(name) for subgraph in self._supergraph.subgraphs.values())
        return any(view is not None and view.interface_object for view in views)

    def is_hidden(self, abstract: str, told: Json) -> bool:
        """Whether objects of the abstract type can be of the type told, but the API does not show that type."""
        return isinstance(told, str) and told in self._supergraph.possible.get(abstract, ())

    def typename(self, type_name: str, told: Json) -> str | None:
        """The `__typename` to answer for an object taken to be of a type.

        None when it says that it is of another, or when only an interface of its type is known.
        """
        if not isinstance(self._schema.type_map[type_name], GraphQLObjectType):
            return None
        return type_name if told is None or told == type_name or type_name in self._roots else None

    def is_root(self, type_name: str) -> bool:
        return type_name in self._roots

    def _collect(self, type_name: str, selection: Selection, by_key: dict[str, list[Field]]) -> None:
        for item in selection.items:
            if isinstance(item, Field):
                by_key.setdefault(item.key, []).append(item)
            elif self._supergraph.is_subtype(type_name, item.type_condition):
                self._collect(type_name, item.selection, by_key)

    def _field(self, type_name: str, same: list[Field], path: Path) -> FieldShape:
        first = same[0]
        coordinate = f"{type_name}.{first.name}"
        if first.name == "__typename":
            shape = Shape(GraphQLNonNull(GraphQLString), coordinate, None, path)
            return FieldShape(first.key, "__typename", True, True, shape)
        parent = self._schema.type_map[type_name]
        assert isinstance(parent, GraphQLObjectType | GraphQLInterfaceType)  # noqa: S101  validated before
        output = parent.fields[first.name].type
        selection = first.selection
        if len(same) > 1 and selection is not None:
            selection = Selection(tuple(item for field in same if field.selection for item in field.selection.items))
        stored = self.stored(type_name, first.key, path)
        shape = Shape(output, coordinate, selection, (*path, stored))
        return FieldShape(first.key, stored, False, isinstance(output, GraphQLNonNull), shape)

    def stored(self, type_name: str, key: str, path: Path) -> str:
        """Under which key the answer holds what the client calls `key`, in objects of a type at a path."""
        for name in (type_name, *sorted(self._supergraph.interfaces.get(type_name, ()))):
            if (stored := self._renamed.get((path, name, key))) is not None:
                return stored
        return key
