"""What can be reached from where: nodes are (type, subgraph), moves are fields, keys and abstract types.

The moves are looked up in the supergraph's per-subgraph views; this module answers the questions that the walk asks of
them and knows nothing of operations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from router.supergraph.model import Key, Kind, SubgraphField, SubgraphName, SubgraphType, Supergraph
from router.supergraph.selection import Field, Fragment, Selection, merged_fields


@dataclass(frozen=True, slots=True, eq=False)
class LocalField:
    """A field that a subgraph answers at a place, and what it provides below that place."""

    definition: SubgraphField
    provided: Selection | None


@dataclass(frozen=True, slots=True)
class Route:
    """How a site reaches a subgraph: the key, and which reached subgraph gives each of its fields.

    via: all subgraphs that are asked on the way, this one too; depth: how many one after another.
    """

    subgraph: SubgraphName
    key: Key | None
    sources: tuple[tuple[Field | Fragment, SubgraphName], ...]
    via: frozenset[SubgraphName]
    depth: int
    fields: int


class QueryGraph:
    """One supergraph under one set of active override labels."""

    def __init__(self, supergraph: Supergraph, labels: frozenset[str] = frozenset()) -> None:
        self.supergraph = supergraph
        self.labels = labels
        self.subgraph_names: tuple[SubgraphName, ...] = tuple(sorted(supergraph.subgraphs))
        self._combined: dict[tuple[Selection, Selection], Selection] = {}
        # Answers that do not depend on the operation. Several threads may plan over one graph: what is kept is complete
        # and never changes, so that at worst two of them find out the same.
        self.routes: dict[tuple[str, SubgraphName | None, Selection | None], Mapping[SubgraphName, Route]] = {}
        self._views: dict[tuple[str, SubgraphName], SubgraphType | None] = {}
        self._local_fields: dict[tuple[int, str, str], LocalField | None] = {}
        self._answering: dict[tuple[str, str], tuple[SubgraphName, ...]] = {}
        self._root_types = frozenset(supergraph.root_types.values())

    def view(self, type_name: str, subgraph: SubgraphName) -> SubgraphType | None:
        """The type as the subgraph knows it; an object type may be known only as its interface object."""
        place = (type_name, subgraph)
        if place not in self._views:
            self._views[place] = self._find_view(type_name, subgraph)
        return self._views[place]

    def _find_view(self, type_name: str, subgraph: SubgraphName) -> SubgraphType | None:
        types = self.supergraph.subgraphs[subgraph].types
        if (view := types.get(type_name)) is not None:
            return view
        for interface in sorted(self.supergraph.interfaces.get(type_name, ())):
            if (view := types.get(interface)) is not None and view.interface_object:
                return view
        return None

    def is_abstract(self, view: SubgraphType) -> bool:
        return view.kind in (Kind.INTERFACE, Kind.UNION)

    def local_field(
        self, view: SubgraphType, name: str, type_name: str, provided: Selection | None
    ) -> LocalField | None:
        """The field if the subgraph of this view answers it here (perhaps with requirements), else None."""
        if provided is not None:
            return self._find_local_field(view, name, type_name, provided)
        place = (id(view), name, type_name)
        if place not in self._local_fields:
            self._local_fields[place] = self._find_local_field(view, name, type_name, None)
        return self._local_fields[place]

    def _find_local_field(
        self, view: SubgraphType, name: str, type_name: str, provided: Selection | None
    ) -> LocalField | None:
        definition = view.fields.get(name)
        if definition is None or not self._is_active(definition):
            return None
        below: Selection | None = None
        if provided is not None:
            found, below = self._provided(provided, name, type_name)
            if definition.external and not found:
                return None
        elif definition.external:
            return None
        return LocalField(definition, self._combine(definition.provides, below))

    def answering(self, type_name: str, name: str) -> tuple[SubgraphName, ...]:
        """The subgraphs that answer a field of a type (perhaps with requirements) without being told to provide it."""
        field = (type_name, name)
        if field not in self._answering:
            self._answering[field] = tuple(s for s in self.subgraph_names if self._answers(s, type_name, name))
        return self._answering[field]

    def _answers(self, subgraph: SubgraphName, type_name: str, name: str) -> bool:
        view = self.view(type_name, subgraph)
        if view is None:
            return False
        if self.is_abstract(view):  # what its object types answer counts
            return True
        if name == "__typename":
            return not view.interface_object
        return self.local_field(view, name, type_name, None) is not None

    def is_local_on_all(self, view: SubgraphType, name: str, subgraph: SubgraphName) -> bool:
        """Whether the field can be asked of an interface at once, instead of each of its object types."""
        if view.kind is not Kind.INTERFACE:
            return False
        definition = view.fields.get(name)
        if definition is None or definition.external or not self._is_active(definition):
            return False
        types = self.supergraph.subgraphs[subgraph].types
        for type_name in view.possible:
            member = types.get(type_name)
            field = member.fields.get(name) if member else None
            if field is None or field.external or field.provides or not self._is_active(field):
                return False
            if field.needs_more:
                return False
        return True

    def keys(self, view: SubgraphType) -> tuple[Key, ...]:
        return tuple(key for key in view.keys if key.resolvable)

    def is_root(self, type_name: str) -> bool:
        return type_name in self._root_types

    def flatten(self, selection: Selection, type_name: str) -> Selection:
        """The selection as it applies to one type: fields, and the fragments that apply only to part of it."""
        if all(isinstance(item, Field) for item in selection.items):
            return selection
        fields: dict[str, list[Field]] = {}
        fragments: list[Fragment] = []
        for item in self._flat(selection.items, type_name):
            if isinstance(item, Field):
                fields.setdefault(item.key, []).append(item)
            else:
                fragments.append(item)
        return Selection((*(merged_fields(same) for same in fields.values()), *fragments))

    def _flat(self, items: Iterable[Field | Fragment], type_name: str) -> Iterable[Field | Fragment]:
        for item in items:
            if isinstance(item, Field):
                yield item
            elif self.supergraph.is_subtype(type_name, item.type_condition):
                yield from self._flat(item.selection.items, type_name)
            elif self.supergraph.kinds.get(type_name) is not Kind.OBJECT:
                yield item

    def _is_active(self, definition: SubgraphField) -> bool:
        if definition.override_label is not None and definition.override_label not in self.labels:
            return False
        return definition.unless_label is None or definition.unless_label not in self.labels

    def _provided(self, provided: Selection, name: str, type_name: str) -> tuple[bool, Selection | None]:
        for item in self._flat(provided.items, type_name):
            if isinstance(item, Field) and item.name == name:
                return True, item.selection
        return False, None

    @cached_property
    def has_partial_unions(self) -> bool:
        """Whether some union has other members in one subgraph than in another."""
        for name, kind in self.supergraph.kinds.items():
            if kind is Kind.UNION:
                views = (s.types.get(name) for s in self.supergraph.subgraphs.values())
                if len({view.possible for view in views if view is not None}) > 1:
                    return True
        return False

    def _combine(self, first: Selection | None, second: Selection | None) -> Selection | None:
        if first is None or second is None:
            return first or second
        return self._combined.setdefault((first, second), Selection((*first.items, *second.items)))
