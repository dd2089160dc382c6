"""Which subgraphs a site asks: for each of its items one that answers it, so that the whole costs least.

Few candidate sets are tried in full, many greedily, so that the number of sets tried at a site is bounded: by
2 ** MAX_CANDIDATES_TRIED_IN_FULL, or by the square of the number of candidates. Candidates that another one beats in
everything are not tried, and items that the same subgraphs answer equally well are looked at once. An operation whose
sites need more than MAX_SETS_TRIED together is planned greedily from there on, and with twice as many the first set
that covers a site is taken: every plan answers the operation, a later one may only ask more often than it had to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

from router.planning.choices import Cost, Option
from router.planning.query_graph import Route
from router.supergraph.model import SubgraphName
from router.supergraph.selection import Field, Fragment

MAX_SETS_TRIED = 20_000
MAX_CANDIDATES_TRIED_IN_FULL = 6
MAX_PARTIAL_ANSWERS_PAIRED = 8

Options = Mapping[str, Mapping[SubgraphName, Option]]
"""For each item, by its name, what every subgraph that can be asked answers of it."""

_Assessed = tuple[tuple[int, Cost, list[SubgraphName]], list[SubgraphName]]
"""What a candidate set of subgraphs costs (less is better), and who answers each kind of item under it."""


@dataclass(slots=True)
class Effort:
    """How many candidate sets were tried for one operation."""

    tried: int = 0


@dataclass(frozen=True, slots=True)
class _Kind:
    """Items with the same options. ranked: best first, (how much is left over, cost, away from home, subgraph)."""

    names: list[str]
    ranked: list[tuple[int, Cost, bool, SubgraphName]]


def combine(
    options: Options,
    routes: Mapping[SubgraphName, Route],
    effort: Effort,
    *,
    home: SubgraphName | None,
    already: frozenset[SubgraphName],
) -> dict[str, SubgraphName]:
    """For each item the subgraph that answers it, so that the whole costs least.

    already: subgraphs that are asked anyway, for other items of the same site.
    """
    if all(len(by_subgraph) == 1 for by_subgraph in options.values()):
        return {name: next(iter(by_subgraph)) for name, by_subgraph in options.items()}
    kinds = _kinds(options, home)
    forced = {kind.ranked[0][3] for kind in kinds if len(kind.ranked) == 1} - {home}
    others = _undominated(
        sorted({entry[3] for kind in kinds for entry in kind.ranked} - forced - {home}), kinds, routes
    )
    # No set of n more subgraphs can need fewer requests than this plus n.
    fewest = len(already.union(*(routes[s].via for s in forced)))
    fewest += sum(min(cost.hops for _, cost, _, _ in kind.ranked) * len(kind.names) for kind in kinds)
    least_left = sum(min(left for left, _, _, _ in kind.ranked) * len(kind.names) for kind in kinds)

    def assess(extra: frozenset[SubgraphName]) -> _Assessed | None:
        effort.tried += 1
        allowed = forced | extra
        chosen: list[SubgraphName] = []
        left = hops = deepest = fields = 0
        for kind in kinds:
            best = next((entry for entry in kind.ranked if not entry[2] or entry[3] in allowed), None)
            if best is None:
                return None
            count = len(kind.names)
            chosen.append(best[3])
            left += best[0] * count
            hops += best[1].hops * count
            deepest = max(deepest, best[1].depth)
            fields += best[1].fields * count
        used = set(chosen) - {home}
        via = already.union(*(routes[s].via for s in used)) if used else already
        depth = max((routes[s].depth for s in used), default=0)
        total = Cost(hops + len(via), deepest + depth, fields + sum(routes[s].fields for s in used))
        return (left, total, sorted(used)), chosen

    best = assess(frozenset())
    if len(others) <= MAX_CANDIDATES_TRIED_IN_FULL and effort.tried < MAX_SETS_TRIED:
        for size in range(1, len(others) + 1):
            if best is not None and best[0][0] == least_left and best[0][1].hops < fewest + size:
                break
            for extra in combinations(others, size):
                found = assess(frozenset(extra))
                if found is not None and (best is None or found[0] < best[0]):
                    best = found
    else:
        best = _greedily(others, best, assess, effort)
    if best is None:  # every item has an option, so allowing all of them always works
        raise AssertionError("no combination covers the site")
    return {name: subgraph for kind, subgraph in zip(kinds, best[1], strict=True) for name in kind.names}


def _kinds(options: Options, home: SubgraphName | None) -> list[_Kind]:
    alike: dict[int, list[str]] = {}
    for name, by_subgraph in options.items():
        alike.setdefault(id(by_subgraph), []).append(name)
    kinds: list[_Kind] = []
    for names in alike.values():
        by_subgraph = options[names[0]]
        left = _left_over(by_subgraph, home)
        ranked = sorted((left.get(s, 0), option.cost, s != home, s) for s, option in by_subgraph.items())
        kinds.append(_Kind(names, ranked))
    return kinds


def _left_over(by_subgraph: Mapping[SubgraphName, Option], home: SubgraphName | None) -> dict[SubgraphName, int]:
    """For each subgraph that answers an item only in part, its rank among these, from 1.

    First come those with which one more leaves least, then those that leave least themselves.
    """
    leaves = {s: _leaves(option.leftover) for s, option in by_subgraph.items() if option.leftover is not None}
    if len(leaves) < 2:
        return dict.fromkeys(leaves, 1)
    paired = len(leaves) <= MAX_PARTIAL_ANSWERS_PAIRED
    ranks: dict[tuple[int, bool, int], list[SubgraphName]] = {}
    for subgraph, mine in leaves.items():
        then = min(len(mine & other) for s, other in leaves.items() if s != subgraph) if paired else 0
        ranks.setdefault((then, subgraph != home, len(mine)), []).append(subgraph)
    return {s: position for position, rank in enumerate(sorted(ranks), 1) for s in ranks[rank]}


def _leaves(item: Field | Fragment, path: tuple[str, ...] = ()) -> frozenset[tuple[str, ...]]:
    here = (*path, item.key if isinstance(item, Field) else f"... on {item.type_condition}")
    if item.selection is None:
        return frozenset({here})
    return frozenset().union(*(_leaves(inner, here) for inner in item.selection.items))


def _greedily(
    others: list[SubgraphName],
    best: _Assessed | None,
    assess: Callable[[frozenset[SubgraphName]], _Assessed | None],
    effort: Effort,
) -> _Assessed | None:
    """Adds the subgraph that helps most until none helps; all of them when a subset does not cover the items."""
    extra: frozenset[SubgraphName] = frozenset()
    if best is None:
        best = assess(frozenset(others))
        if best is None or effort.tried >= 2 * MAX_SETS_TRIED:
            return best
        extra = frozenset(best[1]) & frozenset(others)
        for subgraph in others:
            found = assess(extra - {subgraph})
            if found is not None and found[0] <= best[0]:
                best, extra = found, extra - {subgraph}
        return best
    improved = effort.tried < 2 * MAX_SETS_TRIED
    while improved:
        improved = False
        for subgraph in others:
            found = assess(extra | {subgraph})
            if found is not None and found[0] < best[0]:
                best, extra, improved = found, extra | {subgraph}, True
    return best


def _undominated(
    candidates: list[SubgraphName], kinds: list[_Kind], routes: Mapping[SubgraphName, Route]
) -> list[SubgraphName]:
    """The candidates without those that another one beats, or equals, in everything."""
    if len(candidates) < 2:
        return candidates
    offers = {candidate: _offer(candidate, kinds, routes) for candidate in candidates}
    kept: list[SubgraphName] = []
    for candidate in candidates:
        mine = offers[candidate]
        if any(_beats(offers[other], mine) for other in kept):
            continue
        kept = [other for other in kept if not _beats(mine, offers[other])]
        kept.append(candidate)
    return kept


_Offer = tuple[frozenset[SubgraphName], int, int, dict[int, tuple[int, Cost]]]


def _offer(candidate: SubgraphName, kinds: list[_Kind], routes: Mapping[SubgraphName, Route]) -> _Offer:
    route = routes[candidate]
    offered = {
        position: (left, cost)
        for position, kind in enumerate(kinds)
        for left, cost, _, subgraph in kind.ranked
        if subgraph == candidate
    }
    return route.via - {candidate}, route.depth, route.fields, offered


def _beats(one: _Offer, other: _Offer) -> bool:
    return (
        one[0] <= other[0]
        and one[1] <= other[1]
        and one[2] <= other[2]
        and all(kind in one[3] and one[3][kind] <= offered for kind, offered in other[3].items())
    )
