"""The schema that clients see: the supergraph without the machinery of composition and without what is inaccessible."""

from collections.abc import Sequence
from typing import TypeVar

from graphql import (
    ConstDirectiveNode,
    DefinitionNode,
    DirectiveDefinitionNode,
    DirectiveNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    EnumValueDefinitionNode,
    FieldDefinitionNode,
    GraphQLSchema,
    InputObjectTypeDefinitionNode,
    InputValueDefinitionNode,
    InterfaceTypeDefinitionNode,
    NamedTypeNode,
    ObjectTypeDefinitionNode,
    ScalarTypeDefinitionNode,
    SchemaDefinitionNode,
    StringValueNode,
    TypeDefinitionNode,
    UnionTypeDefinitionNode,
    build_ast_schema,
    parse,
)

from router.errors import InvalidSupergraph

_PUBLIC_DIRECTIVES = frozenset({"deprecated", "specifiedBy", "oneOf"})
_EXECUTABLE = frozenset(
    {
        "QUERY",
        "MUTATION",
        "SUBSCRIPTION",
        "FIELD",
        "FRAGMENT_DEFINITION",
        "FRAGMENT_SPREAD",
        "INLINE_FRAGMENT",
        "VARIABLE_DEFINITION",
    }
)
_DEFER = parse("directive @defer(label: String, if: Boolean! = true) on FRAGMENT_SPREAD | INLINE_FRAGMENT").definitions[
    0
]
"""The router's own: no subgraph needs to know of it."""
_N = TypeVar("_N")


def linked_names(schema: SchemaDefinitionNode | None) -> dict[str, str]:
    """For each specification linked by the supergraph, its name by URL, and the prefix it has here."""
    names = {"join": "join", "link": "link", "core": "core"}
    for directive in (schema.directives or ()) if schema else ():
        if directive.name.value not in ("link", "core"):
            continue
        arguments = {
            a.name.value: a.value.value for a in directive.arguments or () if isinstance(a.value, StringValueNode)
        }
        url = arguments.get("url") or arguments.get("feature")
        if not url:
            continue
        parts = url.rstrip("/").split("/")
        name = parts[-2] if len(parts) > 1 and parts[-1].startswith("v") else parts[-1]
        names[name] = arguments.get("as", name)
    return names


def schema_definition(document: DocumentNode) -> SchemaDefinitionNode | None:
    return next((d for d in document.definitions if isinstance(d, SchemaDefinitionNode)), None)


def build_api_schema(document: DocumentNode) -> GraphQLSchema:
    """The API schema of a supergraph.

    Raises:
        InvalidSupergraph: what remains after stripping is no schema (the message says why).
    """
    features = linked_names(schema_definition(document))
    return _ApiSchemaBuilder(document, features).build()


