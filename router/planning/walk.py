"""The walk: for every object of the operation, which subgraph answers which field, at the least cost.

An object of type T that subgraph S answers is a *site*. From a site, other subgraphs are reached by keys: a shortest
path over (T, subgraph) nodes in which a key may take its fields from several subgraphs already reached (Knuth's
generalisation of Dijkstra's algorithm). Every field then has options, one per subgraph that is reached and answers it,
each with the cost of its own children found the same way, from the bottom up. The best combination per site is the set of
subgraphs with the least total; few candidate sets are tried in full, many greedily.

Why not enumerate paths per leaf and combine them over the whole operation: their product explodes, while here each
(selection, type, subgraph) is decided once and memoized, so the effort is polynomial on any operation. The price is that
sites do not know of each other; the fetch graph merges what meets at one place.

A field can be answered in part: a type without a key may have one half of its fields in S and the other in X, reached
only through the parent. What a subgraph leaves over is asked of the next one, and, when nobody at this site can, handed
up to the parent's site as `leftover`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from router.planning.query_graph import QueryGraph, merge_items
from router.supergraph.model import Key, Kind, SubgraphName, SubgraphType
from router.supergraph.selection import Field, Fragment, Selection

MAX_CANDIDATES_TRIED_IN_FULL = 6
ENTITY_FIELD_WEIGHT = 10
"""A field fetched after a hop counts more than one fetched in place: among equals, later requests carry less."""


class Cost(NamedTuple):
    """Compared from left to right: subgraph requests, then sequential hops, then fields fetched."""

    hops: int
    depth: int
    fields: int

    def beside(self, other: "Cost") -> "Cost":
        return Cost(self.hops + other.hops, max(self.depth, other.depth), self.fields + other.fields)


FREE = Cost(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Route:
    """How a site reaches a subgraph: the key, and which reached subgraph gives each of its fields."""

    subgraph: SubgraphName
    key: Key | None
    sources: tuple[tuple[Field | Fragment, SubgraphName], ...]
    via: frozenset[SubgraphName]
    depth: int
    fields: int


@dataclass(frozen=True, slots=True)
class Assignment:
    item: Field | Fragment
    subgraph: SubgraphName


@dataclass(frozen=True, slots=True)
class Choice:
    """What a site asks of whom. leftover: what nobody reached from here can answer.

    An item is assigned whole also when part of it is left over: below it, the same choices leave that part out again.
    """

    assignments: tuple[Assignment, ...]
    cost: Cost
    hopped: frozenset[SubgraphName]
    leftover: Selection | None


@dataclass(frozen=True, slots=True)
class Option:
    """One subgraph's answer to one item: all of it, or with something left over."""

    cost: Cost
    leftover: Field | Fragment | None


@dataclass(frozen=True, slots=True)
class Split:
    """A selection on an abstract type: what is asked of it at once, and what of each object type."""

    direct: tuple[Field, ...]
    rest: Selection | None


_Assessed = tuple[tuple[int, Cost, list[SubgraphName]], dict[str, SubgraphName]]
"""What a candidate set of subgraphs costs (less is better), and who answers what under it."""
_Provided = Selection | None
_Home = SubgraphName | None


