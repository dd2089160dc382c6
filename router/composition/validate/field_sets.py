"""Checks on `@key`, `@requires` and `@provides` of one subgraph."""

from collections.abc import Iterator
from dataclasses import dataclass

from router.composition.field_sets import FieldSet, MalformedFieldSet, Selection, parse_field_set
from router.composition.model import Applied, Field, FieldId, SubgraphSchema, TypeDef, TypeKind
from router.composition.ownership import Ownership
from router.composition.type_refs import named
from router.composition.validate.report import Report
from router.composition.validate.values import argument_error


@dataclass(frozen=True, slots=True)
class _Use:
    """A field set in use: by which directive, on what, selecting from which type."""

    directive: str
    applied: Applied
    where: str
    parent: str

    @property
    def code(self) -> str:
        return self.directive.upper()

    @property
    def what(self) -> str:
        return f"On {self.where}, for {self.applied}"


def check_field_sets(report: Report, ownership: Ownership) -> None:
    """Report every field set that is malformed, selects what it must not, or misses an `@external`."""
    for use in _uses(report):
        _Check(report, ownership, use).run()


def _uses(report: Report) -> Iterator[_Use]:
    schema = report.schema
    for found in schema.types.values():
        for applied in found.all_applied("key"):
            if found.kind is TypeKind.INTERFACE and schema.federation < (2, 3):
                report.error(
                    "KEY_UNSUPPORTED_ON_INTERFACE",
                    f'Cannot use @key on interface "{found.name}": @key is not yet supported on interfaces',
                    applied.at,
                )
                continue
            yield _Use("key", applied, f'type "{found.name}"', found.name)
        for field in found.fields.values():
            yield from _uses_on_field(report, found, field)


def _uses_on_field(report: Report, parent: TypeDef, field: Field) -> Iterator[_Use]:
    coordinate = FieldId(parent.name, field.name)
    for applied in field.directives:
        if applied.name not in ("requires", "provides"):
            continue
        if parent.kind is TypeKind.INTERFACE:
            report.error(
                f"{applied.name.upper()}_UNSUPPORTED_ON_INTERFACE",
                f'Cannot use @{applied.name} on field "{coordinate}" of parent type "{parent.name}": '
                f"@{applied.name} is not yet supported within interfaces",
                applied.at,
            )
        if applied.name == "requires":
            yield _Use("requires", applied, f'field "{coordinate}"', parent.name)
        else:
            target = report.schema.types.get(named(field.type))
            if target is None or not target.is_composite:
                report.error(
                    "PROVIDES_ON_NON_OBJECT_FIELD",
                    f'Invalid @provides directive on field "{coordinate}": field has type "{field.type}" which is not '
                    "a Composite Type",
                    applied.at,
                )
            else:
                yield _Use("provides", applied, f'field "{coordinate}"', target.name)


