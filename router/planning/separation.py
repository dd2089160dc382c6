"""Gives fields of sibling types that share a response key, and not what is asked below it, keys of their own.

The specification (5.3.2) lets `... on A { t { v: x } }` and `... on B { t { v: y } }` stand side by side: no object is an A
and a B. Fetches, representations and the answer tree know a place by its response path alone, where both are `t`. So before
anything is planned, `t` becomes `_s0_t` for B: from then on different paths hold different things, as if the client had
written aliases. The projection reads the fields back under the client's keys.

Fields are kept apart where one key below them means two things, and where what is asked below them differs and cannot be
answered in place: what one type is asked for must not be fetched, nor its inputs be needed, for the other.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from router.errors import ClientError
from router.planning.fetch_graph import Path
from router.planning.query_graph import QueryGraph
from router.supergraph.model import Kind, SubgraphName
from router.supergraph.selection import NOT_DEFERRED, Field, Fragment, Selection, print_selection

MAX_FIELDS = 20_000
"""What is asked of an interface too is repeated for each type that is kept apart, at every level: so many fields at most."""

Renamed = Mapping[tuple[Path, str, str], str]
Items = tuple[Field | Fragment, ...]


@dataclass(frozen=True, slots=True)
class Separated:
    """A selection in which equal paths hold equal things, and the keys that differ from the client's."""

    selection: Selection
    renamed: Renamed


def separate(graph: QueryGraph, selection: Selection, root_type: str) -> Separated:
    """The selection with keys of their own for what must be kept apart; itself where nothing must.

    Raises:
        ClientError: it would have more than `MAX_FIELDS` fields.
    """
    if not _has_siblings(selection):
        return Separated(selection, {})
    separation = _Separation(graph, selection)
    separated = separation.selection(selection, root_type, ())
    return Separated(separated, separation.renamed) if separation.renamed else Separated(selection, {})


def with_separated(renamed: Renamed, separated: Renamed) -> dict[tuple[Path, str, str], str]:
    """Where the answer holds the client's fields: what the plan renamed, and before it the separation.

    renamed: of the plan, whose keys are those of the separated selection.
    """
    if not separated:
        return dict(renamed)
    fresh = set(separated.values())
    found = {place: key for place, key in renamed.items() if place[2] not in fresh}
    for (path, type_name, key), apart in separated.items():
        for actual in _actual(path, renamed):
            found[actual, type_name, key] = renamed.get((actual, type_name, apart), apart)
    return found


def _actual(path: Path, renamed: Renamed) -> list[Path]:
    """The paths under which the answer may hold what a path of the separated selection stands for."""
    found: list[Path] = [()]
    for step in path:
        others = [
            (*before, key)
            for before in found
            for (at, _, name), key in renamed.items()
            if at == before and name == step
        ]
        found = [*((*before, step) for before in found), *others]
    return found


def _has_siblings(selection: Selection) -> bool:
    """Whether any place has two type conditions, or one beside a field."""
    conditions = sum(isinstance(item, Fragment) for item in selection.items)
    if conditions and len(selection.items) > 1:
        return True
    return any(item.selection is not None and _has_siblings(item.selection) for item in selection.items)


