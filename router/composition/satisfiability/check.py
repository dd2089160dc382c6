"""The walk over the API: from each root field down, with all the places where the data could be.

Each step keeps the set of nodes that could hold the current object. A field is satisfied if some node reachable from
these can resolve it; the nodes it leads to are the next set. A (type, set) pair is looked at once, and a set that
contains one already found good is good too, since more places can only make more possible.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from router.composition.errors import CompositionError, Hint
from router.composition.merge import Prepared, Supergraph
from router.composition.model import FieldId, TypeKind
from router.composition.overrides import Overrides
from router.composition.satisfiability.graph import Node, Nodes, SubgraphGraph
from router.composition.satisfiability.runtime_types import RuntimeTypes
from router.composition.type_refs import named

_MAX_ERRORS = 20
_UNKNOWN_TYPE = 'no subgraph can be reached to resolve the implementation type of @interfaceObject type "{}".'


@dataclass(frozen=True, slots=True)
class _Step:
    """One link of the path from a root: a field, or a fragment on a type."""

    text: str


@dataclass(frozen=True, slots=True)
class Satisfiability:
    errors: tuple[CompositionError, ...]
    hints: tuple[Hint, ...]


def check_satisfiability(supergraph: Supergraph, subgraphs: Sequence[Prepared], overrides: Overrides) -> Satisfiability:
    """An error for each API field that some path cannot get, or that subgraphs cannot share, as runtime types go; with
    progressive overrides, for labels on and off."""
    runtime_types = RuntimeTypes(subgraphs)
    settings = [frozenset[str]()]
    if overrides.labels:
        settings.append(overrides.labels)
    errors: dict[str, CompositionError] = {}
    for active in settings:
        walk = _Walk(SubgraphGraph(supergraph, subgraphs, overrides, active), supergraph, runtime_types)
        for error in walk.run():
            errors.setdefault(error.message, error)
    return Satisfiability((*runtime_types.errors, *errors.values()), tuple(runtime_types.hints))


class _Walk:
    def __init__(self, graph: SubgraphGraph, supergraph: Supergraph, runtime_types: RuntimeTypes) -> None:
        self._runtime_types = runtime_types
        self._graph = graph
        self._supergraph = supergraph
        self._hidden = supergraph.composed.names.get("inaccessible", "inaccessible")
        self._seen: dict[str, list[Nodes]] = {}
        self._failed_fields: set[tuple[FieldId, Nodes]] = set()

    def run(self) -> Iterator[CompositionError]:
        """Errors in the order of the API's fields. The walk keeps its own stack: APIs can be deeper than Python's."""
        for root in ("Query", "Mutation", "Subscription"):
            if root not in self._supergraph.types:
                continue
            pending: list[tuple[str, Nodes, tuple[_Step, ...]]] = [(root, self._graph.root_nodes(root), ())]
            while pending:
                type_name, nodes, path = pending.pop()
                if self._is_covered(type_name, nodes):
                    continue
                found = self._supergraph.types[type_name]
                following: list[tuple[str, Nodes, tuple[_Step, ...]]] = []
                if found.kind is TypeKind.OBJECT:
                    yield from self._object(root, type_name, nodes, path, following)
                else:
                    yield from self._abstract(root, type_name, nodes, path, following)
                pending.extend(reversed(following))
                if len(self._failed_fields) >= _MAX_ERRORS:
                    return

    def _is_covered(self, type_name: str, nodes: Nodes) -> bool:
        seen = self._seen.setdefault(type_name, [])
        if any(known <= nodes for known in seen):
            return True
        seen.append(nodes)
        return False

    def _object(
        self,
        root: str,
        type_name: str,
        nodes: Nodes,
        path: tuple[_Step, ...],
        following: list[tuple[str, Nodes, tuple[_Step, ...]]],
    ) -> Iterator[CompositionError]:
        reached = self._graph.reach(type_name, nodes)
        for field in self._supergraph.types[type_name].fields.values():
            if field.has(self._hidden):
                continue
            children = frozenset(
                child for node in reached if (child := self._graph.follow(type_name, node, field.name)) is not None
            )
            step = _Step(
                field.name + ("(...)" if any(argument.is_required for argument in field.args.values()) else "")
            )
            target = self._supergraph.types.get(named(field.type))
            is_composite = target is not None and target.is_composite
            if not children:
                coordinate = FieldId(type_name, field.name)
                if (coordinate, nodes) not in self._failed_fields:
                    self._failed_fields.add((coordinate, nodes))
                    why = list(self._reasons(coordinate, reached))
                    yield _error(root, (*path, step), why, has_subfields=is_composite)
            elif is_composite:
                if target is not None and target.kind is not TypeKind.OBJECT:
                    self._runtime_types.look_at(FieldId(type_name, field.name), field.type, children)
                following.append((named(field.type), children, (*path, step)))

    def _abstract(
        self,
        root: str,
        type_name: str,
        nodes: Nodes,
        path: tuple[_Step, ...],
        following: list[tuple[str, Nodes, tuple[_Step, ...]]],
    ) -> Iterator[CompositionError]:
        if any(self._graph.is_interface_object(node) for node in nodes):
            # Such a subgraph knows no implementation: the object's type has to be asked from another one.
            nodes = self._graph.reach(type_name, nodes)
            if all(self._graph.is_interface_object(node) for node in nodes):
                names = ", ".join(f'"{name}"' for name in sorted({node.subgraph for node in nodes}))
                yield _error(
                    root,
                    (*path, _Step(f"... on {type_name}")),
                    [f"- from {names}:", f"  - {_UNKNOWN_TYPE.format(type_name)}"],
                    has_subfields=True,
                )
                return
        for name in self._supergraph.possible_types(type_name):
            narrowed = self._graph.narrow(nodes, name)
            if any(not self._graph.is_interface_object(node) for node in narrowed):
                following.append((name, narrowed, (*path, _Step(f"... on {name}"))))

    def _reasons(self, coordinate: FieldId, reached: Nodes) -> Iterator[str]:
        """For each reached subgraph why it cannot resolve the field, and why those that could are out of reach."""
        others = [node for node in self._graph.subgraphs_with(coordinate) if node not in reached]
        for node in sorted(reached, key=lambda one: (one.subgraph, one.type)):
            yield f'- from subgraph "{node.subgraph}":'
            yield f"  - {self._graph.obstacle(coordinate.type, node, coordinate.field)}"
            for other in others:
                if other.subgraph != node.subgraph:
                    yield f"  - {self._why_not_moved(coordinate, node, other)}"

    def _why_not_moved(self, coordinate: FieldId, node: Node, other: Node) -> str:
        keys = self._graph.keys_of(other)
        resolvable = [key for key in keys if key.is_resolvable]
        if not resolvable:
            missing = "resolvable @key" if keys else "@key"
            return (
                f'cannot move to subgraph "{other.subgraph}", which has field "{coordinate}", because type '
                f'"{other.type}" has no {missing} defined in subgraph "{other.subgraph}".'
            )
        told = " or ".join(f'@key(fields: "{key.text}")' for key in resolvable)
        return (
            f'cannot move to subgraph "{other.subgraph}" using {told} of "{other.type}", the key field(s) cannot be '
            f'resolved from subgraph "{node.subgraph}".'
        )


def _error(root: str, path: Sequence[_Step], reasons: Sequence[str], *, has_subfields: bool) -> CompositionError:
    lines = ["{" if root == "Query" else f"{root.lower()} {{"]
    indent = "  "
    for step in path[:-1]:
        lines.append(f"{indent}{step.text} {{")
        indent += "  "
    lines.append(f"{indent}{path[-1].text}" + (" {\n" + f"{indent}  ...\n{indent}}}" if has_subfields else ""))
    for _ in path[:-1]:
        indent = indent[:-2]
        lines.append(f"{indent}}}")
    query = "\n".join([*lines, "}"])
    return CompositionError(
        "SATISFIABILITY_ERROR",
        f"The following supergraph API query:\n{query}\ncannot be satisfied by the subgraphs because:\n"
        + "\n".join(reasons),
    )
