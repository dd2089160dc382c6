"""Variables of a request, checked against their definitions.

Most values are plainly right: a string where a String is asked for. Whether they are is compiled once for a document.
Anything else, wrong or only unusual (a single value for a list), is left to graphql-core, which also says what is wrong.

Source: GraphQL specification, section 6.1.2 "Coercing Variable Values".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLSchema,
    Undefined,
    VariableDefinitionNode,
    get_variable_values,
    is_input_type,
    type_from_ast,
    value_from_ast,
)
from graphql.error import GraphQLError

_INT = range(-(2**31), 2**31)

_Check = Callable[[Any], bool]
"""Whether a value is plainly right, and stands for itself."""


class Variables:
    """The variables that one operation defines. hide_suggestions: whether errors suggest no names of the schema."""

    def __init__(
        self, schema: GraphQLSchema, definitions: Sequence[VariableDefinitionNode], *, hide_suggestions: bool = False
    ) -> None:
        self._schema = schema
        self._hide_suggestions = hide_suggestions
        self._definitions = tuple(definitions)
        self._checks: list[tuple[str, bool, _Check]] = []
        self._defaults: dict[str, Any] = {}
        for definition in definitions:
            name = definition.variable.name.value
            output = type_from_ast(schema, definition.type)
            if not is_input_type(output):
                continue  # validation has refused it
            if definition.default_value is not None:
                self._defaults[name] = value_from_ast(definition.default_value, output)
            self._checks.append((name, isinstance(output, GraphQLNonNull), _check(output, frozenset())))

    def read(self, given: Mapping[str, Any]) -> Mapping[str, Any] | list[GraphQLError]:
        """The values with their defaults, or what is wrong with them."""
        if not self._definitions:
            return {}
        for name, required, check in self._checks:
            value = given.get(name, Undefined)
            if value is Undefined:
                if not required or name in self._defaults:
                    continue
            elif (not required) if value is None else check(value):
                continue
            return self._read_exactly(given)
        if not self._defaults:
            return given
        return {**self._defaults, **given}

    def _read_exactly(self, given: Mapping[str, Any]) -> Mapping[str, Any] | list[GraphQLError]:
        read = get_variable_values(
            self._schema, self._definitions, dict(given), max_errors=20, hide_suggestions=self._hide_suggestions
        )
        return read if isinstance(read, list) else read.coerced


def _check(expected: GraphQLInputType, within: frozenset[str]) -> _Check:
    """within: input objects around this one; one that holds itself is left to graphql-core."""
    if isinstance(expected, GraphQLNonNull):
        return _check(expected.of_type, within)
    if isinstance(expected, GraphQLList):
        return _list_check(expected.of_type, within)
    if isinstance(expected, GraphQLInputObjectType):
        return _never if expected.name in within else _object_check(expected, within | {expected.name})
    if isinstance(expected, GraphQLEnumType):
        values = frozenset(expected.values)
        return lambda value: type(value) is str and value in values
    return _scalar_check(expected)


def _scalar_check(expected: GraphQLScalarType) -> _Check:
    match expected.name:
        case "String":
            return lambda value: type(value) is str
        case "ID":
            return lambda value: type(value) is str or type(value) is int
        case "Int":
            return lambda value: type(value) is int and value in _INT
        case "Float":
            return lambda value: type(value) is int or (type(value) is float and math.isfinite(value))
        case "Boolean":
            return lambda value: type(value) is bool
        case _:
            return lambda _: True  # what a custom scalar may be, its subgraph knows


def _list_check(item: GraphQLInputType, within: frozenset[str]) -> _Check:
    check = _check(item, within)
    required = isinstance(item, GraphQLNonNull)

    def check_list(value: Any) -> bool:
        if type(value) is not list:
            return False
        return all(check(each) if each is not None else not required for each in value)

    return check_list


def _object_check(expected: GraphQLInputObjectType, within: frozenset[str]) -> _Check:
    fields = expected.fields
    if expected.is_one_of or any(field.default_value is not Undefined or field.default for field in fields.values()):
        return _never
    checks = {
        name: (isinstance(field.type, GraphQLNonNull), _check(field.type, within)) for name, field in fields.items()
    }
    needed = {name for name, (required, _) in checks.items() if required}

    def check_object(value: Any) -> bool:
        if type(value) is not dict or not needed <= value.keys():
            return False
        for name, each in value.items():
            known = checks.get(name)
            if known is None or (known[0] if each is None else not known[1](each)):
                return False
        return True

    return check_object


def _never(_: Any) -> bool:
    return False
