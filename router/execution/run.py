"""Compiles a plan into coroutines and runs it for a request.

Each fetch node becomes one function that finds its objects in the answer so far, sends one request, and merges what
comes back. Nothing of the schema is looked up while a request runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

import orjson

from router.execution.errors import AnswerError, SubgraphFailure, of_failure, of_subgraph, path_of
from router.execution.projection import Projection, Renamed
from router.execution.representations import RepresentationBuilder
from router.execution.values import ClientPath, Object, merge, objects_at, places_of
from router.planning.fetch_graph import Path
from router.planning.operation import Operation
from router.planning.plan import (
    BatchFetchNode,
    BatchPart,
    FetchNode,
    FlattenNode,
    ParallelNode,
    PlanNode,
    QueryPlan,
    SequenceNode,
    SubscriptionNode,
)
from router.supergraph.model import SubgraphName, Supergraph


class Transport(Protocol):
    """How a subgraph is asked."""

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The body of the answer.

        Raises:
            SubgraphFailure: there is none, or none that could be GraphQL.
        """


@dataclass(slots=True)
class Run:
    """One request on its way through the plan. fetches: how many subgraph requests were sent."""

    transport: Transport
    variables: Mapping[str, Any]
    headers: Mapping[str, str]
    answer: Object = field(default_factory=dict)
    errors: list[AnswerError] = field(default_factory=list)
    fetches: int = 0


Step = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Response:
    """data: None when null reached the root."""

    data: Object | None
    errors: tuple[AnswerError, ...]


class CompiledPlan:
    """A plan ready to run any number of times, also at once."""

    def __init__(self, supergraph: Supergraph, operation: Operation, plan: QueryPlan, renamed: Renamed) -> None:
        self.plan = plan
        self.operation = operation
        self._renamed_back = {new: old for (_, _, old), new in renamed.items()}
        self._supergraph = supergraph
        self._projection = Projection(supergraph, operation.selection, operation.root_type, renamed)
        node = plan.node
        self.subscription = node.primary if isinstance(node, SubscriptionNode) else None
        after = node.rest if isinstance(node, SubscriptionNode) else node
        self._step = None if after is None else self._compile(after)

    async def run(self, run: Run) -> Response:
        """Runs the plan on what `run.answer` already holds (nothing, or a subscription's event)."""
        if self._step is not None:
            await self._step(run)
        return self.project(run)

    def project(self, run: Run) -> Response:
        data, incomplete = self._projection.project(run.answer)
        if incomplete:
            self._explain(run)
        return Response(data, tuple(run.errors))

    def merge_root(self, run: Run, node: FetchNode, answer: Any) -> None:
        """Takes a root fetch's answer (or a subscription's event) into the run."""
        data = _data_of(answer)
        if data is not None:
            merge(run.answer, data)
        for error in _errors_of(answer, data):
            path = path_of(error)
            run.errors.append(of_subgraph(error, node.subgraph, None if path is None else self._client_path(path)))

    def _explain(self, run: Run) -> None:
        """Adds an error for each non-null position that nothing reported so far accounts for."""
        known = [error.path for error in run.errors if error.path is not None]
        if len(known) < len(run.errors):  # an error without a path may account for anything
            return
        for violation in self._projection.violations(run.answer):
            fields = tuple(step for step in violation.path if isinstance(step, str))
            # A refused field is known by its response keys alone, wherever in a list it occurs.
            if any(_related(path, violation.path) or _related(path, fields) for path in known):
                continue
            run.errors.append(
                AnswerError(violation.message, violation.path, None, {"code": "RESPONSE_VALIDATION_FAILED"})
            )

    def _client_path(self, path: Sequence[str | int]) -> ClientPath:
        return tuple(self._renamed_back.get(step, step) if isinstance(step, str) else step for step in path)

    # -- compiling -------------------------------------------------------------------------------------------------

    def _compile(self, node: PlanNode) -> Step:
        match node:
            case FetchNode():
                return self._root_fetch(node)
            case FlattenNode():
                if not node.node.requires:
                    return self._nested_root_fetch(node)
                fetch = node.node
                part = BatchPart("_entities", "representations", (node.path,), fetch.requires, fetch.selection)
                return self._entity_fetch((part,), fetch)
            case BatchFetchNode():
                return self._entity_fetch(node.parts, node)
            case SequenceNode():
                return _in_sequence([self._compile(inner) for inner in node.nodes])
            case ParallelNode():
                return _in_parallel([self._compile(inner) for inner in node.nodes])
            case SubscriptionNode():
                raise TypeError("a subscription is only ever the root of a plan")
            case _:
                assert_never(node)

    def _root_fetch(self, node: FetchNode) -> Step:
        send = _sender(node)

        async def fetch(run: Run) -> None:
            try:
                answer = await send(run, None)
            except SubgraphFailure as failure:
                run.errors.append(of_failure(failure, node.subgraph, None))
                return
            self.merge_root(run, node, answer)

        return fetch

    def _nested_root_fetch(self, flatten: FlattenNode) -> Step:
        """Root fields asked at a place inside the answer, where a field's type is the root type itself."""
        node, path = flatten.node, flatten.path
        send = _sender(node)

        async def fetch(run: Run) -> None:
            targets = objects_at(run.answer, path)
            if not targets:
                return
            try:
                answer = await send(run, None)
            except SubgraphFailure as failure:
                run.errors.append(of_failure(failure, node.subgraph, self._client_path(_before_list(path))))
                return
            data = _data_of(answer)
            for error in _errors_of(answer, data):
                run.errors.append(of_subgraph(error, node.subgraph, self._client_path(_before_list(path))))
            if data is not None:
                for target in targets:
                    merge(target, data)

        return fetch

    def _entity_fetch(self, parts: tuple[BatchPart, ...], node: FetchNode | BatchFetchNode) -> Step:
        send = _sender(node)
        compiled = [_CompiledPart(part, RepresentationBuilder(self._supergraph, part.requires)) for part in parts]

        async def fetch(run: Run) -> None:
            asked = [part.ask(run.answer) for part in compiled]
            representations = {
                part.part.variable: each.representations for part, each in zip(compiled, asked, strict=True)
            }
            if not any(representations.values()):
                return
            try:
                answer = await send(run, representations)
            except SubgraphFailure as failure:
                for part, each in zip(compiled, asked, strict=True):
                    for path in part.part.paths if each.representations else ():
                        run.errors.append(of_failure(failure, node.subgraph, self._client_path(_before_list(path))))
                return
            data = _data_of(answer)
            errors = _errors_of(answer, data)
            for part, each in zip(compiled, asked, strict=True):
                if not self._take_entities(part, each, data) and not errors:
                    message = "the answer does not hold one entity for each representation."
                    malformed = SubgraphFailure(message, code="SUBGRAPH_MALFORMED_RESPONSE")
                    place = self._client_path(_before_list(part.part.paths[0]))
                    run.errors.append(of_failure(malformed, node.subgraph, place))
            if errors:
                self._entity_errors(run, node.subgraph, errors, compiled, asked)

        return fetch

    def _take_entities(self, part: "_CompiledPart", asked: "_Asked", data: Object | None) -> bool:
        """Merges one part's entities into the objects that asked for them; False when the answer has another shape."""
        entities = data.get(part.part.alias) if data is not None else None
        if not isinstance(entities, list) or len(entities) != len(asked.representations):
            return False
        targets = asked.targets
        for entity, where in zip(entities, asked.positions, strict=True):
            if type(entity) is dict:
                for position in where:
                    merge(targets[position], entity)
        return True

    def _entity_errors(
        self,
        run: Run,
        subgraph: SubgraphName,
        errors: list[Any],
        compiled: "list[_CompiledPart]",
        asked: "list[_Asked]",
    ) -> None:
        """Maps `["_entities", i, ...]` to every place of the client's answer that representation i stands for."""
        for error in errors:
            path = path_of(error)
            found = False
            for part, each in zip(compiled, asked, strict=True):
                if not path or path[0] != part.part.alias:
                    continue
                index = path[1] if len(path) > 1 else None
                if isinstance(index, int) and index < len(each.positions):
                    places = places_of(run.answer, part.part.paths)
                    for position in each.positions[index]:
                        for place in places.get(id(each.targets[position]), ()):
                            where = self._client_path((*place, *path[2:]))
                            run.errors.append(of_subgraph(error, subgraph, where))
                            found = True
            if not found:
                where = self._client_path(_before_list(compiled[0].part.paths[0]))
                run.errors.append(of_subgraph(error, subgraph, where))