class _Check:
    """The check of one field set."""

    def __init__(self, report: Report, ownership: Ownership, use: _Use) -> None:
        self._report = report
        self._ownership = ownership
        self._use = use
        self._schema: SubgraphSchema = report.schema

    def run(self) -> None:
        text = self._use.applied.string("fields")
        if text is None:
            self._error("INVALID_FIELDS_TYPE", 'Invalid value for argument "fields": must be a string.')
            return
        try:
            field_set = parse_field_set(text)
        except MalformedFieldSet as malformed:
            self._error("INVALID_FIELDS", str(malformed))
            return
        if _has_alias(field_set):
            self._error("INVALID_FIELDS", "Cannot use aliases in a field set.")
            return
        self._selections(field_set, self._schema.types[self._use.parent], under_external=False)

    def _error(self, suffix: str, message: str) -> None:
        self._report.error(f"{self._use.code}_{suffix}", f"{self._use.what}: {message}", self._use.applied.at)

    def _selections(self, field_set: FieldSet, parent: TypeDef, *, under_external: bool) -> None:
        for selection in field_set:
            if selection.has_directives:
                self._error("DIRECTIVE_IN_FIELDS_ARG", "cannot have directive applications in the field set.")
                continue
            if selection.field is None:
                self._fragment(selection.on, selection.children, parent, under_external=under_external)
                continue
            if selection.field == "__typename":
                if self._use.directive != "key" and not under_external:
                    self._report_not_external(FieldId(parent.name, "__typename"))
                continue
            field = parent.fields.get(selection.field)
            if field is None:
                self._error(
                    "INVALID_FIELDS",
                    f'Cannot query field "{selection.field}" on type "{parent.name}" (if the field is defined in '
                    "another subgraph, you need to add it to this subgraph with @external).",
                )
                continue
            self._field(parent, field, selection, under_external=under_external)

    def _fragment(self, on: str | None, children: FieldSet, parent: TypeDef, *, under_external: bool) -> None:
        target = self._schema.types.get(on) if on else parent
        if target is None:
            self._error("INVALID_FIELDS", f'Unknown type "{on}".')
            return
        possible = set(self._schema.possible_types(parent.name)) & set(self._schema.possible_types(target.name))
        if not possible and target.name != parent.name:
            self._error("INVALID_FIELDS", f'Fragment on "{on}" can never apply to type "{parent.name}".')
            return
        self._selections(children, target, under_external=under_external)

    def _field(self, parent: TypeDef, field: Field, selection: Selection, *, under_external: bool) -> None:
        children = selection.children
        coordinate = FieldId(parent.name, field.name)
        target = self._schema.types.get(named(field.type))
        is_composite = target is not None and target.is_composite
        if self._use.directive == "key" and self._has_barred_type(coordinate, target):
            return
        if is_composite and not children:
            self._error(
                "INVALID_FIELDS", f'Field "{coordinate}" of type "{field.type}" needs a selection of subfields.'
            )
            return
        if children and not is_composite:
            self._error("INVALID_FIELDS", f'Field "{coordinate}" of type "{field.type}" has no subfields to select.')
            return
        wrong = argument_error(self._schema.types, coordinate, field, selection.arguments)
        if wrong:
            self._error("INVALID_FIELDS", wrong)
            return
        if field.args and self._use.directive != "requires":
            self._error("FIELDS_HAS_ARGS", f"field {coordinate} cannot be included because it has arguments.")
        is_external = self._is_external(parent, field)
        if self._use.directive != "key" and not under_external and not is_external and not children:
            self._report_not_external(coordinate)
        if children and target is not None:
            self._selections(children, target, under_external=under_external or is_external)

    def _has_barred_type(self, coordinate: FieldId, target: TypeDef | None) -> bool:
        if target is None or target.kind not in (TypeKind.INTERFACE, TypeKind.UNION):
            return False
        self._error(
            "FIELDS_SELECT_INVALID_TYPE",
            f'field "{coordinate}" is a {target.kind.name.title()} type which is not allowed in @key',
        )
        return True

    def _is_external(self, parent: TypeDef, field: Field) -> bool:
        """Whether the field, or, for an interface's field, any of its implementations, is external."""
        external = self._ownership.external
        if FieldId(parent.name, field.name) in external or field.has("external") or parent.has("external"):
            return True
        return parent.kind is TypeKind.INTERFACE and any(
            FieldId(name, field.name) in external for name in self._schema.possible_types(parent.name)
        )

    def _report_not_external(self, coordinate: FieldId) -> None:
        if not self._schema.is_federation_2 and (
            self._use.directive == "requires" or coordinate in self._ownership.key_fields
        ):
            return
        self._error(
            "FIELDS_MISSING_EXTERNAL",
            f'field "{coordinate}" should not be part of a @{self._use.directive} since it is already provided by this '
            "subgraph (it is not marked @external)",
        )


def _has_alias(field_set: FieldSet) -> bool:
    return any(selection.has_alias or _has_alias(selection.children) for selection in field_set)
