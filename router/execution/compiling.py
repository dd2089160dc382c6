"""What the steps of one plan are compiled with, and what the plan says about values that stand in the answer many times."""

from dataclasses import dataclass

from router.execution.client_paths import ClientPaths
from router.planning.fetch_graph import Path
from router.planning.plan import (
    BatchFetchNode,
    BatchPart,
    DeferNode,
    FetchNode,
    FlattenNode,
    PlanNode,
    PrintedSelection,
    fetch_nodes,
)
from router.supergraph.model import Supergraph


@dataclass(frozen=True, slots=True)
class Compiling:
    """Made once for a plan.

    apart: objects that asked for one entity get a copy of it each, because below a contextual argument it has another
        value in another place.
    sharing: objects that hold nothing but the same key may become one. Not where parts are deferred, which remember
        the objects in which they stand.
    may_repeat: where one value can stand in the answer many times.
    """

    supergraph: Supergraph
    client_paths: ClientPaths
    apart: bool
    sharing: bool
    may_repeat: frozenset[Path]

    @staticmethod
    def of(supergraph: Supergraph, client_paths: ClientPaths, node: PlanNode | None) -> "Compiling":
        fetches = list(fetch_nodes(node))
        apart = any(isinstance(each, FlattenNode) and each.node.contextual is not None for each in fetches)
        is_deferred = isinstance(node, DeferNode)
        repeats = frozenset[Path]() if apart else frozenset().union(*(_repeating(each) for each in fetches))
        return Compiling(supergraph, client_paths, apart, not (apart or is_deferred), repeats)


def entity_parts(node: FlattenNode | BatchFetchNode) -> tuple[BatchPart, ...]:
    """What a node asks for by key; a single fetch is a batch of one part."""
    if isinstance(node, BatchFetchNode):
        return node.parts
    fetch = node.node
    return (BatchPart("_entities", "representations", (node.path,), fetch.requires, fetch.selection),)


def _repeating(node: FetchNode | FlattenNode | BatchFetchNode) -> set[Path]:
    if isinstance(node, FetchNode):
        return set()
    if isinstance(node, FlattenNode) and not node.node.requires:
        return _composites(node.path, node.node.selection)
    found: set[Path] = set()
    for part in entity_parts(node):
        for path in part.paths:
            found |= {path} | _composites(path, part.selection)
    return found


def _composites(path: Path, selection: PrintedSelection) -> set[Path]:
    """The values with something below them that a fetch puts into the objects at a path."""
    found = {(*path, field.key) for field in selection.fields if field.selection is not None}
    return found.union(*(_composites(path, inner) for _, inner in selection.fragments))
