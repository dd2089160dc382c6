"""The query plan: what is asked of whom, in which order. Immutable, and printable in the notation that people know."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from router.planning.contexts import Contextual, ContextVariable
from router.planning.fetch_graph import Path
from router.supergraph.model import SubgraphName
from router.supergraph.selection import Field, Fragment, Selection


@dataclass(frozen=True, slots=True)
class PrintedField:
    """A field of a subgraph operation. type_text: its type in that subgraph."""

    key: str
    name: str
    arguments_text: str
    selection: "PrintedSelection | None"


@dataclass(frozen=True, slots=True)
class PrintedSelection:
    """A subgraph selection set: `__typename`, fields, then fragments by type."""

    typename: bool
    fields: tuple[PrintedField, ...]
    fragments: tuple[tuple[str, "PrintedSelection"], ...]

    def compact(self) -> str:
        parts: list[str] = ["__typename"] if self.typename else []
        for item in self.fields:
            alias = "" if item.key == item.name else f"{item.key}:"
            parts.append(f"{alias}{item.name}{item.arguments_text}{item.selection.compact() if item.selection else ''}")
        parts.extend(f"...on {name}{inner.compact()}" for name, inner in self.fragments)
        return "{" + " ".join(parts) + "}"

    def lines(self, indent: str) -> Iterator[str]:
        yield f"{indent}{{"
        yield from self.inner_lines(indent + "  ")
        yield f"{indent}}}"

    def inner_lines(self, indent: str) -> Iterator[str]:
        if self.typename:
            yield f"{indent}__typename"
        for item in self.fields:
            alias = "" if item.key == item.name else f"{item.key}: "
            head = f"{indent}{alias}{item.name}{item.arguments_text}"
            if item.selection is None:
                yield head
            else:
                yield f"{head} {{"
                yield from item.selection.inner_lines(indent + "  ")
                yield f"{indent}}}"
        for name, inner in self.fragments:
            yield f"{indent}... on {name} {{"
            yield from inner.inner_lines(indent + "  ")
            yield f"{indent}}}"


@dataclass(frozen=True, slots=True)
class RequiredObject:
    """What is read from the answer so far and sent as a representation.

    applies_to: objects with one of these `__typename`s; send_as: the `__typename` sent.
    key_names: without any of these an object is not sent.
    inputs: names of required fields; an object that lacks one of their values is not sent, which is an error.
    """

    send_as: str
    applies_to: tuple[str, ...]
    fields: tuple[Field | Fragment, ...]
    key_names: frozenset[str]
    inputs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FetchNode:
    """One request to one subgraph.

    operation: the text as sent; variables: the client's variables that it uses.
    requires: empty for a fetch of root fields; else the entities' representations.
    contextual: what is read of objects around the entities, if any; `operation` is the one for equal values.
    number: by which deferred parts name it, if any of them needs it.
    """

    subgraph: SubgraphName
    operation: str
    kind: str
    variables: tuple[str, ...]
    selection: PrintedSelection
    requires: tuple[RequiredObject, ...] = ()
    contextual: Contextual | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class FlattenNode:
    """Runs a fetch for every object at a path of the answer so far."""

    path: Path
    node: FetchNode


@dataclass(frozen=True, slots=True)
class BatchPart:
    """Entities of one selection, for the objects at several paths. alias: of its `_entities` in the operation."""

    alias: str
    variable: str
    paths: tuple[Path, ...]
    requires: tuple[RequiredObject, ...]
    selection: PrintedSelection


@dataclass(frozen=True, slots=True)
class BatchFetchNode:
    """One request for the entities at several paths. number: as of a FetchNode."""

    subgraph: SubgraphName
    operation: str
    variables: tuple[str, ...]
    parts: tuple[BatchPart, ...]
    number: int | None = None


@dataclass(frozen=True, slots=True)
class SequenceNode:
    nodes: "tuple[PlanNode, ...]"


@dataclass(frozen=True, slots=True)
class ParallelNode:
    nodes: "tuple[PlanNode, ...]"


@dataclass(frozen=True, slots=True)
class SubscriptionNode:
    """A subgraph's event stream, and what completes each event (None: nothing)."""

    primary: FetchNode
    rest: "PlanNode | None"


@dataclass(frozen=True, slots=True)
class DeferredNode:
    """A part that is delivered later.

    block: the deferred fragments that it belongs to; path, label: of the innermost.
    depends: the numbers of the fetches that it needs; after: the positions of the deferred parts that those are in.
    node: None when its fields come with the fetches that it depends on.
    """

    block: frozenset[int]
    path: Path
    label: str | None
    selection: Selection
    depends: tuple[int, ...]
    after: tuple[int, ...]
    node: "PlanNode | None"


@dataclass(frozen=True, slots=True)
class DeferNode:
    """What is answered first (selection: of the client's), and the parts that follow."""

    selection: Selection
    primary: "PlanNode | None"
    deferred: tuple[DeferredNode, ...]


PlanNode = FetchNode | FlattenNode | BatchFetchNode | SequenceNode | ParallelNode | SubscriptionNode | DeferNode


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """node: None when the router answers by itself (introspection, `__typename`)."""

    node: PlanNode | None

    def __str__(self) -> str:
        return print_plan(self)


def fetches(node: PlanNode | None) -> Iterator[FetchNode | BatchFetchNode]:
    """Every request of a plan, in printed order."""
    for each in fetch_nodes(node):
        yield each.node if isinstance(each, FlattenNode) else each


