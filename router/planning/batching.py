"""Sends entity groups of one subgraph in one request, also at several paths.

A group that could be asked early may wait for a later one as long as no chain of requests gets longer by it: between the
earliest and the latest wave in which a group can be asked, any will do. Each request is then as many of these spans as one
wave can stab. Groups stay groups of their own (`parts`), each with its path and representations.
"""

from dataclasses import dataclass

from router.planning.fetch_graph import FetchGraph, FetchGroup, GroupKind

_Place = tuple[str, int]
"""Groups of one subgraph and stage may share a request."""


def batch_paths(graph: FetchGraph) -> None:
    """Merges what may share a request, until nothing more does."""
    while (found := _next_batch(graph)) is not None:
        _merge(graph, found)


@dataclass(frozen=True, slots=True)
class _Spans:
    """For each group the earliest and the latest wave in which it can be asked."""

    earliest: dict[int, int]
    latest: dict[int, int]


def _next_batch(graph: FetchGraph) -> list[FetchGroup] | None:
    """The groups of the next request to be made of several, the one that is due soonest."""
    by_place: dict[_Place, list[FetchGroup]] = {}
    for number in sorted(graph.groups):
        group = graph.groups[number]
        if group.kind is GroupKind.ENTITIES and not group.contexts:  # those are batched by value already
            by_place.setdefault((group.subgraph, group.stage), []).append(group)
    by_place = {place: groups for place, groups in by_place.items() if len(groups) > 1}
    if not by_place:
        return None
    spans = _spans(graph)
    best: tuple[tuple[int, int, _Place], list[FetchGroup]] | None = None
    for place, groups in sorted(by_place.items()):
        groups.sort(key=lambda group: (spans.latest[group.number], group.number))
        for position, first in enumerate(groups):
            together = _together(graph, spans, first, groups[position + 1 :])
            if len(together) > 1:
                rank = (spans.latest[first.number], -len(together), place)
                if best is None or rank < best[0]:
                    best = rank, together
                break
    return None if best is None else best[1]


def _together(graph: FetchGraph, spans: _Spans, first: FetchGroup, others: list[FetchGroup]) -> list[FetchGroup]:
    """The first group and those that can be asked when it must be: none of them waits for another."""
    together = [first]
    before = graph.ancestors([first.number])
    for other in others:
        if spans.earliest[other.number] > spans.latest[first.number] or other.number in before:
            continue
        above = graph.ancestors([other.number])
        if above.isdisjoint(group.number for group in together):
            together.append(other)
            before |= above
    return together


def _spans(graph: FetchGraph) -> _Spans:
    earliest: dict[int, int] = {}
    for number in graph.groups:
        graph.depth(number, earliest)
    height = dict.fromkeys(graph.groups, 0)
    for number in sorted(graph.groups, key=lambda n: -earliest[n]):
        for need in graph.groups[number].needs:
            height[need] = max(height[need], height[number] + 1)
    last = max((earliest[n] + height[n] for n in graph.groups), default=0)
    return _Spans(earliest, {number: last - height[number] for number in graph.groups})


def _merge(graph: FetchGraph, groups: list[FetchGroup]) -> None:
    first, *others = groups
    first.parts = [part for group in groups for part in group.parts or [group]]
    merged = {other.number for other in others}
    for other in others:
        first.needs |= other.needs
        del graph.groups[other.number]
    for group in graph.groups.values():
        if group.needs & merged:
            group.needs = (group.needs - merged) | {first.number}
