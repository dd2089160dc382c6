"""The parts of an answer that are delivered later: found in what is there, fetched side by side, projected where they stand.

Every part of the plan works on the same answer tree. When the fields of a block are there, each object that its fields
stand in gives one *group*: the block's fields of that object, projected alone, so that a null without a place ends in the
group. The groups of a deferred fragment at one object are its *record*, which is delivered as a whole when the records
around it were.

Source: GraphQL incremental delivery (graphql/graphql-spec#1110), "Incremental Delivery" and "YieldIncrementalResults".
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from router.execution.errors import AnswerError
from router.execution.projection import Projection, Violation
from router.execution.request import Run, Step
from router.execution.shapes import Renamed, Shapes
from router.execution.values import ClientPath, Json, Object
from router.planning.defer import PRIMARY, Block, Deferral, Part, Place
from router.planning.defer import Step as PlaceStep
from router.planning.fetch_graph import Path
from router.planning.plan import DeferNode, PlanNode
from router.supergraph.model import Kind, Supergraph
from router.supergraph.selection import NOT_DEFERRED, Selection

_NULL = "RESPONSE_VALIDATION_FAILED"
Explain = Callable[[Sequence[AnswerError], Iterable[Violation]], tuple[AnswerError, ...]]
"""The errors to tell, from those reported and the values that could not be used."""


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    """An object of the answer. where: in the client's answer; stored: in the tree; outer: the object around it."""

    place: Place
    type_name: str
    value: Object
    where: ClientPath
    stored: Path
    outer: "_Object | None"


@dataclass(slots=True, eq=False)
class Record:
    """A deferred fragment at one object. path: the object's."""

    defer: int
    path: ClientPath
    label: str | None
    outer: "Record | None"
    at: _Object
    groups: "list[_Group]" = field(default_factory=list)
    number: int | None = None
    is_done: bool = False
    has_failed: bool = False


@dataclass(slots=True, eq=False)
class _Group:
    """The fields of a block at one object. data: None before they are there, and when null has reached the object."""

    part: Part
    at: _Object
    records: list[Record] = field(default_factory=list)
    data: Object | None = None
    errors: tuple[AnswerError, ...] = ()
    is_sent: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """Fields for an object at or below a record's."""

    record: Record
    path: ClientPath
    data: Object
    errors: tuple[AnswerError, ...]


@dataclass(frozen=True, slots=True)
class Completed:
    """errors: why nothing of it is delivered; empty when all of it was."""

    record: Record
    errors: tuple[AnswerError, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """What is delivered at one time. pending: records of which something will follow."""

    pending: tuple[Record, ...]
    delivered: tuple[Delivered, ...]
    completed: tuple[Completed, ...]
    has_next: bool


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

    def groups(self, answer: Object, data: Object | None) -> Iterator[_Group]:
        """What is deferred in the primary answer; `data`: as the client got it."""
        root = self.deferral.root
        yield from self._find(root, PRIMARY, answer, data, (), (), None)

    def groups_below(self, group: _Group) -> Iterator[_Group]:
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
        outer: _Object | None,
    ) -> Iterator[_Group]:
        if type(data) is list and type(value) is list:
            for position, (item, shown) in enumerate(zip(value, data, strict=False)):
                yield from self._find(place, block, item, shown, (*where, position), (*stored, "@"), outer)
        elif type(data) is dict and type(value) is dict:
            at = _Object(place, self._type_of(place, value), value, where, stored, outer)
            for part in place.parts:
                if self._asks(part.selection, at):
                    yield _Group(part, at)
            yield from self._below(at, block, data)

    def _below(self, at: _Object, block: Block, data: Object | None) -> Iterator[_Group]:
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

    def _applies(self, step: PlaceStep, at: _Object) -> bool:
        return self._supergraph.is_subtype(at.type_name, step.condition)

    def _asks(self, selection: Selection, at: _Object) -> bool:
        """Whether a selection asks something of an object; of an interface object, whose type may still come, it may."""
        if self._supergraph.kinds.get(at.type_name) is not Kind.OBJECT:
            return bool(selection.items)
        return self._projection(selection, at) is not None

    def known_by_now(self, at: _Object) -> _Object:
        """The object, with its type if that came with what was deferred."""
        type_name = self._type_of(at.place, at.value)
        return at if type_name == at.type_name else replace(at, type_name=type_name)

    def _type_of(self, place: Place, value: Object) -> str:
        if self._supergraph.kinds[place.type_name] is Kind.OBJECT:
            return place.type_name
        told = value.get("__typename")
        return told if isinstance(told, str) else place.type_name

    # -- projecting ------------------------------------------------------------------------------------------------

    def _projection(self, selection: Selection, at: _Object) -> Projection | None:
        """None: the selection asks nothing of objects of this type."""
        memo = (selection, at.type_name, at.stored)
        if memo not in self._projections:
            asks = self._shapes.fields_of(at.type_name, selection, at.stored)
            self._projections[memo] = (
                Projection(self._supergraph, selection, at.type_name, self._renamed, path=at.stored) if asks else None
            )
        return self._projections[memo]

    def project(self, selection: Selection, at: _Object) -> tuple[Object | None, list[Violation]]:
        """A selection on an object; violations from the answer's root."""
        projection = self._projection(selection, at)
        if projection is None:
            return {}, []
        data, violations = projection.project(at.value)
        return data, [replace(each, path=(*at.where, *each.path)) for each in violations]


