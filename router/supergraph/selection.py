"""Selections as the planner sees them: fields with their response key and arguments, and type conditions, nothing else.

Operations and federation field sets share this form, so that a key or a `@requires` is planned exactly like a client's
fields. Values compare by identity: the planner memoizes on the selection object it was given.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from graphql import FieldNode, InlineFragmentNode, SelectionSetNode, ValueNode, parse, print_ast
from graphql.language import OperationDefinitionNode

from router.errors import InvalidSupergraph

Argument = tuple[str, ValueNode]
NOT_DEFERRED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One field.

    key: the name under which the value is stored and answered.
    arguments_text: the arguments as printed, sorted by name, or "" without any.
    selection: None for a leaf.
    defers: the deferred fragments that ask for it, NOT_DEFERRED for what stands outside of them; None: as if that alone.
    """

    key: str
    name: str
    arguments: tuple[Argument, ...] = ()
    arguments_text: str = ""
    selection: "Selection | None" = None
    defers: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """Fields that apply to one object type, or to the possible types of one abstract type."""

    type_condition: str
    selection: "Selection"


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Fields and fragments, in the order in which they were written."""

    items: tuple[Field | Fragment, ...]

    def __str__(self) -> str:
        return print_selection(self)


def shared(selection: Selection) -> Selection:
    """The same selection, in which equal parts are one object: what is found out for one is known for the others."""
    return _Sharing().selection(selection)


class _Sharing:
    def __init__(self) -> None:
        self._selections: dict[tuple[Field | Fragment, ...], Selection] = {}
        self._fields: dict[tuple[str, str, str, Selection | None, frozenset[int] | None], Field] = {}
        self._fragments: dict[tuple[str, Selection], Fragment] = {}

    def selection(self, selection: Selection) -> Selection:
        items = tuple(self._field(i) if isinstance(i, Field) else self._fragment(i) for i in selection.items)
        return self._selections.setdefault(items, Selection(items))

    def _field(self, item: Field) -> Field:
        below = None if item.selection is None else self.selection(item.selection)
        same = (item.key, item.name, item.arguments_text, below, item.defers)
        known = self._fields.get(same)
        if known is None:
            known = item
            if below is not item.selection:
                known = Field(item.key, item.name, item.arguments, item.arguments_text, below, item.defers)
            self._fields[same] = known
        return known

    def _fragment(self, item: Fragment) -> Fragment:
        below = self.selection(item.selection)
        return self._fragments.setdefault((item.type_condition, below), Fragment(item.type_condition, below))


def merged_fields(fields: list[Field]) -> Field:
    """Fields of one response key as one field."""
    first = fields[0]
    if len(fields) == 1 or first.selection is None:
        return first
    items = tuple(item for field in fields if field.selection for item in field.selection.items)
    return Field(first.key, first.name, first.arguments, first.arguments_text, merge_items(items))


def merge_items(items: Iterable[Field | Fragment]) -> Selection:
    """One selection of all items, fields with one response key and fragments on one type merged."""
    fields: dict[str, list[Field]] = {}
    fragments: dict[str, list[Field | Fragment]] = {}
    for item in items:
        if isinstance(item, Field):
            fields.setdefault(item.key, []).append(item)
        else:
            fragments.setdefault(item.type_condition, []).extend(item.selection.items)
    return Selection(
        (
            *(merged_fields(same) for same in fields.values()),
            *(Fragment(condition, merge_items(inner)) for condition, inner in fragments.items()),
        )
    )


def print_selection(selection: Selection) -> str:
    """The selection in one line, without the outer braces."""
    return " ".join(print_item(item) for item in selection.items)


def print_item(item: Field | Fragment) -> str:
    """One field or fragment, with what is below it."""
    if isinstance(item, Fragment):
        return f"... on {item.type_condition} {{ {print_selection(item.selection)} }}"
    alias = "" if item.key == item.name else f"{item.key}: "
    children = "" if item.selection is None else f" {{ {print_selection(item.selection)} }}"
    return f"{alias}{item.name}{item.arguments_text}{children}"


def print_arguments(arguments: Iterable[Argument]) -> str:
    """`(a: 1, b: $x)`, or "" without arguments."""
    text = ", ".join(f"{name}: {print_ast(value)}" for name, value in sorted(arguments, key=lambda pair: pair[0]))
    return f"({text})" if text else ""


@lru_cache(maxsize=4096)  # most keys are like others
def parse_field_set(text: str) -> Selection:
    """The selection that a `join__FieldSet` such as `id organization { id }` stands for.

    Raises:
        InvalidSupergraph: the text is not a field set.
    """
    try:
        document = parse(f"{{ {text} }}" if not text.lstrip().startswith("{") else text, no_location=True)
    except Exception as error:
        raise InvalidSupergraph(f"The field set {text!r} cannot be read: {error}") from error
    definition = document.definitions[0]
    if not isinstance(definition, OperationDefinitionNode):
        raise InvalidSupergraph(f"The field set {text!r} is not a selection.")
    return _from_ast(definition.selection_set)


def _from_ast(node: SelectionSetNode) -> Selection:
    items: list[Field | Fragment] = []
    for item in node.selections:
        if isinstance(item, FieldNode):
            arguments = tuple((argument.name.value, argument.value) for argument in item.arguments or ())
            items.append(
                Field(
                    key=item.name.value,
                    name=item.name.value,
                    arguments=arguments,
                    arguments_text=print_arguments(arguments),
                    selection=_from_ast(item.selection_set) if item.selection_set else None,
                )
            )
        elif isinstance(item, InlineFragmentNode):
            inner = _from_ast(item.selection_set)
            if item.type_condition is None:
                items.extend(inner.items)
            else:
                items.append(Fragment(item.type_condition.name.value, inner))
        else:
            raise InvalidSupergraph("A field set cannot contain fragment spreads.")
    return Selection(tuple(items))
