"""Where the data for a type can be: nodes, and the moves between them.

A node is one type in one subgraph, with the fields that a `@provides` on the way there adds. From a node, fields lead to
other nodes of the same subgraph, and keys lead to the same type in other subgraphs. What can be reached by keys is a
least fixed point: a key can be used once its fields can be had from what is reached already, and the fields of a
nested key or of a `@requires` are had by the same rules, which may come back to the question being answered. So sets
only ever grow, a question that is already being answered yields what is known so far, and the answers that may have been
cut short by this are computed again until nothing changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from router.composition.field_sets import FieldSet, Selection
from router.composition.merge import Prepared, Supergraph
from router.composition.model import ROOT_TYPES, FieldId, SubgraphSchema, TypeKind
from router.composition.overrides import Overrides
from router.composition.ownership import Key, Ownership, applied_field_set
from router.composition.type_refs import named


@dataclass(frozen=True, slots=True)
class Node:
    subgraph: str
    type: str
    """The subgraph's type: an interface stands for any of its implementations where it is an `@interfaceObject`."""
    provided: FieldSet = ()


Nodes = frozenset[Node]


@dataclass(frozen=True, slots=True)
class _Move:
    """A way into a node: by a key, or, where `key` is None, because the type is a root type."""

    node: Node
    key: Key | None


