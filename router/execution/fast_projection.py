"""The projection of good answers, compiled: one Python function for each object of a selection.

For `users { id name reviews { stars } }` the functions read:

    def object_2(value):
        try:
            v0 = value['stars']
        except KeyError:
            v0 = value.get('stars')
        if v0 is not None and (type(v0) is not int or not -2147483648 <= v0 <= 2147483647): v0 = leaf_1(v0)
        return {'stars': v0}

    def object_1(value):
        try:
            v0 = value['id']
            v1 = value['name']
            v2 = value['reviews']
        except KeyError:
            v0 = value.get('id')
            ...
        if type(v0) is not str: v0 = leaf_0(v0)
        if type(v1) is not str and v1 is not None: raise Irregular
        if type(v2) is list: v2 = [None if item is None else object_2(item) for item in v2]
        elif v2 is not None: raise Irregular
        return {'id': v0, 'name': v1, 'reviews': v2}

A function answers for a value that is not null and as the schema promises. Every other one is irregular, and nothing is
decided about it here. A value that is no object shows by a TypeError when a field is read from it.

All that is spliced into the source is numbers and, quoted by `repr`, response keys and type names; the rest is bound by
name (`leaf_0`, `enum_0`, `done_0`).
"""

from collections.abc import Callable
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    get_named_type,
)

from router.execution.leaves import MAX_INT, MIN_INT, Convert, converter
from router.execution.shapes import FieldShape, Shape, Shapes
from router.execution.values import Json
from router.planning.fetch_graph import Path
from router.supergraph.selection import Selection


class Irregular(Exception):
    """Some value is not what the schema promises: the exact pass is needed."""


class FastProjection:
    """Compiled on construction; members of abstract types when the first object of one is met."""

    def __init__(
        self, shapes: Shapes, selection: Selection, type_name: str, path: Path, may_repeat: frozenset[Path]
    ) -> None:
        self._shapes = shapes
        self._may_repeat = may_repeat
        self._done: list[dict[int, Json]] = []
        root = Shape(shapes.type_named(type_name), type_name, selection, path)
        if isinstance(root.output, GraphQLObjectType):
            self._project = self._compile(type_name, root)
        else:
            self._project = self._dispatch(type_name, root)

    def project(self, value: Json) -> Json:
        """The client's data.

        Raises:
            Irregular: some value is not what the schema promises.
        """
        try:
            return self._project(value)
        except TypeError as error:
            raise Irregular from error
        finally:
            for done in self._done:
                done.clear()

    def _compile(self, type_name: str, shape: Shape) -> Convert:
        source = _Source(self._shapes, self._may_repeat, self._dispatch)
        name = source.add_object(type_name, shape)
        exec(source.text(), source.bound)  # noqa: S102  nothing of it was written by a client, see above
        self._done.extend(source.done)
        function: Convert = source.bound[name]
        return function

    def _dispatch(self, type_name: str, shape: Shape) -> Convert:
        """For objects of an abstract type: the function of the type that each says it has."""
        members: dict[Json, Convert] = {}

        def project_member(value: Json) -> Json:
            if type(value) is not dict:
                raise Irregular
            told = value.get("__typename")
            function = members.get(told)
            if function is None:
                member = self._shapes.member(type_name, told)
                if member is None:
                    raise Irregular
                function = members[told] = self._compile(member, shape)
            return function(value)

        return project_member


