"""Whether an object has what a subgraph must be sent for it: values of required fields that cannot be null.

A value is missing when the field that gives it has failed, or was answered with null. Sending null in its place would have
the subgraph compute with a value that the object does not have.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from router.supergraph.model import SubgraphField, SubgraphName, Supergraph
from router.supergraph.selection import Field, Fragment

Object = dict[str, Any]

Missing = Callable[[Object], str | None]
"""The name of what an object lacks, such as `box.width`; None when it lacks nothing."""

_Check = Callable[[Any], str | None]


def missing_inputs(
    supergraph: Supergraph,
    subgraph: SubgraphName,
    type_names: Sequence[str],
    fields: Iterable[Field | Fragment],
    inputs: frozenset[str],
) -> Missing | None:
    """Tells what an object lacks of the required fields named by `inputs`; None when none of them can be missing."""
    required = [item for item in fields if isinstance(item, Fragment) or item.name in inputs]
    return _object_check(supergraph, subgraph, tuple(type_names), required)


def may_be_missing(
    supergraph: Supergraph, subgraph: SubgraphName, type_name: str, items: Iterable[Field | Fragment]
) -> bool:
    """Whether some value of a requirement cannot be null, so that an object may lack it."""
    return _object_check(supergraph, subgraph, (type_name,), list(items)) is not None


def _object_check(
    supergraph: Supergraph, subgraph: SubgraphName, type_names: tuple[str, ...], items: Sequence[Field | Fragment]
) -> Missing | None:
    checks: list[tuple[str, str, _Check]] = []
    conditional: list[tuple[frozenset[str], Missing]] = []
    for item in items:
        if isinstance(item, Fragment):
            inner = _object_check(supergraph, subgraph, (item.type_condition,), item.selection.items)
            if inner is not None:
                types = frozenset((item.type_condition, *supergraph.possible.get(item.type_condition, ())))
                conditional.append((types, inner))
        elif item.name != "__typename" and (check := _field_check(supergraph, subgraph, type_names, item)) is not None:
            checks.append((item.key, item.name, check))
    if not checks and not conditional:
        return None

    def missing(value: Object) -> str | None:
        for key, name, check in checks:
            if (found := check(value.get(key))) is not None:
                return f"{name}{found}"
        for types, inner in conditional:
            if value.get("__typename") in types and (found := inner(value)) is not None:
                return found
        return None

    return missing


def _field_check(
    supergraph: Supergraph, subgraph: SubgraphName, type_names: tuple[str, ...], field: Field
) -> _Check | None:
    """What is missing of a field's value: "" for itself, `.name` for what is below it."""
    definitions = list(_definitions(supergraph, subgraph, type_names, field.name))
    if not definitions:
        return None
    required = _required(definitions[0][1].type_text, [d.type_text for own, d in definitions if own])
    below: Missing | None = None
    if field.selection is not None:
        named = tuple(dict.fromkeys(definition.type_name for _, definition in definitions))
        below = _object_check(supergraph, subgraph, named, field.selection.items)
    if not any(required) and below is None:
        return None

    def check(value: Any, depth: int = 0) -> str | None:
        if value is None:
            return "" if depth < len(required) and required[depth] else None
        if type(value) is list:
            for item in value:
                if (found := check(item, depth + 1)) is not None:
                    return found
        elif below is not None and type(value) is dict and (found := below(value)) is not None:
            return f".{found}"
        return None

    return check


def _definitions(
    supergraph: Supergraph, subgraph: SubgraphName, type_names: tuple[str, ...], name: str
) -> Iterable[tuple[bool, SubgraphField]]:
    """The receiver's definition first, then those of the subgraphs that answer the field (True)."""
    names = [*type_names, *(i for each in type_names for i in sorted(supergraph.interfaces.get(each, ())))]
    names += [member for each in type_names for member in supergraph.possible.get(each, ())]
    others: list[tuple[bool, SubgraphField]] = []
    received: list[tuple[bool, SubgraphField]] = []
    for each in dict.fromkeys(names):
        for at, other in supergraph.subgraphs.items():
            view = other.types.get(each)
            definition = None if view is None else view.fields.get(name)
            if definition is None:
                continue
            if at == subgraph:
                received.append((False, definition))
            elif not definition.external:
                others.append((True, definition))
    return [*received[:1], *others] if received else others


def _required(received: str, answered: Sequence[str]) -> list[bool]:
    """For the value, then for the items of each list in it: whether null is no value there.

    So says the receiver, or every subgraph that answers the field.
    """
    own = _flags(received)
    every = [_flags(text) for text in answered]
    same = [flags for flags in every if len(flags) == len(own)]
    agreed = [all(flags[depth] for flags in same) for depth in range(len(own))] if same else [False] * len(own)
    return [mine or theirs for mine, theirs in zip(own, agreed, strict=True)]


def _flags(type_text: str) -> list[bool]:
    flags: list[bool] = []
    text = type_text.strip()
    while True:
        flags.append(text.endswith("!"))
        text = text.removesuffix("!")
        if not text.startswith("["):
            return flags
        text = text[1:-1].strip()
