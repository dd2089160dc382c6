"""Builds what `_entities` is asked: for every object at a path its representation, equal ones sent once."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from router.execution.values import Object
from router.planning.plan import RequiredObject
from router.supergraph.model import Kind, Supergraph
from router.supergraph.selection import Field, Fragment

Writer = Callable[[Object, Object], None]
"""Copies what is required of the first object into the second."""
Builder = Callable[[Object], Object | None]
"""The representation of an object, or None when it has no key."""


class RepresentationBuilder:
    """Compiled from the requirements of one fetch."""

    def __init__(self, supergraph: Supergraph, required: Sequence[RequiredObject]) -> None:
        self._builders: dict[str, list[Builder]] = {}
        self._interface_builders: list[Builder] = []
        for each in required:
            builder = _compile(supergraph, each)
            for type_name in each.applies_to:
                self._builders.setdefault(type_name, []).append(builder)
            if any(supergraph.kinds[name] is Kind.INTERFACE for name in each.applies_to):
                self._interface_builders.append(builder)

    def build(self, objects: Sequence[Object]) -> tuple[list[Object], list[list[int]]]:
        """The distinct representations, and for each the positions in `objects` that it answers."""
        representations: list[Object] = []
        positions: list[list[int]] = []
        seen: dict[Any, int] = {}
        builders = self._builders
        for position, value in enumerate(objects):
            type_name = value.get("__typename")
            chosen = self._interface_builders if type_name is None else builders.get(type_name, ())
            for builder in chosen:
                representation = builder(value)
                if representation is None:
                    continue
                identity = _identity(representation)
                index = seen.get(identity)
                if index is None:
                    seen[identity] = len(representations)
                    representations.append(representation)
                    positions.append([position])
                else:
                    positions[index].append(position)
        return representations, positions


def _identity(representation: Object) -> object:
    identity = tuple(representation.values())
    try:
        hash(identity)
    except TypeError:
        return orjson.dumps(representation)
    # True == 1 and 1.0 == 1 in Python, not in GraphQL; such keys are rare enough to be compared as text.
    return identity if all(type(value) is str for value in identity) else orjson.dumps(representation)


def _compile(supergraph: Supergraph, required: RequiredObject) -> Builder:
    write = _writer(supergraph, required.fields)
    send_as = required.send_as
    keys = tuple(f.key for f in required.fields if isinstance(f, Field) and f.name in required.key_names)

    def build(value: Object) -> Object | None:
        for key in keys:
            if value.get(key) is not None:
                break
        else:
            if keys:
                return None
        representation: Object = {"__typename": send_as}
        write(value, representation)
        return representation

    return build


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
