"""Planning from end to end: the stages in their order, and the fetch graph laid out as plan nodes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphql import OperationType, ValueNode, VariableNode
from graphql.language import ListValueNode, ObjectValueNode

from router.planning.build import FetchGraphBuilder
from router.planning.contexts import Contextual
from router.planning.contexts import freeze as freeze_context
from router.planning.defer import PRIMARY, Block, Deferral, filled, parted
from router.planning.defer_groups import CannotDefer, DeferredGroups
from router.planning.fetch_graph import FetchGraph, FetchGroup, FetchSelection, GroupKind, Path, Representation
from router.planning.narrow import narrow
from router.planning.operation import Operation
from router.planning.optimize import optimize
from router.planning.plan import (
    BatchFetchNode,
    BatchPart,
    DeferNode,
    DeferredNode,
    FetchNode,
    FlattenNode,
    ParallelNode,
    PlanNode,
    PrintedField,
    PrintedSelection,
    QueryPlan,
    RequiredObject,
    SequenceNode,
    SubscriptionNode,
)
from router.planning.query_graph import QueryGraph
from router.planning.walk import Walker
from router.supergraph.model import Supergraph
from router.supergraph.selection import Selection


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and under which other keys the answer holds fields that had to be renamed: (path, type, key) -> key."""

    plan: QueryPlan
    renamed: Mapping[tuple[Path, str, str], str]


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
        selection = narrow(self._graph, walker, operation.selection, operation.root_type)
        if operation.defers:
            return self._plan_deferred(operation, walker, selection)
        builder = FetchGraphBuilder(self._graph, walker, selection, operation.root_type)
        groups = builder.build(in_order=operation.kind is OperationType.MUTATION)
        optimize(groups)
        layout = _Layout(groups, operation)
        if operation.kind is OperationType.SUBSCRIPTION:
            node = layout.subscription()
        else:
            node = layout.nodes()
        return Planned(QueryPlan(node), dict(builder.renamed))

    def _plan_deferred(self, operation: Operation, walker: Walker, selection: Selection) -> Planned:
        """As `plan`, with the deferred parts planned on top of what is answered first."""
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
        node = _DeferLayout(groups, operation, deferral, stages).node()
        return Planned(QueryPlan(node), dict(builder.renamed))


class _DeferLayout:
    """One node for what is answered first, and one for each block after it."""

    def __init__(
        self, graph: FetchGraph, operation: Operation, deferral: Deferral, stages: Mapping[Block, int]
    ) -> None:
        self._graph = graph
        self._operation = operation
        self._deferral = deferral
        self._stages = stages
        block_at = {stage: block for block, stage in stages.items()}
        self._block_of = {n: block_at.get(group.stage, PRIMARY) for n, group in sorted(graph.groups.items())}
        needed = {
            need
            for number, group in graph.groups.items()
            for need in group.needs
            if self._block_of[need] != self._block_of[number]
        }
        self._numbers = {number: position for position, number in enumerate(sorted(needed))}

    def node(self) -> DeferNode:
        deferred = tuple(self._deferred(block) for block in self._deferral.blocks)
        return DeferNode(self._deferral.primary, self._layout(PRIMARY).nodes(), deferred)

    def _members(self, block: Block) -> list[int]:
        return [number for number, own in self._block_of.items() if own == block]

    def _layout(self, block: Block) -> "_Layout":
        return _Layout(self._graph.part(self._members(block)), self._operation, self._numbers)

    def _deferred(self, block: Block) -> DeferredNode:
        deferral = self._deferral
        members = self._members(block)
        outside = {need for number in members for need in self._graph.groups[number].needs} - set(members)
        positions = {other: position for position, other in enumerate(deferral.blocks)}
        after = {positions[self._block_of[need]] for need in outside if self._block_of[need] != PRIMARY}
        innermost = max(sorted(block), key=lambda number: len(deferral.paths[number]))
        return DeferredNode(
            block,
            deferral.paths[innermost],
            deferral.defers[innermost].label,
            deferral.selections[block],
            tuple(sorted(self._numbers[need] for need in outside)),
            tuple(sorted(after)),
            self._layout(block).nodes(),
        )


