"""Which subgraphs a site asks: for each of its items one that answers it, so that the whole costs least.

Few candidate sets are tried in full, many greedily.
"""

from collections.abc import Callable, Mapping
from itertools import combinations

from router.planning.choices import FREE, Cost, Option
from router.planning.routes import Route
from router.supergraph.model import SubgraphName

MAX_CANDIDATES_TRIED_IN_FULL = 6

Options = dict[str, dict[SubgraphName, Option]]
"""For each item, by its name, what every subgraph that can be asked answers of it."""

_Assessed = tuple[tuple[int, Cost, list[SubgraphName]], dict[str, SubgraphName]]
"""What a candidate set of subgraphs costs (less is better), and who answers what under it."""


def combine(
    options: Options,
    routes: Mapping[SubgraphName, Route],
    *,
    home: SubgraphName | None,
    already: frozenset[SubgraphName],
) -> dict[str, SubgraphName]:
    """For each item the subgraph that answers it, so that the whole costs least.

    already: subgraphs that are asked anyway, for other items of the same site.
    """
    forced = {next(iter(o)) for o in options.values() if len(o) == 1} - {home}
    others = _undominated(sorted({s for o in options.values() for s in o} - forced - {home}), options, routes)
    # No set of n more subgraphs can need fewer requests than this plus n.
    fewest = len(already.union(*(routes[s].via for s in forced)))
    fewest += sum(min(option.cost.hops for option in o.values()) for o in options.values())
    least_left = sum(all(option.leftover is not None for option in o.values()) for o in options.values())

    def assess(extra: frozenset[SubgraphName]) -> _Assessed | None:
        allowed = {s for s in ({home} | forced | extra) if s is not None}
        chosen: dict[str, SubgraphName] = {}
        left = 0
        total = FREE
        for name, by_subgraph in options.items():
            best = min(
                ((o.leftover is not None, o.cost, s != home, s) for s, o in by_subgraph.items() if s in allowed),
                default=None,
            )
            if best is None:
                return None
            chosen[name] = best[3]
            left += best[0]
            total = total.beside(best[1])
        used = set(chosen.values()) - {home}
        via = already.union(*(routes[s].via for s in used)) if used else already
        depth = max((routes[s].depth for s in used), default=0)
        total = Cost(total.hops + len(via), total.depth + depth, total.fields + sum(routes[s].fields for s in used))
        return (left, total, sorted(used)), chosen

    best = assess(frozenset())
    if len(others) <= MAX_CANDIDATES_TRIED_IN_FULL:
        for size in range(1, len(others) + 1):
            if best is not None and best[0][0] == least_left and best[0][1].hops < fewest + size:
                break
            for extra in combinations(others, size):
                found = assess(frozenset(extra))
                if found is not None and (best is None or found[0] < best[0]):
                    best = found
    else:
        best = _greedily(others, best, assess)
    if best is None:  # every item has an option, so allowing all of them always works
        raise AssertionError("no combination covers the site")
    return best[1]


def _greedily(
    others: list[SubgraphName],
    best: _Assessed | None,
    assess: Callable[[frozenset[SubgraphName]], _Assessed | None],
) -> _Assessed | None:
    """Adds the subgraph that helps most until none helps; all of them when a subset does not cover the items."""
    extra: frozenset[SubgraphName] = frozenset()
    if best is None:
        best = assess(frozenset(others))
        if best is None:
            return None
        extra = frozenset(best[1].values()) & frozenset(others)
        for subgraph in others:
            found = assess(extra - {subgraph})
            if found is not None and found[0] <= best[0]:
                best, extra = found, extra - {subgraph}
        return best
    improved = True
    while improved:
        improved = False
        for subgraph in others:
            found = assess(extra | {subgraph})
            if found is not None and found[0] < best[0]:
                best, extra, improved = found, extra | {subgraph}, True
    return best


def _undominated(
    candidates: list[SubgraphName],
    options: Options,
    routes: Mapping[SubgraphName, Route],
) -> list[SubgraphName]:
    """The candidates without those that another one beats, or equals, in everything."""
    kept: list[SubgraphName] = []
    for candidate in candidates:
        mine = _offer(candidate, options, routes)
        if any(_beats(_offer(other, options, routes), mine) for other in kept):
            continue
        kept = [other for other in kept if not _beats(mine, _offer(other, options, routes))]
        kept.append(candidate)
    return kept


_Offer = tuple[frozenset[SubgraphName], int, int, dict[str, tuple[bool, Cost]]]


def _offer(
    candidate: SubgraphName,
    options: Options,
    routes: Mapping[SubgraphName, Route],
) -> _Offer:
    route = routes[candidate]
    offered = {
        name: (by_subgraph[candidate].leftover is not None, by_subgraph[candidate].cost)
        for name, by_subgraph in options.items()
        if candidate in by_subgraph
    }
    return route.via - {candidate}, route.depth, route.fields, offered


def _beats(one: _Offer, other: _Offer) -> bool:
    return (
        one[0] <= other[0]
        and one[1] <= other[1]
        and one[2] <= other[2]
        and all(name in one[3] and one[3][name] <= offered for name, offered in other[3].items())
    )
