"""Whether the subgraphs that share a field can mean the same objects by it.

A shared field must resolve alike wherever it is resolved. Where it returns an interface or a union, the subgraphs may
know different objects behind it. The router may ask any of those that a path can reach, so these need at least one in
common.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.composition.errors import CompositionError, Hint, quoted
from router.composition.merge import Prepared
from router.composition.model import FieldId, SubgraphSchema
from router.composition.satisfiability.graph import Nodes


@dataclass(slots=True)
class RuntimeTypes:
    """Collects errors for shared fields whose subgraphs have no object type in common, and hints where they differ."""

    subgraphs: Sequence[Prepared]
    errors: list[CompositionError] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    _schemas: Mapping[str, SubgraphSchema] = field(init=False)
    _seen: set[tuple[FieldId, Nodes]] = field(default_factory=set, init=False)
    _told: set[tuple[FieldId, bool]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._schemas = {one.schema.name: one.schema for one in self.subgraphs}

    def look_at(self, coordinate: FieldId, ref: str, nodes: Nodes) -> None:
        """Compare what the field, resolved at any of the nodes, can return. An `@interfaceObject` does not count: any
        implementation can stand behind it."""
        if len(nodes) < 2 or (coordinate, nodes) in self._seen:
            return
        self._seen.add((coordinate, nodes))
        by_subgraph = {
            node.subgraph: self._schemas[node.subgraph].possible_types(node.type)
            for node in sorted(nodes, key=lambda one: (one.subgraph, one.type))
            if not self._schemas[node.subgraph].types[node.type].is_interface_object
        }
        if len({frozenset(types) for types in by_subgraph.values()}) < 2:
            return
        is_error = not set.intersection(*(set(types) for types in by_subgraph.values()))
        if (coordinate, is_error) in self._told:
            return
        self._told.add((coordinate, is_error))
        if is_error:
            self.errors.append(_error(coordinate, ref, by_subgraph))
        else:
            self.hints.append(_hint(coordinate, ref, by_subgraph))


def _list(by_subgraph: dict[str, tuple[str, ...]]) -> str:
    return ";\n".join(
        f' - in subgraph "{subgraph}", {quoted(sorted(types), "type") if types else "no type"}'
        for subgraph, types in by_subgraph.items()
    )


def _error(coordinate: FieldId, ref: str, by_subgraph: dict[str, tuple[str, ...]]) -> CompositionError:
    return CompositionError(
        "SHAREABLE_HAS_MISMATCHED_RUNTIME_TYPES",
        f'Shared field "{coordinate}" return type "{ref}" has a non-intersecting set of possible runtime types across '
        f"subgraphs. Runtime types in subgraphs are:\n{_list(by_subgraph)}.\nThis is not allowed as shared fields must "
        "resolve the same way in all subgraphs, and that implies at least some common runtime types between the "
        "subgraphs.",
        tuple(by_subgraph),
    )


def _hint(coordinate: FieldId, ref: str, by_subgraph: dict[str, tuple[str, ...]]) -> Hint:
    return Hint(
        "INCONSISTENT_RUNTIME_TYPES_FOR_SHAREABLE_RETURN",
        f'Shared field "{coordinate}" return type "{ref}" has different sets of possible runtime types across '
        f"subgraphs. Runtime types in subgraphs are:\n{_list(by_subgraph)}.",
        tuple(by_subgraph),
    )
