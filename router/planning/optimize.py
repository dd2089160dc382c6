"""Passes over the fetch graph that make it smaller without changing what it answers. Each runs until nothing changes."""

from router.planning.batching import batch_paths
from router.planning.fetch_graph import FetchGraph, FetchGroup, FetchSelection, GroupKind


def optimize(graph: FetchGraph) -> None:
    """All passes, in an order in which each profits from the one before."""
    while merge_siblings(graph) or merge_leaves_into_later(graph):
        pass
    drop_transitive_edges(graph)
    batch_paths(graph)
    drop_transitive_edges(graph)


def merge_siblings(graph: FetchGraph) -> bool:
    """Merges two groups that ask the same subgraph at the same path after equally many others."""
    depths: dict[int, int] = {}
    by_place: dict[tuple[object, ...], list[FetchGroup]] = {}
    for number in sorted(graph.groups):
        group = graph.groups[number]
        place = (group.path, group.subgraph, group.kind, group.stage, graph.depth(number, depths))
        by_place.setdefault(place, []).append(group)
    merged = False
    for groups in by_place.values():
        kept = groups[0]
        for other in groups[1:]:
            if _may_merge(kept, other):
                _merge(graph, kept, other)
                merged = True
    return merged


def merge_leaves_into_later(graph: FetchGraph) -> bool:
    """Lets a group that nothing waits for travel with a later one to the same subgraph and path: one request less."""
    needed = {need for group in graph.groups.values() for need in group.needs}
    depths: dict[int, int] = {}
    for number in sorted(graph.groups):
        leaf = graph.groups[number]
        if number in needed or leaf.kind is not GroupKind.ENTITIES:
            continue
        for later in graph.at(leaf.path, leaf.subgraph, leaf.kind, leaf.stage):
            is_later = graph.depth(later.number, depths) > graph.depth(number, depths)
            if is_later and leaf.needs <= graph.ancestors(later.needs) and _may_merge(later, leaf):
                _merge(graph, later, leaf)
                return True
    return False


def _may_merge(kept: FetchGroup, other: FetchGroup) -> bool:
    """Only where no response key means two things, and no type is sent in two ways."""
    for place, entries in other.shapes.items():
        mine = kept.shapes.get(place, [])
        if mine and set(mine) != set(entries):
            return False
    if not all(
        kept.representations[name].applies_to == representation.applies_to
        and kept.representations[name].agrees_with(representation.fields)
        and kept.representations[name].inputs == representation.inputs
        for name, representation in other.representations.items()
        if name in kept.representations
    ):
        return False
    if kept.representations.keys() == other.representations.keys():
        return True
    # An interface object's selection cannot tell the object types apart: they travel together when asked for the same.
    shared = {r.type_name for r in kept.representations.values()} & {
        r.type_name for r in other.representations.values()
    }
    return all(_asks_alike(kept.selection.fragments.get(name), other.selection.fragments.get(name)) for name in shared)


def _asks_alike(one: FetchSelection | None, other: FetchSelection | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.typename != other.typename or one.fields.keys() != other.fields.keys():
        return False
    if one.fragments.keys() != other.fragments.keys():
        return False
    for key, mine in one.fields.items():
        theirs = other.fields[key]
        if (mine.name, mine.arguments_text) != (theirs.name, theirs.arguments_text):
            return False
        if mine.selection is not None and not _asks_alike(mine.selection, theirs.selection):
            return False
    return all(_asks_alike(inner, other.fragments[name]) for name, inner in one.fragments.items())


def _merge(graph: FetchGraph, kept: FetchGroup, other: FetchGroup) -> None:
    _merge_selection(kept.selection, other.selection)
    kept.needs |= other.needs
    kept.contexts.update(other.contexts)
    for place, entries in other.shapes.items():
        kept.shapes.setdefault(place, entries)
    for name, representation in other.representations.items():
        if name in kept.representations:
            kept.representations[name].add(representation.fields)
            kept.representations[name].key_names |= representation.key_names
        else:
            kept.representations[name] = representation
    del graph.groups[other.number]
    for group in graph.groups.values():
        if other.number in group.needs:
            group.needs = (group.needs - {other.number}) | {kept.number}


def _merge_selection(kept: FetchSelection, other: FetchSelection) -> None:
    kept.typename = kept.typename or other.typename
    for key, placed in other.fields.items():
        mine = kept.fields.get(key)
        if mine is None:
            kept.fields[key] = placed
        elif mine.selection is not None and placed.selection is not None:
            _merge_selection(mine.selection, placed.selection)
    for name, fragment in other.fragments.items():
        if name in kept.fragments:
            _merge_selection(kept.fragments[name], fragment)
        else:
            kept.fragments[name] = fragment


def drop_transitive_edges(graph: FetchGraph) -> None:
    """Removes a need that another need already implies."""
    for group in graph.groups.values():
        for need in sorted(group.needs):
            others = group.needs - {need}
            if need in graph.ancestors(others):
                group.needs.discard(need)