class _Separation:
    def __init__(self, graph: QueryGraph, selection: Selection) -> None:
        self._graph = graph
        self._supergraph = graph.supergraph
        self._taken = set(_keys(selection))
        self._count = 0
        self._left = MAX_FIELDS
        self._texts: dict[Selection, str] = {}
        self.renamed: dict[tuple[Path, str, str], str] = {}

    def selection(self, selection: Selection, type_name: str, path: Path) -> Selection:
        """The selection on a type whose objects stand at a path."""
        if any(isinstance(item, Fragment) for item in selection.items):
            selection = self._apart(selection, type_name, path)
        return Selection(tuple(self._item(item, type_name, path) for item in selection.items))

    def _item(self, item: Field | Fragment, type_name: str, path: Path) -> Field | Fragment:
        if isinstance(item, Fragment):
            inner = tuple(self._item(each, item.type_condition, path) for each in item.selection.items)
            return Fragment(item.type_condition, Selection(inner))
        output = self._output(type_name, item.name) if item.selection is not None else None
        if item.selection is None or output is None:
            return item
        named, lists = output
        below = self.selection(item.selection, named, (*path, item.key, *("@" for _ in range(lists))))
        return Field(item.key, item.name, item.arguments, item.arguments_text, below, item.defers)

    # -- one place -------------------------------------------------------------------------------------------------

    def _apart(self, selection: Selection, type_name: str, path: Path) -> Selection:
        """The selection, in which fields that must be kept apart are asked of each object type under its own key."""
        members = {m: self._fields(selection.items, m) for m in self._supergraph.possible.get(type_name, ())}
        replaced: set[str] = set()
        own: dict[str, list[Field]] = {}
        for key in dict.fromkeys(key for fields in members.values() for key in fields):
            having = {m: fields[key] for m, fields in members.items() if key in fields}
            classes = self._classes(having)
            if len(classes) < 2:
                continue
            replaced.add(key)
            for position, alike in enumerate(classes):
                stored = key if position == 0 else self._fresh(key)
                for member in alike:
                    field = having[member]
                    self._spend(field)
                    own.setdefault(member, []).append(_under(stored, field))
                    if stored != key:
                        self.renamed[path, member, key] = stored
        if not replaced:
            return selection
        kept = _without(selection.items, replaced)
        return Selection((*kept, *(Fragment(member, Selection(tuple(fields))) for member, fields in own.items())))

    def _classes(self, having: Mapping[str, Field]) -> list[list[str]]:
        """The object types that ask a key's field, those together that may share its place; the first come first."""
        classes: list[list[str]] = []
        for member, field in having.items():
            if field.selection is None:
                return []
            for alike in classes:
                if all(self._may_share(member, field, other, having[other]) for other in alike):
                    alike.append(member)
                    break
            else:
                classes.append([member])
        return classes

    def _may_share(self, one: str, first: Field, other: str, second: Field) -> bool:
        below, below_other = first.selection, second.selection
        outputs = self._output(one, first.name), self._output(other, second.name)
        if below is None or below_other is None or outputs[0] is None or outputs[1] is None:
            return True
        same_call = (first.name, first.arguments_text) == (second.name, second.arguments_text)
        if same_call and self._text(below) == self._text(below_other):
            return True
        if self._text(below) == self._text(below_other):
            return True
        types = outputs[0][0], outputs[1][0]
        if self._clash(below.items, types[0], below_other.items, types[1]):
            return False
        return self._in_place(one, first) and self._in_place(other, second)

    def _clash(self, items: Items, type_name: str, others: Items, other_type: str) -> bool:
        """Whether some key means two things below one and below the other."""
        by_key: dict[str, list[tuple[str, Field]]] = {}
        for condition, field in self._each(others, other_type):
            by_key.setdefault(field.key, []).append((condition, field))
        for condition, field in self._each(items, type_name):
            for other_condition, other in by_key.get(field.key, ()):
                same = (field.name, field.arguments_text) == (other.name, other.arguments_text)
                if not same and self._supergraph.overlaps(condition, other_condition):
                    return True
                if field.selection is None or other.selection is None:
                    continue
                mine, theirs = self._output(condition, field.name), self._output(other_condition, other.name)
                if mine is None or theirs is None:
                    continue
                if self._clash(field.selection.items, mine[0], other.selection.items, theirs[0]):
                    return True
        return False

    def _each(self, items: Iterable[Field | Fragment], type_name: str) -> Iterator[tuple[str, Field]]:
        for item in items:
            if isinstance(item, Field):
                yield type_name, item
            else:
                yield from self._each(item.selection.items, item.type_condition)

    def _in_place(self, type_name: str, field: Field) -> bool:
        """Whether every subgraph that answers the field answers all that is asked below it as well."""
        found = False
        for subgraph in self._graph.subgraph_names:
            view = self._graph.view(type_name, subgraph)
            definition = view.fields.get(field.name) if view is not None else None
            if definition is None or definition.external:
                continue
            if definition.needs_more or definition.override_label is not None or definition.unless_label is not None:
                return False
            if field.selection is None or not self._is_local(field.selection.items, definition.type_name, subgraph):
                return False
            found = True
        return found

    def _is_local(self, items: Items, type_name: str, subgraph: SubgraphName) -> bool:
        view = self._supergraph.subgraphs[subgraph].types.get(type_name)
        if view is None or view.interface_object:
            return False
        for item in items:
            if isinstance(item, Fragment):
                if not self._is_local(item.selection.items, item.type_condition, subgraph):
                    return False
                continue
            if item.name == "__typename":
                continue
            if view.kind is Kind.INTERFACE and not self._graph.is_local_on_all(view, item.name, subgraph):
                return False
            definition = view.fields.get(item.name)
            if definition is None or definition.external or definition.needs_more:
                return False
            if definition.override_label is not None or definition.unless_label is not None:
                return False
            if item.selection is not None and not self._is_local(item.selection.items, definition.type_name, subgraph):
                return False
        return True

    # -- reading ---------------------------------------------------------------------------------------------------

    def _fields(self, items: Iterable[Field | Fragment], member: str) -> dict[str, Field]:
        """What is asked of objects of one type: by key, what several fragments ask as one field."""
        found: dict[str, Field] = {}
        for item in items:
            if isinstance(item, Field):
                known = found.get(item.key)
                found[item.key] = item if known is None else _merged(known, item)
            elif self._supergraph.is_subtype(member, item.type_condition):
                for key, field in self._fields(item.selection.items, member).items():
                    known = found.get(key)
                    found[key] = field if known is None else _merged(known, field)
        return found

    def _output(self, type_name: str, name: str) -> tuple[str, int] | None:
        """The type of a field, as the supergraph has it, and how many lists are around it."""
        texts = {
            view.fields[name].type_text: view.fields[name].type_name
            for subgraph in self._supergraph.subgraphs.values()
            if (view := subgraph.types.get(type_name)) is not None and name in view.fields
        }
        if not texts:
            texts = {
                definition.type_text: definition.type_name
                for interface in sorted(self._supergraph.interfaces.get(type_name, ()))
                for subgraph in self._supergraph.subgraphs.values()
                if (view := subgraph.types.get(interface)) is not None
                and (definition := view.fields.get(name)) is not None
            }
        if not texts:
            return None
        kinds = self._supergraph.kinds
        abstract = sorted(text for text, named in texts.items() if kinds.get(named) is not Kind.OBJECT)
        text = (abstract or sorted(texts))[0]
        return texts[text], text.count("[")

    def _text(self, selection: Selection) -> str:
        if selection not in self._texts:
            self._texts[selection] = print_selection(selection)
        return self._texts[selection]

    def _spend(self, field: Field) -> None:
        self._left -= 1
        if self._left < 0:
            raise ClientError("The operation expands to too many fields.", code="OPERATION_TOO_LARGE")
        for _, below in self._each(field.selection.items if field.selection else (), ""):
            self._spend(below)

    def _fresh(self, key: str) -> str:
        while True:
            fresh = f"_s{self._count}_{key}"
            self._count += 1
            if fresh not in self._taken:
                return fresh


