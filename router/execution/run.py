"""Compiles a plan into coroutines and runs it for a request.

Each fetch node becomes one function that finds its objects in the answer so far, sends one request, and merges what
comes back (`entities.py` for fetches by key). Nothing of the schema is looked up while a request runs.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from router.execution.client_paths import ClientPaths
from router.execution.compiling import Compiling
from router.execution.contexts import ContextualFetch
from router.execution.deferred import DeferredPlan, Delivery
from router.execution.entities import EntityFetch
from router.execution.errors import AnswerError, SubgraphFailure, of_failure, of_subgraph, path_of
from router.execution.find import Finder
from router.execution.projection import Projection, Violation
from router.execution.request import Answer, Run, Step, Transport, read_answer, sender
from router.execution.values import ClientPath, Merge, Object
from router.planning.defer import parted
from router.planning.operation import Operation
from router.planning.plan import (
    BatchFetchNode,
    DeferNode,
    FetchNode,
    FlattenNode,
    ParallelNode,
    PlanNode,
    SequenceNode,
    SubscriptionNode,
)
from router.planning.planner import Planned
from router.supergraph.model import Supergraph

__all__ = ["CompiledPlan", "Response", "Run", "Transport"]


@dataclass(frozen=True, slots=True)
class Response:
    """data: None when null reached the root."""

    data: Object | None
    errors: tuple[AnswerError, ...]


class CompiledPlan:
    """A plan ready to run any number of times, also at once."""

    def __init__(self, supergraph: Supergraph, operation: Operation, planned: Planned) -> None:
        plan, renamed, source = planned.plan, planned.renamed, planned.source
        self.plan = plan
        self.operation = operation
        node = plan.node
        self._client_paths = ClientPaths(source.selection, source.renamed, source.apart)
        self._compiling = compiling = Compiling.of(supergraph, self._client_paths, node)
        deferral = parted(supergraph, operation) if operation.defers else None
        first = operation.selection if deferral is None else deferral.primary
        self._projection = Projection(supergraph, first, operation.root_type, renamed, may_repeat=compiling.may_repeat)
        self.subscription = node.primary if isinstance(node, SubscriptionNode) else None
        after = node.rest if isinstance(node, SubscriptionNode) else node
        self.deferred: DeferredPlan | None = None
        if isinstance(after, DeferNode) and deferral is not None:
            self.deferred = DeferredPlan(supergraph, deferral, after, renamed, self._compile)
            after = after.primary
        self._step = None if after is None else self._compile(after)

    async def run(self, run: Run) -> Response:
        """Runs the plan on what `run.answer` already holds (nothing, or a subscription's event)."""
        if self._step is not None:
            await self._step(run)
        return self.project(run)

    async def begin(self, run: Run) -> tuple[Response, Delivery | None]:
        """As `run`, and with it the parts that follow, if the operation defers any."""
        if self.deferred is None:
            return await self.run(run), None
        refused = run.errors
        run.errors = self.deferred.first(refused)
        response = await self.run(run)
        return response, Delivery(self.deferred, run, response.data, refused, self._explained)

    def project(self, run: Run) -> Response:
        """The client's answer from what the run has gathered so far."""
        data, violations = self._projection.project(run.answer)
        return Response(data, self._explained(run.errors, violations) if run.errors or violations else ())

    def merge_root(self, run: Run, node: FetchNode, content: Any) -> None:
        """Takes a subscription's event into the run, as a root fetch's answer would be."""
        self._take_root(run, node, Merge(node.selection, self._compiling.supergraph.kinds), read_answer(content))

    def _take_root(self, run: Run, node: FetchNode, merge: Merge, answer: Answer) -> None:
        if answer.data is not None:
            merge(run.answer, answer.data)
            run.found.clear()
        for error in answer.errors:
            path = path_of(error)
            where = None if path is None else self._client_paths.of(path)
            run.errors.append(of_subgraph(error, node.subgraph, where))

    def _explained(self, errors: Sequence[AnswerError], violations: Iterable[Violation]) -> tuple[AnswerError, ...]:
        """The errors, and one for each violation that none of them accounts for."""
        told = list(errors)
        known = [error.path for error in told if error.path is not None]
        if len(known) < len(told):  # an error without a path may account for anything
            return _distinct(told)
        for violation in violations:
            fields = tuple(step for step in violation.path if isinstance(step, str))
            # A refused field is known by its response keys alone, wherever in a list it occurs.
            if any(_related(path, violation.path) or _related(path, fields) for path in known):
                continue
            told.append(AnswerError(violation.message, violation.path, None, {"code": "RESPONSE_VALIDATION_FAILED"}))
        return _distinct(told)

    # -- compiling -------------------------------------------------------------------------------------------------

    def _compile(self, node: PlanNode) -> Step:
        match node:
            case FetchNode():
                return self._root_fetch(node)
            case FlattenNode():
                if not node.node.requires:
                    return self._nested_root_fetch(node)
                if (contextual := node.node.contextual) is not None:
                    return ContextualFetch(self._compiling, node, contextual).run
                return EntityFetch(self._compiling, node).run
            case BatchFetchNode():
                return EntityFetch(self._compiling, node).run
            case SequenceNode():
                return _in_sequence([self._compile(inner) for inner in node.nodes])
            case ParallelNode():
                return _in_parallel([self._compile(inner) for inner in node.nodes])
            case SubscriptionNode() | DeferNode():
                raise TypeError("a subscription or a deferral is only ever the root of a plan")
            case _:
                assert_never(node)

    def _root_fetch(self, node: FetchNode) -> Step:
        send = sender(node)
        merge = Merge(node.selection, self._compiling.supergraph.kinds)

        async def fetch(run: Run) -> None:
            try:
                answer = await send(run, None)
            except SubgraphFailure as failure:
                run.errors.append(of_failure(failure, node.subgraph, None))
                return
            self._take_root(run, node, merge, answer)

        return fetch

    def _nested_root_fetch(self, flatten: FlattenNode) -> Step:
        """Root fields asked at a place inside the answer, where a field's type is the root type itself."""
        node, path = flatten.node, flatten.path
        send = sender(node)
        where = self._client_paths.before_list(path)
        paths = frozenset((path,))
        finder = Finder([path], self._compiling.may_repeat)
        merge = Merge(node.selection, self._compiling.supergraph.kinds)
        apart = self._compiling.apart

        async def fetch(run: Run) -> None:
            (targets,) = finder.find(run.answer, run.found)
            if not targets:
                return
            run.under_way.append(paths)
            try:
                answer = await send(run, None)
            except SubgraphFailure as failure:
                run.errors.append(of_failure(failure, node.subgraph, where))
                return
            finally:
                run.under_way.remove(paths)
            for error in answer.errors:
                run.errors.append(of_subgraph(error, node.subgraph, where))
            if answer.data is not None:
                copies = [merge.copied(answer.data) if apart else answer.data for _ in targets]
                for target, data in zip(targets, copies, strict=True):
                    merge(target, data)
                run.found.clear()

        return fetch


def _in_sequence(steps: Sequence[Step]) -> Step:
    async def run_all(run: Run) -> None:
        for step in steps:
            await step(run)

    return run_all


def _in_parallel(steps: Sequence[Step]) -> Step:
    first, *others = steps

    async def run_all(run: Run) -> None:
        # A task group, so that a client that goes away cancels every request under way.
        async with asyncio.TaskGroup() as group:
            for step in others:
                group.create_task(step(run))
            await first(run)  # needs no task of its own

    return run_all


def _distinct(errors: Iterable[AnswerError]) -> tuple[AnswerError, ...]:
    """What two requests report alike is told once."""
    told: dict[object, AnswerError] = {}
    for error in errors:
        told.setdefault((error.path, error.message, error.subgraph, str(error.extensions.get("code"))), error)
    return tuple(told.values())


def _related(one: ClientPath, other: ClientPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
