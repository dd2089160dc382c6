"""The parts of an answer that are delivered later: fetched side by side, and told of when what is around them was.

Every part of the plan works on the same answer tree. `deferred_objects.py` finds in it the groups of fields that are
delivered together; the record of a deferred fragment at one object is delivered as a whole, after the records around it.

Source: GraphQL incremental delivery (graphql/graphql-spec#1110), "Incremental Delivery" and "YieldIncrementalResults".
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from router.execution.deferred_objects import AnsweredObject, DeferredPlan, Group, Record
from router.execution.errors import AnswerError
from router.execution.projection import Violation
from router.execution.request import Run
from router.execution.values import ClientPath, Object
from router.planning.defer import PRIMARY, Block
from router.supergraph.selection import NOT_DEFERRED

__all__ = ["Completed", "DeferredPlan", "Delivered", "Delivery", "Record", "Update"]

_NULL = "RESPONSE_VALIDATION_FAILED"
Explain = Callable[[Sequence[AnswerError], Iterable[Violation]], tuple[AnswerError, ...]]
"""The errors to tell, from those reported and the values that could not be used."""


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


class Delivery:
    """The deferred parts of one answer. pending: what was found in the primary one."""

    def __init__(
        self, plan: DeferredPlan, run: Run, data: Object | None, refused: Sequence[AnswerError], explain: Explain
    ) -> None:
        self._plan = plan
        self._explain = explain
        self._records: dict[tuple[int, ClientPath], Record] = {}
        self._groups: dict[Block, list[Group]] = {}
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

    def _add(self, groups: Iterable[Group]) -> None:
        for group in groups:
            records = [self._record(number, group.at) for number in sorted(group.part.block)]
            group.records = [record for record in records if not _is_lost(record)]
            if not group.records:
                continue
            for record in group.records:
                record.groups.append(group)
            self._groups.setdefault(group.part.block, []).append(group)

    def _record(self, number: int, at: AnsweredObject) -> Record:
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


def _shared_out(errors: Sequence[AnswerError], objects: Sequence[AnsweredObject]) -> list[list[AnswerError]]:
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