def _keys(selection: Selection) -> Iterator[str]:
    for item in selection.items:
        if isinstance(item, Field):
            yield item.key
        if item.selection is not None:
            yield from _keys(item.selection)


def _under(key: str, field: Field) -> Field:
    return Field(key, field.name, field.arguments, field.arguments_text, field.selection, field.defers)


def _merged(one: Field, other: Field) -> Field:
    """Two fields of one key as one; each field below keeps the deferred fragments that ask for it."""
    none = frozenset({NOT_DEFERRED})
    defers = None if one.defers is None and other.defers is None else (one.defers or none) | (other.defers or none)
    if one.selection is None or other.selection is None:
        below = one.selection
    else:
        below = _merged_selection((*one.selection.items, *other.selection.items))
    return Field(one.key, one.name, one.arguments, one.arguments_text, below, defers)


def _merged_selection(items: Items) -> Selection:
    fields: dict[str, Field] = {}
    fragments: dict[str, list[Field | Fragment]] = {}
    for item in items:
        if isinstance(item, Field):
            known = fields.get(item.key)
            fields[item.key] = item if known is None else _merged(known, item)
        else:
            fragments.setdefault(item.type_condition, []).extend(item.selection.items)
    apart = (Fragment(condition, _merged_selection(tuple(inner))) for condition, inner in fragments.items())
    return Selection((*fields.values(), *apart))


def _without(items: Iterable[Field | Fragment], keys: set[str]) -> Iterator[Field | Fragment]:
    """The items without the fields of these keys, and without the fragments that become empty by it."""
    for item in items:
        if isinstance(item, Field):
            if item.key not in keys:
                yield item
        elif inner := tuple(_without(item.selection.items, keys)):
            yield Fragment(item.type_condition, Selection(inner))