class _Source:
    """The functions for the objects of one selection, down to its abstract types.

    bound: what the source uses by name; done: what was projected so far of that which may repeat, by identity.
    """

    def __init__(self, shapes: Shapes, may_repeat: frozenset[Path], dispatch: Callable[[str, Shape], Convert]) -> None:
        self._shapes = shapes
        self._may_repeat = may_repeat
        self._dispatch = dispatch
        self._functions: list[str] = []
        self._count = 0
        self.bound: dict[str, Any] = {"Irregular": Irregular}
        self.done: list[dict[int, Json]] = []

    def text(self) -> str:
        return "\n".join(self._functions)

    def add_object(self, type_name: str, shape: Shape) -> str:
        """Adds the function for objects of one type, and answers its name."""
        assert shape.selection is not None  # noqa: S101  objects have fields
        is_root = self._shapes.is_root(type_name)
        reads: list[tuple[str, str]] = []
        checks: list[str] = []
        results: list[str] = []
        for field in self._shapes.fields_of(type_name, shape.selection, shape.path):
            if field.is_typename and is_root:
                results.append(f"{field.key!r}: {type_name!r}")
                continue
            variable = f"v{len(reads)}"
            reads.append((variable, field.stored))
            results.append(f"{field.key!r}: {variable}")
            if field.is_typename and self._shapes.typename(type_name, None) is None:
                checks.append("raise Irregular")
            elif field.is_typename:
                checks.append(f"if {variable} is None: {variable} = {type_name!r}")
                checks.append(f"elif {variable} != {type_name!r}: raise Irregular")
            else:
                checks.extend(self._field(variable, field))
        name = self._name("object")
        lines = [f"def {name}(value):"]
        if reads:
            lines.append("    try:")
            lines.extend(f"        {variable} = value[{stored!r}]" for variable, stored in reads)
            lines.append("    except KeyError:")
            lines.extend(f"        {variable} = value.get({stored!r})" for variable, stored in reads)
        else:
            lines.append("    if type(value) is not dict: raise Irregular")
        lines.extend(f"    {check}" for check in checks)
        lines.append(f"    return {{{', '.join(results)}}}")
        self._functions.append("\n".join(lines))
        return name

    def _field(self, v: str, field: FieldShape) -> list[str]:
        """Statements that leave the client's value in a variable."""
        shape = field.shape
        output = shape.output
        if isinstance(output, GraphQLNonNull):
            output = output.of_type
        if shape.path not in self._may_repeat:
            if isinstance(output, GraphQLList) and shape.selection is not None:
                items = self._items(output, shape)
                if field.is_required:
                    return [f"if type({v}) is not list: raise Irregular", f"{v} = [{items} for item in {v}]"]
                return [
                    f"if type({v}) is list: {v} = [{items} for item in {v}]",
                    f"elif {v} is not None: raise Irregular",
                ]
            if not isinstance(output, GraphQLList) and shape.selection is None:
                return self._leaf(v, get_named_type(output), is_required=field.is_required)
        call = f"{v} = {self._call(output, shape, v)}"
        return [call if field.is_required else f"if {v} is not None: {call}"]

    def _items(self, output: "GraphQLList[Any]", shape: Shape) -> str:
        """The expression for one `item` of a list."""
        item = output.of_type
        if isinstance(item, GraphQLNonNull):
            return self._call(item.of_type, shape.items(), "item")
        return f"None if item is None else {self._call(item, shape.items(), 'item')}"

    def _call(self, output: GraphQLOutputType, shape: Shape, argument: str) -> str:
        """The expression for the projection of a value, not null.

        One that stands in the answer many times looks the same wherever this selection meets it.
        """
        function = self._function(output, shape)
        if shape.path not in self._may_repeat:
            return f"{function}({argument})"
        done: dict[int, Json] = {}
        self.done.append(done)
        known = self._bind("done", done)
        first = self._name("first")
        self._functions.append(
            f"def {first}(value):\n    done = {known}[id(value)] = {function}(value)\n    return done"
        )
        return f"{known}.get(id({argument})) or {first}({argument})"

    def _function(self, output: GraphQLOutputType, shape: Shape) -> str:
        """The name of the function for values of a type, not null."""
        if isinstance(output, GraphQLList):
            if shape.selection is None and not isinstance(_nullable(output.of_type), GraphQLList):
                name = self._bind("leaves", _leaf_list(output))
            else:
                items = self._items(output, shape)
                name = self._name("list")
                self._functions.append(
                    f"def {name}(value):\n"
                    f"    if type(value) is not list: raise Irregular\n"
                    f"    return [{items} for item in value]"
                )
        elif shape.selection is None:
            return self._bind("leaf", _strict(converter(get_named_type(output))))
        elif isinstance(output, GraphQLObjectType):
            name = self.add_object(output.name, shape)
        else:
            named = get_named_type(output)
            name = self._bind("abstract", self._dispatch(named.name, shape))
        return name

    def _leaf(self, v: str, leaf: GraphQLNamedType, *, is_required: bool) -> list[str]:
        or_null = "" if is_required else f" and {v} is not None"
        if isinstance(leaf, GraphQLEnumType):
            allowed = self._bind("enum", frozenset(leaf.values) if is_required else frozenset((*leaf.values, None)))
            return [f"if {v} not in {allowed}: raise Irregular"]
        if leaf.name in _KIND:
            return [f"if type({v}) is not {_KIND[leaf.name]}{or_null}: raise Irregular"]
        if leaf.name == "Float":
            return [f"if type({v}) is not float and type({v}) is not int{or_null}: raise Irregular"]
        convert = f"{v} = {self._bind('leaf', _strict(converter(leaf)))}({v})"
        if leaf.name == "ID":
            return [f"if type({v}) is not str{or_null}: {convert}"]
        if leaf.name == "Int":
            wrong = f"type({v}) is not int or not {MIN_INT} <= {v} <= {MAX_INT}"
            return [f"if {wrong}: {convert}" if is_required else f"if {v} is not None and ({wrong}): {convert}"]
        nested = [f"if type({v}) is dict or type({v}) is list: {convert}"]
        return [*nested, f"elif {v} is None: raise Irregular"] if is_required else nested

    def _bind(self, kind: str, value: object) -> str:
        name = self._name(kind)
        self.bound[name] = value
        return name

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


_KIND = {"String": "str", "Boolean": "bool"}
_PLAIN: dict[str, frozenset[type]] = {
    "String": frozenset({str}),
    "Boolean": frozenset({bool}),
    "Float": frozenset({float, int}),
    "ID": frozenset({str}),
}
"""Python types whose values are sent as they are."""


def _nullable(output: GraphQLOutputType) -> GraphQLOutputType:
    return output.of_type if isinstance(output, GraphQLNonNull) else output


def _strict(convert: Convert) -> Convert:
    def convert_or_give_up(value: Json) -> Json:
        converted = convert(value)
        if converted is None:
            raise Irregular
        return converted

    return convert_or_give_up


def _leaf_list(output: "GraphQLList[Any]") -> Convert:
    """For lists of leaves, which can be long: one look at all types decides for most."""
    leaf = get_named_type(output)
    convert = _strict(converter(leaf))
    is_required = isinstance(output.of_type, GraphQLNonNull)
    plain = _PLAIN.get(leaf.name, frozenset()) if isinstance(leaf, GraphQLScalarType) else frozenset()
    if plain and not is_required:
        plain |= {type(None)}

    def convert_list(value: Json) -> Json:
        if type(value) is not list:
            raise Irregular
        if plain.issuperset(map(type, value)):
            return value
        if is_required:
            return [convert(item) for item in value]
        return [None if item is None else convert(item) for item in value]

    return convert_list
