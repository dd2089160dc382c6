"""Finds the objects at given paths of the answer, in order and each once.

An answer is one tree when a subgraph sends it, and stays one only as long as every entity in it is asked for once. What
an entity fetch brings for several objects is put into all of them, and objects that hold nothing but one and the same
key become one object (`Sharing`): from then on it is asked for, completed and projected once. `may_repeat` says at
which paths such values stand.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

from router.execution.values import Json, Object
from router.planning.fetch_graph import Path

Level = Callable[[list[Object]], list[Object]]
"""The objects that lie one field below the given ones, through its lists if it has any."""

Slots = Callable[[list[Object]], Iterable[tuple[Any, Iterable[tuple[Any, Json]]]]]
"""What the objects hold at a level: each container there, with the places in it and their values."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Sharing:
    """Objects with these fields, and no other ones, are the same when the fields' values are. Values are hashable."""

    fields: tuple[str, ...]

    def identity(self) -> Callable[[Object], object]:
        return itemgetter(*self.fields)


class Finder:
    """Finds the objects at several paths, going once through what they have in common.

    sharing: for paths whose objects may be made one.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        may_repeat: frozenset[Path] = frozenset(),
        sharing: Mapping[Path, Sharing] | None = None,
    ) -> None:
        self._levels: list[tuple[int, Path, Level]] = []
        known: dict[Path, int] = {(): 0}
        for path in paths:
            start = 0
            for prefix in _levels(path):
                if prefix not in known:
                    share = (sharing or {}).get(prefix)
                    level = _level(prefix[start:], prefix, may_repeat, share)
                    self._levels.append((known[prefix[:start]], prefix, level))
                    known[prefix] = len(self._levels)
                start = len(prefix)
        self._ends = [known[path] for path in paths]

    def find(self, root: Object, known: dict[Path, list[Object]]) -> list[list[Object]]:
        """The objects at each path.

        known: what was found before, by path, and did not change since; what is found now is added.
        """
        found = [[root]]
        for start, path, level in self._levels:
            objects = known.get(path)
            if objects is None:
                objects = known[path] = level(found[start])
            found.append(objects)
        return [found[end] for end in self._ends]


def _levels(path: Path) -> list[Path]:
    """The prefixes of a path that end before a field, and the path itself."""
    ends = [position for position, step in enumerate(path) if step != "@" and position > 0]
    return [path[:end] for end in (*ends, len(path)) if end > 0]


def _level(steps: Path, prefix: Path, may_repeat: frozenset[Path], sharing: Sharing | None) -> Level:
    key, lists = steps[0], len(steps) - 1
    if sharing is not None and lists <= 1:
        return _shared(_item_slots(key) if lists else _field_slots(key), sharing)
    # Where what lies here can repeat, it does so as a whole: as the field's value or as items of its innermost list.
    if any(prefix[: len(prefix) - lists + depth] in may_repeat for depth in range(lists + 1)):
        return _distinct_field(key, lists)
    if lists == 0:
        return lambda objects: [v for o in objects if type(v := o.get(key)) is dict]
    if lists == 1:
        return lambda objects: [v for o in objects if type(vs := o.get(key)) is list for v in vs if type(v) is dict]
    return lambda objects: _objects_in([o.get(key) for o in objects], lists)


def _objects_in(values: list[Json], lists: int) -> list[Object]:
    for _ in range(lists):
        values = [item for value in values if type(value) is list for item in value]
    return [value for value in values if type(value) is dict]


def _distinct(values: list[_T]) -> list[_T]:
    return list({id(value): value for value in values}.values())


def _distinct_field(key: str, lists: int) -> Level:
    def level(objects: list[Object]) -> list[Object]:
        values = _distinct([value for each in objects if (value := each.get(key)) is not None])
        return _distinct(_objects_in(values, lists))

    return level


def _field_slots(key: str) -> Slots:
    return lambda objects: [(each, ((key, each[key]),)) for each in objects if key in each]


def _item_slots(key: str) -> Slots:
    return lambda objects: [(vs, enumerate(vs)) for each in objects if type(vs := each.get(key)) is list]


def _shared(slots: Slots, sharing: Sharing) -> Level:
    """Also puts the first of the objects that are the same wherever one of them stands."""
    identity, size = sharing.identity(), len(sharing.fields)

    def level(objects: list[Object]) -> list[Object]:
        found: list[Object] = []
        known: dict[object, Object] = {}
        for container, values in slots(objects):
            for place, value in values:
                if type(value) is dict:
                    if len(value) == size:
                        try:
                            first = known.setdefault(identity(value), value)
                        except (KeyError, TypeError):  # other fields than those, or a value that cannot be compared so
                            first = value
                        if first is not value:
                            container[place] = first
                            continue
                    found.append(value)
        return _distinct(found)

    return level
