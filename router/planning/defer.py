"""Parts an operation with `@defer` into blocks: what is answered at once, and what may follow.

A *block* is a set of deferred fragments, and holds the fields that are asked in exactly these and nowhere outside of them;
the empty set is the primary block. A field in a fragment and in another one inside of it belongs to the outer one alone.
So every field is in one block, is fetched once and delivered once, in whatever fragments the client repeats it.

A *place* is a selection set at one response path. Where the block changes at a place, its *parts* are what other blocks
ask of the objects there.

Source: GraphQL incremental delivery (graphql/graphql-spec#1110), "CollectFields" and "BuildExecutionPlan".
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from graphql import GraphQLInterfaceType, GraphQLObjectType, get_named_type

from router.planning.fetch_graph import Path
from router.planning.operation import Defer, Operation
from router.supergraph.model import Supergraph
from router.supergraph.selection import NOT_DEFERRED, Field, Fragment, Selection

Block = frozenset[int]
PRIMARY: Block = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What a block asks of the objects of a place that another block brings."""

    block: Block
    selection: Selection


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A field below which there are parts. condition: the type that it is asked of."""

    condition: str
    field: Field
    block: Block
    place: "Place"


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A selection set. path: client's response keys, "@" for each level of lists; type_name: as the API declares it."""

    path: Path
    type_name: str
    parts: tuple[Part, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Deferral:
    """A parted operation.

    primary: what is answered first; root: where the rest begins.
    defers: the fragments by number; paths: where each one stands; wholes: all that each one asks there.
    blocks: the others than the primary one; selections: each as from its fragment, to be read.
    around: of each block, those whose fields it stands in. exact: the selection with its block for each field's `defers`.
    """

    primary: Selection
    root: Place
    defers: dict[int, Defer]
    paths: dict[int, Path]
    wholes: dict[int, Selection]
    blocks: tuple[Block, ...]
    selections: dict[Block, Selection]
    around: dict[Block, frozenset[Block]]
    exact: Selection

    def block_at(self, path: Sequence[str | int]) -> Block:
        """The block that a field of the client's answer is delivered in; that of the field around what was not asked."""
        block, selection = PRIMARY, self.exact
        for key in path:
            same = [item for item in _fields(selection.items) if item.key == key]
            if same:
                block = min((item.defers or PRIMARY for item in same), key=sorted)
                selection = Selection(tuple(i for item in same if item.selection for i in item.selection.items))
        return block


def parted(supergraph: Supergraph, operation: Operation, selection: Selection | None = None) -> Deferral:
    """The parts of an operation that has deferred fragments; of its own selection, or of one derived from it."""
    return _Parting(supergraph, operation).part(selection or operation.selection)


class _Parting:
    def __init__(self, supergraph: Supergraph, operation: Operation) -> None:
        self._supergraph = supergraph
        self._defers = {each.number: each for each in operation.defers}
        self._root_type = operation.root_type
        self._touched: dict[Field, bool] = {}

    def part(self, selection: Selection) -> Deferral:
        paths: dict[int, Path] = {}
        wholes: dict[int, Selection] = {}
        self._locate(selection, self._root_type, (), paths, wholes)
        exact = self._exact(selection, self._root_type)
        root = self._place(exact, self._root_type, PRIMARY, ())
        blocks = sorted(set(_blocks_below(root)), key=lambda block: (max(map(self._depth, block)), sorted(block)))
        return Deferral(
            _of_block(exact, PRIMARY),
            root,
            self._defers,
            paths,
            wholes,
            tuple(blocks),
            {block: self._readable(exact, block, paths) for block in blocks},
            {block: frozenset(_around(root, PRIMARY, block)) for block in blocks},
            exact,
        )

    # -- which block -----------------------------------------------------------------------------------------------

    def _block(self, asked: frozenset[int] | None) -> Block:
        if not asked or NOT_DEFERRED in asked:
            return PRIMARY
        return frozenset(number for number in asked if asked.isdisjoint(self._around(number)))

    def _around(self, number: int) -> Iterator[int]:
        while (number := self._defers[number].outer) != NOT_DEFERRED:
            yield number

    def _depth(self, number: int) -> int:
        return len(list(self._around(number)))

    def _exact(self, selection: Selection, type_name: str) -> Selection:
        """The selection with each field's block for its `defers`.

        On an abstract type a field may be asked both of the type and of some of its objects. If it is deferred in one of
        them, its block depends on the object, and it is asked of each object type apart.
        """
        items = _merged(selection.items)
        apart = self._to_part(items, type_name)
        kept: list[Field | Fragment] = []
        for item in items:
            if isinstance(item, Field):
                if item.key not in apart:
                    kept.append(self._exact_field(item, type_name))
                continue
            inner = tuple(i for i in item.selection.items if not (isinstance(i, Field) and i.key in apart))
            if inner:
                kept.append(Fragment(item.type_condition, self._exact(Selection(inner), item.type_condition)))
        if apart:
            for member in self._supergraph.possible.get(type_name, ()):
                asked = [item for item in self._applying(items, member) if item.key in apart]
                if asked:
                    kept.append(Fragment(member, self._exact(Selection(tuple(asked)), member)))
        return Selection(tuple(kept))

    def _exact_field(self, item: Field, type_name: str) -> Field:
        below = None
        if item.selection is not None:
            below = self._exact(item.selection, self._output(type_name, item.name)[0])
        return Field(item.key, item.name, item.arguments, item.arguments_text, below, self._block(item.defers))

    def _to_part(self, items: Sequence[Field | Fragment], type_name: str) -> frozenset[str]:
        """The response keys of which some object type is asked twice, and deferred in one of these places."""
        if all(isinstance(item, Field) for item in items):
            return frozenset()
        found: set[str] = set()
        for member in self._supergraph.possible.get(type_name, ()):
            seen: dict[str, Field] = {}
            for item in self._applying(items, member):
                other = seen.setdefault(item.key, item)
                if other is not item and (self._is_touched(item) or self._is_touched(other)):
                    found.add(item.key)
        return frozenset(found)

    def _is_touched(self, item: Field) -> bool:
        if (known := self._touched.get(item)) is not None:
            return known
        below = item.selection.items if item.selection is not None else ()
        touched = item.defers is not None or any(self._is_touched(field) for field in _fields(below))
        self._touched[item] = touched
        return touched

    def _applying(self, items: Iterable[Field | Fragment], type_name: str) -> Iterator[Field]:
        for item in items:
            if isinstance(item, Field):
                yield item
            elif self._supergraph.is_subtype(type_name, item.type_condition):
                yield from self._applying(item.selection.items, type_name)

    # -- places ----------------------------------------------------------------------------------------------------

    def _place(self, selection: Selection, type_name: str, block: Block, path: Path) -> Place:
        others = {item.defers or PRIMARY for item in _fields(selection.items)} - {block}
        parts = tuple(Part(other, _of_block(selection, other)) for other in sorted(others, key=sorted))
        return Place(path, type_name, parts, tuple(self._steps(selection, type_name, path)))

    def _steps(self, selection: Selection, condition: str, path: Path) -> Iterator[Step]:
        for item in selection.items:
            if isinstance(item, Fragment):
                yield from self._steps(item.selection, item.type_condition, path)
            elif item.selection is not None:
                output, levels = self._output(condition, item.name)
                block = item.defers or PRIMARY
                place = self._place(item.selection, output, block, (*path, item.key, *("@" for _ in range(levels))))
                if place.parts or place.steps:
                    yield Step(condition, item, block, place)

    def _output(self, type_name: str, field_name: str) -> tuple[str, int]:
        """The field's innermost type, and how many lists are around it."""
        parent = self._supergraph.api_schema.type_map[type_name]
        assert isinstance(parent, GraphQLObjectType | GraphQLInterfaceType)  # noqa: S101  validated before
        output = parent.fields[field_name].type
        return get_named_type(output).name, str(output).count("[")

    # -- the fragments as they were written ------------------------------------------------------------------------

    def _locate(
        self,
        selection: Selection,
        type_name: str,
        path: Path,
        paths: dict[int, Path],
        wholes: dict[int, Selection],
    ) -> None:
        """Notes where each fragment stands: where fields are first asked by it."""
        for number in sorted({n for item in _fields(selection.items) for n in item.defers or ()}):
            if number not in paths and number != NOT_DEFERRED:
                paths[number] = path
                wholes[number] = _asked_by(selection, number)
        self._locate_below(selection, type_name, path, paths, wholes)

    def _locate_below(
        self,
        selection: Selection,
        type_name: str,
        path: Path,
        paths: dict[int, Path],
        wholes: dict[int, Selection],
    ) -> None:
        for item in selection.items:
            if isinstance(item, Fragment):
                self._locate_below(item.selection, item.type_condition, path, paths, wholes)
            elif item.selection is not None and self._is_touched(item):
                output, levels = self._output(type_name, item.name)
                below = (*path, item.key, *("@" for _ in range(levels)))
                self._locate(item.selection, output, below, paths, wholes)

    def _readable(self, exact: Selection, block: Block, paths: dict[int, Path]) -> Selection:
        path = max((paths[number] for number in block), key=len)
        return _leading_to(_selection_at(exact, [step for step in path if step != "@"]), block)


def _kept(selection: Selection, keeps: Callable[[Field], bool]) -> Selection:
    """What is kept here, and below it."""
    items: list[Field | Fragment] = []
    for item in selection.items:
        if isinstance(item, Fragment):
            inner = _kept(item.selection, keeps)
            if inner.items:
                items.append(Fragment(item.type_condition, inner))
        elif keeps(item):
            below = None if item.selection is None else _kept(item.selection, keeps)
            items.append(Field(item.key, item.name, item.arguments, item.arguments_text, below))
    return Selection(tuple(items))


def _of_block(exact: Selection, block: Block) -> Selection:
    """What a block asks here and below, as far as the block stays the same."""
    return _kept(exact, lambda item: item.defers == block)


def _asked_by(selection: Selection, number: int) -> Selection:
    """What one deferred fragment asks here and below, also what others ask as well."""
    return _kept(selection, lambda item: number in (item.defers or ()))


def filled(selection: Selection) -> Selection:
    """The selection with `__typename` where nothing else is asked of an object, as every fetch must ask something."""
    items: list[Field | Fragment] = []
    for item in selection.items:
        if isinstance(item, Fragment):
            items.append(Fragment(item.type_condition, filled(item.selection)))
        elif item.selection is None:
            items.append(item)
        else:
            items.append(Field(item.key, item.name, item.arguments, item.arguments_text, filled(item.selection)))
    return Selection(tuple(items) or (Field("__typename", "__typename"),))


def _around(place: Place, block: Block, wanted: Block) -> Iterator[Block]:
    if any(each.block == wanted for each in place.parts):
        yield block
    for step in place.steps:
        yield from _around(step.place, step.block, wanted)


def _blocks_below(place: Place) -> Iterator[Block]:
    for each in place.parts:
        yield each.block
    for step in place.steps:
        yield from _blocks_below(step.place)


def _fields(items: Iterable[Field | Fragment]) -> Iterator[Field]:
    """The fields of one selection set, also those that are asked of some types only."""
    for item in items:
        if isinstance(item, Field):
            yield item
        else:
            yield from _fields(item.selection.items)


def _merged(items: Sequence[Field | Fragment]) -> list[Field | Fragment]:
    """The items with fields of one response key made one; they are asked by all fragments that ask for one of them."""
    by_key: dict[str, list[Field]] = {}
    for item in items:
        if isinstance(item, Field):
            by_key.setdefault(item.key, []).append(item)
    if all(len(same) == 1 for same in by_key.values()):
        return list(items)
    merged: list[Field | Fragment] = []
    for same in by_key.values():
        first = same[0]
        below = None
        if first.selection is not None:
            below = Selection(tuple(i for item in same if item.selection is not None for i in item.selection.items))
        asked = frozenset(n for item in same for n in item.defers or (NOT_DEFERRED,))
        merged.append(Field(first.key, first.name, first.arguments, first.arguments_text, below, asked))
    return [*merged, *(item for item in items if isinstance(item, Fragment))]


def _leading_to(exact: Selection, block: Block) -> Selection:
    """The block's fields, in the fields that lead to them."""
    items: list[Field | Fragment] = []
    for item in exact.items:
        if isinstance(item, Fragment):
            inner = _leading_to(item.selection, block)
            if inner.items:
                items.append(Fragment(item.type_condition, inner))
            continue
        below = None if item.selection is None else _leading_to(item.selection, block)
        if item.defers == block or (below is not None and below.items):
            items.append(Field(item.key, item.name, item.arguments, item.arguments_text, below))
    return Selection(tuple(items))


def _selection_at(selection: Selection, keys: Sequence[str]) -> Selection:
    for key in keys:
        below = [i.selection for i in _fields(selection.items) if i.key == key and i.selection is not None]
        selection = Selection(tuple(item for each in below for item in each.items))
    return selection
