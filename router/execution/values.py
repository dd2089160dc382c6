"""The answer tree: plain dicts, lists and scalars as the JSON parser made them, and how two answers become one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from router.planning.fetch_graph import Path
from router.planning.plan import PrintedSelection
from router.supergraph.model import Kind

Json = Any
"""A decoded JSON value: subgraphs answer what they like, so each reader checks the shape it needs."""
Object = dict[str, Any]
ClientPath = tuple[str | int, ...]


class Merge:
    """Completes one object of the answer with what a fetch brought for it.

    What both hold is merged deeply where the fetch selects something below it: objects field by field, lists of equal
    length item by item. Elsewhere, as for the value of a custom scalar, what is new stands, unless it is null. The name
    of an object type is never replaced: a subgraph with an interface object knows only the interface's name.
    """

    __slots__ = ("_kinds", "nested")

    def __init__(self, selection: PrintedSelection, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self.nested = _nested(selection)

    def __call__(self, into: Object, other: Object) -> None:
        if into.keys().isdisjoint(other):
            into.update(other)
            return
        # Not recursive: how deep a subgraph's answer is nested is not ours to decide.
        pending: list[tuple[Json, Json, _Nested]] = [(into, other, self.nested)]
        while pending:
            current, new, nested = pending.pop()
            is_list = type(new) is list
            places: Iterable[tuple[Any, Json]] = enumerate(new) if is_list else new.items()
            for place, value in places:
                known = current[place] if is_list else current.get(place)
                below = nested if is_list else nested.get(place)
                if known is None:
                    current[place] = value
                elif value is None or value is known:
                    continue
                elif below is not None and _is_alike(known, value):
                    pending.append((known, value, below))
                elif place != "__typename" or self._kinds.get(str(known)) is not Kind.OBJECT:
                    current[place] = value

    def copied(self, value: Object) -> Object:
        """A copy of which nothing changes when the original is merged with something."""
        copy: Object = _copied(value, self.nested, 0)
        return copy


_Nested = Mapping[str, "_Nested"]
"""The fields of a selection that have a selection of their own."""


def _nested(selection: PrintedSelection) -> _Nested:
    found: dict[str, _Nested] = {f.key: _nested(f.selection) for f in selection.fields if f.selection is not None}
    for _, inner in selection.fragments:
        found = _both(found, _nested(inner))
    return found


def _both(one: _Nested, other: _Nested) -> dict[str, _Nested]:
    return {key: _both(one.get(key, {}), other.get(key, {})) for key in (*one, *other)}


def _is_alike(one: Json, other: Json) -> bool:
    """Whether there is anything inside the two to merge."""
    if type(one) is dict:
        return type(other) is dict
    return type(one) is list and type(other) is list and len(one) == len(other)


def _copied(value: Json, nested: _Nested, lists: int) -> Json:
    if type(value) is dict:
        copy = dict(value)
        for key, below in nested.items():
            if (item := copy.get(key)) is not None:
                copy[key] = _copied(item, below, 0)
        return copy
    if type(value) is list and lists < _MAX_LISTS:
        return [_copied(item, nested, lists + 1) for item in value]
    return value


_MAX_LISTS = 20
"""No type of a field is a list of so many lists; what is, is refused when it is projected."""


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
