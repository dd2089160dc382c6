"""Where a supergraph is wrong: looked up only when one cannot be read, since a text that is right needs no places."""

from graphql import (
    DirectiveNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    EnumTypeExtensionNode,
    EnumValueNode,
    GraphQLError,
    Node,
    StringValueNode,
    TypeDefinitionNode,
    Visitor,
    parse,
    visit,
)


def describe(sdl: str, error: BaseException, *, join: str, at: str) -> str:
    """What is wrong with a supergraph, and in which line.

    error: what reading it raised; join: the prefix of the join directives; at: the type (`T`) or field (`T.f`) that was
    being read, "" before the first.
    """
    try:
        document = parse(sdl)
    except (GraphQLError, RecursionError):
        return f"The supergraph cannot be read: {_told(error)}."
    unknown = _unknown_graph(document, join)
    if unknown is not None:
        node, graph = unknown
        return f"The supergraph cannot be read: line {_line(node)}: no {join}__Graph is called {graph}."
    place = _definition(document, at)
    if place is None:
        return f"The supergraph cannot be read: {_told(error)}."
    return f"The supergraph cannot be read: line {_line(place)}: {at}: {_told(error)}."


def _told(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing or not defined" if error.args else "something is missing"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (str(error) or type(error).__name__).rstrip(".")


def _line(node: Node) -> int:
    return node.loc.start_token.line if node.loc else 0


def _unknown_graph(document: DocumentNode, join: str) -> tuple[Node, str] | None:
    """The first join directive that names a graph which is not among those of the supergraph."""
    graphs: set[str] = set()
    for node in document.definitions:
        if isinstance(node, EnumTypeDefinitionNode | EnumTypeExtensionNode) and node.name.value == f"{join}__Graph":
            graphs.update(value.name.value for value in node.values or ())
    found: list[tuple[Node, str]] = []

    class Graphs(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: object) -> None:
            if not node.name.value.startswith(f"{join}__"):
                return
            for argument in node.arguments or ():
                value = argument.value
                if argument.name.value != "graph" or not isinstance(value, EnumValueNode | StringValueNode):
                    continue
                if value.value not in graphs:
                    found.append((node, value.value))

    visit(document, Graphs())
    return found[0] if found else None


def _definition(document: DocumentNode, at: str) -> Node | None:
    type_name, _, field_name = at.partition(".")
    for node in document.definitions:
        if isinstance(node, TypeDefinitionNode) and node.name.value == type_name:
            fields = getattr(node, "fields", None) or ()
            return next((field for field in fields if field.name.value == field_name), node)
    return None
