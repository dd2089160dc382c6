"""Places the deferred parts of an operation into the fetch graph, after everything that is answered first.

A block's fetches have a stage of their own, so that they share no request with what is delivered at another time. An
object that the primary answer holds is asked again by its key, also in the subgraph that it came from. What has no key is
fetched together with its object, and only delivered later. What cannot be reached from the object at all, because it has
no key and its field is shared between subgraphs, is reached from the object around it, up to the operation's root.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from router.errors import PlanningError
from router.planning.build import FetchGraphBuilder
from router.planning.defer import Block, Deferral, Place, Step
from router.planning.sites import Site, Spot
from router.planning.walk import Walker
from router.supergraph.model import Kind, Supergraph
from router.supergraph.selection import Field, Fragment, Selection

Lineage = tuple[str, ...]
"""The types of the objects around something, from the innermost to the operation's root."""


class CannotDefer(PlanningError):
    """Something would have to be asked again that must not be: a mutation's field."""


@dataclass(frozen=True, slots=True)
class _Here:
    """A place, and where the fetch graph answers it: nowhere for the root, which has no home."""

    place: Place
    spots: tuple[Spot, ...] = ()
    step: Step | None = None
    outer: "_Here | None" = None

    def conditions(self) -> Iterator[str]:
        """The types that the fields leading here are asked of, from the innermost."""
        if self.step is not None and self.outer is not None:
            yield self.step.condition
            yield from self.outer.conditions()


class DeferredGroups:
    """Adds the blocks of one operation to its fetch graph. stages: of each block; those before are the primary's."""

    def __init__(self, supergraph: Supergraph, walker: Walker, builder: FetchGraphBuilder, *, root_once: bool) -> None:
        self._supergraph = supergraph
        self._walker = walker
        self._builder = builder
        self._root_once = root_once
        self._stages: dict[Block, int] = {}
        self._around: dict[tuple[int, int], Site] = {}

    def add(self, deferral: Deferral, first_stage: int) -> dict[Block, int]:
        """The stage of every block, once all are placed.

        Raises:
            CannotDefer: a mutation's field would be asked a second time.
        """
        self._stages = {block: first_stage + number for number, block in enumerate(deferral.blocks)}
        self._visit(_Here(deferral.root))
        return self._stages

    def _visit(self, here: _Here) -> None:
        for part in here.place.parts:
            self._plan(here, part.selection, self._stages[part.block])
        for step in here.place.steps:
            spots = tuple(self._spots(here, step))
            if spots:  # else no subgraph knows an object that could come here
                self._visit(_Here(step.place, spots, step, here))

    def _spots(self, here: _Here, step: Step) -> Iterator[Spot]:
        paths = {spot.cursor.path: None for spot in here.spots} or {(): None}
        conditions = (step.condition, *here.conditions())
        seen: set[tuple[object, ...]] = set()
        for path in paths:
            for spot in self._builder.spots_below(path, step.field.key):
                lineage = _lineage(spot)
                if not all(map(self._may_be, lineage, conditions)):
                    continue
                identity = (id(spot.cursor.selection), lineage)
                if identity not in seen:
                    seen.add(identity)
                    yield spot

    def _plan(self, here: _Here, selection: Selection, stage: int) -> None:
        """Places a part in the groups of its stage, as far as its objects can be asked again."""
        if here.step is None or here.outer is None:
            if self._root_once:
                raise CannotDefer(f"`{selection}` cannot be asked a second time.")
            self._builder.add_root(selection, stage=stage)
            return
        # Inside of objects of different types it may be answered in different places, inside of one also in several.
        left: dict[Lineage, Selection | None] = {}
        for spot in here.spots:
            around, *outer = _lineage(spot)
            left.update({(type_name, *outer): selection for type_name in self._objects(around)})
        for spot in here.spots:
            inside = [each for each in left if self._covers(_lineage(spot), each)]
            for wanted in {id(left[each]): left[each] for each in inside}.values():
                if wanted is None:
                    continue
                rest = self._cover(spot, wanted, stage)
                left.update((each, rest) for each in inside if left[each] is wanted)
        self._lift(here.step, here.outer, left, stage)

    def _may_be(self, type_name: str, condition: str) -> bool:
        return type_name == condition or self._supergraph.overlaps(type_name, condition)

    def _covers(self, lineage: Lineage, other: Lineage) -> bool:
        return all(mine == name or name in self._objects(mine) for mine, name in zip(lineage, other, strict=True))

    def _cover(self, spot: Spot, selection: Selection, stage: int) -> Selection | None:
        """Places what can be asked again by key, then what comes with the object; answers the rest."""
        rest: Selection | None = self._place(spot, selection, None, self._around_at(spot, stage))
        if rest is not None:
            rest = self._place(spot, rest, spot.provided, self._around_at(spot, spot.cursor.group.stage))
        return rest

    def _place(self, spot: Spot, selection: Selection, provided: Selection | None, around: Site) -> Selection | None:
        _, rest = self._walker.selection_cost(spot.type_name, spot.cursor.subgraph, selection, provided)
        if rest is not selection:
            self._builder.select(spot.cursor, spot.type_name, selection, provided, around)
        return rest

    def _around_at(self, spot: Spot, stage: int) -> Site:
        """The object around the spot, as the groups of another stage are reached from it."""
        if spot.around.stage == stage:
            return spot.around
        memo = (id(spot.around), stage)
        if memo not in self._around:
            self._around[memo] = replace(spot.around, stage=stage, hops={})
        return self._around[memo]

    def _lift(self, step: Step, outer: _Here, left: dict[Lineage, Selection | None], stage: int) -> None:
        """Asks what is left over of the object around."""
        item = step.field
        lifted = {(around, id(rest)): rest for (around, *_), rest in left.items() if rest is not None}
        for (around, _), rest in lifted.items():
            selection = Selection((Field(item.key, item.name, item.arguments, item.arguments_text, rest),))
            if self._supergraph.kinds[outer.place.type_name] is not Kind.OBJECT:
                selection = Selection((Fragment(around, selection),))
            self._plan(outer, selection, stage)

    def _objects(self, type_name: str) -> tuple[str, ...]:
        return self._supergraph.possible.get(type_name) or (type_name,)


def _lineage(spot: Spot) -> Lineage:
    names: list[str] = []
    site: Site | None = spot.around
    while site is not None:
        names.append(site.type_name)
        site = site.outer
    return tuple(names)
