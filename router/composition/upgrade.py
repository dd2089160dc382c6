"""Federation 1 subgraphs in the terms of Federation 2.

Federation 1 had no `@shareable`: value types were shared as they were, and whatever two subgraphs declared both could
resolve. It also asked for `@external` where Federation 2 does not (keys of extended types), allowed it where it means
nothing, and ignored directives that Federation 2 refuses. This stage rewrites such subgraphs; Federation 2 ones pass
through untouched.

Source: https://www.apollographql.com/docs/graphos/schema-design/federated-schemas/reference/moving-to-federation-2
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from router.composition.errors import CompositionError, CompositionFailed
from router.composition.field_sets import (
    FieldSet,
    MalformedFieldSet,
    Selection,
    lenient_field_set,
    parse_field_set,
    printed,
    visit_fields,
)
from router.composition.model import ROOT_TYPES, Applied, Field, FieldId, SubgraphSchema, TypeDef, TypeKind
from router.composition.ownership import applied_field_set
from router.composition.sdl_text import sdl_text
from router.composition.type_refs import named

_SHAREABLE = Applied("shareable")


def upgrade(subgraphs: Sequence[SubgraphSchema]) -> list[SubgraphSchema]:
    """The subgraphs, with the Federation 1 ones rewritten.

    Raises:
        CompositionFailed: TYPE_WITH_ONLY_UNUSED_EXTERNAL, where nothing of a type is left; EXTENSION_WITH_NO_BASE, where
            one is only extended.
    """
    errors = [error for schema in subgraphs for error in _baseless(schema, subgraphs)]
    if errors:
        raise CompositionFailed(errors)
    upgraded = [schema if schema.is_federation_2 else _without_misuse(schema, subgraphs) for schema in subgraphs]
    errors = [error for schema in upgraded for error in _emptied(schema)]
    if errors:
        raise CompositionFailed(errors)
    upgraded = [schema if schema.is_federation_2 else _without_empty_types(schema) for schema in upgraded]
    return [schema if schema.is_federation_2 else _with_sharing(schema, upgraded) for schema in upgraded]


def _baseless(schema: SubgraphSchema, subgraphs: Sequence[SubgraphSchema]) -> list[CompositionError]:
    """Errors for types that a Federation 1 subgraph extends and that no subgraph defines."""
    if schema.is_federation_2:
        return []
    return [
        CompositionError(
            "EXTENSION_WITH_NO_BASE",
            f'[{schema.name}] Type "{name}" is an extension type, but there is no type definition for "{name}" in any '
            "subgraph.",
            (schema.name,),
            (found.at,) if found.at else (),
        )
        for name, found in schema.types.items()
        if found.is_extension
        and name not in ROOT_TYPES
        and not any(name in other.types and is_base(other, other.types[name]) for other in subgraphs)
    ]


def is_base(schema: SubgraphSchema, found: TypeDef) -> bool:
    """Whether the subgraph defines the type. In Federation 1, `@extends` says that it does not."""
    return found.has_base and (schema.is_federation_2 or not found.is_extension)


def _without_misuse(schema: SubgraphSchema, subgraphs: Sequence[SubgraphSchema]) -> SubgraphSchema:
    types = {name: _on_interfaces(_without_external(found)) for name, found in schema.types.items()}
    types = {name: _without_external_keys(found, schema, subgraphs) for name, found in types.items()}
    types = {name: _with_useful_field_sets(found, types) for name, found in types.items()}
    used = _used_externals(types)
    types = {name: _without_unused_externals(found, used) for name, found in types.items()}
    return replace(schema, types=types)


def _without_external(found: TypeDef) -> TypeDef:
    """`@external` on a type meant nothing: only fields could be external."""
    if not found.has("external"):
        return found
    return replace(found, directives=tuple(applied for applied in found.directives if applied.name != "external"))


def _on_interfaces(found: TypeDef) -> TypeDef:
    """Interfaces without keys, and their fields without directives that only object fields can have."""
    if found.kind is not TypeKind.INTERFACE:
        return found
    kept = tuple(applied for applied in found.directives if applied.name != "key")
    fields = {name: _without(field, "external", "requires", "provides") for name, field in found.fields.items()}
    return replace(found, directives=kept, fields=fields)


def _without(field: Field, *directives: str) -> Field:
    return replace(field, directives=tuple(applied for applied in field.directives if applied.name not in directives))


def _without_external_keys(found: TypeDef, schema: SubgraphSchema, subgraphs: Sequence[SubgraphSchema]) -> TypeDef:
    """An extended type's key fields without `@external`: the subgraph does resolve them, from the representation."""
    if found.kind is not TypeKind.OBJECT or not found.is_extension:
        return found
    keys = found.all_applied("key")
    if not keys:
        # An extension without a key of its own is reached by the keys of the type's owner.
        keys = tuple(
            key
            for other in subgraphs
            if other.name != schema.name and found.name in other.types
            for key in other.types[found.name].all_applied("key")
        )
    names = {selection.field for key in keys for selection in applied_field_set(key)}
    fields = {name: _without(field, "external") if name in names else field for name, field in found.fields.items()}
    return replace(found, fields=fields)


