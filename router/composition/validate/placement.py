"""Checks on where one subgraph puts `@external`, `@shareable`, `@interfaceObject` and authorization directives."""

from router.composition.model import Field, FieldId, TypeDef, TypeKind
from router.composition.ownership import Ownership
from router.composition.validate.report import Report

_MERGED = ("tag", "inaccessible", "authenticated", "requiresScopes", "policy", "cost", "listSize")
_AUTH = ("authenticated", "requiresScopes", "policy")


def check_placement(report: Report, ownership: Ownership) -> None:
    """Report directives on elements where they mean nothing or contradict each other."""
    for found in report.schema.types.values():
        if found.kind is TypeKind.INTERFACE:
            _check_interface(report, found)
        _check_auth(report, found)
        if found.is_interface_object and not found.has("key"):
            report.error(
                "INTERFACE_OBJECT_USAGE_ERROR",
                f'The @interfaceObject directive can only be applied to entity types but type "{found.name}" has no '
                "@key in this subgraph.",
                found.at,
            )
        _check_shareable_once(report, found)
        for field in found.fields.values():
            if field.has("external") and found.kind is TypeKind.OBJECT:
                _check_external(report, found, field)
        _check_unused_external(report, ownership, found)


def _check_shareable_once(report: Report, found: TypeDef) -> None:
    """`@shareable` may be repeated only so that a type's definition and its extensions can each carry it."""
    shareable = found.all_applied("shareable")
    if len({applied.extension for applied in shareable}) < len(shareable):
        report.error(
            "INVALID_SHAREABLE_USAGE",
            f'Invalid duplicate application of @shareable on the same type declaration of "{found.name}"',
            shareable[-1].at,
        )
    for field in found.fields.values():
        if sum(applied.name == "shareable" for applied in field.directives) > 1:
            report.error(
                "INVALID_SHAREABLE_USAGE",
                f'Invalid duplicate application of @shareable on field "{FieldId(found.name, field.name)}"',
                field.at,
            )


def _check_interface(report: Report, found: TypeDef) -> None:
    for field in found.fields.values():
        coordinate = FieldId(found.name, field.name)
        if field.has("external"):
            report.error(
                "EXTERNAL_ON_INTERFACE",
                f'Interface type field "{coordinate}" is marked @external but @external is not allowed on interface '
                "fields.",
                field.at,
            )
        if field.has("shareable"):
            report.error(
                "INVALID_SHAREABLE_USAGE",
                f'Invalid use of @shareable on field "{coordinate}": only object type fields can be marked with '
                "@shareable",
                field.at,
            )


def _check_auth(report: Report, found: TypeDef) -> None:
    """Authorization is a matter of the objects behind an interface, so it is refused on the interface itself. The fields
    that an `@interfaceObject` adds are its own."""
    if found.kind is not TypeKind.INTERFACE and not found.is_interface_object:
        return
    kind = "interface object" if found.is_interface_object else "interface"
    for name in _AUTH:
        if found.has(name):
            report.error(
                "AUTH_REQUIREMENTS_APPLIED_ON_INTERFACE",
                f'Invalid use of @{name} on {kind} "{found.name}": @{name} cannot be applied on interfaces or '
                "interface objects",
                found.at,
            )
        for field in found.fields.values():
            if field.has(name) and found.kind is TypeKind.INTERFACE:
                report.error(
                    "AUTH_REQUIREMENTS_APPLIED_ON_INTERFACE",
                    f'Invalid use of @{name} on field "{found.name}.{field.name}" of interface "{found.name}": @{name} '
                    "cannot be applied on interface fields",
                    field.at,
                )


def _check_external(report: Report, parent: TypeDef, field: Field) -> None:
    coordinate = FieldId(parent.name, field.name)
    for name in _MERGED:
        if field.has(name):
            report.error(
                "MERGED_DIRECTIVE_APPLICATION_ON_EXTERNAL",
                f'Cannot apply merged directive @{name} to external field "{coordinate}"',
                field.at,
            )


def _check_unused_external(report: Report, ownership: Ownership, found: TypeDef) -> None:
    if not report.schema.is_federation_2:
        return
    for field in found.fields.values():
        coordinate = FieldId(found.name, field.name)
        if coordinate not in ownership.external or coordinate in ownership.used:
            continue
        if any(
            field.name in report.schema.types[interface].fields
            for interface in found.interfaces
            if interface in report.schema.types
        ):
            continue
        report.error(
            "EXTERNAL_UNUSED",
            f'Field "{coordinate}" is marked @external but is not used in any federation directive (@key, @provides, '
            "@requires) or to satisfy an interface; the field declaration has no use and should be removed (or the "
            "field should not be @external).",
            field.at,
        )
