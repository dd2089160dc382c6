"""Builds the fetch graph: places what the walk chose into groups, site by site, from the operation's root down.

Keys and required fields are placed by the very same steps as the client's fields. They only need response keys that the
client does not use for something else at the same place; `Names` hands those out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from router.errors import PlanningError
from router.planning.choices import Assignment, Split
from router.planning.contexts import Contexts, with_arguments
from router.planning.fetch_graph import ContextRead, FetchField, FetchGraph, FetchSelection, Path
from router.planning.groups import SiteGroups
from router.planning.names import Names
from router.planning.query_graph import QueryGraph
from router.planning.sites import Cursor, Groups, Site, Spot
from router.planning.walk import Walker
from router.supergraph.model import ContextArgument, Key, SubgraphField, SubgraphName
from router.supergraph.selection import Field, Fragment, Selection


class FetchGraphBuilder:
    """Builds one operation's fetch graph.

    deferred_from: the whole operation's selection when `selection` is what of it is not deferred (see `defer_groups.py`).
    """

    def __init__(
        self,
        graph: QueryGraph,
        walker: Walker,
        selection: Selection,
        root_type: str,
        deferred_from: Selection | None = None,
    ) -> None:
        self._graph = graph
        self._walker = walker
        self._selection = selection
        self._root_type = root_type
        self._names = Names(deferred_from or selection)
        self._groups = SiteGroups(graph, self._names)
        self._contexts = Contexts(deferred_from or selection)
        self._sites: dict[tuple[int, int, str, int], Site] = {}
        self._spots: dict[tuple[Path, str], list[Spot]] | None = None if deferred_from is None else {}

    @property
    def renamed(self) -> dict[tuple[Path, str, str], str]:
        return self._names.renamed

    def build(self, *, in_order: bool) -> FetchGraph:
        """The fetch graph; in_order: root fields one after the other, as a mutation's are.

        Raises:
            PlanningError: a field that no subgraph answers from where it is asked.
        """
        fetches = self._groups.fetches
        if not in_order:
            self.add_root(Selection(self._selection.items), stage=0)
            return fetches
        for stage, items in enumerate(self._runs()):
            before = set(fetches.groups)
            self.add_root(Selection(items), stage=stage)
            for number in set(fetches.groups) - before:
                if not fetches.groups[number].needs:
                    fetches.groups[number].needs = set(before)
        return fetches

    def _runs(self) -> list[tuple[Field | Fragment, ...]]:
        """A mutation's fields, together while one subgraph answers them in a row and none waits for another subgraph."""
        runs: list[tuple[SubgraphName, tuple[Field | Fragment, ...]]] = []
        for item in self._selection.items:
            if isinstance(item, Field) and item.name == "__typename":
                continue
            choice = self._walker.choose(self._root_type, None, Selection((item,)))
            subgraph = choice.assignments[0].subgraph if choice.assignments else SubgraphName("")
            simple = choice.cost.hops <= 1
            if runs and runs[-1][0] == subgraph:
                runs[-1] = (subgraph, (*runs[-1][1], item))
            else:
                runs.append((subgraph, (item,)))
            if not simple:  # what follows must wait for this one's entity fetches too
                runs.append((SubgraphName(""), ()))
        return [items for _, items in runs if items]

    def add_root(self, selection: Selection, *, stage: int) -> None:
        """Raises:
        PlanningError: as for `build`.
        """
        choice = self._walker.choose(self._root_type, None, selection)
        if choice.leftover is not None:
            raise PlanningError(f"No subgraph can answer `{choice.leftover}` of this operation.")
        site = Site(self._root_type, (), None, None, stage)
        for assignment in choice.assignments:
            self._place(site, assignment)

    def spots_below(self, path: Path, key: str) -> Sequence[Spot]:
        """Where a field of the objects at a path was placed so far, in the graph of an operation that defers."""
        return () if self._spots is None else self._spots.get((path, key), ())

    # -- placing ---------------------------------------------------------------------------------------------------

    def select(
        self, cursor: Cursor, type_name: str, selection: Selection, provided: Selection | None, around: Site
    ) -> Groups:
        """Places a selection on a type at a cursor, inside the object `around`; answers the groups that take part."""
        view = self._graph.view(type_name, cursor.subgraph)
        if view is None:
            return set()
        if not self._graph.is_abstract(view):
            return self._select_object(cursor, type_name, selection, provided, around)
        groups = {cursor.group.number}
        cursor.selection.typename = True
        if cursor.group.stage == around.stage:
            split = self._walker.split(type_name, cursor.subgraph, selection, provided)
        else:  # deferred: each object type is asked again by its own key
            split = Split((), selection)
        if split.direct:
            site = self._site(cursor, type_name, provided, around)
            for item in split.direct:
                definition = view.fields[item.name]
                groups |= self._field(cursor, type_name, definition, item, definition.provides, site)
        if split.rest is None:
            return groups
        for member in view.possible:
            if self._graph.flatten(split.rest, member).items:
                inside = Cursor(cursor.group, cursor.selection.fragment(member), cursor.path)
                groups |= self._select_object(inside, member, split.rest, provided, around)
        return groups

    def _select_object(
        self, cursor: Cursor, type_name: str, selection: Selection, provided: Selection | None, around: Site
    ) -> Groups:
        flat = self._graph.flatten(selection, type_name)
        view = self._graph.view(type_name, cursor.subgraph)
        asks_typename = any(isinstance(item, Field) and item.name == "__typename" for item in flat.items)
        if asks_typename and view is not None and not view.interface_object:
            cursor.selection.typename = True
        choice = self._walker.choose(type_name, cursor.subgraph, selection, provided)
        site = self._site(cursor, type_name, provided, around)
        groups = {cursor.group.number}
        for assignment in choice.assignments:
            groups |= self._place(site, assignment)
        return groups

    def _site(self, cursor: Cursor, type_name: str, provided: Selection | None, around: Site) -> Site:
        memo = (id(cursor.selection), id(provided), type_name, id(around))
        known = self._sites.get(memo)
        if known is None:
            known = Site(type_name, cursor.path, cursor, provided, around.stage, around)
            self._sites[memo] = known
        return known

    def _place(self, site: Site, assignment: Assignment) -> Groups:
        """Places one item of a site with the subgraph that answers it."""
        item, subgraph = assignment.item, assignment.subgraph
        view = self._graph.view(site.type_name, subgraph)
        assert view is not None  # noqa: S101  the walk only assigns subgraphs that know the type
        if self._graph.is_abstract(view):
            assert site.outer is not None  # noqa: S101  a root type is no interface
            cursor = self._hop(site, subgraph)
            return self.select(cursor, site.type_name, Selection((item,)), None, site.outer) | {cursor.group.number}
        if isinstance(item, Fragment):
            return set()
        at_home = site.home is not None and site.home.subgraph == subgraph
        if item.name == "__typename":
            cursor = self._hop(site, subgraph)
            cursor.selection.typename = True
            return {cursor.group.number}
        local = self._graph.local_field(view, item.name, site.type_name, site.provided if at_home else None)
        if local is None:
            return set()
        if local.definition.needs_more:
            cursor, item = self._require(site, subgraph, local.definition, item)
        elif at_home and site.home is not None:
            cursor = self._again(site, site.home)
        else:
            cursor = self._hop(site, subgraph)
        return self._field(cursor, view.name, local.definition, item, local.provided, site)

    def _field(
        self,
        cursor: Cursor,
        type_name: str,
        definition: SubgraphField,
        item: Field,
        provided: Selection | None,
        around: Site,
    ) -> Groups:
        key = self._groups.storage_key(cursor, type_name, definition, item)
        placed = cursor.selection.fields.get(key)
        if placed is None:
            below = None if item.selection is None else FetchSelection()
            placed = FetchField(key, item.name, item.arguments, item.arguments_text, below, definition.type_text)
            cursor.selection.fields[key] = placed
        if item.selection is None or placed.selection is None:
            return {cursor.group.number}
        path = (*cursor.path, key, *("@" for _ in range(definition.type_text.count("["))))
        inside = Cursor(cursor.group, placed.selection, path)
        if self._spots is not None:
            spot = Spot(inside, definition.type_name, provided, around)
            self._spots.setdefault((cursor.path, item.key), []).append(spot)
        return {cursor.group.number} | self.select(inside, definition.type_name, item.selection, provided, around)

    # -- leaving a site --------------------------------------------------------------------------------------------

    def _hop(self, site: Site, subgraph: SubgraphName) -> Cursor:
        """The cursor in another subgraph for the object of this site, reached by its route."""
        if (known := site.hops.get(subgraph)) is not None:
            return known
        route = self._walker.routes.of(site.type_name, site.home.subgraph if site.home else None, site.provided)[
            subgraph
        ]
        if route.key is None:
            cursor = self._groups.root_cursor(site, subgraph)
        else:
            needs, fields = self._gather_key(site, route.sources)
            cursor = self._groups.entity_cursor(site, subgraph, needs, fields)
        site.hops[subgraph] = cursor
        return cursor

    def _gather_key(
        self, site: Site, sources: Iterable[tuple[Field | Fragment, SubgraphName]]
    ) -> tuple[Groups, list[Field | Fragment]]:
        assert site.home is not None  # noqa: S101  roots are left without a key
        needs: Groups = {site.home.group.number}
        fields: list[Field | Fragment] = []
        home_stage = site.home.group.stage
        at_home = site if home_stage == site.stage else replace(site, stage=home_stage, hops={})
        for item, source in sources:
            named = self._names.internal(site.path, Selection((item,))).items[0]
            needs |= self._place(at_home if source == site.home.subgraph else site, Assignment(named, source))
            fields.append(named)
        return needs, fields

    def _require(
        self, site: Site, subgraph: SubgraphName, definition: SubgraphField, item: Field
    ) -> tuple[Cursor, Field]:
        """The cursor for a field that wants other fields' values first, and the field with its contextual arguments."""
        assert site.home is not None  # noqa: S101  root fields require nothing
        needs: Groups = set()
        required = Selection(())
        if definition.requires is not None:
            required = self._names.internal(site.path, definition.requires)
            needs = self._select_object(site.home, site.type_name, required, site.provided, site.outer or site)
        reads = {argument.name: self._read_context(site, argument, needs) for argument in definition.context_arguments}
        if subgraph == site.home.subgraph:
            key = self._home_key(site)
            if key is None:
                raise PlanningError(f"{site.type_name} has no key by which {subgraph} can be asked again.")
            key_needs, key_fields = self._gather_key(site, ((item, subgraph) for item in key.selection.items))
        else:
            home = site.home.subgraph
            route = self._walker.routes.of(site.type_name, home, site.provided)[subgraph]
            assert route.key is not None  # noqa: S101  only entities have requirements
            key_needs, key_fields = self._gather_key(site, route.sources)
        cursor = self._groups.entity_cursor(site, subgraph, needs | key_needs, key_fields, required)
        if not reads:
            return cursor, item
        cursor.group.contexts.update((read.name, read) for read in reads.values())
        return cursor, with_arguments(item, {name: read.name for name, read in reads.items()})

    def _read_context(self, site: Site, argument: ContextArgument, needs: Groups) -> ContextRead:
        """Places what the nearest objects around a site that set the context are asked for; adds to `needs`.

        Raises:
            PlanningError: no object around the site can set it.
        """
        possible = self._graph.supergraph.possible
        setting = {t for name in self._graph.supergraph.contexts[argument.context] for t in possible.get(name, ())}
        read = self._contexts.read(site.path, argument)
        outer, found = site.outer, False
        while outer is not None:
            here = set(possible.get(outer.type_name, ()))
            for type_name in sorted(here & setting):
                found = True
                selection = self._names.internal(outer.path, self._graph.flatten(argument.selection, type_name))
                needs |= self._gather(outer, Selection((Fragment(type_name, selection),)))
                read.add(outer.path, type_name, tuple(self._groups.stored(outer.path, type_name, selection.items)))
            if here <= setting:
                break
            outer = outer.outer
        if not found:
            raise PlanningError(f"Nothing around {site.type_name} sets the context {argument.context}.")
        return read

    def _gather(self, site: Site, selection: Selection) -> Groups:
        """Places further fields of an object that has a site already."""
        if site.home is not None:
            return self.select(site.home, site.type_name, selection, site.provided, site.outer or site)
        groups: Groups = set()
        for assignment in self._walker.choose(site.type_name, None, selection).assignments:
            groups |= self._place(site, assignment)
        return groups

    def _again(self, site: Site, home: Cursor) -> Cursor:
        """The cursor for what the home answers itself: another one for what is deferred, if it can be asked again."""
        if home.group.stage == site.stage:
            return home
        if (known := site.hops.get(home.subgraph)) is not None:
            return known
        if self._graph.is_root(site.type_name):
            cursor = self._groups.root_cursor(site, home.subgraph)
        elif (key := self._home_key(site)) is not None:
            needs, fields = self._gather_key(site, ((item, home.subgraph) for item in key.selection.items))
            cursor = self._groups.entity_cursor(site, home.subgraph, needs, fields)
        else:
            cursor = home
        site.hops[home.subgraph] = cursor
        return cursor

    def _home_key(self, site: Site) -> Key | None:
        """The key that an object's home knows and can be asked by."""
        assert site.home is not None  # noqa: S101  see above
        subgraph = site.home.subgraph
        view = self._graph.view(site.type_name, subgraph)
        keys = self._graph.keys(view) if view is not None else ()
        for key in keys:
            options = [
                self._walker.option(
                    site.type_name, subgraph, item, site.provided, home=subgraph, home_provided=site.provided
                )
                for item in key.selection.items
            ]
            if all(option is not None and option.leftover is None for option in options):
                return key
        return None
