"""Builds what `_entities` is asked: for every object its representation, equal ones sent once."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from router.execution.find import Sharing
from router.execution.values import Object
from router.planning.plan import RequiredObject
from router.supergraph.inputs import Missing, missing_inputs
from router.supergraph.model import Kind, SubgraphName, Supergraph
from router.supergraph.selection import Field, Fragment

Writer = Callable[[Object, Object], None]
"""Copies what is required of the first object into the second."""


class Built(NamedTuple):
    """Representations, for each the objects that it stands for, and the objects that were left out.

    lacking: each with the type that it would have been sent as, and with what it lacks.
    """

    representations: list[Object]
    targets: list[list[Object]]
    lacking: list[tuple[Object, str, str]]


class RepresentationBuilder:
    """Compiled from the requirements of one fetch.

    sharing: by which fields to tell objects apart, where the same fields do for all of them.
    """

    def __init__(self, supergraph: Supergraph, required: Sequence[RequiredObject], subgraph: SubgraphName) -> None:
        self._builders: dict[str | None, list[tuple[int, _Builder]]] = {}
        self._count = len(required)
        flat: set[tuple[str, ...] | None] = set()
        for number, each in enumerate(required):
            builder = _Builder(supergraph, each, subgraph)
            flat.add(builder.fields)
            names: set[str | None] = set(each.applies_to)
            if any(supergraph.kinds[name] is Kind.INTERFACE for name in each.applies_to):
                names.add(None)  # objects of an interface object, whose real type nobody asked for
            for name in names:
                self._builders.setdefault(name, []).append((number, builder))
        fields = flat.pop() if len(flat) == 1 else None
        self.sharing = None if fields is None else Sharing(fields)
        only = len(required) == 1 and fields is not None and None not in self._builders and builder.missing is None
        self._only = builder if only else None

    def build(self, objects: Sequence[Object]) -> Built:
        """The distinct representations, for each the objects that it stands for, and what was left out."""
        return self._build_any(objects) if self._only is None else self._build_flat(objects, self._only)

    def _build_flat(self, objects: Sequence[Object], builder: "_Builder") -> Built:
        """For objects of which the values of the same fields, `__typename` first, say all; as nearly always."""
        representations: list[Object] = []
        targets: list[list[Object]] = []
        known: dict[object, list[Object]] = {}
        types = self._builders
        identify = builder.identify
        assert identify is not None  # noqa: S101  the builder is flat
        for value in objects:
            try:
                identity = identify(value)
                same = known.get(identity)
            except (KeyError, TypeError):
                return self._build_any(objects)
            if same is None:
                representation = builder.build_flat(identity) if identity[0] in types else None
                if representation is None:
                    continue
                known[identity] = same = []
                representations.append(representation)
                targets.append(same)
            same.append(value)
        return Built(representations, targets, [])

    def _build_any(self, objects: Sequence[Object]) -> Built:
        lacking: list[tuple[Object, str, str]] = []
        representations: list[Object] = []
        targets: list[list[Object]] = []
        known: list[dict[object, list[Object]]] = [{} for _ in range(self._count)]
        builders = self._builders
        for value in objects:
            told = value.get("__typename")
            for number, builder in builders.get(told, ()) if told is None or type(told) is str else ():
                if builder.missing is not None and (missing := builder.missing(value)) is not None:
                    if builder.has_key(value):
                        lacking.append((value, builder.send_as, missing))
                    continue
                identity: Any = None
                same: list[Object] | None = None
                if (identify := builder.identify) is not None:
                    try:
                        identity = identify(value)
                        same = known[number].get(identity)
                    except (KeyError, TypeError):  # a field is missing, or is an object or a list
                        identity = None
                if same is None:
                    representation = builder.build(value) if identity is None else builder.build_flat(identity)
                    if representation is None:
                        continue
                    if identity is None:
                        identity = _fingerprint(representation)
                        same = known[number].get(identity)
                    if same is None:
                        known[number][identity] = same = []
                        representations.append(representation)
                        targets.append(same)
                same.append(value)
        return Built(representations, targets, lacking)


class _Builder:
    """The representation of objects that are sent alike.

    fields: under which keys objects hold what is sent, where that is flat, and equal values are the same ones.
    identify: then, the values of an object's fields.
    """

    __slots__ = ("_key_positions", "_keys", "_names", "_write", "fields", "identify", "missing", "send_as")

    def __init__(self, supergraph: Supergraph, required: RequiredObject, subgraph: SubgraphName) -> None:
        keys = [f for f in required.fields if isinstance(f, Field) and f.name in required.key_names]
        self._write = _writer(supergraph, required.fields)
        self.send_as = required.send_as
        self.missing: Missing | None = None
        if required.inputs:
            types = required.applies_to
            self.missing = missing_inputs(supergraph, subgraph, types, required.fields, required.inputs)
        self._keys = tuple(f.key for f in keys)
        self.fields: tuple[str, ...] | None = None
        self.identify: Callable[[Object], tuple[Any, ...]] | None = None
        if all(isinstance(f, Field) and _is_plain(supergraph, required.applies_to, f) for f in required.fields):
            fields = [f for f in required.fields if isinstance(f, Field)]
            self.fields = ("__typename", *(f.key for f in fields))
            self._names = ("__typename", *(f.name for f in fields))
            self._key_positions = tuple(position for position, f in enumerate(fields, 1) if f in keys)
            self.identify = itemgetter(*self.fields) if fields else lambda value: (value["__typename"],)

    def has_key(self, value: Object) -> bool:
        """Whether the object can be asked for at all."""
        return not self._keys or any(value.get(key) is not None for key in self._keys)

    def build(self, value: Object) -> Object | None:
        """The representation, or None for an object without its key."""
        if not self.has_key(value):
            return None
        representation: Object = {"__typename": self.send_as}
        self._write(value, representation)
        return representation

    def build_flat(self, identity: tuple[Any, ...]) -> Object | None:
        """The same from the values of the object's fields."""
        for position in self._key_positions:
            if identity[position] is not None:
                break
        else:
            if self._key_positions:
                return None
        representation = dict(zip(self._names, identity, strict=True))
        representation["__typename"] = self.send_as
        return representation


def _fingerprint(representation: Object) -> object:
    try:
        return orjson.dumps(representation)
    except TypeError:  # too deep to be written; the request that cannot be sent will tell
        return id(representation)


def _is_plain(supergraph: Supergraph, type_names: Sequence[str], field: Field) -> bool:
    """Whether values of the field are one when Python calls them equal: not so for `1`, `1.0` and `true` of a custom scalar."""
    if field.selection is not None:
        return False
    views = [view for name in type_names for s in supergraph.subgraphs.values() if (view := s.types.get(name))]
    types = {view.fields[field.name].type_name for view in views if field.name in view.fields}
    return bool(types) and types <= {"ID", "String", "Int"}


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
            told = value.get("__typename")
            if type(told) is str and told in types:
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