class Walker:
    """Decides for one query graph; the memo lives as long as the operation that is planned."""

    def __init__(self, graph: QueryGraph) -> None:
        self.graph = graph
        self._choices: dict[tuple[str, _Home, Selection, _Provided], Choice] = {}
        self._routes: dict[tuple[str, _Home, _Provided], dict[SubgraphName, Route]] = {}
        self._splits: dict[tuple[str, SubgraphName, Selection, _Provided], Split] = {}
        self._active: set[tuple[str, _Home, Selection]] = set()

    # -- a site ----------------------------------------------------------------------------------------------------

    def choose(self, type_name: str, home: _Home, selection: Selection, provided: _Provided = None) -> Choice:
        """The best combination for an object of a type at home in a subgraph (None: the operation's root)."""
        memo = (type_name, home, selection, provided)
        if (known := self._choices.get(memo)) is not None:
            return known
        guard = (type_name, home, selection)
        if guard in self._active:
            return Choice((), FREE, frozenset(), selection)
        self._active.add(guard)
        try:
            choice = self._choose(type_name, home, selection, provided)
        finally:
            self._active.discard(guard)
        self._choices[memo] = choice
        return choice

    def _choose(self, type_name: str, home: _Home, selection: Selection, provided: _Provided) -> Choice:
        items = self._items(type_name, home, selection)
        assignments: list[Assignment] = []
        leftovers: list[Field | Fragment] = []
        hopped: set[SubgraphName] = set()
        cost = FREE
        tried: dict[str, set[SubgraphName]] = {}
        pending: list[tuple[str, Field | Fragment]] = [(_identity(item), item) for item in items]
        while pending:
            options = {
                name: self._options(type_name, home, item, provided, tried.setdefault(name, set()))
                for name, item in pending
            }
            leftovers.extend(item for name, item in pending if not options[name])
            pending = [(name, item) for name, item in pending if options[name]]
            if not pending:
                break
            options = {name: options[name] for name, _ in pending}
            chosen = self._combine(type_name, home, provided, options, frozenset(hopped))
            again: list[tuple[str, Field | Fragment]] = []
            for name, item in pending:
                subgraph = chosen[name]
                option = options[name][subgraph]
                tried[name].add(subgraph)
                assignments.append(Assignment(item, subgraph))
                cost = cost.beside(option.cost)
                if subgraph != home:
                    hopped |= self._via(type_name, home, provided, subgraph)
                    depth = self._depth(type_name, home, provided, subgraph) + option.cost.depth
                    cost = cost._replace(depth=max(cost.depth, depth))
                if option.leftover is not None:
                    again.append((name, option.leftover))
            pending = again
        total = cost._replace(hops=cost.hops + len(hopped))
        leftover = merge_items(leftovers) if leftovers else None
        return Choice(tuple(assignments), total, frozenset(hopped), leftover)

    def _items(self, type_name: str, home: _Home, selection: Selection) -> tuple[Field | Fragment, ...]:
        """What has to be answered: `__typename` of an object type comes with the fetch and costs nothing."""
        flat = self.graph.flatten(selection, type_name).items
        if home is not None:
            view = self.graph.view(type_name, home)
            if view is not None and view.interface_object and self._is_interface(type_name):
                return flat
        return tuple(item for item in flat if not (isinstance(item, Field) and item.name == "__typename"))

    def _is_interface(self, type_name: str) -> bool:
        return self.graph.supergraph.kinds.get(type_name) is Kind.INTERFACE

    def _options(
        self, type_name: str, home: _Home, item: Field | Fragment, provided: _Provided, tried: set[SubgraphName]
    ) -> dict[SubgraphName, Option]:
        options: dict[SubgraphName, Option] = {}
        if home is not None and home not in tried:
            option = self.option(type_name, home, item, provided, home=home, home_provided=provided)
            if option is not None:
                options[home] = option
                if option.leftover is None and option.cost.hops == 0:
                    return options
        for subgraph in self.routes(type_name, home, provided):
            if subgraph in tried or subgraph == home:
                continue
            option = self.option(type_name, subgraph, item, None, home=home, home_provided=provided)
            if option is not None:
                weight = 1 if home is None else ENTITY_FIELD_WEIGHT
                cost = option.cost._replace(fields=option.cost.fields * weight)
                options[subgraph] = Option(cost, option.leftover)
        return options

    def option(
        self,
        type_name: str,
        subgraph: SubgraphName,
        item: Field | Fragment,
        provided: _Provided,
        *,
        home: _Home,
        home_provided: _Provided,
    ) -> Option | None:
        """What the subgraph answers of one item of an object of this type, or None if nothing."""
        view = self.graph.view(type_name, subgraph)
        if view is None:
            return None
        if self.graph.is_abstract(view):
            return self._abstract_option(type_name, subgraph, item, provided)
        if isinstance(item, Fragment):
            return None
        if item.name == "__typename":
            return None if view.interface_object else Option(FREE, None)
        local = self.graph.local_field(view, item.name, type_name, provided)
        if local is None:
            return None
        cost = Cost(0, 0, 1)
        if local.definition.requires is not None:
            required = self._required_cost(type_name, subgraph, local.definition.requires, home, home_provided)
            if required is None:
                return None
            cost = cost.beside(required)
        if item.selection is None:
            return Option(cost, None)
        below, leftover = self.selection_cost(local.definition.type_name, subgraph, item.selection, local.provided)
        if leftover is item.selection:
            return None
        rest = None if leftover is None else _with_selection(item, leftover)
        return Option(cost.beside(below), rest)

    def _abstract_option(
        self, type_name: str, subgraph: SubgraphName, item: Field | Fragment, provided: _Provided
    ) -> Option | None:
        """A subgraph that knows the real interface behind an interface object."""
        selection = Selection((item,))
        cost, leftover = self.selection_cost(type_name, subgraph, selection, provided)
        if leftover is selection:
            return None
        if leftover is None:
            return Option(cost, None)
        left = leftover.items[0] if len(leftover.items) == 1 else Fragment(type_name, leftover)
        return Option(cost, left)

    def _required_cost(
        self, type_name: str, subgraph: SubgraphName, required: Selection | None, home: _Home, provided: _Provided
    ) -> Cost | None:
        gathered = FREE
        if required is not None:
            choice = self.choose(type_name, home, required, provided)
            if choice.leftover is not None:
                return None
            gathered = choice.cost
        if subgraph == home:
            view = self.graph.view(type_name, subgraph)
            if view is None or (not self.graph.keys(view) and not self.graph.is_root(type_name)):
                return None
        return Cost(gathered.hops + (1 if subgraph == home else 0), gathered.depth + 1, gathered.fields)

    # -- which subgraphs -------------------------------------------------------------------------------------------

    def _combine(
        self,
        type_name: str,
        home: _Home,
        provided: _Provided,
        options: dict[str, dict[SubgraphName, Option]],
        already: frozenset[SubgraphName],
    ) -> dict[str, SubgraphName]:
        """For each item the subgraph that answers it, so that the whole costs least."""
        forced = {next(iter(o)) for o in options.values() if len(o) == 1} - {home}
        routes = self.routes(type_name, home, provided)
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
            best = self._greedily(others, best, assess)
        if best is None:  # every item has an option, so allowing all of them always works
            raise AssertionError("no combination covers the site")
        return best[1]

    def _greedily(
        self,
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

    # -- below a field ---------------------------------------------------------------------------------------------

    def selection_cost(
        self, type_name: str, subgraph: SubgraphName, selection: Selection, provided: _Provided
    ) -> tuple[Cost, Selection | None]:
        """The cost of a selection on a type at home in a subgraph, and what cannot be answered from there.

        The leftover is the selection itself when nothing can.
        """
        view = self.graph.view(type_name, subgraph)
        if view is None:
            return FREE, selection
        if not self.graph.is_abstract(view):
            choice = self.choose(type_name, subgraph, selection, provided)
            nothing = not choice.assignments and choice.leftover is not None
            return choice.cost, selection if nothing and not _asks_typename(selection) else choice.leftover
        split = self.split(type_name, subgraph, selection, provided)
        cost = FREE
        for field in split.direct:
            option = self._direct_option(view, subgraph, field)
            if option is not None:
                cost = cost.beside(option.cost)
        if split.rest is None:
            return cost, None
        return self._members_cost(view, subgraph, split, provided, cost, selection)

    def _members_cost(
        self,
        view: SubgraphType,
        subgraph: SubgraphName,
        split: Split,
        provided: _Provided,
        cost: Cost,
        selection: Selection,
    ) -> tuple[Cost, Selection | None]:
        assert split.rest is not None  # noqa: S101  the caller asked
        fragments: list[Fragment] = []
        hopped: set[SubgraphName] = set()
        deepest = FREE
        answered = bool(split.direct)
        for member in view.possible:
            choice = self.choose(member, subgraph, split.rest, provided)
            own = choice.cost._replace(hops=choice.cost.hops - len(choice.hopped))
            deepest = Cost(deepest.hops + own.hops, max(deepest.depth, own.depth), deepest.fields + own.fields)
            hopped |= choice.hopped
            answered = answered or bool(choice.assignments) or choice.leftover is None
            if choice.leftover is not None:
                fragments.append(Fragment(member, choice.leftover))
        cost = cost.beside(deepest._replace(hops=deepest.hops + len(hopped)))
        leftovers = self._leftovers(view, split.rest, fragments)
        if not leftovers:
            return cost, None
        return cost, merge_items(leftovers) if answered or _asks_typename(selection) else selection

    def _leftovers(self, view: SubgraphType, rest: Selection, fragments: list[Fragment]) -> list[Field | Fragment]:
        """What is left over of a selection on an abstract type, given what its object types leave over.

        A field asked of the abstract type itself is answered by one subgraph for all its objects or not at all: which
        object comes is only known when it is there.
        """
        asked_of_all = {item.key: item for item in rest.items if isinstance(item, Field)}
        if not view.possible:
            return list(asked_of_all.values())
        leftovers: list[Field | Fragment] = []
        for fragment in fragments:
            own: list[Field | Fragment] = []
            for item in fragment.selection.items:
                whole = isinstance(item, Field) and item.key in asked_of_all
                (leftovers if whole else own).append(item)
            if own:
                leftovers.append(Fragment(fragment.type_condition, Selection(tuple(own))))
        return leftovers

    def split(self, type_name: str, subgraph: SubgraphName, selection: Selection, provided: _Provided) -> Split:
        """What to ask of an abstract type at once, and what of each of its object types."""
        memo = (type_name, subgraph, selection, provided)
        if (known := self._splits.get(memo)) is not None:
            return known
        view = self.graph.view(type_name, subgraph)
        assert view is not None  # noqa: S101  only asked of types the subgraph has
        direct: list[Field] = []
        rest: list[Field | Fragment] = []
        for item in self.graph.flatten(selection, type_name).items:
            if isinstance(item, Field):
                if item.name == "__typename":
                    continue
                if self.graph.is_local_on_all(view, item.name, subgraph):
                    option = self._direct_option(view, subgraph, item)
                    if option is not None and option.leftover is None:
                        direct.append(item)
                        continue
            rest.append(item)
        split = Split(tuple(direct), Selection(tuple(rest)) if rest else None)
        self._splits[memo] = split
        return split

    def _direct_option(self, view: SubgraphType, subgraph: SubgraphName, item: Field) -> Option | None:
        definition = view.fields[item.name]
        if item.selection is None:
            return Option(Cost(0, 0, 1), None)
        below, leftover = self.selection_cost(definition.type_name, subgraph, item.selection, definition.provides)
        if leftover is item.selection:
            return None
        rest = None if leftover is None else _with_selection(item, leftover)
        return Option(below.beside(Cost(0, 0, 1)), rest)

    # -- routes ----------------------------------------------------------------------------------------------------

    def routes(self, type_name: str, home: _Home, provided: _Provided = None) -> dict[SubgraphName, Route]:
        """How every other subgraph is reached from an object at home in one."""
        memo = (type_name, home, provided)
        if (known := self._routes.get(memo)) is not None:
            return known
        self._routes[memo] = {}  # a key that needs the very same site to be resolved is no way there
        if self.graph.is_root(type_name):
            routes = {
                subgraph: Route(subgraph, None, (), frozenset({subgraph}), 1, 0)
                for subgraph in self.graph.subgraph_names
                if subgraph != home and self.graph.view(type_name, subgraph) is not None
            }
        else:
            assert home is not None  # noqa: S101  only root types have no home
            routes = self._search_routes(type_name, home, provided)
        self._routes[memo] = routes
        return routes

    def _search_routes(self, type_name: str, home: SubgraphName, provided: _Provided) -> dict[SubgraphName, Route]:
        reached: dict[SubgraphName, Route] = {home: Route(home, None, (), frozenset(), 0, 0)}
        waiting = [
            (subgraph, keys)
            for subgraph in self.graph.subgraph_names
            if subgraph != home and (view := self.graph.view(type_name, subgraph)) and (keys := self.graph.keys(view))
        ]
        while waiting:
            best: tuple[tuple[int, int, int, str], Route] | None = None
            for subgraph, keys in waiting:
                for key in keys:
                    route = self._route(type_name, home, provided, subgraph, key, reached)
                    if route is not None:
                        rank = (len(route.via), route.depth, route.fields, subgraph)
                        if best is None or rank < best[0]:
                            best = (rank, route)
            if best is None:
                break
            reached[best[1].subgraph] = best[1]
            waiting = [entry for entry in waiting if entry[0] != best[1].subgraph]
        del reached[home]
        return reached

    def _route(
        self,
        type_name: str,
        home: SubgraphName,
        provided: _Provided,
        subgraph: SubgraphName,
        key: Key,
        reached: dict[SubgraphName, Route],
    ) -> Route | None:
        sources: list[tuple[Field | Fragment, SubgraphName]] = []
        via: set[SubgraphName] = {subgraph}
        depth = fields = 0
        for item in key.selection.items:
            source = self._source(type_name, home, provided, item, reached)
            if source is None:
                return None
            name, cost = source
            sources.append((item, name))
            via |= reached[name].via
            depth = max(depth, reached[name].depth + cost.depth)
            fields += cost.fields + reached[name].fields
        return Route(subgraph, key, tuple(sources), frozenset(via), depth + 1, fields)

    def _source(
        self,
        type_name: str,
        home: SubgraphName,
        provided: _Provided,
        item: Field | Fragment,
        reached: dict[SubgraphName, Route],
    ) -> tuple[SubgraphName, Cost] | None:
        best: tuple[tuple[int, int, bool, str], SubgraphName, Cost] | None = None
        for name, route in reached.items():
            here = provided if name == home else None
            view = self.graph.view(type_name, name)
            if view is None or self._needs_more(view, item, type_name, here):
                continue
            option = self.option(type_name, name, item, here, home=name, home_provided=here)
            if option is None or option.leftover is not None:
                continue
            rank = (len(route.via) + option.cost.hops, route.depth + option.cost.depth, name != home, name)
            if best is None or rank < best[0]:
                best = (rank, name, option.cost)
        return None if best is None else (best[1], best[2])

    def _needs_more(self, view: SubgraphType, item: Field | Fragment, type_name: str, provided: _Provided) -> bool:
        if isinstance(item, Fragment) or self.graph.is_abstract(view):
            return False
        local = self.graph.local_field(view, item.name, type_name, provided)
        return local is not None and local.definition.requires is not None

    def _via(self, type_name: str, home: _Home, provided: _Provided, subgraph: SubgraphName) -> frozenset[SubgraphName]:
        return self.routes(type_name, home, provided)[subgraph].via

    def _depth(self, type_name: str, home: _Home, provided: _Provided, subgraph: SubgraphName) -> int:
        return self.routes(type_name, home, provided)[subgraph].depth


def _undominated(
    candidates: list[SubgraphName],
    options: dict[str, dict[SubgraphName, Option]],
    routes: dict[SubgraphName, Route],
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
    options: dict[str, dict[SubgraphName, Option]],
    routes: dict[SubgraphName, Route],
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


def _identity(item: Field | Fragment) -> str:
    return item.key if isinstance(item, Field) else f"... on {item.type_condition}"


def _with_selection(field: Field, selection: Selection) -> Field:
    return Field(field.key, field.name, field.arguments, field.arguments_text, selection)


def _asks_typename(selection: Selection) -> bool:
    return any(isinstance(item, Field) and item.name == "__typename" for item in selection.items)
