"""Entity fetches: the objects at some paths of the answer so far are asked for by key, and completed with what comes back."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from router.execution.client_paths import ClientPaths
from router.execution.errors import SubgraphFailure, of_failure, of_subgraph, path_of
from router.execution.representations import RepresentationBuilder
from router.execution.request import MALFORMED, Run, sender
from router.execution.values import ClientPath, Json, Object, merge, objects_at, places_of
from router.planning.plan import BatchFetchNode, BatchPart, FlattenNode
from router.supergraph.model import Supergraph


class EntityFetch:
    """One request for the entities at a node's paths."""

    def __init__(
        self,
        supergraph: Supergraph,
        node: FlattenNode | BatchFetchNode,
        client_paths: ClientPaths,
        *,
        apart: bool = False,
    ) -> None:
        """apart: objects that asked for one entity get a copy each, because their places make a difference later."""
        request = node.node if isinstance(node, FlattenNode) else node
        self._parts = [_Part(part, RepresentationBuilder(supergraph, part.requires), apart) for part in _parts(node)]
        self._subgraph = request.subgraph
        self._send = sender(request)
        self._client_paths = client_paths

    async def run(self, run: Run) -> None:
        await self._complete(run, [part.ask(part.targets(run.answer)) for part in self._parts], {})

    async def run_for(self, run: Run, targets: Sequence[list[Object]], values: Mapping[str, Json]) -> None:
        """Asks for given objects, a list for each part, with further variables."""
        asked = [part.ask(objects) for part, objects in zip(self._parts, targets, strict=True)]
        await self._complete(run, asked, values)

    async def _complete(self, run: Run, asked: "Sequence[_Asked]", values: Mapping[str, Json]) -> None:
        if not any(each.representations for each in asked):
            return
        representations = {each.part.variable: each.representations for each in asked}
        try:
            answer = await self._send(run, {**representations, **values})
        except SubgraphFailure as failure:
            for each in asked:
                for path in each.part.paths if each.representations else ():
                    run.errors.append(of_failure(failure, self._subgraph, self._client_paths.before_list(path)))
            return
        for each in asked:
            if not each.take(answer.data) and not answer.errors:
                message = "the answer does not hold one entity for each representation."
                malformed = SubgraphFailure(message, code=MALFORMED)
                place = self._client_paths.before_list(each.part.paths[0])
                run.errors.append(of_failure(malformed, self._subgraph, place))
        if answer.errors:
            self._report(run, answer.errors, asked)

    def _report(self, run: Run, errors: Sequence[Json], asked: "Sequence[_Asked]") -> None:
        """Tells `["_entities", i, ...]` at every place of the client's answer that representation i stands for."""
        places: dict[str, dict[int, list[ClientPath]]] = {}
        for error in errors:
            path = path_of(error) or ()
            found = False
            for each in asked:
                part = each.part
                targets = each.targets_of(path)
                if targets and part.alias not in places:
                    places[part.alias] = places_of(run.answer, part.paths)
                for target in targets:
                    for place in places[part.alias].get(id(target), ()):
                        where = self._client_paths.of((*place, *path[2:]))
                        run.errors.append(of_subgraph(error, self._subgraph, where))
                        found = True
            if not found:
                where = self._client_paths.before_list(asked[0].part.paths[0])
                run.errors.append(of_subgraph(error, self._subgraph, where))


def _parts(node: FlattenNode | BatchFetchNode) -> tuple[BatchPart, ...]:
    if isinstance(node, BatchFetchNode):
        return node.parts
    fetch = node.node
    return (BatchPart("_entities", "representations", (node.path,), fetch.requires, fetch.selection),)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The objects of one part, and what is sent for them; positions[i]: the targets of representation i."""

    part: BatchPart
    targets: list[Object]
    representations: list[Object]
    positions: list[list[int]]
    apart: bool

    def take(self, data: Object | None) -> bool:
        """Merges the entities into the objects that asked for them; False when the answer has another shape."""
        entities = data.get(self.part.alias) if data is not None else None
        if not isinstance(entities, list) or len(entities) != len(self.representations):
            return False
        targets = self.targets
        for entity, where in zip(entities, self.positions, strict=True):
            if type(entity) is dict:
                for position in where[1:] if self.apart else ():
                    merge(targets[position], deepcopy(entity))
                for position in where[:1] if self.apart else where:
                    merge(targets[position], entity)
        return True

    def targets_of(self, path: Sequence[str | int]) -> list[Object]:
        """The objects that a path of the subgraph's answer, such as `_entities.3.name`, is about."""
        if len(path) < 2 or path[0] != self.part.alias:
            return []
        index = path[1]
        if type(index) is not int or not 0 <= index < len(self.positions):
            return []
        return [self.targets[position] for position in self.positions[index]]


@dataclass(frozen=True, slots=True)
class _Part:
    part: BatchPart
    builder: RepresentationBuilder
    apart: bool

    def targets(self, answer: Object) -> list[Object]:
        paths = self.part.paths
        targets = objects_at(answer, paths[0])
        for path in paths[1:]:
            targets += objects_at(answer, path)
        return targets

    def ask(self, targets: list[Object]) -> _Asked:
        return _Asked(self.part, targets, *self.builder.build(targets), self.apart)
