"""Planning from end to end: the stages in their order."""

from collections.abc import Mapping
from dataclasses import dataclass

from graphql import OperationType

from router.planning.build import FetchGraphBuilder
from router.planning.defer import filled, parted
from router.planning.defer_groups import CannotDefer, DeferredGroups
from router.planning.fetch_graph import Path
from router.planning.layout import DeferLayout, Layout
from router.planning.narrow import narrow
from router.planning.operation import Operation
from router.planning.optimize import optimize
from router.planning.plan import PlanNode, QueryPlan
from router.planning.query_graph import QueryGraph
from router.planning.separation import Separated, separate, with_separated
from router.planning.walk import Walker
from router.supergraph.model import Supergraph
from router.supergraph.selection import Selection, shared


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and under which other keys the answer holds fields that had to be renamed: (path, type, key) -> key.

    source: the selection that was planned, in which equal places hold equal things.
    """

    plan: QueryPlan
    renamed: Mapping[tuple[Path, str, str], str]
    source: "PlannedSelection"


@dataclass(frozen=True, slots=True)
class PlannedSelection:
    """What was planned. renamed: as of `Planned`, from this selection's keys; apart: the client's keys for those that it adds."""

    selection: Selection
    renamed: Mapping[tuple[Path, str, str], str]
    apart: Mapping[str, str]


class Planner:
    """Plans operations over one supergraph with one set of active override labels. Equal input gives an equal plan."""

    def __init__(self, supergraph: Supergraph, labels: frozenset[str] = frozenset()) -> None:
        self._graph = QueryGraph(supergraph, labels)

    def plan(self, operation: Operation) -> Planned:
        """The plan of a normalized operation.

        Raises:
            PlanningError: the supergraph cannot satisfy the operation.
        """
        walker = Walker(self._graph)
        narrowed = narrow(self._graph, walker, operation.selection, operation.root_type)
        separated = separate(self._graph, narrowed, operation.root_type)
        if operation.defers:
            return self._plan_deferred(operation, walker, separated)
        selection = separated.selection
        builder = FetchGraphBuilder(self._graph, walker, shared(selection), operation.root_type)
        groups = builder.build(in_order=operation.kind is OperationType.MUTATION)
        optimize(groups)
        layout = Layout(groups, operation)
        if operation.kind is OperationType.SUBSCRIPTION:
            node = layout.subscription()
        else:
            node = layout.nodes()
        return _planned(node, builder, separated)

    def _plan_deferred(self, operation: Operation, walker: Walker, separated: Separated) -> Planned:
        """As `plan`, with the deferred parts planned on top of what is answered first."""
        selection = separated.selection
        deferral = parted(self._graph.supergraph, operation, selection)
        mutates = operation.kind is OperationType.MUTATION
        builder = FetchGraphBuilder(
            self._graph, walker, filled(deferral.primary), operation.root_type, deferred_from=selection
        )
        groups = builder.build(in_order=mutates)
        first_stage = 1 + max((group.stage for group in groups.groups.values()), default=0)
        blocks = DeferredGroups(self._graph.supergraph, walker, builder, root_once=mutates)
        try:
            stages = blocks.add(deferral, first_stage)
        except CannotDefer:  # everything is fetched first, though delivered in parts
            builder = FetchGraphBuilder(self._graph, walker, selection, operation.root_type)
            groups = builder.build(in_order=mutates)
            stages = {block: -1 - number for number, block in enumerate(deferral.blocks)}
        optimize(groups)
        node = DeferLayout(groups, operation, deferral, stages).node()
        return _planned(node, builder, separated)


def _planned(node: PlanNode | None, builder: FetchGraphBuilder, separated: Separated) -> Planned:
    apart = {stored: key for (_, _, key), stored in separated.renamed.items()}
    source = PlannedSelection(separated.selection, dict(builder.renamed), apart)
    return Planned(QueryPlan(node), with_separated(builder.renamed, separated.renamed), source)
