"""Whether the subgraphs that share a field can mean the same objects by it.

A shared field must resolve alike wherever it is resolved. Where it returns an interface or a union, the subgraphs may
know different objects behind it, and the router may ask any of them, so they need at least one in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from router.composition.errors import CompositionError, Hint, quoted
from router.composition.merge import Prepared, Supergraph
from router.composition.model import FieldId, TypeKind
from router.composition.overrides import Overrides
from router.composition.type_refs import named


@dataclass(frozen=True, slots=True)
class RuntimeTypeFindings:
    errors: tuple[CompositionError, ...]
    hints: tuple[Hint, ...]


def check_runtime_types(
    supergraph: Supergraph, subgraphs: Sequence[Prepared], overrides: Overrides
) -> RuntimeTypeFindings:
    """Errors for shared fields whose subgraphs have no object type in common, hints where they differ."""
    errors: list[CompositionError] = []
    hints: list[Hint] = []
    for found in supergraph.types.values():
        if found.kind is not TypeKind.OBJECT:
            continue
        for field in found.fields.values():
            target = supergraph.types.get(named(field.type))
            if target is None or target.kind not in (TypeKind.INTERFACE, TypeKind.UNION):
                continue
            coordinate = FieldId(found.name, field.name)
            by_subgraph = _runtime_types(coordinate, subgraphs, overrides)
            if len({frozenset(types) for types in by_subgraph.values()}) < 2:
                continue
            if set.intersection(*(set(types) for types in by_subgraph.values())):
                hints.append(_hint(coordinate, field.type, by_subgraph))
            else:
                errors.append(_error(coordinate, field.type, by_subgraph))
    return RuntimeTypeFindings(tuple(errors), tuple(hints))


def _runtime_types(
    coordinate: FieldId, subgraphs: Sequence[Prepared], overrides: Overrides
) -> dict[str, tuple[str, ...]]:
    """Subgraph that resolves the field to the objects it may return; those that know only an `@interfaceObject` do not
    count, since any implementation can stand behind it."""
    by_subgraph: dict[str, tuple[str, ...]] = {}
    for prepared in subgraphs:
        schema = prepared.schema
        field = schema.field(coordinate)
        if field is None or coordinate in prepared.ownership.external or overrides.leaving(coordinate, schema.name):
            continue
        target = schema.types.get(named(field.type))
        if target is None or target.is_interface_object:
            continue
        by_subgraph[schema.name] = schema.possible_types(target.name)
    return by_subgraph


def _told(by_subgraph: dict[str, tuple[str, ...]]) -> str:
    return ";\n".join(
        f' - in subgraph "{subgraph}", {quoted(sorted(types), "type") if types else "no type"}'
        for subgraph, types in by_subgraph.items()
    )


def _error(coordinate: FieldId, ref: str, by_subgraph: dict[str, tuple[str, ...]]) -> CompositionError:
    return CompositionError(
        "SHAREABLE_HAS_MISMATCHED_RUNTIME_TYPES",
        f'Shared field "{coordinate}" return type "{ref}" has a non-intersecting set of possible runtime types across '
        f"subgraphs. Runtime types in subgraphs are:\n{_told(by_subgraph)}.\nThis is not allowed as shared fields must "
        "resolve the same way in all subgraphs, and that implies at least some common runtime types between the "
        "subgraphs.",
        tuple(by_subgraph),
    )


def _hint(coordinate: FieldId, ref: str, by_subgraph: dict[str, tuple[str, ...]]) -> Hint:
    return Hint(
        "INCONSISTENT_RUNTIME_TYPES_FOR_SHAREABLE_RETURN",
        f'Shared field "{coordinate}" return type "{ref}" has different sets of possible runtime types across '
        f"subgraphs. Runtime types in subgraphs are:\n{_told(by_subgraph)}.",
        tuple(by_subgraph),
    )