class Delivery:
    """The deferred parts of one answer. pending: what was found in the primary one."""

    def __init__(
        self, plan: DeferredPlan, run: Run, data: Object | None, refused: Sequence[AnswerError], explain: Explain
    ) -> None:
        self._plan = plan
        self._run = run
        self._explain = explain
        self._records: dict[tuple[int, ClientPath], Record] = {}
        self._groups: dict[Block, list[_Group]] = {}
        self._runs = {
            block: replace(run, errors=plan.of_block(block, refused), fetches=0) for block in plan.deferral.blocks
        }
        self._numbered = 0
        self._fetched: set[Block] = set()
        self._seen: set[Block] = {PRIMARY}
        self._add(plan.groups(run.answer, data))
        self.pending = self._announce()

    async def updates(self) -> AsyncGenerator[Update, None]:
        """What follows, until nothing is pending. Closing the generator cancels the requests under way."""
        finished: asyncio.Queue[tuple[Block, BaseException | None]] = asyncio.Queue()
        ready = {block: asyncio.Event() for block in self._plan.deferral.blocks}
        tasks = [asyncio.ensure_future(self._fetch(block, ready, finished)) for block in ready]
        try:
            while any(not record.is_done for record in self._records.values() if record.number is not None):
                block, error = await finished.get()
                if error is not None:
                    raise error
                self._fetched.add(block)
                while not finished.empty():
                    block, error = finished.get_nowait()
                    if error is not None:
                        raise error
                    self._fetched.add(block)
                if (update := self._advance()) is not None:
                    yield update
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(
        self,
        block: Block,
        ready: dict[Block, asyncio.Event],
        finished: "asyncio.Queue[tuple[Block, BaseException | None]]",
    ) -> None:
        failed: BaseException | None = None
        try:
            for before in self._plan.after[block]:
                await ready[before].wait()
            step = self._plan.steps.get(block)
            if step is not None:
                await step(self._runs[block])
        except Exception as error:  # noqa: BLE001  handed on to where the answer is read
            failed = error
        ready[block].set()
        finished.put_nowait((block, failed))

    # -- what is found ---------------------------------------------------------------------------------------------

    def _add(self, groups: Iterable[_Group]) -> None:
        for group in groups:
            records = [self._record(number, group.at) for number in sorted(group.part.block)]
            group.records = [record for record in records if not _is_lost(record)]
            if not group.records:
                continue
            for record in group.records:
                record.groups.append(group)
            self._groups.setdefault(group.part.block, []).append(group)

    def _record(self, number: int, at: _Object) -> Record:
        """The record of a fragment at the object that it stands in, which is this one or around it."""
        path = self._plan.deferral.paths[number]
        while at.place.path != path and at.outer is not None:
            at = at.outer
        known = self._records.get((number, at.where))
        if known is None:
            outer = self._plan.outer[number]
            around = None if outer == NOT_DEFERRED else self._record(outer, at)
            known = Record(number, at.where, self._plan.deferral.defers[number].label, around, at)
            self._records[number, at.where] = known
        return known

    def _announce(self) -> tuple[Record, ...]:
        """Numbers the records that are due and of which something is still to be delivered."""
        pending: list[Record] = []
        while due := [record for record in self._records.values() if _is_due(record)]:
            for record in due:
                if all(group.is_sent for group in record.groups):  # with other fragments that share them
                    record.is_done = True
                    continue
                record.number = self._numbered
                self._numbered += 1
                pending.append(record)
        return tuple(pending)

    # -- what is delivered -----------------------------------------------------------------------------------------

    def _advance(self) -> Update | None:
        pending: list[Record] = []
        completed: list[Completed] = []
        delivered: list[Delivered] = []
        self._look()
        while done := [record for record in self._records.values() if self._is_complete(record)]:
            for record in done:
                self._complete(record, delivered, completed)
            pending.extend(self._announce())
        if not completed:
            return None
        left = any(record.number is not None and not record.is_done for record in self._records.values())
        return Update(tuple(pending), tuple(delivered), tuple(completed), left)

    def _look(self) -> None:
        """Projects the groups of blocks that are there, and finds what is deferred below them."""
        around = self._plan.deferral.around
        while there := [
            b for b in self._plan.deferral.blocks if b in self._fetched - self._seen and around[b] <= self._seen
        ]:
            for block in there:
                self._seen.add(block)
                groups = self._groups.get(block, [])
                reported = _shared_out(self._runs[block].errors, [group.at for group in groups])
                for group, errors in zip(groups, reported, strict=True):
                    group.at = self._plan.known_by_now(group.at)
                    group.data, violations = self._plan.project(group.part.selection, group.at)
                    group.errors = self._explain(errors, violations)
                    self._add(self._plan.groups_below(group))

    def _is_complete(self, record: Record) -> bool:
        return (
            record.number is not None
            and not record.is_done
            and self._seen.issuperset(self._plan.blocks_of[record.defer])
        )

    def _complete(self, record: Record, delivered: list[Delivered], completed: list[Completed]) -> None:
        record.is_done = True
        failed = [group for group in record.groups if group.data is None]
        if failed:
            record.has_failed = True
            errors = tuple(error for group in failed for error in group.errors)
            null = AnswerError("A field that cannot be null has no value.", record.path, None, {"code": _NULL})
            completed.append(Completed(record, errors or (null,)))
            return
        for group in record.groups:
            if not group.is_sent and group.data:
                group.is_sent = True
                # Of the fragments that share it, the one that stands nearest.
                known = [r for r in group.records if r.number is not None and (not r.is_done or r is record)]
                best = max(known, key=lambda each: len(each.path))
                delivered.append(Delivered(best, group.at.where, group.data, group.errors))
        completed.append(Completed(record, ()))

    def whole(self, completed: Completed) -> tuple[Object | None, tuple[AnswerError, ...]]:
        """All that a completed fragment asks, also what was delivered before, and its errors."""
        record = completed.record
        if completed.errors or record.has_failed:
            return None, completed.errors
        at = self._plan.known_by_now(record.at)
        data, violations = self._plan.project(self._plan.deferral.wholes[record.defer], at)
        errors = [error for group in record.groups for error in group.errors]
        return data, self._explain(errors, violations)


