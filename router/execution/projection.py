"""The answer as the client asked for it: selected fields in order, renamed ones restored, nulls propagated.

Compiled per operation against the API schema. The fast pass only notes *that* a non-null position had no value; the
rare second pass (`violations`) finds where, for the errors.

A value that the API hides (an inaccessible enum value or object type) is null without an error where null may be: the
client did nothing wrong and may not learn of it.

Source: GraphQL specification, section 6.4.4 "Handling Execution Errors".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graphql import (
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    GraphQLUnionType,
)

from router.execution.values import ClientPath, Json, Object
from router.planning.fetch_graph import Path
from router.supergraph.model import Supergraph
from router.supergraph.selection import Field, Selection

Convert = Callable[[Json], Json]
"""The client's value, or None for a null, also one that a deeper non-null position caused."""
Renamed = Mapping[tuple[Path, str, str], str]


@dataclass(frozen=True, slots=True)
class Violation:
    """A non-null position without a usable value."""

    path: ClientPath
    message: str


@dataclass(frozen=True, slots=True)
class _ProjectedField:
    key: str
    stored: str
    convert: Convert
    required: bool
    coordinate: str
    check: "_Check"


_Check = Callable[[Json, ClientPath, list[Violation]], bool]
"""Whether the value is usable; notes violations at and below the path."""


