"""The answer as the client asked for it: selected fields in order, renamed ones restored, nulls propagated.

There are two passes. This module holds the exact one: it follows the specification step by step and says where a value
could not be used. `fast_projection.py` compiles the same selection into Python functions for answers in which every
value is as the API schema promises; it gives up at the first that is not, and the exact pass decides what becomes of
it. Compiling pays from the second answer on, so the first is projected exactly.

A value that the API hides (an inaccessible enum value or object type) is null without an error where null may be: the
client did nothing wrong and may not learn of it.

Source: GraphQL specification, section 6.4.4 "Handling Execution Errors".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLUnionType,
    get_named_type,
)

from router.execution.fast_projection import FastProjection, Irregular
from router.execution.leaves import converter
from router.execution.shapes import Renamed, Shape, Shapes
from router.execution.values import ClientPath, Json
from router.planning.fetch_graph import Path
from router.supergraph.model import Supergraph
from router.supergraph.selection import Selection

__all__ = ["Projection", "Renamed", "Violation"]


@dataclass(frozen=True, slots=True)
class Violation:
    """A position whose value cannot be used. path: from the root of the projection."""

    path: ClientPath
    message: str


class Projection:
    """Projects values of one type, at one path, by one selection.

    renamed: as the plan has it, with paths from the operation's root; path: where the projected value stands.
    may_repeat: paths of objects and lists that can stand in the answer many times over.
    """

    def __init__(
        self,
        supergraph: Supergraph,
        selection: Selection,
        type_name: str,
        renamed: Renamed,
        *,
        path: Path = (),
        may_repeat: frozenset[Path] = frozenset(),
    ) -> None:
        self._shapes = Shapes(supergraph, renamed)
        self._exact = ExactProjection(self._shapes, selection, type_name, path)
        self._fast: FastProjection | None = None
        self._compile: Callable[[], FastProjection] = lambda: FastProjection(
            self._shapes, selection, type_name, path, may_repeat
        )
        self._is_known = False

    def project(self, value: Json) -> tuple[Json, list[Violation]]:
        """The client's data (None: null has reached the top), and every value that could not be used."""
        if self._fast is None:
            if not self._is_known:
                self._is_known = True
                return self._exact.project(value)
            self._fast = self._compile()
        try:
            return self._fast.project(value), []
        except Irregular:
            return self._exact.project(value)


class ExactProjection:
    """The pass that says why."""

    def __init__(self, shapes: Shapes, selection: Selection, type_name: str, path: Path) -> None:
        self._shapes = shapes
        self._root = Shape(shapes.type_named(type_name), type_name, selection, path)

    def project(self, value: Json) -> tuple[Json, list[Violation]]:
        found: list[Violation] = []
        return self._complete(self._root.output, self._root, value, (), found), found

    def _complete(
        self, output: GraphQLOutputType, shape: Shape, value: Json, where: ClientPath, found: list[Violation]
    ) -> Json:
        """The client's value, or None for a null, also one that a deeper non-null position caused."""
        if isinstance(output, GraphQLNonNull):
            return self._required(output, shape, value, where, found)
        if value is None:
            return None
        if isinstance(output, GraphQLList):
            return self._list(output, shape, value, where, found)
        if shape.selection is None:
            converted = converter(get_named_type(output))(value)
            if converted is None and not isinstance(output, GraphQLEnumType):
                found.append(Violation(where, f"The value of {shape.coordinate} is not a valid {output}."))
            return converted
        if isinstance(output, GraphQLObjectType):
            return self._object(output.name, shape, value, where, found)
        assert isinstance(output, GraphQLInterfaceType | GraphQLUnionType)  # noqa: S101  all that remain
        return self._abstract(output.name, shape, value, where, found)

    def _required(
        self,
        output: "GraphQLNonNull[Any]",
        shape: Shape,
        value: Json,
        where: ClientPath,
        found: list[Violation],
    ) -> Json:
        if value is None:
            found.append(Violation(where, f"Cannot return null for non-nullable field {shape.coordinate}."))
            return None
        before = len(found)
        completed = self._complete(output.of_type, shape, value, where, found)
        if completed is None and len(found) == before:
            found.append(Violation(where, f"The value of {shape.coordinate} is not a valid {output}."))
        return completed

    def _list(
        self,
        output: "GraphQLList[Any]",
        shape: Shape,
        value: Json,
        where: ClientPath,
        found: list[Violation],
    ) -> Json:
        if type(value) is not list:
            found.append(Violation(where, f"Expected a list for {shape.coordinate}."))
            return None
        inner = shape.items()
        items = [
            self._complete(output.of_type, inner, item, (*where, position), found)
            for position, item in enumerate(value)
        ]
        if isinstance(output.of_type, GraphQLNonNull) and any(item is None for item in items):
            return None
        return items

    def _object(self, type_name: str, shape: Shape, value: Json, where: ClientPath, found: list[Violation]) -> Json:
        assert shape.selection is not None  # noqa: S101  the caller asked
        if type(value) is not dict:
            found.append(Violation(where, f"Expected an object of type {type_name}."))
            return None
        projected: dict[str, Json] | None = {}
        for field in self._shapes.fields_of(type_name, shape.selection, shape.path):
            stored = value.get(field.stored)
            if field.is_typename:
                completed = self._shapes.typename(type_name, stored)
                if completed is None:
                    found.append(Violation(where, f"Expected an object of type {type_name}."))
                    return None
            else:
                completed = self._complete(field.shape.output, field.shape, stored, (*where, field.key), found)
            if completed is None and field.is_required:
                projected = None  # the other fields are looked at all the same, for their errors
            if projected is not None:
                projected[field.key] = completed
        return projected

    def _abstract(self, type_name: str, shape: Shape, value: Json, where: ClientPath, found: list[Violation]) -> Json:
        member = value.get("__typename") if type(value) is dict else None
        known = self._shapes.member(type_name, member)
        if known is None or type(value) is not dict:
            if not self._shapes.is_hidden(type_name, member):
                found.append(Violation(where, f"Expected an object of type {type_name}."))
            return None
        return self._object(known, shape, value, where, found)