def _is_lost(record: Record) -> bool:
    """Whether a fragment around it, or itself, has failed."""
    return record.has_failed or (record.outer is not None and _is_lost(record.outer))


def _is_due(record: Record) -> bool:
    waits = record.outer is not None and not record.outer.is_done
    return record.number is None and not (record.is_done or waits or _is_lost(record))


def _shared_out(errors: Sequence[AnswerError], objects: Sequence[_Object]) -> list[list[AnswerError]]:
    """Each group's errors: those at its object or below, and those at what is around it, which concern it as well."""
    shared: list[list[AnswerError]] = [[] for _ in objects]
    if not errors or not objects:
        return shared
    at: dict[ClientPath, list[int]] = {}
    around: dict[ClientPath, list[int]] = {}
    for position, each in enumerate(objects):
        # A place in every item of a list is told by its response keys alone.
        keys = tuple(step for step in each.where if type(step) is str)
        for path in {each.where, keys}:
            at.setdefault(path, []).append(position)
            for length in range(len(path) + 1):
                around.setdefault(path[:length], []).append(position)
    for error in errors:
        path = error.path or ()
        if path in around:
            for position in dict.fromkeys(around[path]):
                shared[position].append(replace(error, path=objects[position].where or None))
            continue
        above = next((path[:length] for length in range(len(path), -1, -1) if path[:length] in at), None)
        for position in at[above] if above is not None else (0,):
            shared[position].append(error)
    return shared