@dataclass(frozen=True, slots=True)
class _Asked:
    """The objects of one part, and what is sent for them; positions[i]: the targets of representation i."""

    targets: list[Object]
    representations: list[Object]
    positions: list[list[int]]


@dataclass(frozen=True, slots=True)
class _CompiledPart:
    part: BatchPart
    builder: RepresentationBuilder

    def ask(self, answer: Object) -> _Asked:
        paths = self.part.paths
        targets = objects_at(answer, paths[0])
        for path in paths[1:]:
            targets += objects_at(answer, path)
        representations, positions = self.builder.build(targets)
        return _Asked(targets, representations, positions)


def _sender(node: FetchNode | BatchFetchNode) -> Callable[[Run, Mapping[str, list[Object]] | None], Awaitable[Any]]:
    """One request of this node; the operation's text is encoded once."""
    head = b'{"query":' + orjson.dumps(node.operation)
    names = node.variables
    subgraph = node.subgraph

    async def send(run: Run, representations: Mapping[str, list[Object]] | None) -> Any:
        variables: dict[str, Any] = {name: run.variables[name] for name in names if name in run.variables}
        if representations is not None:
            variables.update(representations)
        body = head + (b',"variables":' + orjson.dumps(variables) + b"}" if variables else b"}")
        run.fetches += 1
        raw = await run.transport.post(subgraph, body, run.headers)
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise SubgraphFailure("the answer is not JSON.", code="SUBGRAPH_MALFORMED_RESPONSE") from error

    return send


def _in_sequence(steps: list[Step]) -> Step:
    async def run_all(run: Run) -> None:
        for step in steps:
            await step(run)

    return run_all


def _in_parallel(steps: list[Step]) -> Step:
    async def run_all(run: Run) -> None:
        # A task group, so that a client that goes away cancels every request under way.
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step(run))  # type: ignore[arg-type]  # steps are coroutine functions

    return run_all


def _data_of(answer: Any) -> Object | None:
    data = answer.get("data") if isinstance(answer, dict) else None
    return data if isinstance(data, dict) else None


def _errors_of(answer: Any, data: Object | None) -> list[Any]:
    errors = answer.get("errors") if isinstance(answer, dict) else None
    if isinstance(errors, list) and errors:
        return errors
    if data is None:
        message = (
            "The subgraph answered without data."
            if isinstance(answer, dict)
            else "The subgraph's answer is no GraphQL response."
        )
        return [{"message": message, "extensions": {"code": "SUBGRAPH_MALFORMED_RESPONSE"}}]
    return []


def _before_list(path: Path) -> ClientPath:
    """The part of a plan's path that is the same for all its objects."""
    return path[: path.index("@")] if "@" in path else path


def _related(one: ClientPath, other: ClientPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
