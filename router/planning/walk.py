"""The walk: for every object of the operation, which subgraph answers which field, at the least cost.

An object of type T that subgraph S answers is a *site*. From a site, other subgraphs are reached by keys (`routes`). Every
field then has options, one per subgraph that is reached and answers it, each with the cost of its own children found
the same way, from the bottom up. The best combination per site is the set of subgraphs with the least total (`combine`).

Why not enumerate paths per leaf and combine them over the whole operation: their product explodes, while here each
(selection, type, subgraph) is decided once and memoized, so the effort is polynomial on any operation. The price is that
sites do not know of each other; the fetch graph merges what meets at one place.

A field can be answered in part: a type without a key may have one half of its fields in S and the other in X, reached
only through the parent. What a subgraph leaves over is asked of the next one, and, when nobody at this site can, handed
up to the parent's site as `leftover`.
"""

from collections.abc import Mapping

from router.planning.choices import FREE, Assignment, Choice, Cost, Option, Split
from router.planning.combine import Effort, combine
from router.planning.query_graph import QueryGraph
from router.planning.routes import Routes
from router.supergraph.model import Kind, SubgraphName, SubgraphType
from router.supergraph.selection import Field, Fragment, Selection, merge_items

LEAF = Option(Cost(0, 0, 1), None)
ENTITY_FIELD_WEIGHT = 10
"""A field fetched after a hop counts more than one fetched in place: among equals, later requests carry less."""


_Provided = Selection | None
_Home = SubgraphName | None


class Walker:
    """Decides for one query graph; the memo lives as long as the operation that is planned."""

    def __init__(self, graph: QueryGraph) -> None:
        self.graph = graph
        self._choices: dict[tuple[str, _Home, Selection, _Provided], Choice] = {}
        self.routes = Routes(graph, self.option)
        self.effort = Effort()
        self._splits: dict[tuple[str, SubgraphName, Selection, _Provided], Split] = {}
        self._cut: set[tuple[str, _Home, Selection, _Provided]] = set()
        self._active: set[tuple[str, _Home, Selection]] = set()
        self._leaves: dict[tuple[tuple[SubgraphName, ...], int], Mapping[SubgraphName, Option]] = {}

    # -- a site ----------------------------------------------------------------------------------------------------

    def choose(self, type_name: str, home: _Home, selection: Selection, provided: _Provided = None) -> Choice:
        """The best combination for an object of a type at home in a subgraph (None: the operation's root)."""
        memo = (type_name, home, selection, provided)
        if (known := self._choices.get(memo)) is not None:
            if memo in self._cut:
                self.routes.cuts += 1
            return known
        guard = (type_name, home, selection)
        if guard in self._active:
            self.routes.cuts += 1
            return Choice((), FREE, frozenset(), selection)
        cuts = self.routes.cuts
        self._active.add(guard)
        try:
            choice = self._choose(type_name, home, selection, provided)
        finally:
            self._active.discard(guard)
        if self.routes.cuts != cuts:
            self._cut.add(memo)
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
            routes = self.routes.of(type_name, home, provided)
            chosen = combine(options, routes, self.effort, home=home, already=frozenset(hopped))
            again: list[tuple[str, Field | Fragment]] = []
            for name, item in pending:
                subgraph = chosen[name]
                option = options[name][subgraph]
                tried[name].add(subgraph)
                assignments.append(Assignment(item, subgraph))
                cost = cost.beside(option.cost)
                if subgraph != home:
                    hopped |= routes[subgraph].via
                    cost = cost._replace(depth=max(cost.depth, routes[subgraph].depth + option.cost.depth))
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
    ) -> Mapping[SubgraphName, Option]:
        options: dict[SubgraphName, Option] = {}
        if home is not None and home not in tried:
            option = self.option(type_name, home, item, provided, home=home, home_provided=provided)
            if option is LEAF:
                return self._leaf_options((home,), weight=1)
            if option is not None:
                options[home] = option
                if option.leftover is None and option.cost.hops == 0:
                    return options
        routes = self.routes.of(type_name, home, provided)
        named = isinstance(item, Field)
        candidates = (
            self.graph.answering(type_name, item.name) if isinstance(item, Field) else self.graph.subgraph_names
        )
        weight = 1 if home is None else ENTITY_FIELD_WEIGHT
        only_leaves = named and not options
        for subgraph in candidates:
            if subgraph in tried or subgraph == home or subgraph not in routes:
                continue
            option = self.option(type_name, subgraph, item, None, home=home, home_provided=provided)
            if option is not None:
                only_leaves = only_leaves and option is LEAF
                cost = option.cost
                options[subgraph] = Option(Cost(cost.hops, cost.depth, cost.fields * weight), option.leftover)
        return self._leaf_options(tuple(options), weight=weight) if only_leaves else options

    def _leaf_options(self, subgraphs: tuple[SubgraphName, ...], *, weight: int) -> Mapping[SubgraphName, Option]:
        """One and the same mapping for all leaves that these subgraphs answer, so that they are told to be alike."""
        memo = (subgraphs, weight)
        if memo not in self._leaves:
            self._leaves[memo] = dict.fromkeys(subgraphs, Option(Cost(0, 0, weight), None))
        return self._leaves[memo]

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
        if item.selection is None and not local.definition.needs_more:
            return LEAF
        cost = LEAF.cost
        if local.definition.needs_more:
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
            return LEAF
        below, leftover = self.selection_cost(definition.type_name, subgraph, item.selection, definition.provides)
        if leftover is item.selection:
            return None
        rest = None if leftover is None else _with_selection(item, leftover)
        return Option(below.beside(LEAF.cost), rest)


def _identity(item: Field | Fragment) -> str:
    return item.key if isinstance(item, Field) else f"... on {item.type_condition}"


def _with_selection(field: Field, selection: Selection) -> Field:
    return Field(field.key, field.name, field.arguments, field.arguments_text, selection)


def _asks_typename(selection: Selection) -> bool:
    return any(isinstance(item, Field) and item.name == "__typename" for item in selection.items)
