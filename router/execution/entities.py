"""Entity fetches: the objects at some paths of the answer so far are asked for by key, and completed with what comes back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from router.execution.compiling import Compiling, entity_parts
from router.execution.errors import AnswerError, SubgraphFailure, of_failure, of_subgraph, path_of
from router.execution.find import Finder
from router.execution.representations import RepresentationBuilder
from router.execution.request import MALFORMED, Run, sender
from router.execution.values import ClientPath, Json, Merge, Object, places_of
from router.planning.plan import BatchFetchNode, BatchPart, FlattenNode
from router.supergraph.model import SubgraphName


class EntityFetch:
    """One request for the entities at a node's paths."""

    def __init__(self, compiling: Compiling, node: FlattenNode | BatchFetchNode) -> None:
        request = node.node if isinstance(node, FlattenNode) else node
        self._parts = [_Part(compiling, part, request.subgraph) for part in entity_parts(node)]
        paths = [path for part in self._parts for path in part.paths]
        self._paths = frozenset(paths)
        self._brings_objects = any(part.merge.nested for part in self._parts)
        self._finder = Finder(paths, compiling.may_repeat)
        self._sharing_finder: Finder | None = None
        if compiling.sharing:
            sharing = {path: s for part in self._parts if (s := part.builder.sharing) for path in part.paths}
            self._sharing_finder = Finder(paths, compiling.may_repeat, sharing)
        self._subgraph = request.subgraph
        self._send = sender(request)
        self._client_paths = compiling.client_paths

    async def run(self, run: Run) -> None:
        finder = self._finder
        if self._sharing_finder is not None and all(self._paths.isdisjoint(paths) for paths in run.under_way):
            finder = self._sharing_finder  # no request is to complete an object that might be left out from now on
        found = iter(finder.find(run.answer, run.found))
        await self._complete(run, [part.ask([next(found) for _ in part.paths]) for part in self._parts], {})

    async def run_for(self, run: Run, targets: Sequence[list[Object]], values: Mapping[str, Json]) -> None:
        """Asks for given objects, a list for each part, with further variables."""
        asked = [part.ask([objects]) for part, objects in zip(self._parts, targets, strict=True)]
        await self._complete(run, asked, values)

    async def _complete(self, run: Run, asked: "Sequence[_Asked]", values: Mapping[str, Json]) -> None:
        for each in asked:
            if each.lacking:
                self._report_lacking(run, each)
        if not any(each.representations for each in asked):
            return
        variables: dict[str, Json] = {each.part.variable: each.representations for each in asked}
        run.under_way.append(self._paths)
        try:
            answer = await self._send(run, {**variables, **values} if values else variables)
        except SubgraphFailure as failure:
            for each in asked:
                for path in each.part.paths if each.representations else ():
                    run.errors.append(of_failure(failure, self._subgraph, self._client_paths.before_list(path)))
            return
        finally:
            run.under_way.remove(self._paths)
        if self._brings_objects:
            run.found.clear()
        for each in asked:
            if not each.take(answer.data) and not answer.errors:
                message = "the answer does not hold one entity for each representation."
                malformed = SubgraphFailure(message, code=MALFORMED)
                place = self._client_paths.before_list(each.part.paths[0])
                run.errors.append(of_failure(malformed, self._subgraph, place))
        if answer.errors:
            self._report(run, answer.errors, asked)

    def _report_lacking(self, run: Run, asked: "_Asked") -> None:
        """Tells, at each field that an object cannot be asked for, what it requires and the object lacks."""
        part = asked.part
        places = places_of(run.answer, part.paths)
        for value, type_name, missing in asked.lacking:
            for place in places.get(id(value), ()):
                around = self._client_paths.of(place)
                for name, key in part.fields_of(type_name):
                    where = self._client_paths.of((*place, key))
                    if where is None or (around is not None and len(where) <= len(around)):
                        continue  # nobody but another requirement asks for it
                    message = f"{type_name}.{name} cannot be answered: it requires {missing}, which is missing."
                    extensions = {"code": "DOWNSTREAM_SERVICE_ERROR", "reason": "REQUIRED_FIELD_MISSING"}
                    run.errors.append(AnswerError(message, where, self._subgraph, extensions))

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


class _Part:
    """One `_entities` of the request."""

    def __init__(self, compiling: Compiling, part: BatchPart, subgraph: SubgraphName) -> None:
        supergraph = compiling.supergraph
        self.alias = part.alias
        self.variable = part.variable
        self.paths = part.paths
        self.builder = RepresentationBuilder(supergraph, part.requires, subgraph)
        self.merge = Merge(part.selection, supergraph.kinds)
        self._apart = compiling.apart
        self._fields = {name: [(f.name, f.key) for f in inner.fields] for name, inner in part.selection.fragments}

    def fields_of(self, type_name: str) -> list[tuple[str, str]]:
        """Names and keys of the fields that are asked of entities sent as a type."""
        return self._fields.get(type_name, [])

    def ask(self, found: Sequence[list[Object]]) -> "_Asked":
        """found: the objects at each path."""
        objects = found[0] if len(found) == 1 else [value for values in found for value in values]
        representations, targets, lacking = self.builder.build(objects)
        kin: dict[int, int] | None = None
        if self._apart:
            kin = {id(value): number for number, value in enumerate(objects)}
        elif len(found) > 1 and self.merge.nested:
            # Further down, a key can mean one thing at one path and another at the next.
            kin = {id(value): number for number, values in enumerate(found) for value in values}
        return _Asked(self, representations, targets, kin, lacking)


class _Asked(NamedTuple):
    """What is sent for the objects of one part; targets[i]: those that representation i stands for.

    lacking: objects that are not sent, each with its type and what it lacks.
    kin: by identity, which of the objects may hold the very same values (those of one number); None: all.
    """

    part: _Part
    representations: list[Object]
    targets: list[list[Object]]
    kin: Mapping[int, int] | None
    lacking: list[tuple[Object, str, str]]

    def take(self, data: Object | None) -> bool:
        """Merges the entities into the objects that asked for them; False when the answer has another shape."""
        entities = data.get(self.part.alias) if data is not None else None
        if not isinstance(entities, list) or len(entities) != len(self.representations):
            return False
        merge = self.part.merge
        for entity, targets in zip(entities, self.targets, strict=True):
            if type(entity) is dict:
                if self.kin is None:
                    for target in targets:
                        merge(target, entity)
                else:
                    for target, value in self._copies(entity, targets, self.kin):
                        merge(target, value)
        return True

    def _copies(
        self, entity: Object, targets: Sequence[Object], kin: Mapping[int, int]
    ) -> Iterator[tuple[Object, Object]]:
        # All copies are made before the first is merged with anything.
        numbers = dict.fromkeys(kin[id(target)] for target in targets)
        copies = {number: self.part.merge.copied(entity) for number in numbers}
        for target in targets:
            yield target, copies[kin[id(target)]]

    def targets_of(self, path: Sequence[str | int]) -> list[Object]:
        """The objects that a path of the subgraph's answer, such as `_entities.3.name`, is about."""
        if len(path) < 2 or path[0] != self.part.alias:
            return []
        index = path[1]
        return self.targets[index] if type(index) is int and 0 <= index < len(self.targets) else []