class _ApiSchemaBuilder:
    def __init__(self, document: DocumentNode, features: dict[str, str]) -> None:
        self._document = document
        self._prefixes = tuple(f"{prefix}__" for prefix in features.values())
        self._features = frozenset(features.values())
        self._inaccessible = features.get("inaccessible", "inaccessible")
        self._hidden_types = {
            d.name.value for d in document.definitions if isinstance(d, TypeDefinitionNode) and self._is_hidden_type(d)
        }

    def build(self) -> GraphQLSchema:
        definitions = [d for d in map(self._definition, self._document.definitions) if d is not None]
        if not any(isinstance(d, DirectiveDefinitionNode) and d.name.value == "defer" for d in definitions):
            definitions.append(_DEFER)
        try:
            return build_ast_schema(DocumentNode(definitions=tuple(definitions)), assume_valid=True)
        except Exception as error:
            raise InvalidSupergraph(f"The supergraph has no usable API schema: {error}") from error

    def _is_internal(self, name: str) -> bool:
        return name.startswith(self._prefixes) or name in self._features

    def _is_hidden(self, node: object) -> bool:
        directives: Sequence[DirectiveNode] | None = getattr(node, "directives", None)
        return directives is not None and any(d.name.value == self._inaccessible for d in directives)

    def _is_hidden_type(self, node: TypeDefinitionNode) -> bool:
        return self._is_hidden(node) or node.name.value.startswith(self._prefixes)

    def _definition(self, node: DefinitionNode) -> DefinitionNode | None:
        if isinstance(node, SchemaDefinitionNode):
            return SchemaDefinitionNode(
                description=node.description, directives=(), operation_types=node.operation_types
            )
        if isinstance(node, DirectiveDefinitionNode):
            return self._directive(node)
        if isinstance(node, TypeDefinitionNode) and node.name.value not in self._hidden_types:
            return self._type(node)
        return None

    def _directive(self, node: DirectiveDefinitionNode) -> DirectiveDefinitionNode | None:
        executable = tuple(location for location in node.locations if location.value in _EXECUTABLE)
        if self._is_internal(node.name.value) or not executable or self._is_hidden(node):
            return None
        return DirectiveDefinitionNode(
            description=node.description,
            name=node.name,
            repeatable=node.repeatable,
            locations=executable,
            arguments=self._inputs(node.arguments),
        )

    def _type(self, node: TypeDefinitionNode) -> TypeDefinitionNode:
        directives = self._applied(node)
        if isinstance(node, ObjectTypeDefinitionNode):
            return ObjectTypeDefinitionNode(
                description=node.description,
                name=node.name,
                directives=directives,
                interfaces=self._visible(node.interfaces),
                fields=self._fields(node.fields),
            )
        if isinstance(node, InterfaceTypeDefinitionNode):
            return InterfaceTypeDefinitionNode(
                description=node.description,
                name=node.name,
                directives=directives,
                interfaces=self._visible(node.interfaces),
                fields=self._fields(node.fields),
            )
        if isinstance(node, UnionTypeDefinitionNode):
            return UnionTypeDefinitionNode(
                description=node.description, name=node.name, directives=directives, types=self._visible(node.types)
            )
        if isinstance(node, EnumTypeDefinitionNode):
            values = tuple(
                EnumValueDefinitionNode(description=value.description, name=value.name, directives=self._applied(value))
                for value in node.values or ()
                if not self._is_hidden(value)
            )
            return EnumTypeDefinitionNode(
                description=node.description, name=node.name, directives=directives, values=values
            )
        if isinstance(node, InputObjectTypeDefinitionNode):
            return InputObjectTypeDefinitionNode(
                description=node.description, name=node.name, directives=directives, fields=self._inputs(node.fields)
            )
        return ScalarTypeDefinitionNode(description=node.description, name=node.name, directives=directives)

    def _applied(self, node: object) -> tuple[ConstDirectiveNode, ...]:
        directives: Sequence[ConstDirectiveNode] = getattr(node, "directives", None) or ()
        return tuple(d for d in directives if d.name.value in _PUBLIC_DIRECTIVES)

    def _visible(self, nodes: Sequence[NamedTypeNode] | None) -> tuple[NamedTypeNode, ...]:
        return tuple(node for node in nodes or () if node.name.value not in self._hidden_types)

    def _fields(self, nodes: Sequence[FieldDefinitionNode] | None) -> tuple[FieldDefinitionNode, ...]:
        return tuple(self._field(node) for node in nodes or () if not self._is_hidden(node))

    def _field(self, node: FieldDefinitionNode) -> FieldDefinitionNode:
        """The node itself, if its arguments stay: of its directives, only public ones have a meaning to graphql-core."""
        arguments = node.arguments or ()
        shown = self._inputs(arguments)
        if len(shown) == len(arguments):
            return node
        return FieldDefinitionNode(
            description=node.description,
            name=node.name,
            type=node.type,
            arguments=shown,
            directives=self._applied(node),
        )

    def _inputs(self, nodes: Sequence[InputValueDefinitionNode] | None) -> tuple[InputValueDefinitionNode, ...]:
        return tuple(node for node in nodes or () if not self._is_hidden(node))
