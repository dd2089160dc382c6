"""Authorization across types: interfaces ask for what their implementations ask for, and a field that needs another's
data asks for no less than that other."""

from collections.abc import Iterator, Mapping, Sequence
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


def spread_to_interfaces(context: MergeContext, types: Mapping[str, TypeDef]) -> dict[str, TypeDef]:
    """The types, where each interface and each of its fields carries all that its implementations demand."""
    names = [context.composed_directives[name] for name in _AUTH if name in context.composed_directives]
    if not names:
        return dict(types)
    return {
        name: _with_demands(found, _implementations(types, name), names) if found.kind is TypeKind.INTERFACE else found
        for name, found in types.items()
    }


def _implementations(types: Mapping[str, TypeDef], interface: str) -> list[TypeDef]:
    return [found for found in types.values() if found.kind is TypeKind.OBJECT and interface in found.interfaces]


def _with_demands(interface: TypeDef, implementations: Sequence[TypeDef], names: Sequence[str]) -> TypeDef:
    fields = {
        name: replace(
            field,
            directives=(
                *field.directives,
                *_demands([found.fields[name].directives for found in implementations if name in found.fields], names),
            ),
        )
        for name, field in interface.fields.items()
    }
    own = _demands([found.directives for found in implementations], names)
    return replace(interface, fields=fields, directives=(*interface.directives, *own))


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