def _with_useful_field_sets(found: TypeDef, types: Mapping[str, TypeDef]) -> TypeDef:
    """`@provides` and `@requires` only where they say something: of fields that are external there."""

    def cleaned(field: Field, directive: str) -> Field:
        applied = field.applied(directive)
        if applied is None:
            return field
        target = found if directive == "requires" else types.get(named(field.type))
        if target is None or not target.is_composite:
            return _without(field, directive)
        try:
            selections = parse_field_set(applied.string("fields") or "")
        except MalformedFieldSet:
            return field
        kept = _external_part(selections, target, types)
        if kept is None:
            return field
        if not kept:
            return _without(field, directive)
        if kept == selections:
            return field
        rewritten = replace(applied, args=(("fields", sdl_text(printed(kept))),))
        return replace(field, directives=tuple(rewritten if other is applied else other for other in field.directives))

    fields = {name: cleaned(cleaned(field, "provides"), "requires") for name, field in found.fields.items()}
    return replace(found, fields=fields)


def _external_part(selections: FieldSet, parent: TypeDef, types: Mapping[str, TypeDef]) -> FieldSet | None:
    """The selections that reach an external field, None where some selection does not exist."""
    kept: list[Selection] = []
    for selection in selections:
        if selection.field is None:
            target = types.get(selection.on) if selection.on else parent
            inner = _external_part(selection.children, target, types) if target else None
            if inner is None:
                return None
            if inner:
                kept.append(replace(selection, children=inner))
            continue
        if selection.field == "__typename":
            continue
        field = parent.fields.get(selection.field)
        if field is None:
            return None
        if field.has("external") or parent.has("external") or parent.kind is TypeKind.INTERFACE:
            kept.append(selection)
            continue
        target = types.get(named(field.type))
        if selection.children and target is not None:
            inner = _external_part(selection.children, target, types)
            if inner is None:
                return None
            if inner:
                kept.append(replace(selection, children=inner))
    return tuple(kept)


def _used_externals(types: Mapping[str, TypeDef]) -> frozenset[FieldId]:
    """Fields that keys, requirements and provisions mention, or that interfaces ask for."""
    used: set[FieldId] = set()

    def note(parent: str, text: str | None) -> None:
        for visit in visit_fields(types, parent, lenient_field_set(text)):
            used.add(visit.id)
            if visit.parent.kind is TypeKind.INTERFACE:
                used.update(
                    FieldId(found.name, visit.field.name)
                    for found in types.values()
                    if visit.parent.name in found.interfaces
                )

    for found in types.values():
        for key in found.all_applied("key"):
            note(found.name, key.string("fields"))
        for field in found.fields.values():
            for applied in field.directives:
                if applied.name == "requires":
                    note(found.name, applied.string("fields"))
                elif applied.name == "provides":
                    note(named(field.type), applied.string("fields"))
        for interface in found.interfaces:
            if interface in types:
                used.update(FieldId(found.name, name) for name in types[interface].fields)
    return frozenset(used)


def _without_unused_externals(found: TypeDef, used: frozenset[FieldId]) -> TypeDef:
    fields = {
        name: field
        for name, field in found.fields.items()
        if not field.has("external") or FieldId(found.name, name) in used
    }
    return found if len(fields) == len(found.fields) else replace(found, fields=fields)


def _emptied(schema: SubgraphSchema) -> list[CompositionError]:
    """Errors for types that lost all their fields but that other types still refer to."""
    if schema.is_federation_2:
        return []
    return [
        CompositionError(
            "TYPE_WITH_ONLY_UNUSED_EXTERNAL",
            f"[{schema.name}] Type {name} contains only external fields and all those fields are all unused "
            "(they do not appear in any @key, @provides or @requires).",
            (schema.name,),
            (at,) if (at := schema.types[name].at) else (),
        )
        for name in _empty_types(schema) & _referenced(schema)
    ]


def _empty_types(schema: SubgraphSchema) -> set[str]:
    return {
        found.name
        for found in schema.types.values()
        if found.kind is TypeKind.OBJECT and not found.fields and found.name != "Query"
    }


def _referenced(schema: SubgraphSchema) -> set[str]:
    return {
        name
        for found in schema.types.values()
        for name in (*found.members, *(named(field.type) for field in found.fields.values()))
    }


def _without_empty_types(schema: SubgraphSchema) -> SubgraphSchema:
    gone = _empty_types(schema)
    return replace(schema, types={name: found for name, found in schema.types.items() if name not in gone})


def _with_sharing(schema: SubgraphSchema, subgraphs: Sequence[SubgraphSchema]) -> SubgraphSchema:
    """`@shareable` on value types and on entity fields that another subgraph resolves too."""
    others = [other for other in subgraphs if other.name != schema.name]
    types: dict[str, TypeDef] = {}
    for name, found in schema.types.items():
        if found.kind is not TypeKind.OBJECT:
            types[name] = found
        elif not found.has("key") and name not in ROOT_TYPES:
            is_shared = any(name in other.types for other in others)
            types[name] = replace(found, directives=(*found.directives, _SHAREABLE)) if is_shared else found
        else:
            types[name] = replace(
                found,
                fields={key: _shared_field(found, field, others) for key, field in found.fields.items()},
            )
    return replace(schema, types=types)


def _shared_field(parent: TypeDef, field: Field, others: Sequence[SubgraphSchema]) -> Field:
    if field.has("external") or field.has("shareable"):
        return field
    for other in others:
        elsewhere = other.field(FieldId(parent.name, field.name))
        if elsewhere is None:
            continue
        is_provided = any(
            visit.id == FieldId(parent.name, field.name)
            for found in other.types.values()
            for one in found.fields.values()
            for applied in one.directives
            if applied.name == "provides"
            for visit in visit_fields(other.types, named(one.type), applied_field_set(applied))
        )
        if not elsewhere.has("external") or is_provided:
            return replace(field, directives=(*field.directives, _SHAREABLE))
    return field
