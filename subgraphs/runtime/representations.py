"""Representations of entities as anybody may send them to `_entities`, checked before a reference resolver gets them.

Strawberry hands a resolver whatever a representation holds, removes `__typename` from the caller's own value (so that the same variable
used twice fails), and treats an unknown type as a bug. Source: Apollo Federation subgraph specification, `Query._entities`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from domain.errors import InvalidInput
from domain.validation import MAX_ID

_OWN = frozenset({"info", "self", "source", "root", "__typename"})
_MAX_SHOWN = 64


class RepresentationInvalid(InvalidInput):
    """A representation names no entity of this subgraph, or does not have the fields by which one is found."""

    reason = "REPRESENTATION_INVALID"


def checked(representation: object, resolver_of: Callable[[str], Callable[..., Any] | None]) -> dict[str, Any]:
    """The representation, as a new dictionary, with an id in text.

    Args:
        resolver_of: by the name of a type, its reference resolver; None for what is no entity.

    Raises:
        RepresentationInvalid: it cannot be resolved.
    """
    if not isinstance(representation, Mapping):
        raise RepresentationInvalid("A representation must be an object.", field="representations")
    name = representation.get("__typename")
    resolver = resolver_of(name) if isinstance(name, str) else None
    if resolver is None:
        shown = str(name)[:_MAX_SHOWN]
        raise RepresentationInvalid(f"{shown!r} is no entity of this subgraph.", field="representations")
    takes = _parameters(resolver)
    kept: dict[str, Any] = {"__typename": name}
    for field, value in representation.items():
        if field in takes:
            kept[field] = _checked_value(value, field, takes[field])
    missing = [
        field for field, parameter in takes.items() if parameter.default is parameter.empty and field not in kept
    ]
    if missing:
        raise RepresentationInvalid(f"A representation of {name} needs {missing[0]}.", field=missing[0])
    return kept


@cache
def _parameters(resolver: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    named = inspect.signature(resolver).parameters
    return {name: parameter for name, parameter in named.items() if name not in _OWN}


def _checked_value(value: object, field: str, parameter: inspect.Parameter) -> object:
    annotation = parameter.annotation
    is_number = annotation in (int, float, "int", "float")
    if is_number and value is None and parameter.default is not parameter.empty:
        return parameter.default
    if is_number and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31:
        return value
    if not is_number and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not is_number and isinstance(value, str) and len(value) <= 2 * MAX_ID:
        return value
    raise RepresentationInvalid(f"{field} of a representation is not of its type.", field=field)
