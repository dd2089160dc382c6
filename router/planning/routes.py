"""How a site reaches other subgraphs: the cheapest route to each, by keys.

A shortest path over (type, subgraph) nodes in which a key may take its fields from several subgraphs already reached
(Knuth's generalisation of Dijkstra's algorithm).
"""

from collections.abc import Mapping
from typing import Protocol

from router.planning.choices import Cost, Option
from router.planning.query_graph import QueryGraph, Route
from router.supergraph.model import Key, SubgraphName, SubgraphType
from router.supergraph.selection import Field, Fragment, Selection

_Provided = Selection | None


class _Options(Protocol):
    """What one subgraph answers of an item of an object: a key's field may itself have to be gathered."""

    def __call__(
        self,
        type_name: str,
        subgraph: SubgraphName,
        item: Field | Fragment,
        provided: _Provided,
        *,
        home: SubgraphName | None,
        home_provided: _Provided,
    ) -> Option | None: ...


class Routes:
    """The routes of one query graph, as one operation's walk finds them.

    Routes do not depend on the operation, so they are kept with the graph, but only those whose search was not cut short
    because it came back to itself: what such a search finds depends on where it began.
    """

    def __init__(self, graph: QueryGraph, option: _Options) -> None:
        self.graph = graph
        self._option = option
        self._known: dict[tuple[str, SubgraphName | None, _Provided], Mapping[SubgraphName, Route]] = {}
        self.cuts = 0

    def of(self, type_name: str, home: SubgraphName | None, provided: _Provided = None) -> Mapping[SubgraphName, Route]:
        """How every other subgraph is reached from an object at home in one."""
        memo = (type_name, home, provided)
        if (kept := self.graph.routes.get(memo)) is not None:
            return kept
        if (known := self._known.get(memo)) is not None:
            self.cuts += 1
            return known
        cuts = self.cuts
        self._known[memo] = {}  # a key that needs the very same site to be resolved is no way there
        routes = self._find(type_name, home, provided)
        if self.cuts == cuts:
            self.graph.routes[memo] = routes
        self._known[memo] = routes
        return routes

    def _find(self, type_name: str, home: SubgraphName | None, provided: _Provided) -> Mapping[SubgraphName, Route]:
        if not self.graph.is_root(type_name):
            assert home is not None  # noqa: S101  only root types have no home
            return self._search(type_name, home, provided)
        return {
            subgraph: Route(subgraph, None, (), frozenset({subgraph}), 1, 0)
            for subgraph in self.graph.subgraph_names
            if subgraph != home and self.graph.view(type_name, subgraph) is not None
        }

    def _search(self, type_name: str, home: SubgraphName, provided: _Provided) -> dict[SubgraphName, Route]:
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
            option = self._option(type_name, name, item, here, home=name, home_provided=here)
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
        return local is not None and local.definition.needs_more
