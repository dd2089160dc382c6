"""The answer tree: plain dicts, lists and scalars as the JSON parser made them, and how two answers become one."""

from collections.abc import Iterator, Sequence
from typing import Any

from router.planning.fetch_graph import Path

Json = Any
"""A decoded JSON value: subgraphs answer what they like, so each reader checks the shape it needs."""
Object = dict[str, Any]
ClientPath = tuple[str | int, ...]


def merge(into: Object, other: Object) -> None:
    """Deeply merges one answer into another; lists of equal length are merged element by element."""
    for key, value in other.items():
        current = into.get(key)
        if current is None:
            into[key] = value
        elif type(value) is dict and type(current) is dict:
            if value is not current:
                merge(current, value)
        elif type(value) is list and type(current) is list and len(value) == len(current):
            merge_lists(current, value)
        elif value is not None:
            into[key] = value


def merge_lists(into: list[Json], other: list[Json]) -> None:
    for position, value in enumerate(other):
        current = into[position]
        if type(value) is dict and type(current) is dict:
            merge(current, value)
        elif type(value) is list and type(current) is list and len(value) == len(current):
            merge_lists(current, value)
        elif value is not None:
            into[position] = value


def objects_at(root: Object, path: Path) -> list[Object]:
    """Every object at a path, in order and once; what is null or of another shape is left out.

    An entity that occurs in several places is one object in the tree, once it was merged there.
    """
    found: list[Json] = [root]
    for step in path:
        if step == "@":
            items = [item for value in found if type(value) is list for item in value if item is not None]
            found = list({id(item): item for item in items}.values())
        else:
            found = [item for value in found if type(value) is dict and (item := value.get(step)) is not None]
    return list({id(value): value for value in found if type(value) is dict}.values())


def places_of(root: Object, paths: Sequence[Path]) -> dict[int, list[ClientPath]]:
    """For every object at one of the paths, by identity, where it stands in the answer."""
    places: dict[int, list[ClientPath]] = {}
    for path in paths:
        for where, value in _walk(root, path, ()):
            if type(value) is dict:
                places.setdefault(id(value), []).append(where)
    return places


def _walk(value: Json, path: Path, where: ClientPath) -> Iterator[tuple[ClientPath, Json]]:
    if value is None:
        return
    if not path:
        yield where, value
    elif path[0] == "@":
        if type(value) is list:
            for position, item in enumerate(value):
                yield from _walk(item, path[1:], (*where, position))
    elif type(value) is dict:
        yield from _walk(value.get(path[0]), path[1:], (*where, path[0]))
