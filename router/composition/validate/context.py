"""Checks on `@context` and `@fromContext`. Source: https://specs.apollo.dev/context/v0.1"""

import re
from collections.abc import Iterator

from router.composition.field_sets import FieldSet, MalformedFieldSet, parse_field_set
from router.composition.model import Applied, Field, FieldId, InputValue, TypeDef, TypeKind
from router.composition.ownership import Ownership
from router.composition.type_refs import is_list, named, nullable
from router.composition.validate.from_context import parse_from_context
from router.composition.validate.report import Report

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9]*$")


def check_contexts(report: Report, ownership: Ownership) -> None:
    """Report context names that cannot be, and arguments whose context or selection does not fit."""
    setters: dict[str, list[TypeDef]] = {}
    for found in report.schema.types.values():
        for applied in found.all_applied("context"):
            name = applied.string("name") or ""
            if not _NAME.match(name):
                report.error(
                    "CONTEXT_NAME_INVALID",
                    f'Context name "{name}" is invalid. It should have only alphanumeric characters.',
                    applied.at,
                )
            setters.setdefault(name, []).append(found)
    for found in report.schema.types.values():
        for field in found.fields.values():
            for argument in field.args.values():
                for applied in argument.directives:
                    if applied.name == "fromContext":
                        _Use(report, ownership, setters, found, field, argument, applied).check()


class _Use:
    """One argument that is filled from a context."""

    def __init__(  # the parts of one coordinate
        self,
        report: Report,
        ownership: Ownership,
        setters: dict[str, list[TypeDef]],
        parent: TypeDef,
        field: Field,
        argument: InputValue,
        applied: Applied,
    ) -> None:
        self._report = report
        self._keys = ownership.keys.get(parent.name, ())
        self._setters = setters
        self._parent = parent
        self._argument = argument
        self._applied = applied
        self._coordinate = f"{FieldId(parent.name, field.name)}({argument.name}:)"

    def check(self) -> None:
        if self._parent.kind is not TypeKind.OBJECT:
            self._error(
                "CONTEXT_NOT_SET", "@fromContext argument cannot be used on a field that exists on an interface"
            )
            return
        if self._argument.default is not None:
            self._error("CONTEXT_NOT_SET", "@fromContext arguments may not have a default value")
        parsed = parse_from_context(self._applied.string("field") or "")
        if parsed is None:
            self._error("NO_CONTEXT_IN_SELECTION", f'@fromContext does not reference a context "{self._applied}".')
            return
        setters = self._setters.get(parsed.context)
        if not setters:
            self._error(
                "CONTEXT_NOT_SET",
                f'Context "{parsed.context}" is used at location "{self._coordinate}" but is never set.',
            )
            return
        if not any(key.is_resolvable for key in self._keys):
            self._error(
                "CONTEXT_NO_RESOLVABLE_KEY",
                f'Object "{self._parent.name}" has no resolvable key but has a field with a contextual argument.',
            )
        try:
            field_set = parse_field_set(parsed.selection)
        except MalformedFieldSet as malformed:
            self._invalid(parsed.context, str(malformed))
            return
        for setter in setters:
            for runtime in self._report.schema.possible_types(setter.name):
                self._check_selection(parsed.context, field_set, self._report.schema.types[runtime])

    def _check_selection(self, context: str, field_set: FieldSet, setter: TypeDef) -> None:
        refs = list(self._selected(field_set, setter))
        if len(refs) > 1 or sum(selection.field is not None for selection in field_set) > 1:
            self._invalid(context, "multiple selections are made")
        elif not refs and not any(selection.on for selection in field_set):
            self._invalid(context, f'the selection is invalid for type "{setter.name}"')
        elif refs and not _fits(refs[0], self._argument.type):
            self._invalid(
                context,
                f'the type of the selection "{refs[0]}" does not match the expected type "{self._argument.type}"',
            )

    def _selected(self, field_set: FieldSet, parent: TypeDef) -> Iterator[str]:
        """The types of the leaves that the selection takes from an object of type `parent`."""
        types = self._report.schema.types
        for selection in field_set:
            if selection.field is None:
                if selection.on in (None, parent.name) or parent.name in self._report.schema.possible_types(
                    selection.on or ""
                ):
                    yield from self._selected(selection.children, parent)
                continue
            field = parent.fields.get(selection.field)
            if field is None:
                continue
            if not selection.children:
                yield field.type
                continue
            target = types.get(named(field.type))
            if target is not None:
                for leaf in self._selected(selection.children, target):
                    yield f"[{leaf}]" if is_list(nullable(field.type)) else leaf

    def _invalid(self, context: str, why: str) -> None:
        self._error(
            "CONTEXT_INVALID_SELECTION",
            f'Context "{context}" is used in "{self._coordinate}" but the selection is invalid: {why}',
        )

    def _error(self, code: str, message: str) -> None:
        self._report.error(code, message, self._applied.at)


def _fits(selected: str, expected: str) -> bool:
    """The argument has to be nullable whatever the selection is: the object that sets the context may be missing."""
    return nullable(selected) == expected
