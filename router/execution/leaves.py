"""Leaf values as a client may get them: enum values of the API, and built-in scalars in the range that the specification gives.

A converter answers None for what it cannot send. JSON knows one kind of number, so a whole number is an Int also when it
was written as `1.0`, and an ID also when it was written without quotes.

Source: GraphQL specification, section 3.5 "Scalars", result coercion.
"""

from collections.abc import Callable

from graphql import GraphQLEnumType, GraphQLNamedType, GraphQLScalarType

from router.execution.values import Json

Convert = Callable[[Json], Json]

MIN_INT, MAX_INT = -(2**31), 2**31 - 1
MAX_EXACT = 2**53
"""Beyond it, a number that the JSON parser made a float may have lost digits, and is no ID any more."""
MAX_DEPTH = 100
"""How deep the value of a custom scalar may be nested: a deeper one could not be written as JSON again."""


def converter(leaf: GraphQLNamedType) -> Convert:
    """The converter for values, not null, of a leaf type."""
    if isinstance(leaf, GraphQLEnumType):
        values = frozenset(leaf.values)
        return lambda value: value if type(value) is str and value in values else None
    assert isinstance(leaf, GraphQLScalarType)  # noqa: S101  the only other leaves
    return _BUILT_IN.get(leaf.name, to_any)


def to_int(value: Json) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and MIN_INT <= value <= MAX_INT else None


def to_float(value: Json) -> float | None:
    return value if type(value) is float or type(value) is int else None


def to_string(value: Json) -> str | None:
    return value if type(value) is str else None


def to_boolean(value: Json) -> bool | None:
    return value if type(value) is bool else None


def to_id(value: Json) -> str | None:
    if type(value) is str:
        return value
    if type(value) is int or (type(value) is float and value.is_integer() and abs(value) < MAX_EXACT):
        return str(int(value))
    return None


def to_any(value: Json) -> Json:
    """A custom scalar: whatever it is, as far as it can be written."""
    return value if is_shallow(value) else None


def is_shallow(value: Json) -> bool:
    """Whether no more than MAX_DEPTH lists and objects are inside one another."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return True
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, list | dict)
        ]
    return not level


_BUILT_IN: dict[str, Convert] = {
    "Int": to_int,
    "Float": to_float,
    "String": to_string,
    "Boolean": to_boolean,
    "ID": to_id,
}
