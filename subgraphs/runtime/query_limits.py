"""How large a GraphQL document may be for a subgraph, whoever sends it: the router, which has limits of its own, or not.

Generous enough for what a router makes of the largest operation that it takes: it merges what several places of an
operation need into one document, with an alias where arguments differ. All of it is counted before the document is validated, since
validation compares the fields of an equal response key with each other, once for every use of a fragment, and recurses into fragments.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

MAX_TOKENS = 30_000
MAX_DEPTH = 60
MAX_ALIASES = 1_000
MAX_FIELDS = 20_000
"""With fragments counted at each use."""

MAX_DEFINITIONS = 200
MAX_NESTING = 150
"""Brackets of any kind within each other."""

MAX_COMPARISONS = 100_000
"""Pairs of fields with the same path of response keys: what validation compares."""

MAX_ERRORS = 20
"""After so many errors validation ends; the names that were meant are looked for with each of them."""

_NESTING = re.compile(r'"""(?:\\"""|[^"]|"(?!""))*"""|"(?:\\.|[^"\\\n])*"|#[^\n\r]*|[{\[(]|[}\])]')
_Size = tuple[int, int, int]  # depth, aliases, fields


def nesting_problem(source: str) -> str | None:
    """Why the text cannot be parsed within the stack; None when it can."""
    levels = 0
    for token in _NESTING.finditer(source):
        character = token[0]
        if character in "{[(":
            levels += 1
            if levels > MAX_NESTING:
                return f"The document is nested more than {MAX_NESTING} levels deep."
        elif character in "}])":
            levels -= 1
    return None


def size_problem(document: DocumentNode) -> str | None:
    """Why the document is too large to be validated; None when it is not."""
    definitions = document.definitions
    if len(definitions) > MAX_DEFINITIONS:
        return f"The document has {len(definitions)} operations and fragments; at most {MAX_DEFINITIONS} are taken."
    fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}
    if _has_cycle_or_is_deep(fragments):
        return f"Fragments are spread within each other in a circle, or more than {MAX_DEPTH} levels deep."
    measure = _Measure(fragments)
    comparisons = fields = 0
    for node in definitions:
        if not isinstance(node, (OperationDefinitionNode, FragmentDefinitionNode)):
            continue
        size = measure.size_of(node.selection_set)
        limits = (("levels", MAX_DEPTH), ("aliases", MAX_ALIASES), ("fields", MAX_FIELDS))
        for found, (what, limit) in zip(size, limits, strict=True):
            if found > limit:
                return f"The operation has more than {limit} {what}."
        fields += size[2]
        if fields > 2 * MAX_FIELDS:
            return f"The operations and fragments have more than {2 * MAX_FIELDS} fields together."
        comparisons += sum(count * (count - 1) for count in measure.paths_of(node.selection_set).values())
        if comparisons > MAX_COMPARISONS:
            return "The document selects the same fields too often."
    return None


def _has_cycle_or_is_deep(fragments: Mapping[str, FragmentDefinitionNode]) -> bool:
    """Whether a chain of fragments has more than `MAX_DEPTH` links; found without recursion, level by level from the leaves."""
    spreads = {name: set(_spreads_of(node.selection_set)) & fragments.keys() for name, node in fragments.items()}
    for _ in range(MAX_DEPTH):
        leaves = {name for name, inner in spreads.items() if not inner}
        if not leaves:
            break
        spreads = {name: inner - leaves for name, inner in spreads.items() if name not in leaves}
    return bool(spreads)


def _spreads_of(selection_set: SelectionSetNode | None) -> Iterator[str]:
    """The fragments that a selection set spreads, at any depth; the document's nesting is limited already."""
    for node in selection_set.selections if selection_set else ():
        if isinstance(node, FragmentSpreadNode):
            yield node.name.value
        elif isinstance(node, (FieldNode, InlineFragmentNode)):
            yield from _spreads_of(node.selection_set)


class _Measure:
    """Sizes of selection sets; the fragments form no circle."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._sizes: dict[str, _Size] = {}

    def size_of(self, selection_set: SelectionSetNode | None) -> _Size:
        depth = aliases = fields = 0
        for node in selection_set.selections if selection_set else ():
            inner = self._size_of(node)
            depth, aliases, fields = max(depth, inner[0]), aliases + inner[1], fields + inner[2]
        return depth, aliases, fields

    def _size_of(self, node: Any) -> _Size:
        if isinstance(node, FieldNode):
            depth, aliases, fields = self.size_of(node.selection_set)
            return depth + 1, aliases + (node.alias is not None), fields + 1
        if isinstance(node, InlineFragmentNode):
            return self.size_of(node.selection_set)
        if isinstance(node, FragmentSpreadNode) and (fragment := self._fragments.get(node.name.value)):
            name = node.name.value
            if name not in self._sizes:
                self._sizes[name] = self.size_of(fragment.selection_set)
            return self._sizes[name]
        return 0, 0, 0

    def paths_of(self, selection_set: SelectionSetNode) -> Counter[tuple[str, ...]]:
        """How often each path of response keys is selected, with fragments at each use: at most `MAX_FIELDS` in all."""
        counts: Counter[tuple[str, ...]] = Counter()
        self._count(selection_set, (), counts)
        return counts

    def _count(
        self, selection_set: SelectionSetNode | None, path: tuple[str, ...], counts: Counter[tuple[str, ...]]
    ) -> None:
        for node in selection_set.selections if selection_set else ():
            if isinstance(node, FieldNode):
                key = (*path, (node.alias or node.name).value)
                counts[key] += 1
                self._count(node.selection_set, key, counts)
            elif isinstance(node, InlineFragmentNode):
                self._count(node.selection_set, path, counts)
            elif isinstance(node, FragmentSpreadNode) and (fragment := self._fragments.get(node.name.value)):
                self._count(fragment.selection_set, path, counts)
