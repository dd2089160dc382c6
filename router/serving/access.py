"""`@authenticated`, `@requiresScopes` and `@policy`: what a caller may not see is not fetched.

Refused fields leave the selection before it is planned, so no subgraph is asked for them; they are null in the answer, each
place with one error. What else was asked for is answered.

Source: Apollo Federation, "Authorization directives" (federation v2.5, v2.6 for policies).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from router.execution.values import ClientPath
from router.planning.operation import Operation
from router.serving.identity import Identity
from router.supergraph.model import Access, Supergraph
from router.supergraph.selection import Field, Fragment, Selection


@dataclass(frozen=True, slots=True)
class Refusal:
    """path: response keys, without list positions: the field is refused wherever it occurs."""

    path: ClientPath
    coordinate: str
    code: str


def guarded(supergraph: Supergraph, operation: Operation) -> tuple[str, ...]:
    """The coordinates used by an operation that ask something of the caller, sorted; mostly none."""
    if not supergraph.access:
        return ()
    return tuple(sorted(set(_coordinates(supergraph, operation.selection, operation.root_type))))


def denied(supergraph: Supergraph, coordinates: tuple[str, ...], identity: Identity) -> frozenset[str]:
    """Those of the coordinates that the caller may not use."""
    return frozenset(c for c in coordinates if not _allows(supergraph.access[c], identity))


def without(
    supergraph: Supergraph, operation: Operation, refused: frozenset[str], identity: Identity
) -> tuple[Selection, tuple[Refusal, ...]]:
    """The selection without refused fields, and where they were."""
    refusals: list[Refusal] = []
    code = "FORBIDDEN" if identity.authenticated else "UNAUTHENTICATED"

    def strip(selection: Selection, type_name: str, path: ClientPath) -> Selection:
        items: list[Field | Fragment] = []
        for item in selection.items:
            if isinstance(item, Fragment):
                if item.type_condition in refused:
                    refusals.append(Refusal(path, item.type_condition, code))
                    continue
                inner = strip(item.selection, item.type_condition, path)
                if inner.items:
                    items.append(Fragment(item.type_condition, inner))
                continue
            where = (*path, item.key)
            output = _output(supergraph, type_name, item.name)
            coordinate = f"{type_name}.{item.name}"
            if coordinate in refused or output in refused:
                refusals.append(Refusal(where, coordinate, code))
                continue
            if item.selection is None or output is None:
                items.append(item)
                continue
            inner = strip(item.selection, output, where)
            kept = inner if inner.items else Selection((Field("__typename", "__typename"),))
            items.append(Field(item.key, item.name, item.arguments, item.arguments_text, kept, item.defers))
        return Selection(tuple(items))

    return strip(operation.selection, operation.root_type, ()), tuple(refusals)


def _coordinates(supergraph: Supergraph, selection: Selection, type_name: str) -> Iterator[str]:
    for item in selection.items:
        if isinstance(item, Fragment):
            if item.type_condition in supergraph.access:
                yield item.type_condition
            yield from _coordinates(supergraph, item.selection, item.type_condition)
            continue
        if (coordinate := f"{type_name}.{item.name}") in supergraph.access:
            yield coordinate
        output = _output(supergraph, type_name, item.name)
        if output is not None:
            if output in supergraph.access:
                yield output
            if item.selection is not None:
                yield from _coordinates(supergraph, item.selection, output)


def _output(supergraph: Supergraph, type_name: str, field_name: str) -> str | None:
    fields = getattr(supergraph.api_schema.type_map.get(type_name), "fields", None)
    if fields is None or field_name not in fields:
        return None
    return str(fields[field_name].type).strip("[]!")


def _allows(access: Access, identity: Identity) -> bool:
    if access.authenticated and not identity.authenticated:
        return False
    if access.scopes and not any(group <= identity.scopes for group in access.scopes):
        return False
    return not access.policies or any(group <= identity.policies for group in access.policies)
