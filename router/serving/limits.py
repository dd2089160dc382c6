"""Refuses operations that are too large, before they are validated or planned.

Fragments are measured once each and multiplied, never expanded, so that a bomb costs no more to refuse than to read.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
)

from router.errors import ClientError
from router.planning.operation import Operation
from router.serving.settings import Limits
from router.supergraph.selection import Fragment, Selection


@dataclass(frozen=True, slots=True)
class Size:
    """depth: of nested fields; aliases and fields: with fragments counted at each use."""

    depth: int
    aliases: int
    fields: int


def parse_limited(query: str, limits: Limits) -> DocumentNode:
    """The parsed document.

    Raises:
        ClientError: it does not parse (`GRAPHQL_PARSE_FAILED`) or has too many tokens (`OPERATION_TOO_LARGE`).
    """
    try:
        return parse(query, max_tokens=limits.max_tokens)
    except GraphQLError as error:
        if ("token" in error.message and "exceed" in error.message.lower()) or "more than" in error.message:
            raise ClientError(
                f"The document has more than {limits.max_tokens} tokens.", code="OPERATION_TOO_LARGE"
            ) from error
        if "nested too deeply" in error.message:
            raise _too_deep() from error
        raise ClientError(error.message, code="GRAPHQL_PARSE_FAILED") from error
    except RecursionError as error:
        raise _too_deep() from error


@contextlib.contextmanager
def within_the_stack() -> Iterator[None]:
    """For steps that descend into an operation, whose fragments may lie within each other a thousandfold.

    Raises:
        ClientError: the operation is nested too deeply (`OPERATION_TOO_LARGE`).
    """
    try:
        yield
    except RecursionError as error:
        raise _too_deep() from error


def _too_deep() -> ClientError:
    return ClientError("The document is nested too deeply.", code="OPERATION_TOO_LARGE")


def check_size(document: DocumentNode, operation: OperationDefinitionNode, limits: Limits) -> None:
    """Raises:
    ClientError: the operation exceeds a limit (`OPERATION_TOO_LARGE`), or its fragments form a cycle.
    """
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    size = _Measure(fragments).size(operation.selection_set)
    if len(operation.selection_set.selections) > limits.max_root_fields:
        raise _too_large(f"more than {limits.max_root_fields} root fields")
    if size.depth > limits.max_depth:
        raise _too_large(f"deeper than {limits.max_depth} levels")
    if size.aliases > limits.max_aliases:
        raise _too_large(f"more than {limits.max_aliases} aliases")
    if size.fields > limits.max_fields:
        raise _too_large(f"more than {limits.max_fields} fields")


def _too_large(what: str) -> ClientError:
    return ClientError(
        f"The operation has {what}." if what[0] == "m" else f"The operation is {what}.", code="OPERATION_TOO_LARGE"
    )


class _Measure:
    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._sizes: dict[str, Size | None] = {}

    def size(self, selection_set: SelectionSetNode) -> Size:
        depth = aliases = fields = 0
        for item in selection_set.selections:
            if isinstance(item, FieldNode):
                inner = self.size(item.selection_set) if item.selection_set else Size(0, 0, 0)
                inner = Size(inner.depth + 1, inner.aliases + (item.alias is not None), inner.fields + 1)
            elif isinstance(item, InlineFragmentNode):
                inner = self.size(item.selection_set)
            elif isinstance(item, FragmentSpreadNode):
                inner = self._fragment(item.name.value)
            else:
                continue
            depth, aliases, fields = max(depth, inner.depth), aliases + inner.aliases, fields + inner.fields
        return Size(depth, aliases, fields)

    def _fragment(self, name: str) -> Size:
        if name not in self._fragments:
            return Size(0, 0, 0)  # validation reports it by name
        if name not in self._sizes:
            self._sizes[name] = None
            self._sizes[name] = self.size(self._fragments[name].selection_set)
        size = self._sizes[name]
        if size is None:
            raise ClientError(f"Cannot spread fragment {name!r} within itself.", code="GRAPHQL_VALIDATION_FAILED")
        return size


@dataclass(frozen=True, slots=True)
class Breadth:
    """root_fields: how many a normalized operation asks for; those of introspection are among them.

    root_repeats, repeats: the field that is asked most often of one object, at the root and anywhere, and how often.
    """

    root_fields: int
    root_repeats: tuple[int, str]
    repeats: tuple[int, str]


def breadth_of(operation: Operation) -> Breadth:
    """How often a normalized operation asks for the same."""
    own = Counter(field.name.value for field in operation.introspection)
    asked = Counter(name for name, _ in _asked(operation.selection, leaves=True)) + own
    root_repeats = _most(asked)
    return Breadth(asked.total(), root_repeats, max(root_repeats, _repeats(operation.selection)))


def check_breadth(breadth: Breadth, max_root_fields: int | None, max_repeats: int | None) -> None:
    """Raises:
    ClientError: the operation has too many root fields, or one field too often (`OPERATION_TOO_LARGE`).
    """
    if max_root_fields is not None and breadth.root_fields > max_root_fields:
        raise _too_large(f"more than {max_root_fields} root fields")
    count, name = breadth.repeats
    if max_repeats is not None and count > max_repeats:
        raise _too_large(f"more than {max_repeats} times the field {name!r} on one object")


def _repeats(selection: Selection) -> tuple[int, str]:
    here = _most(Counter(name for name, _ in _asked(selection, leaves=False)))
    below = [item.selection for item in selection.items if item.selection is not None]
    return max([here, *(_repeats(inner) for inner in below)])


def _asked(selection: Selection, *, leaves: bool) -> set[tuple[str, str]]:
    """The fields of one object, by name and response key, those of fragments on its possible types among them."""
    asked: set[tuple[str, str]] = set()
    for item in selection.items:
        if isinstance(item, Fragment):
            asked |= _asked(item.selection, leaves=leaves)
        elif leaves or item.arguments or item.selection is not None:
            asked.add((item.name, item.key))
    return asked


def _most(counts: Counter[str]) -> tuple[int, str]:
    return max(((count, name) for name, count in counts.items()), default=(0, ""))
