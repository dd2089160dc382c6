"""What validation asks a schema again and again, found out once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from graphql import (
    GraphQLArgument,
    GraphQLNamedType,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    is_composite_type,
    is_leaf_type,
    is_required_argument,
)
from graphql.utilities import do_types_overlap

_CONDITIONS = frozenset({"skip", "include"})


class Unproven(Exception):
    """The document holds something that the walk does not know."""


def unproven() -> NoReturn:
    raise Unproven


@dataclass(frozen=True, slots=True, eq=False)
class FieldFacts:
    """required: the names of arguments it cannot be without."""

    type: GraphQLOutputType
    named: GraphQLNamedType
    is_leaf: bool
    arguments: Mapping[str, GraphQLArgument]
    required: frozenset[str]


class SchemaFacts:
    """What documents ask a schema again and again."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._fields: dict[GraphQLNamedType, dict[str, FieldFacts | None]] = {}
        self._overlaps: dict[tuple[str, str], bool] = {}
        self.conditions = {
            directive.name: (directive, frozenset(n for n, a in directive.args.items() if is_required_argument(a)))
            for directive in schema.directives
            if directive.name in _CONDITIONS and not directive.is_repeatable
        }

    def fields(self, parent: GraphQLNamedType) -> dict[str, FieldFacts | None]:
        """Those asked for until now."""
        known = self._fields.get(parent)
        if known is None:
            known = self._fields[parent] = {}
        return known

    def field(self, parent: GraphQLNamedType, name: str) -> FieldFacts | None:
        """None: there is none, or it is one of introspection."""
        if not is_composite_type(parent) or (name.startswith("__") and name != "__typename"):
            return None
        definition = self.schema.get_field(parent, name)
        if definition is None:
            return None
        named = get_named_type(definition.type)
        required = frozenset(n for n, argument in definition.args.items() if is_required_argument(argument))
        field = FieldFacts(definition.type, named, is_leaf_type(named), definition.args, required)
        self.fields(parent)[name] = field  # only what exists, or clients could fill the memory
        return field

    def composite(self, name: str) -> GraphQLNamedType | None:
        found = self.schema.type_map.get(name)
        return found if is_composite_type(found) else None

    def overlap(self, one: GraphQLNamedType, other: GraphQLNamedType) -> bool:
        """Whether an object can be of both types."""
        if one is other:
            return True
        key = (one.name, other.name)
        known = self._overlaps.get(key)
        if known is None:
            known = is_composite_type(one) and is_composite_type(other) and do_types_overlap(self.schema, one, other)
            self._overlaps[key] = known
        return known