def fetch_nodes(node: PlanNode | None) -> Iterator[FetchNode | FlattenNode | BatchFetchNode]:
    """The same, each with its path."""
    match node:
        case None:
            return
        case FetchNode() | FlattenNode() | BatchFetchNode():
            yield node
        case SequenceNode() | ParallelNode():
            for inner in node.nodes:
                yield from fetch_nodes(inner)
        case SubscriptionNode():
            yield node.primary
            yield from fetch_nodes(node.rest)
        case DeferNode():
            yield from fetch_nodes(node.primary)
            for part in node.deferred:
                yield from fetch_nodes(part.node)
        case _:
            assert_never(node)


def print_plan(plan: QueryPlan) -> str:
    """The plan as `QueryPlan { ... }`, two spaces a level."""
    if plan.node is None:
        return "QueryPlan {}"
    return "\n".join(["QueryPlan {", *node_lines(plan.node, "  "), "}"])


def node_lines(node: PlanNode, indent: str) -> Iterator[str]:
    """A node as it is printed, line by line."""
    match node:
        case FetchNode():
            yield f'{indent}Fetch(service: "{node.subgraph}"{_numbered(node)}) {{'
            if node.contextual is not None:
                yield from _context_lines(node.contextual.variables, indent + "  ")
            if node.requires:
                yield from _requires_lines(node.requires, indent + "  ")
            yield from node.selection.lines(indent + "  ")
            yield f"{indent}}},"
        case BatchFetchNode():
            yield f'{indent}BatchFetch(service: "{node.subgraph}"{_numbered(node)}) {{'
            for part in node.parts:
                paths = ", ".join(f'"{".".join(path)}"' for path in part.paths)
                yield f"{indent}  {part.alias}(paths: [{paths}]) {{"
                yield from _requires_lines(part.requires, indent + "    ")
                yield from part.selection.lines(indent + "    ")
                yield f"{indent}  }},"
            yield f"{indent}}},"
        case FlattenNode():
            yield f'{indent}Flatten(path: "{".".join(node.path)}") {{'
            yield from node_lines(node.node, indent + "  ")
            yield f"{indent}}},"
        case SequenceNode():
            yield from _block("Sequence", node.nodes, indent)
        case ParallelNode():
            yield from _block("Parallel", node.nodes, indent)
        case SubscriptionNode():
            yield f"{indent}Subscription {{"
            yield f"{indent}  Primary: {{"
            yield from node_lines(node.primary, indent + "    ")
            yield f"{indent}  }},"
            if node.rest is not None:
                yield f"{indent}  Rest: {{"
                yield from node_lines(node.rest, indent + "    ")
                yield f"{indent}  }}"
            yield f"{indent}}},"
        case DeferNode():
            yield from _defer_lines(node, indent)
        case _:
            assert_never(node)


def _numbered(node: FetchNode | BatchFetchNode) -> str:
    return "" if node.number is None else f", id: {node.number}"


def _defer_lines(node: DeferNode, indent: str) -> Iterator[str]:
    yield f"{indent}Defer {{"
    yield f"{indent}  Primary {{"
    yield from _answered_lines(node.selection, node.primary, indent + "    ")
    yield f"{indent}  }}, ["
    for part in node.deferred:
        depends = ", ".join(map(str, part.depends))
        label = "" if part.label is None else f', label: "{part.label}"'
        yield f'{indent}    Deferred(depends: [{depends}], path: "{".".join(part.path)}"{label}) {{'
        yield from _answered_lines(part.selection, part.node, indent + "      ")
        yield f"{indent}    }},"
    yield f"{indent}  ]"
    yield f"{indent}}},"


def _answered_lines(selection: Selection, node: PlanNode | None, indent: str) -> Iterator[str]:
    colon = ":" if node is not None else ""
    yield f"{indent}{{"
    yield from _required_lines(selection.items, indent + "  ")
    yield f"{indent}}}{colon}"
    if node is not None:
        yield from node_lines(node, indent)


def _block(name: str, nodes: tuple[PlanNode, ...], indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{"
    for node in nodes:
        yield from node_lines(node, indent + "  ")
    yield f"{indent}}},"


def _context_lines(variables: tuple[ContextVariable, ...], indent: str) -> Iterator[str]:
    for variable in variables:
        yield f"{indent}Context(${variable.name}: {variable.type_text}) {{"
        for level in variable.levels:
            yield f'{indent}  "{".".join(level.path)}" {{'
            for type_name, items in level.reads:
                yield f"{indent}    ... on {type_name} {{"
                yield from _required_lines(items, f"{indent}      ")
                yield f"{indent}    }}"
            yield f"{indent}  }}"
        yield f"{indent}}},"


def _requires_lines(requires: tuple[RequiredObject, ...], indent: str) -> Iterator[str]:
    yield f"{indent}{{"
    for required in requires:
        yield f"{indent}  ... on {required.send_as} {{"
        yield f"{indent}    __typename"
        yield from _required_lines(required.fields, f"{indent}    ")
        yield f"{indent}  }}"
    yield f"{indent}}} =>"


def _required_lines(items: tuple[Field | Fragment, ...], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Fragment):
            yield f"{indent}... on {item.type_condition} {{"
            yield from _required_lines(item.selection.items, indent + "  ")
            yield f"{indent}}}"
            continue
        alias = "" if item.key == item.name else f"{item.key}: "
        if item.selection is None:
            yield f"{indent}{alias}{item.name}{item.arguments_text}"
        else:
            yield f"{indent}{alias}{item.name}{item.arguments_text} {{"
            yield from _required_lines(item.selection.items, indent + "  ")
            yield f"{indent}}}"