class _Layout:
    """Turns groups and needs into nested Sequence and Parallel nodes. numbers: of the groups that others refer to."""

    def __init__(self, graph: FetchGraph, operation: Operation, numbers: Mapping[int, int] | None = None) -> None:
        self._graph = graph
        self._operation = operation
        self._numbers = numbers or {}
        self._children: dict[int, list[int]] = {number: [] for number in graph.groups}
        for group in graph.groups.values():
            for need in sorted(group.needs):
                self._children[need].append(group.number)

    def nodes(self) -> PlanNode | None:
        roots = [number for number, group in sorted(self._graph.groups.items()) if not group.needs]
        return self._arrange(roots, set())

    def subscription(self) -> PlanNode | None:
        roots = [number for number, group in sorted(self._graph.groups.items()) if not group.needs]
        if not roots:
            return None
        primary = self._graph.groups[roots[0]]
        done = {primary.number}
        rest = self._arrange([n for n in self._children[primary.number] if self._graph.groups[n].needs <= done], done)
        return SubscriptionNode(self._fetch(primary), rest)

    def _arrange(self, ready: list[int], done: set[int]) -> PlanNode | None:
        """Ready groups side by side, each followed by what needs only it; what needs several comes after all of them."""
        steps: list[PlanNode] = []
        while ready:
            branches = [branch for number in ready if (branch := self._branch(number, done)) is not None]
            steps.append(branches[0] if len(branches) == 1 else ParallelNode(tuple(branches)))
            ready = sorted(
                number
                for number, group in self._graph.groups.items()
                if number not in done and group.needs and group.needs <= done
            )
        if not steps:
            return None
        return steps[0] if len(steps) == 1 else SequenceNode(_flat(steps))

    def _branch(self, number: int, done: set[int]) -> PlanNode | None:
        done.add(number)
        node = self._node(self._graph.groups[number])
        chain = {number}
        steps: list[PlanNode] = [node]
        ready = self._only_after(chain, done)
        while ready:
            branches = []
            for child in ready:
                before = set(done)
                branch = self._branch(child, done)
                chain |= done - before
                if branch is not None:
                    branches.append(branch)
            steps.append(branches[0] if len(branches) == 1 else ParallelNode(tuple(branches)))
            ready = self._only_after(chain, done)
        return steps[0] if len(steps) == 1 else SequenceNode(_flat(steps))

    def _only_after(self, chain: set[int], done: set[int]) -> list[int]:
        """Groups whose every need lies in this chain (or before it, which the chain waited for)."""
        before = self._graph.ancestors(chain)
        candidates = {child for number in chain for child in self._children[number]}
        return sorted(n for n in candidates if n not in done and self._graph.groups[n].needs <= before)

    def _node(self, group: FetchGroup) -> PlanNode:
        if group.parts:
            return self._batch(group)
        fetch = self._fetch(group)
        return FlattenNode(group.path, fetch) if group.path else fetch

    def _batch(self, group: FetchGroup) -> BatchFetchNode:
        alike: dict[tuple[str, str], list[FetchGroup]] = {}
        for part in group.parts:
            alike.setdefault((_freeze(part.selection).compact(), str(_required(part))), []).append(part)
        used: set[str] = set()
        parts: list[BatchPart] = []
        bodies: list[str] = []
        single = len(alike) == 1
        for number, same in enumerate(alike.values()):
            _collect_variables(same[0].selection, used)
            alias, variable = (
                ("_entities", "representations") if single else (f"_e{number}", f"representations{number}")
            )
            selection = _freeze(same[0].selection, top=True)
            paths = tuple(part.path for part in same)
            parts.append(BatchPart(alias, variable, paths, _required(same[0]), selection))
            name = "_entities" if single else f"{alias}:_entities"
            bodies.append(f"{name}(representations:${variable}){selection.compact()}")
        names = tuple(name for name in self._operation.variables if name in used)
        definitions = [
            *(f"${part.variable}:[_Any!]!" for part in parts),
            *(self._operation.variables[name] for name in names),
        ]
        title = f" {self._operation.name}" if self._operation.name else ""
        operation = f"query{title}({','.join(definitions)}){{{' '.join(bodies)}}}"
        return BatchFetchNode(group.subgraph, operation, names, tuple(parts), self._numbers.get(group.number))

    def _fetch(self, group: FetchGroup) -> FetchNode:
        selection = _freeze(group.selection, top=True)
        used: set[str] = set()
        _collect_variables(group.selection, used)
        names = tuple(name for name in self._operation.variables if name in used)
        definitions = [self._operation.variables[name] for name in names]
        entities = group.kind is GroupKind.ENTITIES
        kind = "query" if entities or group.path else self._operation.kind.value
        body = selection.compact()
        if entities:
            definitions.insert(0, "$representations:[_Any!]!")
            body = f"{{_entities(representations:$representations){body}}}"
        header = f"({','.join(definitions)})" if definitions else ""
        title = f" {self._operation.name}" if self._operation.name else ""
        operation = f"{kind}{title}{header}{body}" if header or title or kind != "query" else body
        contextual = None
        if variables := tuple(freeze_context(read) for name, read in sorted(group.contexts.items()) if name in used):
            contextual = Contextual(variables, title, tuple(self._operation.variables[name] for name in names))
            operation = contextual.operation(selection.compact(), 1)
        return FetchNode(
            subgraph=group.subgraph,
            operation=operation,
            kind=kind,
            variables=names,
            selection=selection,
            requires=_required(group),
            contextual=contextual,
            number=self._numbers.get(group.number),
        )