class Projection:
    """Projects the answers of one operation."""

    def __init__(self, supergraph: Supergraph, selection: Selection, root_type: str, renamed: Renamed) -> None:
        self._supergraph = supergraph
        self._schema = supergraph.api_schema
        self._renamed = renamed
        self._noted: list[str] = []
        self._done: list[dict[int, Json]] = []
        self._fields: dict[tuple[str, Selection, Path], tuple[_ProjectedField, ...]] = {}
        self._root = self._object(root_type, selection, ())
        self._root_check = self._object_check(root_type, selection, ())

    def project(self, answer: Object | None) -> tuple[Object | None, bool]:
        """The client's data, and whether some non-null position had no value."""
        self._noted.clear()
        projected = self._root({} if answer is None else answer)
        for done in self._done:
            done.clear()
        return projected, bool(self._noted)

    def violations(self, answer: Object | None) -> list[Violation]:
        """Where non-null positions had no value; only asked after `project` noted one."""
        found: list[Violation] = []
        self._root_check({} if answer is None else answer, (), found)
        return found

    # -- compiling -------------------------------------------------------------------------------------------------

    def _fields_of(self, type_name: str, selection: Selection, path: Path) -> tuple[_ProjectedField, ...]:
        memo = (type_name, selection, path)
        if memo not in self._fields:
            items: list[Field] = []
            self._collect(type_name, selection, items)
            by_key: dict[str, list[Field]] = {}
            for item in items:
                by_key.setdefault(item.key, []).append(item)
            self._fields[memo] = tuple(self._field(type_name, same, path) for same in by_key.values())
        return self._fields[memo]

    def _collect(self, type_name: str, selection: Selection, into: list[Field]) -> None:
        for item in selection.items:
            if isinstance(item, Field):
                into.append(item)
            elif self._supergraph.is_subtype(type_name, item.type_condition):
                self._collect(type_name, item.selection, into)

    def _field(self, type_name: str, same: list[Field], path: Path) -> _ProjectedField:
        first = same[0]
        coordinate = f"{type_name}.{first.name}"
        if first.name == "__typename":
            is_root = type_name in self._supergraph.root_types.values()
            convert: Convert = (lambda _: type_name) if is_root else (lambda value: value or type_name)
            return _ProjectedField(first.key, "__typename", convert, True, coordinate, lambda *_: True)
        parent = self._schema.type_map[type_name]
        assert isinstance(parent, GraphQLObjectType | GraphQLInterfaceType)  # noqa: S101  validated before
        output = parent.fields[first.name].type
        stored = self._stored(type_name, first.key, path)
        children = None
        if first.selection is not None:
            children = Selection(tuple(item for field in same if field.selection for item in field.selection.items))
            if len(same) == 1:
                children = first.selection
        inner = (*path, stored)
        required = isinstance(output, GraphQLNonNull)
        return _ProjectedField(
            first.key,
            stored,
            self._convert(output, children, inner),
            required,
            coordinate,
            self._check(output, children, inner, coordinate),
        )

    def _stored(self, type_name: str, key: str, path: Path) -> str:
        for name in (type_name, *sorted(self._supergraph.interfaces.get(type_name, ()))):
            if (stored := self._renamed.get((path, name, key))) is not None:
                return stored
        return key

    def _convert(self, output: GraphQLOutputType, selection: Selection | None, path: Path) -> Convert:
        if isinstance(output, GraphQLNonNull):
            return self._convert(output.of_type, selection, path)
        if isinstance(output, GraphQLList):
            return self._list(output, selection, path)
        if selection is None:
            return _leaf(output, self._noted)
        if isinstance(output, GraphQLObjectType):
            return self._object(output.name, selection, path)
        assert isinstance(output, GraphQLInterfaceType | GraphQLUnionType)  # noqa: S101  all that remain
        return self._abstract(output.name, selection, path)

    def _list(self, output: GraphQLList[GraphQLOutputType], selection: Selection | None, path: Path) -> Convert:
        convert = self._convert(output.of_type, selection, (*path, "@"))
        required = isinstance(output.of_type, GraphQLNonNull)
        noted = self._noted

        def convert_list(value: Json) -> Json:
            if type(value) is not list:
                noted.append("a list")
                return None
            items = [None if item is None else convert(item) for item in value]
            if required and None in items:
                noted.append("a list item")
                return None
            return items

        return convert_list

    def _object(self, type_name: str, selection: Selection, path: Path) -> Convert:
        compiled: list[tuple[str, str, Convert, bool]] = []
        noted = self._noted
        is_compiled = False
        # An entity that occurs often is one object in the tree, and looks the same wherever this selection meets it.
        done: dict[int, Json] = {}
        self._done.append(done)

        def convert_object(value: Json) -> Json:
            nonlocal is_compiled
            if type(value) is not dict:
                noted.append(type_name)
                return None
            identity = id(value)
            if identity in done:
                return done[identity]
            if not is_compiled:
                fields = self._fields_of(type_name, selection, path)
                compiled.extend((f.key, f.stored, f.convert, f.required) for f in fields)
                is_compiled = True
            result = {}
            get = value.get
            for key, stored, convert, required in compiled:
                item = get(stored)
                if item is not None or stored == "__typename":
                    item = convert(item)
                if item is None and required:
                    noted.append(key)
                    done[identity] = None
                    return None
                result[key] = item
            done[identity] = result
            return result

        return convert_object

    def _abstract(self, type_name: str, selection: Selection, path: Path) -> Convert:
        members: dict[str | None, Convert] = {}
        possible = self._possible(type_name)
        known = self._supergraph.kinds
        noted = self._noted

        def convert_abstract(value: Json) -> Json:
            if type(value) is not dict:
                noted.append(type_name)
                return None
            member = value.get("__typename")
            convert = members.get(member)
            if convert is None:
                if member is None or member == type_name:  # an interface object whose real type nobody asked for
                    if type_name not in self._supergraph.interfaces:
                        return None
                    convert = self._object(type_name, selection, path)
                elif member not in possible:
                    if member not in known:
                        noted.append(str(member))
                    return None
                else:
                    convert = self._object(member, selection, path)
                members[member] = convert
            return convert(value)

        return convert_abstract

    def _possible(self, type_name: str) -> frozenset[str]:
        named = self._schema.type_map[type_name]
        assert isinstance(named, GraphQLInterfaceType | GraphQLUnionType)  # noqa: S101  the caller asked
        return frozenset(member.name for member in self._schema.get_possible_types(named))

    # -- the second pass -------------------------------------------------------------------------------------------

    def _check(self, output: GraphQLOutputType, selection: Selection | None, path: Path, coordinate: str) -> _Check:
        if isinstance(output, GraphQLNonNull):
            inner = self._check(output.of_type, selection, path, coordinate)

            def check_required(value: Json, where: ClientPath, found: list[Violation]) -> bool:
                if value is None:
                    found.append(Violation(where, f"Cannot return null for non-nullable field {coordinate}."))
                    return False
                before = len(found)
                usable = inner(value, where, found)
                if not usable and len(found) == before:
                    found.append(Violation(where, f"The value of {coordinate} is not a valid {output}."))
                return usable

            return check_required
        if isinstance(output, GraphQLList):
            return self._list_check(output, selection, path, coordinate)
        if selection is None:
            return _leaf_check(output, coordinate)
        if isinstance(output, GraphQLObjectType):
            return self._object_check(output.name, selection, path)
        assert isinstance(output, GraphQLInterfaceType | GraphQLUnionType)  # noqa: S101  all that remain
        return self._abstract_check(output.name, selection, path)

    def _list_check(
        self, output: GraphQLList[GraphQLOutputType], selection: Selection | None, path: Path, coordinate: str
    ) -> _Check:
        inner = self._check(output.of_type, selection, (*path, "@"), coordinate)

        def check_list(value: Json, where: ClientPath, found: list[Violation]) -> bool:
            if value is None:
                return True
            if type(value) is not list:
                found.append(Violation(where, f"Expected a list for {coordinate}."))
                return False
            results = [inner(item, (*where, position), found) for position, item in enumerate(value)]
            return all(results) or not isinstance(output.of_type, GraphQLNonNull)

        return check_list

    def _object_check(self, type_name: str, selection: Selection, path: Path) -> _Check:
        def check_object(value: Json, where: ClientPath, found: list[Violation]) -> bool:
            if value is None:
                return True
            if type(value) is not dict:
                found.append(Violation(where, f"Expected an object of type {type_name}."))
                return False
            usable = True
            for field in self._fields_of(type_name, selection, path):
                usable = (
                    field.check(value.get(field.stored), (*where, field.key), found) or not field.required
                ) and usable
            return usable

        return check_object

    def _abstract_check(self, type_name: str, selection: Selection, path: Path) -> _Check:
        possible = self._possible(type_name)

        def check_abstract(value: Json, where: ClientPath, found: list[Violation]) -> bool:
            if value is None:
                return True
            member = value.get("__typename") if type(value) is dict else None
            if member not in possible and member != type_name and member in self._supergraph.kinds:
                return False
            if type(value) is not dict or (member not in possible and member not in (None, type_name)):
                found.append(Violation(where, f"Expected an object of type {type_name}."))
                return False
            return self._object_check(member or type_name, selection, path)(value, where, found)

        return check_abstract


