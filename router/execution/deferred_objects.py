"""The objects of an answer below which something is deferred: found, and projected part by part.

When the fields of a block are in the answer tree, each object that they stand in gives one *group*: the block's fields of
that object, projected alone, so that a null without a place ends in the group. The groups of a deferred fragment at one
object are its *record*.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from router.execution.errors import AnswerError
from router.execution.projection import Projection, Violation
from router.execution.request import Step
from router.execution.shapes import Renamed, Shapes
from router.execution.values import ClientPath, Json, Object
from router.planning.defer import PRIMARY, Block, Deferral, Part, Place
from router.planning.defer import Step as PlaceStep
from router.planning.fetch_graph import Path
from router.planning.plan import DeferNode, PlanNode
from router.supergraph.model import Kind, Supergraph
from router.supergraph.selection import NOT_DEFERRED, Selection


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredObject:
    """An object of the answer. where: in the client's answer; stored: in the tree; outer: the object around it."""

    place: Place
    type_name: str
    value: Object
    where: ClientPath
    stored: Path
    outer: "AnsweredObject | None"


@dataclass(slots=True, eq=False)
class Record:
    """A deferred fragment at one object. path: the object's."""

    defer: int
    path: ClientPath
    label: str | None
    outer: "Record | None"
    at: AnsweredObject
    groups: "list[Group]" = field(default_factory=list)
    number: int | None = None
    is_done: bool = False
    has_failed: bool = False


@dataclass(slots=True, eq=False)
class Group:
    """The fields of a block at one object. data: None before they are there, and when null has reached the object."""

    part: Part
    at: AnsweredObject
    records: list[Record] = field(default_factory=list)
    data: Object | None = None
    errors: tuple[AnswerError, ...] = ()
    is_sent: bool = False


class DeferredPlan:
    """The deferred parts of a plan, ready to run any number of times, also at once."""

    def __init__(
        self,
        supergraph: Supergraph,
        deferral: Deferral,
        node: DeferNode,
        renamed: Renamed,
        compiled: Callable[[PlanNode], Step],
    ) -> None:
        self.deferral = deferral
        self._supergraph = supergraph
        self._renamed = renamed
        self._shapes = Shapes(supergraph, renamed)
        self._projections: dict[tuple[Selection, str, Path], Projection | None] = {}
        delivering = frozenset().union(*deferral.blocks)
        # The next fragment around each that delivers something itself, or NOT_DEFERRED.
        self.outer = {number: self._outer(number, delivering) for number in delivering}
        self.blocks_of = {number: [b for b in deferral.blocks if number in b] for number in delivering}
        blocks = [each.block for each in node.deferred]
        self.steps: dict[Block, Step] = {}
        self.after: dict[Block, frozenset[Block]] = {block: frozenset() for block in deferral.blocks}
        for each in node.deferred:
            if each.node is not None:
                self.steps[each.block] = compiled(each.node)
            self.after[each.block] = frozenset(blocks[position] for position in each.after)

    def first(self, refused: Iterable[AnswerError]) -> list[AnswerError]:
        """Of the fields refused beforehand, those that belong to the primary answer."""
        return self.of_block(PRIMARY, refused)

    def of_block(self, block: Block, refused: Iterable[AnswerError]) -> list[AnswerError]:
        return [error for error in refused if self.deferral.block_at(error.path or ()) == block]

    def _outer(self, number: int, delivering: frozenset[int]) -> int:
        outer = self.deferral.defers[number].outer
        while outer != NOT_DEFERRED and outer not in delivering:
            outer = self.deferral.defers[outer].outer
        return outer

    # -- finding groups --------------------------------------------------------------------------------------------

    def groups(self, answer: Object, data: Object | None) -> Iterator[Group]:
        """What is deferred in the primary answer; `data`: as the client got it."""
        root = self.deferral.root
        yield from self._find(root, PRIMARY, answer, data, (), (), None)

    def groups_below(self, group: Group) -> Iterator[Group]:
        """What is deferred once more in a group that was delivered."""
        yield from self._below(group.at, group.part.block, group.data)

    def _find(
        self,
        place: Place,
        block: Block,
        value: Json,
        data: Json,
        where: ClientPath,
        stored: Path,
        outer: AnsweredObject | None,
    ) -> Iterator[Group]:
        if type(data) is list and type(value) is list:
            for position, (item, shown) in enumerate(zip(value, data, strict=False)):
                yield from self._find(place, block, item, shown, (*where, position), (*stored, "@"), outer)
        elif type(data) is dict and type(value) is dict:
            at = AnsweredObject(place, self._type_of(place, value), value, where, stored, outer)
            for part in place.parts:
                if self._asks(part.selection, at):
                    yield Group(part, at)
            yield from self._below(at, block, data)

    def _below(self, at: AnsweredObject, block: Block, data: Object | None) -> Iterator[Group]:
        if data is None:
            return
        for step in at.place.steps:
            if step.block == block and self._applies(step, at):
                key = step.field.key
                stored = self._shapes.stored(at.type_name, key, at.stored)
                below = at.value.get(stored)
                yield from self._find(
                    step.place, block, below, data.get(key), (*at.where, key), (*at.stored, stored), at
                )

    def _applies(self, step: PlaceStep, at: AnsweredObject) -> bool:
        return self._supergraph.is_subtype(at.type_name, step.condition)

    def _asks(self, selection: Selection, at: AnsweredObject) -> bool:
        """Whether a selection asks something of an object; of an interface object, whose type may still come, it may."""
        if self._supergraph.kinds.get(at.type_name) is not Kind.OBJECT:
            return bool(selection.items)
        return self._projection(selection, at) is not None

    def known_by_now(self, at: AnsweredObject) -> AnsweredObject:
        """The object, with its type if that came with what was deferred."""
        type_name = self._type_of(at.place, at.value)
        return at if type_name == at.type_name else replace(at, type_name=type_name)

    def _type_of(self, place: Place, value: Object) -> str:
        if self._supergraph.kinds[place.type_name] is Kind.OBJECT:
            return place.type_name
        told = value.get("__typename")
        return told if isinstance(told, str) else place.type_name

    # -- projecting ------------------------------------------------------------------------------------------------

    def _projection(self, selection: Selection, at: AnsweredObject) -> Projection | None:
        """None: the selection asks nothing of objects of this type."""
        memo = (selection, at.type_name, at.stored)
        if memo not in self._projections:
            asks = self._shapes.fields_of(at.type_name, selection, at.stored)
            self._projections[memo] = (
                Projection(self._supergraph, selection, at.type_name, self._renamed, path=at.stored) if asks else None
            )
        return self._projections[memo]

    def project(self, selection: Selection, at: AnsweredObject) -> tuple[Object | None, list[Violation]]:
        """A selection on an object; violations from the answer's root."""
        projection = self._projection(selection, at)
        if projection is None:
            return {}, []
        data, violations = projection.project(at.value)
        return data, [replace(each, path=(*at.where, *each.path)) for each in violations]
