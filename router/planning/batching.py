"""Sends entity groups of one subgraph in one request, also at several paths.

A group that could be asked early may wait for a later one as long as no chain of requests gets longer by it: between the
earliest and the latest wave in which a group can be asked, any will do. Each request is then as many of these spans as one
wave can stab. Groups stay groups of their own (`parts`), each with its path and representations.
"""

from router.planning.fetch_graph import FetchGraph, FetchGroup, GroupKind

_Place = tuple[str, int]
"""Groups of one subgraph and stage may share a request."""


def batch_paths(graph: FetchGraph) -> None:
    """Merges what may share a request, until nothing more does."""
    while batches := _next_batches(graph):
        for batch in batches:
            _merge(graph, batch)


class _Spans:
    """For each group the earliest and the latest wave in which it can be asked, and all that it waits for, as bits."""

    def __init__(self, graph: FetchGraph) -> None:
        groups = graph.groups
        self.earliest: dict[int, int] = {}
        for number in groups:
            graph.depth(number, self.earliest)
        in_order = sorted(groups, key=self.earliest.__getitem__)
        self.before: dict[int, int] = {}
        for number in in_order:
            bits = 1 << number
            for need in groups[number].needs:
                bits |= self.before[need]
            self.before[number] = bits
        height = dict.fromkeys(groups, 0)
        for number in reversed(in_order):
            for need in groups[number].needs:
                height[need] = max(height[need], height[number] + 1)
        last = max((self.earliest[n] + height[n] for n in groups), default=0)
        self.latest = {number: last - height[number] for number in groups}


def _next_batches(graph: FetchGraph) -> list[list[FetchGroup]]:
    """The groups of the request that is due soonest among those to be made of several, and of others beside it."""
    by_place: dict[_Place, list[FetchGroup]] = {}
    for group in graph.groups.values():
        if group.kind is GroupKind.ENTITIES and not group.contexts:  # those are batched by value already
            by_place.setdefault((group.subgraph, group.stage), []).append(group)
    by_place = {place: groups for place, groups in by_place.items() if len(groups) > 1}
    if not by_place:
        return []
    spans = _Spans(graph)
    found: list[tuple[tuple[int, int, _Place], list[FetchGroup]]] = []
    for place, groups in by_place.items():
        groups.sort(key=lambda group: (spans.latest[group.number], group.number))
        for position, first in enumerate(groups):
            together = _together(spans, first, groups[position + 1 :])
            if len(together) > 1:
                found.append(((spans.latest[first.number], -len(together), place), together))
                break
    found.sort(key=lambda entry: entry[0])
    batches: list[list[FetchGroup]] = []
    members = before = 0
    for _, batch in found:
        own = above = 0
        for group in batch:
            own |= 1 << group.number
            above |= spans.before[group.number]
        if not above & members and not before & own:  # neither waits for the other, so that neither changes the other
            batches.append(batch)
            members |= own
            before |= above
    return batches


def _together(spans: _Spans, first: FetchGroup, others: list[FetchGroup]) -> list[FetchGroup]:
    """The first group and those that can be asked when it must be: none of them waits for another."""
    together = [first]
    members = 1 << first.number
    due, before = spans.latest[first.number], spans.before[first.number]
    for other in others:
        above = spans.before[other.number]
        if spans.earliest[other.number] <= due and not above & members and not before >> other.number & 1:
            together.append(other)
            members |= 1 << other.number
            before |= above
    return together


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