def _leaf(output: GraphQLNamedType | object, noted: list[str]) -> Convert:
    if isinstance(output, GraphQLEnumType):
        values = frozenset(output.values)

        def convert_enum(value: Json) -> Json:
            return value if type(value) is str and value in values else None

        return convert_enum
    expected = _SCALARS.get(output.name) if isinstance(output, GraphQLScalarType) else None
    if expected is None:
        return _as_it_is
    if expected == _ID:

        def convert_id(value: Json) -> Json:
            if type(value) is str:
                return value
            if type(value) is int:
                return str(value)
            noted.append("an ID")
            return None

        return convert_id

    def convert_scalar(value: Json) -> Json:
        if type(value) in expected:
            return value
        noted.append("a scalar")
        return None

    return convert_scalar


def _leaf_check(output: GraphQLOutputType, coordinate: str) -> _Check:
    noted: list[str] = []
    convert = _leaf(output, noted)

    def check_leaf(value: Json, where: ClientPath, found: list[Violation]) -> bool:
        if value is None or convert(value) is not None:
            return True
        if not isinstance(output, GraphQLEnumType):
            found.append(Violation(where, f"The value of {coordinate} is not a valid {output}."))
        return False

    return check_leaf


def _as_it_is(value: Json) -> Json:
    return value


_ID = (str, int)
_SCALARS: Mapping[str, tuple[type, ...]] = {
    "Int": (int,),
    "Float": (float, int),
    "String": (str,),
    "Boolean": (bool,),
    "ID": _ID,
}
