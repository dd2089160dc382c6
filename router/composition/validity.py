"""Whether a subgraph's SDL is GraphQL at all, judged by graphql-core once the federation definitions are added."""

from collections.abc import Iterator

from graphql import (
    DefinitionNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    EnumTypeExtensionNode,
    GraphQLError,
    InputObjectTypeDefinitionNode,
    InputObjectTypeExtensionNode,
    InterfaceTypeDefinitionNode,
    InterfaceTypeExtensionNode,
    ObjectTypeDefinitionNode,
    ObjectTypeExtensionNode,
    ScalarTypeDefinitionNode,
    ScalarTypeExtensionNode,
    TypeDefinitionNode,
    UnionTypeDefinitionNode,
    UnionTypeExtensionNode,
    build_ast_schema,
    parse,
    validate_schema,
)
from graphql.language.ast import QUERY_DOCUMENT_KEYS
from graphql.language.visitor import ParallelVisitor, visit
from graphql.validation import SDLValidationContext
from graphql.validation.specified_rules import specified_sdl_rules

from router.composition.errors import CompositionError, CompositionFailed, SourceLocation

_BASE_OF_EXTENSION: dict[type, type] = {
    ScalarTypeExtensionNode: ScalarTypeDefinitionNode,
    ObjectTypeExtensionNode: ObjectTypeDefinitionNode,
    InterfaceTypeExtensionNode: InterfaceTypeDefinitionNode,
    UnionTypeExtensionNode: UnionTypeDefinitionNode,
    EnumTypeExtensionNode: EnumTypeDefinitionNode,
    InputObjectTypeExtensionNode: InputObjectTypeDefinitionNode,
}
_VISITED_KEYS = {
    kind: tuple(key for key in keys if key not in ("name", "description")) for kind, keys in QUERY_DOCUMENT_KEYS.items()
}
# A subgraph may have no query of its own, or only the federation ones.
_FINE_IN_A_SUBGRAPH = (
    "Query root type must be provided.",
    "Type Query must define one or more fields.",
    "Type Mutation must define one or more fields.",
    "Type Subscription must define one or more fields.",
)


def check_graphql(subgraph: str, document: DocumentNode, definitions: str) -> None:
    """Check the document together with the SDL in `definitions`.

    Raises:
        CompositionFailed: INVALID_GRAPHQL, with every violation of the GraphQL specification.
    """
    added = parse(definitions, no_location=True).definitions
    whole = DocumentNode(definitions=(*_with_bases(document), *added))
    errors = _sdl_errors(whole)
    if not errors:
        try:
            schema = build_ast_schema(whole, assume_valid_sdl=True)
        except (TypeError, GraphQLError) as error:
            errors = [error if isinstance(error, GraphQLError) else GraphQLError(str(error))]
        else:
            errors = [error for error in validate_schema(schema) if error.message not in _FINE_IN_A_SUBGRAPH]
    if errors:
        raise CompositionFailed([_invalid(subgraph, error) for error in errors])


def _sdl_errors(document: DocumentNode) -> list[GraphQLError]:
    """What graphql-core's `validate_sdl` finds, without its visits to names and descriptions, which no rule looks at and
    which are half of all nodes."""
    errors: list[GraphQLError] = []
    context = SDLValidationContext(document, None, errors.append)
    visit(document, ParallelVisitor([rule(context) for rule in specified_sdl_rules]), _VISITED_KEYS)
    return errors


def _with_bases(document: DocumentNode) -> Iterator[DefinitionNode]:
    """The definitions, where the first extension of a type that has no base counts as its base."""
    defined = {node.name.value for node in document.definitions if isinstance(node, TypeDefinitionNode)}
    for node in document.definitions:
        base = _BASE_OF_EXTENSION.get(type(node))
        if base is None or node.name.value in defined:  # type: ignore[attr-defined]  # extensions have names
            yield node
            continue
        defined.add(node.name.value)  # type: ignore[attr-defined]
        yield base(**{key: getattr(node, key) for key in node.keys})


def _invalid(subgraph: str, error: GraphQLError) -> CompositionError:
    places = tuple(SourceLocation(subgraph, place.line, place.column) for place in error.locations or ())
    return CompositionError("INVALID_GRAPHQL", f"[{subgraph}] {error.message}", (subgraph,), places)
