"""Entity fetches whose fields take values of the objects around the entities (`@fromContext`).

Each entity's values are read on the way down to it. Entities with equal values are one group of the request: one alias of
`_entities`, and variables of its own.
"""

from collections.abc import Iterator, Mapping

import orjson

from router.execution.compiling import Compiling
from router.execution.entities import EntityFetch
from router.execution.request import Run
from router.execution.values import Json, Object
from router.planning.contexts import ContextLevel, Contextual, ContextVariable, group_names
from router.planning.fetch_graph import Path
from router.planning.plan import BatchFetchNode, BatchPart, FlattenNode
from router.supergraph.selection import Field, Fragment

_Around = Mapping[int, Object]
"""The objects on the way to an entity, by the length of their path."""


class ContextualFetch:
    """One request for the entities at a path, grouped by the values that they are asked with."""

    def __init__(self, compiling: Compiling, node: FlattenNode, contextual: Contextual) -> None:
        self._compiling = compiling
        self._node = node
        self._contextual = contextual
        self._by_count: dict[int, EntityFetch] = {}

    async def run(self, run: Run) -> None:
        groups = self._groups(run.answer)
        if not groups:
            return
        values = {
            f"{variable.name}{suffix}": value
            for (suffix, _), (found, _) in zip(group_names(len(groups)), groups, strict=True)
            for variable, value in zip(self._contextual.variables, found, strict=True)
        }
        await self._fetch(len(groups)).run_for(run, [targets for _, targets in groups], values)

    def _groups(self, answer: Object) -> list[tuple[list[Json], list[Object]]]:
        """The values, and the objects that are asked for with them."""
        lengths = {len(level.path) for variable in self._contextual.variables for level in variable.levels}
        groups: dict[bytes, tuple[list[Json], dict[int, Object]]] = {}
        for target, around in _objects_with_surroundings(answer, self._node.path, lengths):
            values = [_value(variable, around) for variable in self._contextual.variables]
            _, targets = groups.setdefault(orjson.dumps(values), (values, {}))
            targets[id(target)] = target
        return [(values, list(targets.values())) for values, targets in groups.values()]

    def _fetch(self, count: int) -> EntityFetch:
        fetch = self._by_count.get(count)
        if fetch is None:
            fetch = EntityFetch(self._compiling, self._batch(count))
            if count <= _COUNTS_KEPT:
                self._by_count[count] = fetch
        return fetch

    def _batch(self, count: int) -> BatchFetchNode:
        fetch = self._node.node
        name = self._contextual.representations
        parts = tuple(
            BatchPart(alias, f"{name}{suffix}", (self._node.path,), fetch.requires, fetch.selection)
            for suffix, alias in group_names(count)
        )
        operation = self._contextual.operation(fetch.selection.compact(), count)
        return BatchFetchNode(fetch.subgraph, operation, fetch.variables, parts)


_COUNTS_KEPT = 32
"""Operations are kept ready for up to so many groups; the text of a larger one costs less than its request."""


def _objects_with_surroundings(root: Object, path: Path, lengths: set[int]) -> Iterator[tuple[Object, _Around]]:
    def walk(value: Json, length: int, around: _Around) -> Iterator[tuple[Object, _Around]]:
        if length in lengths and type(value) is dict:
            around = {**around, length: value}
        if length == len(path):
            if type(value) is dict:
                yield value, around
        elif path[length] == "@":
            if type(value) is list:
                for item in value:
                    yield from walk(item, length + 1, around)
        elif type(value) is dict:
            yield from walk(value.get(path[length]), length + 1, around)

    return walk(root, 0, {})


def _value(variable: ContextVariable, around: _Around) -> Json:
    for level in variable.levels:
        holder = around.get(len(level.path))
        items = None if holder is None else _read_of(level, holder)
        if items is not None:
            return _leaf(items, holder)
    return None


def _read_of(level: ContextLevel, holder: Object) -> tuple[Field | Fragment, ...] | None:
    """What is read of this object, or None if its type does not set the context."""
    typename = holder.get("__typename")
    if typename is None:  # not asked for where only one type can come
        return level.reads[0][1] if len(level.reads) == 1 else None
    for type_name, items in level.reads:
        if type_name == typename:
            return items
    return None


def _leaf(items: tuple[Field | Fragment, ...], holder: Json) -> Json:
    """The one value that a context's selection leads to; through a list, the values of all its objects."""
    if type(holder) is list:
        return [_leaf(items, item) for item in holder]
    if type(holder) is not dict:
        return None
    for item in items:
        if isinstance(item, Field):
            value = holder.get(item.key)
            return value if item.selection is None else _leaf(item.selection.items, value)
        if item.type_condition == holder.get("__typename"):
            return _leaf(item.selection.items, holder)
    return None
