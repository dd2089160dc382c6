"""Operations made from a schema: everything it offers, to a given depth."""

import random

from graphql import (
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)


def everything(schema: GraphQLSchema, root: str, *, depth: int, chance: float = 1.0, seed: int = 0) -> str:
    """A query for every field (or each with a chance) down to a depth; fields with required arguments are left out."""
    choice = random.Random(seed)
    return _selection(schema, schema.type_map[root], depth, chance, choice) or "{ __typename }"


def _selection(
    schema: GraphQLSchema, output: GraphQLNamedType, depth: int, chance: float, choice: random.Random
) -> str:
    parts: list[str] = []
    if isinstance(output, GraphQLObjectType | GraphQLInterfaceType):
        for name, field in output.fields.items():
            if any(is_required_argument(argument) for argument in field.args.values()) or choice.random() > chance:
                continue
            named = get_named_type(field.type)
            if is_leaf_type(named):
                parts.append(name)
            elif depth > 1 and (inner := _selection(schema, named, depth - 1, chance, choice)):
                parts.append(f"{name} {inner}")
    if isinstance(output, GraphQLInterfaceType | GraphQLUnionType):
        parts.extend(
            f"... on {member.name} {inner}"
            for member in schema.get_possible_types(output)
            if choice.random() <= chance and (inner := _selection(schema, member, depth, chance, choice))
        )
        if choice.random() <= chance:
            parts.append("__typename")
    return f"{{ {' '.join(parts)} }}" if parts else ""
