"""Which fields a subgraph resolves itself, and on what terms: the facts that its federation directives add up to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from router.composition.field_sets import FieldSet, Visit, lenient_field_set, visit_fields
from router.composition.model import Applied, FieldId, SubgraphSchema, TypeDef, TypeKind
from router.composition.type_refs import named
from router.composition.validate.from_context import FromContext, parse_from_context


@dataclass(frozen=True, slots=True)
class Key:
    text: str
    selection: FieldSet
    is_resolvable: bool


@dataclass(frozen=True, slots=True)
class Ownership:
    """Facts about one subgraph; all coordinates are the subgraph's."""

    keys: Mapping[str, tuple[Key, ...]]
    key_fields: frozenset[FieldId]
    external: frozenset[FieldId]
    """Fields that the subgraph declares but does not resolve by itself."""
    provided: frozenset[FieldId]
    """Fields that some `@provides` mentions: external ones among them are resolved on certain paths."""
    used: frozenset[FieldId]
    """Fields that keys, requirements, provisions and contexts mention."""
    shareable: frozenset[FieldId]

    @classmethod
    def of(cls, schema: SubgraphSchema) -> "Ownership":
        keys = {name: tuple(_keys(found)) for name, found in schema.types.items() if found.has("key")}
        key_fields = frozenset(
            coordinate
            for name, declared in keys.items()
            for key in declared
            for visit in visit_fields(schema.types, name, key.selection)
            for coordinate in with_implementations(schema, visit)
        )
        provided: set[FieldId] = set()
        required: set[FieldId] = set()
        for parent in schema.types.values():
            for field in parent.fields.values():
                for applied in field.directives:
                    if applied.name == "provides":
                        for visit in visit_fields(schema.types, named(field.type), applied_field_set(applied)):
                            provided.update(with_implementations(schema, visit))
                    elif applied.name == "requires":
                        for visit in visit_fields(schema.types, parent.name, applied_field_set(applied)):
                            required.update(with_implementations(schema, visit))
        shareable = frozenset(_shareable(schema, key_fields))
        return cls(
            keys=keys,
            key_fields=key_fields,
            external=frozenset(_external(schema, keys)),
            provided=frozenset(provided),
            used=frozenset(key_fields | provided | required | _contextual(schema)),
            shareable=shareable,
        )


def applied_field_set(applied: Applied) -> FieldSet:
    return lenient_field_set(applied.string("fields"))


def with_implementations(schema: SubgraphSchema, visit: Visit) -> Iterator[FieldId]:
    """The visited field, and, where it is an interface's, the fields that implement it."""
    yield visit.id
    if visit.parent.kind is TypeKind.INTERFACE:
        for name in schema.possible_types(visit.parent.name):
            if visit.field.name in schema.types[name].fields:
                yield FieldId(name, visit.field.name)


def _contextual(schema: SubgraphSchema) -> set[FieldId]:
    """The fields that arguments with `@fromContext` take their values from."""
    setters: dict[str, list[str]] = {}
    for found in schema.types.values():
        for applied in found.all_applied("context"):
            setters.setdefault(applied.string("name") or "", []).append(found.name)
    used: set[FieldId] = set()
    for reads in _reads_of_contexts(schema) if setters else ():
        for setter in setters.get(reads.context, ()):
            for visit in visit_fields(schema.types, setter, lenient_field_set(reads.selection)):
                used.update(with_implementations(schema, visit))
    return used


def _reads_of_contexts(schema: SubgraphSchema) -> Iterator[FromContext]:
    for found in schema.types.values():
        arguments = (argument for field in found.fields.values() for argument in field.args.values())
        for applied in (applied for argument in arguments for applied in argument.directives):
            if applied.name == "fromContext":
                reads = parse_from_context(applied.string("field") or "")
                if reads is not None:
                    yield reads


def _keys(found: TypeDef) -> Iterator[Key]:
    for applied in found.all_applied("key"):
        text = applied.string("fields")
        if text is not None:
            yield Key(text, lenient_field_set(text), applied.text("resolvable") != "false")


def _external(schema: SubgraphSchema, keys: Mapping[str, tuple[Key, ...]]) -> Iterator[FieldId]:
    for found in schema.types.values():
        whole_type = found.has("external")
        own_keys = _own_key_fields(found, keys) if found.is_extension else frozenset()
        for field in found.fields.values():
            # On `extend type`, `@external` on a key field is the Federation 1 way of writing a plain key field.
            if (whole_type or field.has("external")) and field.name not in own_keys:
                yield FieldId(found.name, field.name)


def _own_key_fields(found: TypeDef, keys: Mapping[str, tuple[Key, ...]]) -> frozenset[str]:
    return frozenset(
        selection.field for key in keys.get(found.name, ()) for selection in key.selection if selection.field
    )


def _shareable(schema: SubgraphSchema, key_fields: frozenset[FieldId]) -> Iterator[FieldId]:
    for found in schema.types.values():
        whole_type = found.has("shareable")
        for field in found.fields.values():
            coordinate = FieldId(found.name, field.name)
            if whole_type or field.has("shareable") or coordinate in key_fields:
                yield coordinate
