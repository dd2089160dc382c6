"""The fetch graph as nested Sequence and Parallel nodes."""

from collections.abc import Mapping

from router.planning.defer import PRIMARY, Block, Deferral
from router.planning.fetch_graph import FetchGraph
from router.planning.nodes import FetchNodes
from router.planning.operation import Operation
from router.planning.plan import (
    DeferNode,
    DeferredNode,
    ParallelNode,
    PlanNode,
    SequenceNode,
    SubscriptionNode,
)


class Layout:
    """Arranges one graph. numbers: of the groups that others refer to.

    A nested arrangement, in which a fetch waits only for what it needs, comes first. Where fetches need several others it
    can make chains longer than any that the needs make; then waves, in which everything that is as far from the root
    is asked at once, take its place.
    """

    def __init__(self, graph: FetchGraph, operation: Operation, numbers: Mapping[int, int] | None = None) -> None:
        self._graph = graph
        self._nodes = FetchNodes(operation, numbers or {})
        self._children: dict[int, list[int]] = {number: [] for number in graph.groups}
        for group in graph.groups.values():
            for need in sorted(group.needs):
                self._children[need].append(group.number)
        self._made: dict[int, PlanNode] = {}
        self._depths: dict[int, int] = {}
        for number in graph.groups:
            graph.depth(number, self._depths)

    def nodes(self) -> PlanNode | None:
        return self._independent(set(self._graph.groups), set())

    def subscription(self) -> PlanNode | None:
        """The first group's events, each completed by the groups that need them."""
        roots = [number for number, group in sorted(self._graph.groups.items()) if not group.needs]
        if not roots:
            return None
        primary = roots[0]
        rest = {number for number in self._graph.groups if primary in self._graph.ancestors([number])} - {primary}
        return SubscriptionNode(self._nodes.fetch(self._graph.groups[primary]), self._independent(rest, {primary}))

    def _independent(self, numbers: set[int], done: set[int]) -> PlanNode | None:
        """The groups, those side by side that nothing connects but what is done."""
        branches = [self._connected(component, done) for component in self._components(numbers)]
        if not branches:
            return None
        return branches[0] if len(branches) == 1 else ParallelNode(tuple(branches))

    def _components(self, numbers: set[int]) -> list[set[int]]:
        components: list[set[int]] = []
        left = set(numbers)
        while left:
            component: set[int] = set()
            waiting = [min(left)]
            while waiting:
                number = waiting.pop()
                if number in left:
                    left.discard(number)
                    component.add(number)
                    waiting.extend(self._children[number])
                    waiting.extend(self._graph.groups[number].needs)
            components.append(component)
        return components

    def _connected(self, component: set[int], done: set[int]) -> PlanNode:
        depths = {self._depths[number] for number in component}
        ready = sorted(number for number in component if self._graph.groups[number].needs <= done)
        nested = self._arrange(ready, component, set(done))
        if _chain(nested) <= len(depths):
            return nested
        waves = [sorted(n for n in component if self._depths[n] == depth) for depth in sorted(depths)]
        return SequenceNode(tuple(_side_by_side([self._node(number) for number in wave]) for wave in waves))

    def _node(self, number: int) -> PlanNode:
        if number not in self._made:
            self._made[number] = self._nodes.node(self._graph.groups[number])
        return self._made[number]

    def _arrange(self, ready: list[int], component: set[int], done: set[int]) -> PlanNode:
        """Ready groups side by side, each followed by what needs only it; what needs several comes after all of them."""
        steps: list[PlanNode] = []
        while ready:
            steps.append(_side_by_side([self._branch(number, done) for number in ready]))
            ready = sorted(n for n in component - done if self._graph.groups[n].needs <= done)
        return _in_sequence(steps)

    def _branch(self, number: int, done: set[int]) -> PlanNode:
        done.add(number)
        chain = {number}
        steps: list[PlanNode] = [self._node(number)]
        while ready := self._only_after(chain, done):
            branches = []
            for child in ready:
                before = set(done)
                branches.append(self._branch(child, done))
                chain |= done - before
            steps.append(_side_by_side(branches))
        return _in_sequence(steps)

    def _only_after(self, chain: set[int], done: set[int]) -> list[int]:
        """Groups whose every need lies in this chain (or before it, which the chain waited for)."""
        before = self._graph.ancestors(chain)
        candidates = {child for number in chain for child in self._children[number]}
        return sorted(n for n in candidates if n not in done and self._graph.groups[n].needs <= before)


def _side_by_side(branches: list[PlanNode]) -> PlanNode:
    return branches[0] if len(branches) == 1 else ParallelNode(tuple(branches))


def _in_sequence(steps: list[PlanNode]) -> PlanNode:
    flat: list[PlanNode] = []
    for step in steps:
        flat.extend(step.nodes if isinstance(step, SequenceNode) else (step,))
    return flat[0] if len(flat) == 1 else SequenceNode(tuple(flat))


def _chain(node: PlanNode) -> int:
    """How many requests are sent one after another."""
    if isinstance(node, SequenceNode):
        return sum(_chain(inner) for inner in node.nodes)
    if isinstance(node, ParallelNode):
        return max(_chain(inner) for inner in node.nodes)
    return 1


class DeferLayout:
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

    def _layout(self, block: Block) -> "Layout":
        return Layout(self._graph.part(self._members(block)), self._operation, self._numbers)

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
