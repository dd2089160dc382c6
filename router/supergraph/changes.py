"""What changes for clients from one schema to another, and how much it can hurt them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
)
from graphql.utilities import find_schema_changes


class Severity(Enum):
    BREAKING = "breaking"
    """Some operation that was valid is refused, or some answer has a shape that it could not have."""
    DANGEROUS = "dangerous"
    """Every operation stays valid, but some client may meet a value, or miss a default, that it did not expect."""
    SAFE = "safe"


@dataclass(frozen=True, slots=True)
class Change:
    severity: Severity
    code: str
    """What happened, as in `FIELD_REMOVED`."""
    message: str


_ORDER = tuple(Severity)


def find_changes(base: GraphQLSchema, head: GraphQLSchema) -> tuple[Change, ...]:
    """The changes, worst first, then by kind and text."""
    found = [
        Change(
            Severity[type(change).__name__.removesuffix("Change").upper()],
            change.type.name,
            change.description,
        )
        for change in find_schema_changes(base, head)
        if not change.description.startswith("Standard scalar ")  # told by the fields that use it
    ]
    for name, before in base.type_map.items():
        after = head.type_map.get(name)
        if after is not None and not name.startswith("__"):
            found.extend(_deprecations(name, before, after))
            found.extend(_specification(name, before, after))
    return tuple(sorted(found, key=lambda one: (_ORDER.index(one.severity), one.code, one.message)))


def _deprecations(name: str, before: GraphQLNamedType, after: GraphQLNamedType) -> Iterator[Change]:
    """Deprecations break nothing, but are what clients have to know before something is removed."""
    old, new = _reasons(name, before), _reasons(name, after)
    for coordinate in old.keys() & new.keys():
        was, now = old[coordinate], new[coordinate]
        if was is None and now is not None:
            yield Change(Severity.SAFE, "DEPRECATION_ADDED", f"{coordinate} is deprecated: {now}")
        elif was is not None and now is None:
            yield Change(Severity.SAFE, "DEPRECATION_REMOVED", f"{coordinate} is no longer deprecated.")
        elif was != now:
            yield Change(
                Severity.SAFE, "DEPRECATION_REASON_CHANGED", f"{coordinate} is deprecated for another reason: {now}"
            )


def _reasons(name: str, found: GraphQLNamedType) -> Mapping[str, str | None]:
    """The reason of each member of the type that is deprecated, None for the others."""
    if isinstance(found, GraphQLEnumType):
        return {f"{name}.{key}": value.deprecation_reason for key, value in found.values.items()}
    if isinstance(found, GraphQLInputObjectType):
        return {f"{name}.{key}": value.deprecation_reason for key, value in found.fields.items()}
    if not isinstance(found, GraphQLObjectType | GraphQLInterfaceType):
        return {}
    reasons = {f"{name}.{key}": field.deprecation_reason for key, field in found.fields.items()}
    for key, field in found.fields.items():
        reasons.update(
            (f"{name}.{key}({argument}:)", value.deprecation_reason) for argument, value in field.args.items()
        )
    return reasons


def _specification(name: str, before: GraphQLNamedType, after: GraphQLNamedType) -> Iterator[Change]:
    if not isinstance(before, GraphQLScalarType) or not isinstance(after, GraphQLScalarType):
        return
    if before.specified_by_url != after.specified_by_url:
        yield Change(
            Severity.DANGEROUS,
            "SPECIFICATION_CHANGED",
            f"Scalar {name} is specified by {after.specified_by_url or 'nothing'}, before by "
            f"{before.specified_by_url or 'nothing'}.",
        )