def _required(group: FetchGroup) -> tuple[RequiredObject, ...]:
    """The group's representations; object types that are sent alike (to an interface object) are one."""
    alike: dict[tuple[str, str], list[Representation]] = {}
    for _, each in sorted(group.representations.items()):
        alike.setdefault((each.type_name, str(Selection(tuple(each.fields)))), []).append(each)
    return tuple(
        RequiredObject(
            same[0].type_name,
            tuple(sorted(frozenset().union(*(each.applies_to for each in same)))),
            tuple(same[0].fields),
            same[0].key_names,
        )
        for same in alike.values()
    )


def _flat(steps: Iterable[PlanNode]) -> tuple[PlanNode, ...]:
    flat: list[PlanNode] = []
    for step in steps:
        flat.extend(step.nodes if isinstance(step, SequenceNode) else (step,))
    return tuple(flat)


def _freeze(selection: FetchSelection, *, top: bool = False) -> PrintedSelection:
    fields = tuple(
        PrintedField(f.key, f.name, f.arguments_text, None if f.selection is None else _freeze(f.selection))
        for f in selection.fields.values()
    )
    fragments = tuple(
        (name, _freeze(inner)) for name, inner in selection.fragments.items() if top or not inner.is_empty()
    )
    return PrintedSelection(selection.typename or not (fields or fragments), fields, fragments)


def _collect_variables(selection: FetchSelection, into: set[str]) -> None:
    for item in selection.fields.values():
        for _, value in item.arguments:
            _variables_in(value, into)
        if item.selection is not None:
            _collect_variables(item.selection, into)
    for inner in selection.fragments.values():
        _collect_variables(inner, into)


def _variables_in(value: ValueNode, into: set[str]) -> None:
    if isinstance(value, VariableNode):
        into.add(value.name.value)
    elif isinstance(value, ListValueNode):
        for item in value.values:
            _variables_in(item, into)
    elif isinstance(value, ObjectValueNode):
        for field in value.fields:
            _variables_in(field.value, into)
