"""Authorization across types: implementations ask for what an `@interfaceObject` of theirs asks for, interfaces for what
their implementations ask for, and a field that needs another's data asks for no less than that other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from router.composition.field_sets import visit_fields
from router.composition.merge.context import MergeContext, Source
from router.composition.merge.directives import all_of
from router.composition.model import Applied, Field, FieldId, TypeDef, TypeKind
from router.composition.ownership import applied_field_set
from router.composition.sdl_text import sdl_text
from router.composition.type_refs import named

_ARGUMENTS = {"requiresScopes": "scopes", "policy": "policies"}
_AUTH = ("authenticated", "requiresScopes", "policy")


def spread_demands(context: MergeContext, types: Mapping[str, TypeDef]) -> dict[str, TypeDef]:
    """The types, where each field of an object carries what `@interfaceObject`s demand for it, and then each interface
    and each of its fields all that its implementations demand."""
    names = [context.composed_directives[name] for name in _AUTH if name in context.composed_directives]
    if not names:
        return dict(types)
    objects = {
        name: _with_demands(found, [types[one] for one in found.interfaces if one in types], names)
        for name, found in types.items()
        if found.kind is TypeKind.OBJECT
    }
    return {
        name: _with_demands(found, _implementations(objects.values(), name), names)
        if found.kind is TypeKind.INTERFACE
        else objects.get(name, found)
        for name, found in types.items()
    }


def _implementations(objects: Iterable[TypeDef], interface: str) -> list[TypeDef]:
    return [found for found in objects if interface in found.interfaces]


def _with_demands(found: TypeDef, others: Sequence[TypeDef], names: Sequence[str]) -> TypeDef:
    """The type with its own demands and those of the others, for itself and for the fields that they share.

    Only interfaces that are merged from an `@interfaceObject` can have demands of their own, and those on fields.
    """
    if not others:
        return found
    fields = {
        name: replace(
            field,
            directives=_combined(
                field.directives, [other.fields[name].directives for other in others if name in other.fields], names
            ),
        )
        for name, field in found.fields.items()
    }
    own = _combined(found.directives, [other.directives for other in others], names)
    return replace(found, fields=fields, directives=own)


def _combined(
    own: tuple[Applied, ...], others: Sequence[tuple[Applied, ...]], names: Sequence[str]
) -> tuple[Applied, ...]:
    if not any(applied.name in names for directives in others for applied in directives):
        return own
    kept = (applied for applied in own if applied.name not in names)
    return (*kept, *_demands([own, *others], names))


def _demands(sources: Sequence[tuple[Applied, ...]], names: Sequence[str]) -> Iterator[Applied]:
    for name in names:
        distinct = list(dict.fromkeys(applied for every in sources for applied in every if applied.name == name))
        if len(distinct) == 1:
            yield distinct[0]
        elif distinct:
            argument = distinct[0].args[0][0]
            yield Applied(name, ((argument, sdl_text(all_of([applied.value(argument) for applied in distinct]))),))


@dataclass(frozen=True, slots=True)
class _Demand:
    """What must hold of a request. Scopes and policies are ORs of ANDs; None demands nothing."""

    is_authenticated: bool = False
    scopes: frozenset[frozenset[str]] | None = None
    policies: frozenset[frozenset[str]] | None = None

    def covers(self, other: "_Demand") -> bool:
        """Whether whoever meets this meets the other too."""
        return (
            (self.is_authenticated or not other.is_authenticated)
            and _implies(self.scopes, other.scopes)
            and _implies(self.policies, other.policies)
        )


def _implies(given: frozenset[frozenset[str]] | None, needed: frozenset[frozenset[str]] | None) -> bool:
    if needed is None:
        return True
    return given is not None and all(any(term <= held for term in needed) for held in given)


def check_transitive(
    context: MergeContext, types: Mapping[str, TypeDef], by_type: Mapping[str, Sequence[Source[TypeDef]]]
) -> None:
    """Report fields that read, by `@requires`, data that they do not themselves protect."""
    if not any(name in context.composed_directives for name in _AUTH):
        return
    for sources in by_type.values():
        for source in sources:
            for field in source.value.fields.values():
                applied = field.applied("requires")
                if applied is not None:
                    _check_requires(context, types, Source(source.schema, field), source.value, applied)


def _check_requires(
    context: MergeContext, types: Mapping[str, TypeDef], source: Source[Field], parent: TypeDef, applied: Applied
) -> None:
    merged = types.get(parent.name)
    own = merged.fields.get(source.value.name) if merged else None
    if merged is None or own is None:
        return
    given = _demand(context, [*merged.directives, *own.directives])
    for visit in visit_fields(source.schema.types, parent.name, applied_field_set(applied)):
        holder = types.get(visit.parent.name)
        read = holder.fields.get(visit.field.name) if holder else None
        if holder is None or read is None:
            continue
        target = types.get(named(read.type))
        needed = _demand(context, [*holder.directives, *read.directives, *(target.directives if target else ())])
        if not given.covers(needed):
            coordinate = FieldId(parent.name, source.value.name)
            context.error(
                "MISSING_TRANSITIVE_AUTH_REQUIREMENTS",
                f'[{source.schema.name}] Field "{coordinate}" does not specify necessary @authenticated, @requiresScopes '
                f'and/or @policy auth requirements to access the transitive field "{visit.id}" data from @requires '
                "selection set.",
                [source],
            )


def _demand(context: MergeContext, directives: Sequence[Applied]) -> _Demand:
    names = context.composed_directives
    return _Demand(
        any(applied.name == names.get("authenticated") for applied in directives),
        *(
            _alternatives([applied for applied in directives if applied.name == names.get(name)], argument)
            for name, argument in _ARGUMENTS.items()
        ),
    )


def _alternatives(applied: Sequence[Applied], argument: str) -> frozenset[frozenset[str]] | None:
    if not applied:
        return None
    return frozenset(frozenset(every) for every in all_of([one.value(argument) for one in applied]))
