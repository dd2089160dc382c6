"""Leaves out fragments on union members that cannot come.

A field that several subgraphs can resolve at one place must give the same value from each of them, so of a union only
those members can come that every one of these subgraphs knows. Asking for the others would be asking one subgraph for
what the next, equally good one cannot give.
"""

from router.planning.query_graph import QueryGraph
from router.planning.walk import Walker
from router.supergraph.model import Kind, SubgraphName
from router.supergraph.selection import Field, Fragment, Selection

Places = frozenset[SubgraphName]


def narrow(graph: QueryGraph, walker: Walker, selection: Selection, root_type: str) -> Selection:
    """The selection without fragments on members that cannot come; itself if every union is the same everywhere."""
    if not graph.has_partial_unions:
        return selection
    return _Narrowing(graph, walker).selection(selection, root_type, frozenset(graph.subgraph_names))


class _Narrowing:
    def __init__(self, graph: QueryGraph, walker: Walker) -> None:
        self._graph = graph
        self._walker = walker

    def selection(self, selection: Selection, type_name: str, places: Places) -> Selection:
        items: list[Field | Fragment] = []
        for item in selection.items:
            if isinstance(item, Fragment):
                items.append(Fragment(item.type_condition, self.selection(item.selection, item.type_condition, places)))
            elif item.selection is None:
                items.append(item)
            else:
                items.append(self._field(item, type_name, places))
        return Selection(tuple(items))

    def _field(self, item: Field, type_name: str, places: Places) -> Field:
        assert item.selection is not None  # noqa: S101  the caller asked
        resolving: dict[SubgraphName, str] = {}
        for subgraph in sorted(self._reachable(type_name, places)):
            view = self._graph.view(type_name, subgraph)
            local = self._graph.local_field(view, item.name, type_name, None) if view is not None else None
            if local is not None:
                resolving[subgraph] = local.definition.type_name
        below = item.selection
        output = self._output(item.name, type_name)
        if resolving and output is not None and self._graph.supergraph.kinds.get(output) is Kind.UNION:
            below = self._without_strangers(below, resolving)
        if output is not None:
            below = self.selection(below, output, frozenset(resolving) or places)
        return Field(item.key, item.name, item.arguments, item.arguments_text, below, item.defers)

    def _without_strangers(self, selection: Selection, resolving: dict[SubgraphName, str]) -> Selection:
        common: set[str] | None = None
        for subgraph, output in resolving.items():
            view = self._graph.view(output, SubgraphName(subgraph))
            if view is not None:
                common = set(view.possible) if common is None else common & set(view.possible)
        if not common:
            return selection
        possible = self._graph.supergraph.possible
        items = tuple(
            item
            for item in selection.items
            if isinstance(item, Field) or not common.isdisjoint(possible.get(item.type_condition, ()))
        )
        return Selection(items or (Field("__typename", "__typename"),))

    def _reachable(self, type_name: str, places: Places) -> set[SubgraphName]:
        reached: set[SubgraphName] = set(places)
        if self._graph.supergraph.kinds.get(type_name) is Kind.OBJECT and not self._graph.is_root(type_name):
            for place in sorted(places):
                if self._graph.view(type_name, place) is not None:
                    reached.update(self._walker.routes.of(type_name, place))
        return reached

    def _output(self, name: str, type_name: str) -> str | None:
        """The field's type in the supergraph; a subgraph may name a narrower one."""
        named: set[str] = set()
        for subgraph in self._graph.supergraph.subgraphs.values():
            view = subgraph.types.get(type_name)
            if view is not None and name in view.fields:
                named.add(view.fields[name].type_name)
        abstract = sorted(n for n in named if self._graph.supergraph.kinds.get(n) is not Kind.OBJECT)
        return abstract[0] if abstract else min(named, default=None)
