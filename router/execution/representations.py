"""Builds what `_entities` is asked: for every object at a path its representation, equal ones sent once."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson

from router.execution.values import Object
from router.planning.plan import RequiredObject
from router.supergraph.model import Kind, Supergraph
from router.supergraph.selection import Field, Fragment

Writer = Callable[[Object, Object], None]
"""Copies what is required of the first object into the second."""


class RepresentationBuilder:
    """Compiled from the requirements of one fetch."""

    def __init__(self, supergraph: Supergraph, required: Sequence[RequiredObject]) -> None:
        self._builders: dict[str | None, list[_Builder]] = {}
        for each in required:
            builder = _Builder(supergraph, each)
            names: set[str | None] = set(each.applies_to)
            if any(supergraph.kinds[name] is Kind.INTERFACE for name in each.applies_to):
                names.add(None)  # objects of an interface object, whose real type nobody asked for
            for name in names:
                self._builders.setdefault(name, []).append(builder)

    def build(self, objects: Sequence[Object]) -> tuple[list[Object], list[list[int]]]:
        """The distinct representations, and for each the positions in `objects` that it answers."""
        representations: list[Object] = []
        positions: list[list[int]] = []
        seen: dict[object, int] = {}
        builders = self._builders
        for position, value in enumerate(objects):
            for builder in builders.get(value.get("__typename"), ()):
                try:
                    identity = builder.identity(value)
                    index = seen.get(identity)
                except (KeyError, TypeError):  # a field is missing, or is an object or a list
                    identity = None
                    index = None
                if index is None:
                    representation = builder.build(value)
                    if representation is None:
                        continue
                    if identity is None:
                        identity = orjson.dumps(representation)
                        index = seen.get(identity)
                    if index is None:
                        seen[identity] = len(representations)
                        representations.append(representation)
                        positions.append([position])
                        continue
                positions[index].append(position)
        return representations, positions


class _Builder:
    """The representation of objects that are sent alike.

    identity: what tells two objects of these apart, found without building anything; for flat representations only.
    """

    __slots__ = ("_keys", "_send_as", "_write", "identity")

    def __init__(self, supergraph: Supergraph, required: RequiredObject) -> None:
        self._write = _writer(supergraph, required.fields)
        self._send_as = required.send_as
        self._keys = tuple(f.key for f in required.fields if isinstance(f, Field) and f.name in required.key_names)
        flat = all(isinstance(f, Field) and f.selection is None for f in required.fields)
        stored = [f.key for f in required.fields if isinstance(f, Field)]
        self.identity: Callable[[Object], object] = itemgetter("__typename", *stored) if flat else _has_none

    def build(self, value: Object) -> Object | None:
        """The representation, or None for an object without its key."""
        get = value.get
        for key in self._keys:
            if get(key) is not None:
                break
        else:
            if self._keys:
                return None
        representation: Object = {"__typename": self._send_as}
        self._write(value, representation)
        return representation


def _has_none(value: Object) -> object:
    raise KeyError(value)


def _writer(supergraph: Supergraph, items: Sequence[Field | Fragment]) -> Writer:
    leaves = tuple((f.name, f.key) for f in items if isinstance(f, Field) and f.selection is None)
    nested = tuple(
        (f.name, f.key, _nested(supergraph, f)) for f in items if isinstance(f, Field) and f.selection is not None
    )
    fragments = tuple(
        (
            frozenset((f.type_condition, *supergraph.possible.get(f.type_condition, ()))),
            _writer(supergraph, f.selection.items),
        )
        for f in items
        if isinstance(f, Fragment)
    )

    def write(value: Object, into: Object) -> None:
        for name, key in leaves:
            into[name] = value.get(key)
        for name, key, convert in nested:
            into[name] = convert(value.get(key))
        for types, writer in fragments:
            if value.get("__typename") in types:
                writer(value, into)

    return write


def _nested(supergraph: Supergraph, field: Field) -> Callable[[Any], Any]:
    assert field.selection is not None  # noqa: S101  the caller asked
    write = _writer(supergraph, field.selection.items)

    def convert(value: Any) -> Any:
        if type(value) is dict:
            result: Object = {}
            if (type_name := value.get("__typename")) is not None:
                result["__typename"] = type_name
            write(value, result)
            return result
        if type(value) is list:
            return [convert(item) for item in value]
        return None

    return convert
