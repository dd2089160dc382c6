"""The schema that clients see: the supergraph without the machinery of composition and without what is inaccessible."""

from typing import Any

from graphql import (
    DirectiveDefinitionNode,
    DocumentNode,
    GraphQLSchema,
    SchemaDefinitionNode,
    StringValueNode,
    TypeDefinitionNode,
    parse,
    specified_directives,
)

from router.errors import InvalidSupergraph
from router.sdl import EXECUTABLE_LOCATIONS
from router.supergraph.api_types import ApiSchema, ApiTypes, Visibility, is_marked

_DEFER = "directive @defer(label: String, if: Boolean! = true) on FRAGMENT_SPREAD | INLINE_FRAGMENT"
"""The router's own: no subgraph needs to know of it."""


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
    """The API schema of a supergraph, whose types make their fields when they are first asked for them.

    Raises:
        InvalidSupergraph: what remains after stripping is no schema (the message says why).
    """
    schema = schema_definition(document)
    features = linked_names(schema)
    inaccessible = features.get("inaccessible", "inaccessible")
    prefixes = tuple(f"{prefix}__" for prefix in features.values())
    nodes = {d.name.value: d for d in document.definitions if isinstance(d, TypeDefinitionNode)}
    shown = {
        name: node
        for name, node in nodes.items()
        if not name.startswith(prefixes) and not is_marked(node, inaccessible)
    }
    offered = (*document.definitions, *parse(_DEFER).definitions)
    directives = {
        node.name.value: node
        for node in reversed(offered)
        if isinstance(node, DirectiveDefinitionNode)
        and not node.name.value.startswith(prefixes)
        and node.name.value not in features.values()
        and not is_marked(node, inaccessible)
        and any(location.value in EXECUTABLE_LOCATIONS for location in node.locations)
    }
    visibility = Visibility(inaccessible, hidden_types=nodes.keys() - shown.keys())
    try:
        api = ApiTypes(shown, tuple(reversed(directives.values())), visibility)
    except TypeError as error:  # a name that graphql-core does not take
        raise InvalidSupergraph(f"The supergraph has no usable API schema: {error}") from error
    described = {directive.name for directive in api.directives}
    return ApiSchema(
        **_roots(schema, api, visibility),
        types=tuple(api.types.values()),
        directives=(*api.directives, *(d for d in specified_directives if d.name not in described)),
        description=schema.description.value if schema and schema.description else None,
    )


def _roots(schema: SchemaDefinitionNode | None, api: ApiTypes, visibility: Visibility) -> dict[str, Any]:
    """The root types by operation; clients have no operations on one that they do not see."""
    if schema is None:
        return {name.lower(): api.types[name] for name in ("Query", "Mutation", "Subscription") if name in api.types}
    roots = {
        one.operation.value: api.root_type(one.type, by="The schema")
        for one in schema.operation_types
        if visibility.shown_types((one.type,))
    }
    if "query" not in roots:
        raise InvalidSupergraph("The supergraph has no usable API schema: its query type is inaccessible.")
    return roots
