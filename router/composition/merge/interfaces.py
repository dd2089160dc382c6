"""Checks on interfaces that need all subgraphs: entity interfaces, `@interfaceObject`, and implementations."""

from collections.abc import Mapping, Sequence

from router.composition.errors import quoted
from router.composition.merge.context import MergeContext, Source
from router.composition.model import TypeDef, TypeKind


def check_interfaces(
    context: MergeContext, types: Mapping[str, TypeDef], by_type: Mapping[str, Sequence[Source[TypeDef]]]
) -> None:
    """Report entity interfaces whose subgraph cannot answer for all implementations."""
    for interface in types.values():
        if interface.kind is not TypeKind.INTERFACE:
            continue
        implementations = [
            found.name
            for found in types.values()
            if found.kind is TypeKind.OBJECT and interface.name in found.interfaces
        ]
        sources = by_type[interface.name]
        for source in sources:
            if source.value.is_interface_object:
                _check_object(context, source, implementations)
            elif source.value.has("key"):
                _check_keys(context, source, implementations)


def check_implementations(
    context: MergeContext, types: Mapping[str, TypeDef], by_type: Mapping[str, Sequence[Source[TypeDef]]]
) -> None:
    """Report interface fields that an implementation has in no subgraph."""
    for interface in types.values():
        if interface.kind is TypeKind.INTERFACE:
            implementations = [
                found
                for found in types.values()
                if found.kind is TypeKind.OBJECT and interface.name in found.interfaces
            ]
            _check_fields(context, interface, implementations, by_type[interface.name])


def _check_object(context: MergeContext, source: Source[TypeDef], implementations: Sequence[str]) -> None:
    present = [name for name in implementations if name in source.schema.types]
    if present:
        name, subgraph = source.value.name, source.schema.name
        context.error(
            "INTERFACE_OBJECT_USAGE_ERROR",
            f'[{subgraph}] Interface type "{name}" is defined as an @interfaceObject in subgraph "{subgraph}" so that '
            f'subgraph should not define any of the implementation types of "{name}", but it defines '
            f"{quoted(present, 'type')}",
            [source],
        )


def _check_keys(context: MergeContext, source: Source[TypeDef], implementations: Sequence[str]) -> None:
    interface, subgraph = source.value.name, source.schema.name
    local = set(source.schema.possible_types(interface))
    for key in context.ownership(subgraph).keys[interface]:
        told = f'@key(fields: "{key.text}")'
        for name in sorted(local):
            same = [
                other for other in context.ownership(subgraph).keys.get(name, ()) if other.selection == key.selection
            ]
            if not same:
                context.error(
                    "INTERFACE_KEY_NOT_ON_IMPLEMENTATION",
                    f'[{subgraph}] Key {told} on interface type "{interface}" is missing on implementation type "{name}".',
                    [source],
                )
            elif key.is_resolvable and not any(other.is_resolvable for other in same):
                context.error(
                    "INTERFACE_KEY_NOT_ON_IMPLEMENTATION",
                    f'[{subgraph}] Key {told} on interface type "{interface}" should be resolvable on all implementation '
                    f'types, but is declared with argument "@key(resolvable:)" set to false in type "{name}".',
                    [source],
                )
        missing = [name for name in implementations if name not in local]
        if key.is_resolvable and missing:
            context.error(
                "INTERFACE_KEY_MISSING_IMPLEMENTATION_TYPE",
                f'[{subgraph}] Interface type "{interface}" has a resolvable key ({told}) in subgraph "{subgraph}" but '
                f'that subgraph is missing some of the supergraph implementation types of "{interface}". Subgraph '
                f'"{subgraph}" should define {quoted(missing, "type")} (and have it implement "{interface}").',
                [source],
            )


def _check_fields(
    context: MergeContext,
    interface: TypeDef,
    implementations: Sequence[TypeDef],
    sources: Sequence[Source[TypeDef]],
) -> None:
    added = {name for source in sources if source.value.is_interface_object for name in source.value.fields}
    for found in implementations:
        for name in interface.fields:
            if name in found.fields or name in added:
                continue
            declaring = [source for source in sources if name in source.value.fields]
            context.error(
                "INTERFACE_FIELD_NO_IMPLEM",
                f'Interface field "{interface.name}.{name}" is declared in '
                f'{quoted([source.schema.name for source in declaring])} but type "{found.name}", which implements '
                f'"{interface.name}", does not include field "{name}" in any subgraph.',
                declaring,
            )
