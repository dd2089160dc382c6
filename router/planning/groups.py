"""The fetch groups in which sites are answered: found if one of them can take more, else made.

Two object types whose fields one subgraph cannot answer under one key, because their types differ there, are kept apart:
one of the fields is renamed in the fetch, and the projection reads it under its new name.
"""

from collections.abc import Iterable

from router.planning.fetch_graph import FetchGraph, FetchGroup, GroupKind, Path, Representation
from router.planning.names import Names
from router.planning.query_graph import QueryGraph
from router.planning.sites import Cursor, Groups, Site
from router.supergraph.inputs import may_be_missing
from router.supergraph.model import Kind, SubgraphField, SubgraphName
from router.supergraph.selection import Field, Fragment, Selection


class SiteGroups:
    """The groups of one fetch graph, by what they answer."""

    def __init__(self, graph: QueryGraph, names: Names) -> None:
        self.fetches = FetchGraph()
        self._graph = graph
        self._names = names

    def root_cursor(self, site: Site, subgraph: SubgraphName) -> Cursor:
        """Where a subgraph is asked for fields of a root type."""
        for group in self.fetches.at(site.path, subgraph, GroupKind.ROOT, site.stage):
            return Cursor(group, group.selection, site.path)
        needs = () if site.home is None else (site.home.group.number,)
        group = self.fetches.add(subgraph, GroupKind.ROOT, site.path, needs, site.stage)
        return Cursor(group, group.selection, site.path)

    def entity_cursor(
        self,
        site: Site,
        subgraph: SubgraphName,
        needs: Groups,
        key_fields: list[Field | Fragment],
        required: Selection | None = None,
    ) -> Cursor:
        """Where a subgraph is asked for an entity by its representation.

        needs: the groups that fetch what it is made of: the key's fields, and what a field requires.
        """
        assert site.home is not None  # noqa: S101  roots have no representation
        view = self._graph.view(site.type_name, subgraph)
        home_view = self._graph.view(site.type_name, site.home.subgraph)
        assert view is not None  # noqa: S101  the route leads there
        assert home_view is not None  # noqa: S101  the site is there
        site.home.selection.typename = True
        more = () if required is None else required.items
        stored = self.stored(site.path, site.type_name, [*key_fields, *more])
        inputs = frozenset[str]()
        if more and may_be_missing(self._graph.supergraph, subgraph, site.type_name, more):
            inputs = frozenset(item.name for item in more if isinstance(item, Field))
        group = self._group_for(site, subgraph, needs, stored, inputs)
        supergraph = self._graph.supergraph
        is_interface = supergraph.kinds[site.type_name] is Kind.INTERFACE
        applies_to = (
            frozenset({site.type_name, *supergraph.possible.get(site.type_name, ())})
            if is_interface
            else frozenset({site.type_name})
        )
        representation = group.representations.setdefault(
            site.type_name, Representation(view.name, applies_to, inputs=inputs)
        )
        representation.add(stored)
        representation.key_names |= {item.name for item in key_fields if isinstance(item, Field)}
        return Cursor(group, group.selection.fragment(view.name), site.path)

    def stored(self, path: Path, type_name: str, items: Iterable[Field | Fragment]) -> list[Field | Fragment]:
        """The items under the keys where the answer holds them, after any renaming."""
        if not self._names.renamed:
            return list(items)
        stored: list[Field | Fragment] = []
        for item in items:
            if isinstance(item, Fragment):
                inner = self.stored(path, item.type_condition, item.selection.items)
                stored.append(Fragment(item.type_condition, Selection(tuple(inner))))
            else:
                key = self._names.stored(path, type_name, item.key)
                stored.append(Field(key, item.name, item.arguments, item.arguments_text, item.selection))
        return stored

    def _group_for(
        self,
        site: Site,
        subgraph: SubgraphName,
        needs: Groups,
        fields: list[Field | Fragment],
        inputs: frozenset[str],
    ) -> FetchGroup:
        view = self._graph.view(site.type_name, subgraph)
        # Its selection cannot tell the object types apart: each is asked for what it was asked for.
        alone = view is not None and view.interface_object
        for group in self.fetches.at(site.path, subgraph, GroupKind.ENTITIES, site.stage):
            known = group.representations.get(site.type_name)
            if known is not None and not (known.agrees_with(fields) and known.inputs == inputs):
                continue
            if alone and known is None and group.representations:
                continue
            before = self.fetches.ancestors(group.needs)
            if needs <= before or (group.number not in self.fetches.ancestors(needs) and needs == group.needs):
                group.needs |= needs
                return group
        return self.fetches.add(subgraph, GroupKind.ENTITIES, site.path, needs, site.stage)

    def storage_key(self, cursor: Cursor, type_name: str, definition: SubgraphField, item: Field) -> str:
        """The response key in the fetch; another one where the subgraph could not answer both under one key."""
        key = self._names.stored(cursor.path, type_name, item.key)
        shape = "".join(c for c in definition.type_text if c in "[]!") if item.selection else definition.type_text
        entries = cursor.group.shapes.setdefault((cursor.path, key), [])
        entry = (type_name, item.name, item.arguments_text, shape)
        if entry in entries:
            return key
        if any(self._conflict(entry, other) for other in entries):
            key = self._names.rename(cursor.path, type_name, item.key)
            cursor.group.shapes[cursor.path, key] = [entry]
        else:
            entries.append(entry)
        return key

    def _conflict(self, one: tuple[str, str, str, str], other: tuple[str, str, str, str]) -> bool:
        if one[3] != other[3]:
            return True
        kinds = self._graph.supergraph.kinds
        both_objects = kinds.get(one[0]) is Kind.OBJECT and kinds.get(other[0]) is Kind.OBJECT
        apart = both_objects and one[0] != other[0]
        return not apart and one[1:3] != other[1:3]
