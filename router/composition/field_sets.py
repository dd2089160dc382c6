"""Field sets: the selections inside `@key(fields:)`, `@requires(fields:)` and `@provides(fields:)`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from graphql import (
    FieldNode,
    GraphQLSyntaxError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
    print_ast,
)

from router.composition.model import Field, FieldId, TypeDef
from router.composition.type_refs import named


class MalformedFieldSet(ValueError):
    """The text is not a selection of fields and inline fragments."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A field with its subselections, or, where `field` is None, an inline fragment on `on`."""

    field: str | None
    on: str | None = None
    children: tuple["Selection", ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()
    """Name and value, as SDL."""
    has_alias: bool = False
    has_directives: bool = False

    def __str__(self) -> str:
        given = f"({', '.join(f'{name}: {text}' for name, text in self.arguments)})" if self.arguments else ""
        head = f"{self.field}{given}" if self.field is not None else f"... on {self.on}" if self.on else "..."
        return f"{head} {{ {printed(self.children)} }}" if self.children else head


FieldSet = tuple[Selection, ...]


def printed(field_set: FieldSet) -> str:
    return " ".join(str(selection) for selection in field_set)


@lru_cache(maxsize=20_000)
def parse_field_set(text: str) -> FieldSet:
    """The selections of a field set, written with or without its outer braces.

    Raises:
        MalformedFieldSet: it does not parse, is empty, or uses fragment spreads.
    """
    braced = text if text.strip().startswith("{") else f"{{ {text} }}"
    try:
        document = parse(braced, no_location=True)
    except GraphQLSyntaxError as error:
        raise MalformedFieldSet(error.message) from error
    operation = document.definitions[0]
    if len(document.definitions) != 1 or not isinstance(operation, OperationDefinitionNode):
        raise MalformedFieldSet("Syntax Error: Expected one selection of fields.")
    found = _selections(operation.selection_set)
    if not found:
        raise MalformedFieldSet("Syntax Error: Expected at least one field.")
    return found


def _selections(node: SelectionSetNode | None) -> FieldSet:
    found: list[Selection] = []
    for selection in node.selections if node else ():
        if isinstance(selection, FieldNode):
            found.append(
                Selection(
                    field=selection.name.value,
                    children=_selections(selection.selection_set),
                    arguments=tuple(
                        (argument.name.value, print_ast(argument.value)) for argument in selection.arguments or ()
                    ),
                    has_alias=selection.alias is not None,
                    has_directives=bool(selection.directives),
                )
            )
        elif isinstance(selection, InlineFragmentNode):
            found.append(
                Selection(
                    field=None,
                    on=selection.type_condition.name.value if selection.type_condition else None,
                    children=_selections(selection.selection_set),
                    has_directives=bool(selection.directives),
                )
            )
        else:
            raise MalformedFieldSet("A field set cannot spread named fragments.")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Visit:
    """A field met in a field set: on which type, and what is selected below it."""

    parent: TypeDef
    field: Field
    selection: Selection

    @property
    def id(self) -> FieldId:
        return FieldId(self.parent.name, self.field.name)


def visit_fields(types: Mapping[str, TypeDef], parent: str, field_set: FieldSet) -> Iterator[Visit]:
    """Every field that the set selects from `parent`, parents before children; what does not exist is passed over."""
    type_def = types.get(parent)
    if type_def is None:
        return
    for selection in field_set:
        if selection.field is None:
            yield from visit_fields(types, selection.on or parent, selection.children)
            continue
        field = type_def.fields.get(selection.field)
        if field is None:
            continue
        yield Visit(type_def, field, selection)
        if selection.children:
            yield from visit_fields(types, named(field.type), selection.children)


def lenient_field_set(text: str | None) -> FieldSet:
    """The parsed set, empty where the text is missing or malformed (validation reports those)."""
    if text is None:
        return ()
    try:
        return parse_field_set(text)
    except MalformedFieldSet:
        return ()
