"""A subgraph's own definitions of what the specifications define: they may say less, but nothing else."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from graphql import (
    DirectiveDefinitionNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    InputValueDefinitionNode,
    Node,
    NonNullTypeNode,
    ScalarTypeDefinitionNode,
    TypeDefinitionNode,
    parse,
    print_ast,
)

from router.composition.errors import CompositionError, CompositionFailed
from router.composition.links import location

# Servers without custom scalars in their SDL write String for the scalars of the specifications.
_WRITTEN_AS_STRING = ("FieldSet", "Scope", "Policy", "ContextFieldValue", "Import")


def check_definitions(
    subgraph: str,
    document: DocumentNode,
    directives: Mapping[str, str],
    types: Mapping[str, tuple[str, ...] | None],
) -> None:
    """Compare the document's definitions with the specifications'.

    Args:
        directives: name in the document to the specification's definition, in SDL.
        types: name in the document to the values of the enum, None for a scalar.
    Raises:
        CompositionFailed: DIRECTIVE_DEFINITION_INVALID or TYPE_DEFINITION_INVALID, with all differences.
    """
    errors: list[CompositionError] = []
    for node in document.definitions:
        if isinstance(node, DirectiveDefinitionNode) and node.name.value in directives:
            name = node.name.value
            errors.extend(
                _error(
                    "DIRECTIVE_DEFINITION_INVALID", f'Invalid definition for directive "@{name}": {why}', node, subgraph
                )
                for why in _differences(node, _parsed(directives[name]))
            )
        elif isinstance(node, TypeDefinitionNode) and node.name.value in types:
            why = _type_difference(node, types[node.name.value])
            if why:
                errors.append(
                    _error(
                        "TYPE_DEFINITION_INVALID",
                        f'Invalid definition for type "{node.name.value}": {why}',
                        node,
                        subgraph,
                    )
                )
    if errors:
        raise CompositionFailed(errors)


@lru_cache(maxsize=512)
def _parsed(definition: str) -> DirectiveDefinitionNode:
    node = parse(definition, no_location=True).definitions[0]
    assert isinstance(node, DirectiveDefinitionNode)  # noqa: S101  the specifications here are ours
    return node


def _differences(given: DirectiveDefinitionNode, expected: DirectiveDefinitionNode) -> Iterator[str]:
    own = {argument.name.value: argument for argument in given.arguments or ()}
    known = {argument.name.value: argument for argument in expected.arguments or ()}
    for name, argument in known.items():
        if name not in own and isinstance(argument.type, NonNullTypeNode) and argument.default_value is None:
            yield f'missing required argument "{name}"'
    for name, argument in own.items():
        if name in known:
            yield from _argument_differences(argument, known[name])
        else:
            yield f'unknown/unsupported argument "{name}"'
    if given.repeatable and not expected.repeatable:
        yield f'"@{given.name.value}" should not be repeatable'
    allowed = [place.value for place in expected.locations]
    found = [place.value for place in given.locations]
    if not set(found) <= set(allowed):
        yield f"it should have locations {', '.join(allowed)}, but found (non-subset) {', '.join(found)}"


def _argument_differences(given: InputValueDefinitionNode, expected: InputValueDefinitionNode) -> Iterator[str]:
    name, found, wanted = given.name.value, print_ast(given.type), print_ast(expected.type)
    accepted = {wanted, _as_string(wanted)}
    if wanted == "_FieldSet!":  # Federation 1 servers wrote it as they liked
        accepted |= {"_FieldSet", "String"}
    if not {found, found.removesuffix("!")} & accepted:
        yield f'argument "{name}" should have type "{wanted}" but found type "{found}"'
    default = expected.default_value
    if default is not None and (given.default_value is None or print_ast(given.default_value) != print_ast(default)):
        told = print_ast(given.default_value) if given.default_value else "null"
        yield f'argument "{name}" should have default value {print_ast(default)} but found default value {told}'


def _as_string(ref: str) -> str:
    name = ref.strip("[]!")
    return ref.replace(name, "String") if name.endswith(_WRITTEN_AS_STRING) else ref


def _type_difference(node: TypeDefinitionNode, values: tuple[str, ...] | None) -> str | None:
    if values is None:
        return None if isinstance(node, ScalarTypeDefinitionNode) else "it should be a scalar"
    if not isinstance(node, EnumTypeDefinitionNode):
        return "it should be an enum"
    found = sorted(value.name.value for value in node.values or ())
    return None if found == sorted(values) else f"expected values {', '.join(values)} but found {', '.join(found)}"


def _error(code: str, message: str, node: Node, subgraph: str) -> CompositionError:
    at = location(node, subgraph)
    return CompositionError(code, f"[{subgraph}] {message}", (subgraph,), (at,) if at else ())
