"""The types of the API, each of which makes its fields when it is first asked for them.

A router has to be ready soon, and of a large supergraph its operations use a part. graphql-core's own builder makes every
field to find out which types there are; here that is known, and what the fields refer to is checked without making them.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import Any, TypeVar, Unpack

from graphql import (
    ArgumentNode,
    DirectiveDefinitionNode,
    DirectiveLocation,
    DirectiveNode,
    EnumTypeDefinitionNode,
    FieldDefinitionNode,
    GraphQLArgument,
    GraphQLDefaultInput,
    GraphQLDirective,
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLSchemaKwargs,
    GraphQLUnionType,
    InputObjectTypeDefinitionNode,
    InputValueDefinitionNode,
    InterfaceTypeDefinitionNode,
    ListTypeNode,
    NamedTypeNode,
    NonNullTypeNode,
    ObjectTypeDefinitionNode,
    StringValueNode,
    TypeDefinitionNode,
    TypeNode,
    UnionTypeDefinitionNode,
    introspection_types,
    specified_scalar_types,
)
from graphql.type.schema import InterfaceImplementations

from router.errors import InvalidSupergraph
from router.sdl import EXECUTABLE_LOCATIONS

_BUILT_IN = {**specified_scalar_types, **introspection_types}
_NO_LONGER = "No longer supported"
"""What `@deprecated` says without a reason."""
_N = TypeVar("_N")
_Input = TypeVar("_Input", GraphQLArgument, GraphQLInputField)


class Visibility:
    """Of the elements of a supergraph to clients.

    inaccessible: the name that the directive has here; hidden_types: the names of all types that clients do not see.
    """

    def __init__(self, inaccessible: str, hidden_types: Set[str]) -> None:
        self._inaccessible = inaccessible
        self._hidden_types = hidden_types

    def shown(self, nodes: Sequence[_N] | None) -> Sequence[_N]:
        return [node for node in nodes or () if not is_marked(node, self._inaccessible)]

    def shown_types(self, nodes: Sequence[NamedTypeNode] | None) -> Sequence[NamedTypeNode]:
        return [node for node in nodes or () if node.name.value not in self._hidden_types]


def is_marked(node: object, directive: str) -> bool:
    applied: Sequence[DirectiveNode] = getattr(node, "directives", None) or ()
    for one in applied:  # noqa: SIM110  in half of the time of `any`, and it is asked of every field there is
        if one.name.value == directive:
            return True
    return False


class ApiSchema(GraphQLSchema):
    """A schema that is told all its types. It asks none of them for its fields.

    types: all that something refers to, but for those of introspection.
    """

    def __init__(self, **parts: Unpack[GraphQLSchemaKwargs]) -> None:
        super().__init__(assume_valid=True, description=parts.get("description"), extensions=parts.get("extensions"))
        self.query_type = parts.get("query")
        self.mutation_type = parts.get("mutation")
        self.subscription_type = parts.get("subscription")
        self.directives = tuple(parts.get("directives") or self.directives)
        self.type_map = {**{one.name: one for one in parts.get("types") or ()}, **self.type_map}

    @cached_property
    def _implementations(self) -> Mapping[str, InterfaceImplementations]:
        found: dict[str, InterfaceImplementations] = {}
        for one in self.type_map.values():
            if not isinstance(one, GraphQLObjectType | GraphQLInterfaceType):
                continue
            for interface in one.interfaces:
                known = found.setdefault(interface.name, InterfaceImplementations(objects=[], interfaces=[]))
                if isinstance(one, GraphQLObjectType):
                    known.objects.append(one)
                else:
                    known.interfaces.append(one)
        return found

    def get_implementations(self, interface_type: GraphQLInterfaceType) -> InterfaceImplementations:
        return self._implementations.get(interface_type.name) or InterfaceImplementations(objects=[], interfaces=[])


class ApiTypes:
    """Makes the types and directives of an API from what the supergraph says of them.

    Raises:
        InvalidSupergraph: something refers to a type that is not there, or that clients do not see.
    """

    def __init__(
        self,
        nodes: Mapping[str, TypeDefinitionNode],
        directives: Sequence[DirectiveDefinitionNode],
        visibility: Visibility,
    ) -> None:
        self._visible = visibility
        self.types: dict[str, GraphQLNamedType] = {
            name: _BUILT_IN.get(name) or self._type(node) for name, node in nodes.items()
        }
        self._check_references(nodes)
        self.directives = [self._directive(node) for node in directives]

    # -- references ------------------------------------------------------------------------------------------------

    def _check_references(self, nodes: Mapping[str, TypeDefinitionNode]) -> None:
        """Also adds the built-in scalars, which clients are told of where they are used."""
        known: set[int] = set()  # by identity, as the parser makes equal references one node
        for node in nodes.values():
            for reference in self._references(node):
                if id(reference) not in known:
                    known.add(id(reference))
                    self._check_reference(node.name.value, reference)

    def _references(self, node: TypeDefinitionNode) -> Iterator[TypeNode]:
        if isinstance(node, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
            yield from self._visible.shown_types(node.interfaces)
            for field in self._visible.shown(node.fields):
                yield field.type
                if field.arguments:
                    yield from [argument.type for argument in self._visible.shown(field.arguments)]
        elif isinstance(node, InputObjectTypeDefinitionNode):
            yield from [field.type for field in self._visible.shown(node.fields)]
        elif isinstance(node, UnionTypeDefinitionNode):
            yield from self._visible.shown_types(node.types)

    def _check_reference(self, by: str, reference: TypeNode) -> None:
        while not isinstance(reference, NamedTypeNode):
            reference = reference.type  # type: ignore[attr-defined]  # a list or non-null type
        name = reference.name.value
        if name not in self.types:
            if name not in _BUILT_IN:
                raise InvalidSupergraph(f"The supergraph has no usable API schema: {by} refers to no type {name!r}.")
            self.types[name] = _BUILT_IN[name]

    def root_type(self, reference: TypeNode, *, by: str) -> GraphQLNamedType:
        """Raises:
        InvalidSupergraph: there is no such type.
        """
        self._check_reference(by, reference)
        found: GraphQLNamedType = self._reference(reference)
        return found

    # -- types -----------------------------------------------------------------------------------------------------

    def _type(self, node: TypeDefinitionNode) -> GraphQLNamedType:
        name, description = node.name.value, _description(node)
        if isinstance(node, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
            kind = GraphQLObjectType if isinstance(node, ObjectTypeDefinitionNode) else GraphQLInterfaceType
            return kind(
                name,
                lambda: self._fields(node.fields),
                lambda: self._named(node.interfaces),
                description=description,
            )
        if isinstance(node, UnionTypeDefinitionNode):
            return GraphQLUnionType(name, lambda: self._named(node.types), description=description)
        if isinstance(node, EnumTypeDefinitionNode):
            return GraphQLEnumType(name, lambda: self._values(node), description=description)
        if isinstance(node, InputObjectTypeDefinitionNode):
            return GraphQLInputObjectType(
                name,
                lambda: self._inputs(node.fields, GraphQLInputField),
                description=description,
                is_one_of=is_marked(node, "oneOf"),
            )
        url = _argument(node, "specifiedBy", "url")
        return GraphQLScalarType(name, description=description, specified_by_url=url)

    def _directive(self, node: DirectiveDefinitionNode) -> GraphQLDirective:
        for argument in self._visible.shown(node.arguments):
            self._check_reference(f"@{node.name.value}", argument.type)
        return GraphQLDirective(
            node.name.value,
            [DirectiveLocation[one.value] for one in node.locations if one.value in EXECUTABLE_LOCATIONS],
            self._inputs(node.arguments, GraphQLArgument),
            is_repeatable=node.repeatable,
            description=_description(node),
        )

    # -- what types hold -------------------------------------------------------------------------------------------

    def _fields(self, nodes: Sequence[FieldDefinitionNode] | None) -> dict[str, GraphQLField]:
        return {
            node.name.value: GraphQLField(
                self._reference(node.type),
                self._inputs(node.arguments, GraphQLArgument),
                description=_description(node),
                deprecation_reason=_deprecation(node),
            )
            for node in self._visible.shown(nodes)
        }

    def _inputs(self, nodes: Sequence[InputValueDefinitionNode] | None, kind: type[_Input]) -> dict[str, _Input]:
        return {
            node.name.value: kind(
                self._reference(node.type),
                default=GraphQLDefaultInput(literal=node.default_value) if node.default_value else None,
                description=_description(node),
                deprecation_reason=_deprecation(node),
            )
            for node in self._visible.shown(nodes)
        }

    def _values(self, node: EnumTypeDefinitionNode) -> dict[str, GraphQLEnumValue]:
        return {
            value.name.value: GraphQLEnumValue(
                value.name.value, description=_description(value), deprecation_reason=_deprecation(value)
            )
            for value in self._visible.shown(node.values)
        }

    def _named(self, nodes: Sequence[NamedTypeNode] | None) -> list[Any]:
        return [self.types[node.name.value] for node in self._visible.shown_types(nodes)]

    def _reference(self, node: TypeNode) -> Any:
        """Any: whether it suits where it stands, composition has seen to."""
        if isinstance(node, NonNullTypeNode):
            return GraphQLNonNull(self._reference(node.type))
        if isinstance(node, ListTypeNode):
            return GraphQLList(self._reference(node.type))
        assert isinstance(node, NamedTypeNode)  # noqa: S101  there is no other reference
        return self.types[node.name.value]


def _description(node: object) -> str | None:
    found: StringValueNode | None = getattr(node, "description", None)
    return None if found is None else found.value


def _deprecation(node: object) -> str | None:
    return (_argument(node, "deprecated", "reason") or _NO_LONGER) if is_marked(node, "deprecated") else None


def _argument(node: object, directive: str, argument: str) -> str | None:
    """The text of an argument of a directive that is applied once, if it is there."""
    applied: Sequence[DirectiveNode] = getattr(node, "directives", None) or ()
    for one in applied:
        given: Sequence[ArgumentNode] = (one.arguments or ()) if one.name.value == directive else ()
        for value in [each.value for each in given if each.name.value == argument]:
            return value.value if isinstance(value, StringValueNode) else None
    return None