class SubgraphGraph:
    """The query graph of all subgraphs, for one setting of the progressive override labels."""

    def __init__(
        self, supergraph: Supergraph, subgraphs: Sequence[Prepared], overrides: Overrides, active_labels: frozenset[str]
    ) -> None:
        self.supergraph = supergraph
        self._schemas: Mapping[str, SubgraphSchema] = {one.schema.name: one.schema for one in subgraphs}
        self._ownership: Mapping[str, Ownership] = {one.schema.name: one.ownership for one in subgraphs}
        self._overrides = overrides
        self._active_labels = active_labels
        self._possible = {
            name: frozenset(supergraph.possible_types(name))
            for name, found in supergraph.types.items()
            if found.is_composite
        }
        self._moves: dict[str, tuple[_Move, ...]] = {}
        self._reached: dict[tuple[str, Node], Nodes] = {}
        self._settled: set[tuple[str, Node]] = set()
        self._in_progress: set[tuple[str, Node]] = set()
        self._was_cut_short = False
        self._growth = 0
        self._requiring: set[tuple[str, Node, str]] = set()
        self._touched: list[tuple[str, Node]] = []

    def root_nodes(self, root: str) -> Nodes:
        return frozenset(Node(name, root) for name, schema in self._schemas.items() if root in schema.types)

    def is_interface_object(self, node: Node) -> bool:
        return self._schemas[node.subgraph].types[node.type].is_interface_object

    def subgraphs_with(self, coordinate: FieldId) -> Iterator[Node]:
        """The nodes of the type whose subgraph declares the field, reachable or not."""
        for name in self._schemas:
            for local in self._local_types(coordinate.type, name):
                if coordinate.field in self._schemas[name].types[local].fields:
                    yield Node(name, local)

    def keys_of(self, node: Node) -> tuple[Key, ...]:
        return self._ownership[node.subgraph].keys.get(node.type, ())

    # Reaching

    def reach(self, type_name: str, nodes: Nodes) -> Nodes:
        """The nodes of the type that can be reached from any of `nodes` by keys, these included."""
        found: set[Node] = set()
        for node in nodes:
            found |= self._reach(type_name, node)
        return frozenset(found)

    def _reach(self, type_name: str, node: Node) -> Nodes:
        question = (type_name, node)
        if question in self._settled:
            return self._reached[question]
        if question in self._in_progress:
            self._was_cut_short = True
            return self._reached[question]
        is_outermost = not self._in_progress
        while True:
            growth_before = self._growth
            if is_outermost:
                self._was_cut_short = False
            self._in_progress.add(question)
            self._touched.append(question)
            self._reached.setdefault(question, frozenset((node,)))
            self._grow(question)
            self._in_progress.discard(question)
            if not is_outermost:
                return self._reached[question]
            if not self._was_cut_short or growth_before == self._growth:
                break
        self._settled.update(self._touched)
        self._touched.clear()
        return self._reached[question]

    def _grow(self, question: tuple[str, Node]) -> None:
        type_name = question[0]
        moves = self._moves_into(type_name)
        has_grown = True
        while has_grown:
            has_grown = False
            reached = self._reached[question]
            for move in moves:
                if move.node in reached:
                    continue
                if move.key is None or self.can_select(type_name, reached, move.key.selection):
                    reached = self._reached[question] = reached | {move.node}
                    self._growth += 1
                    has_grown = True

    def _moves_into(self, type_name: str) -> tuple[_Move, ...]:
        known = self._moves.get(type_name)
        if known is None:
            known = self._moves[type_name] = tuple(self._find_moves(type_name))
        return known

    def _find_moves(self, type_name: str) -> Iterator[_Move]:
        for name in self._schemas:
            for local in self._local_types(type_name, name):
                node = Node(name, local)
                if type_name in ROOT_TYPES:
                    yield _Move(node, None)
                for key in self._ownership[name].keys.get(local, ()):
                    if key.is_resolvable:
                        yield _Move(node, key)

    def _local_types(self, type_name: str, subgraph: str) -> Iterator[str]:
        """What the subgraph calls the type: its name, and interfaces of it that are objects there."""
        types = self._schemas[subgraph].types
        if type_name in types:
            yield type_name
        for interface in self.supergraph.types[type_name].interfaces:
            if interface in types and types[interface].is_interface_object:
                yield interface

    # Selecting

    def can_select(self, type_name: str, nodes: Nodes, selections: FieldSet) -> bool:
        """Whether all the selections on the type can be had, each from some of the nodes."""
        return all(self._can_select_one(type_name, nodes, selection) for selection in selections)

    def _can_select_one(self, type_name: str, nodes: Nodes, selection: Selection) -> bool:
        if selection.field == "__typename":
            return True
        possible = self._possible.get(type_name, frozenset())
        if selection.field is None:
            target = self._possible.get(selection.on or type_name, frozenset())
            if possible <= target and len(possible) == 1:
                return self.can_select(type_name, nodes, selection.children)
            return all(
                self.can_select(name, self.reach(name, narrowed), selection.children)
                for name in sorted(possible & target)
                if (narrowed := self.narrow(nodes, name))
            )
        for node in nodes:
            child = self.follow(type_name, node, selection.field)
            if child is None:
                continue
            if not selection.children:
                return True
            child_type = named(self.supergraph.types[type_name].fields[selection.field].type)
            if self.can_select(child_type, self.reach(child_type, frozenset((child,))), selection.children):
                return True
        if self.supergraph.types[type_name].kind is not TypeKind.INTERFACE:
            return False
        # The interface's field may not be had as such, and yet from each of the objects behind the interface.
        narrowings = [(name, self.narrow(nodes, name)) for name in sorted(possible)]
        return any(narrowed for _, narrowed in narrowings) and all(
            self._can_select_one(name, self.reach(name, narrowed), selection)
            for name, narrowed in narrowings
            if narrowed
        )

    def narrow(self, nodes: Nodes, object_type: str) -> Nodes:
        """The nodes once the object is known to be of the type; those that cannot hold it are gone."""
        return frozenset(narrowed for node in nodes for narrowed in self._narrow_one(node, object_type))

    def _narrow_one(self, node: Node, object_type: str) -> Iterator[Node]:
        schema = self._schemas[node.subgraph]
        if schema.types[node.type].is_interface_object:
            if node.type in self.supergraph.types[object_type].interfaces:
                yield node
        elif object_type in schema.possible_types(node.type):
            yield Node(node.subgraph, object_type, _on_type(node.provided, object_type, schema))

    # Following a field

    def follow(self, type_name: str, node: Node, field_name: str) -> Node | None:
        """The node that the field leads to, None where the subgraph cannot resolve it here."""
        if self.obstacle(type_name, node, field_name) is not None:
            return None
        schema = self._schemas[node.subgraph]
        field = schema.types[node.type].fields[field_name]
        provided = tuple(
            child
            for selection in _on_type(node.provided, node.type, schema)
            if selection.field == field_name
            for child in selection.children
        )
        for applied in field.directives:
            if applied.name == "provides":
                provided += applied_field_set(applied)
        return Node(node.subgraph, named(field.type), provided)

    def obstacle(self, type_name: str, node: Node, field_name: str) -> str | None:
        """Why the subgraph cannot resolve the field at the node, None where it can."""
        schema = self._schemas[node.subgraph]
        local = schema.types[node.type]
        coordinate = FieldId(node.type, field_name)
        field = local.fields.get(field_name)
        if field is None:
            return f'cannot find field "{coordinate}".'
        leaving = self._overrides.leaving(coordinate, node.subgraph)
        if leaving is not None and (leaving.label is None or leaving.label in self._active_labels):
            return f'field "{coordinate}" is not resolvable because it is overridden by subgraph "{leaving.target}".'
        arriving = self._overrides.arriving(coordinate, node.subgraph)
        if arriving is not None and arriving.label is not None and arriving.label not in self._active_labels:
            return f'field "{coordinate}" is not resolvable while override label "{arriving.label}" is off.'
        if coordinate in self._ownership[node.subgraph].external:
            is_provided = any(selection.field == field_name for selection in _on_type(node.provided, node.type, schema))
            if not is_provided:
                return f'field "{coordinate}" is not resolvable because marked @external.'
        if local.kind is TypeKind.INTERFACE and not self._is_resolved_by_implementations(node, field_name):
            return f'field "{coordinate}" is not resolvable on every implementation of "{node.type}".'
        requires = field.applied("requires")
        if requires is not None:
            return self._requirement_obstacle(type_name, node, field_name, applied_field_set(requires))
        return None

    def _is_resolved_by_implementations(self, node: Node, field_name: str) -> bool:
        schema = self._schemas[node.subgraph]
        external = self._ownership[node.subgraph].external
        provided = {selection.field for selection in node.provided}
        for name in schema.possible_types(node.type):
            coordinate = FieldId(name, field_name)
            field = schema.field(coordinate)
            leaving = self._overrides.leaving(coordinate, node.subgraph)
            if leaving is not None and (leaving.label is None or leaving.label in self._active_labels):
                return False
            if field is None or field.has("requires") or (coordinate in external and field_name not in provided):
                return False
        return True

    def _requirement_obstacle(self, type_name: str, node: Node, field_name: str, required: FieldSet) -> str | None:
        coordinate = FieldId(node.type, field_name)
        question = (type_name, node, field_name)
        if question in self._requiring:
            self._was_cut_short = True
            return f'cannot satisfy @requires conditions on field "{coordinate}": they depend on the field itself.'
        self._requiring.add(question)
        try:
            reached = self._reach(type_name, node)
            is_had = self.can_select(type_name, reached, required)
        finally:
            self._requiring.discard(question)
        if not is_had:
            return f'cannot satisfy @requires conditions on field "{coordinate}".'
        # The required fields are sent back in a representation, so there has to be a key to send with them.
        if not any(self.can_select(type_name, reached, key.selection) for key in self.keys_of(node)):
            return (
                f'cannot satisfy @requires conditions on field "{coordinate}": there is no usable key on type '
                f'"{node.type}" in subgraph "{node.subgraph}".'
            )
        return None


def _on_type(provided: FieldSet, type_name: str, schema: SubgraphSchema) -> FieldSet:
    """The provided selections that hold for an object of the type, fragments opened."""
    if all(selection.field is not None for selection in provided):
        return provided
    opened: list[Selection] = []
    for selection in provided:
        if selection.field is not None:
            opened.append(selection)
        elif selection.on is None or selection.on == type_name or type_name in schema.possible_types(selection.on):
            opened.extend(_on_type(selection.children, type_name, schema))
        elif set(schema.possible_types(selection.on)) < set(schema.possible_types(type_name)):
            opened.append(selection)
    return tuple(opened)
