"""How large a GraphQL document may be for a subgraph, whoever sends it: the router, which has limits of its own, or not.

Generous enough for what a router makes of the largest operation that it takes: it merges what several places of an
operation need into one document, with an alias where arguments differ. Fragments are measured once each and added up,
never spread, so that a bomb of them costs no more to refuse than to read.
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)

MAX_TOKENS = 30_000
MAX_DEPTH = 60
MAX_ALIASES = 1_000
MAX_FIELDS = 20_000
"""With fragments counted at each use."""

_Size = tuple[int, int, int]  # depth, aliases, fields


class SizeRule(ValidationRule):
    """Refuses documents with an operation that is too deep, or has too many fields or aliases."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        definitions = context.document.definitions
        fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}
        measure = _Measure(fragments)
        for node in definitions:
            if isinstance(node, OperationDefinitionNode):
                self._check(measure.size_of(node.selection_set), node)

    def _check(self, size: _Size, node: OperationDefinitionNode) -> None:
        limits = (("levels", MAX_DEPTH), ("aliases", MAX_ALIASES), ("fields", MAX_FIELDS))
        for found, (what, limit) in zip(size, limits, strict=True):
            if found > limit:
                message = f"The operation has more than {limit} {what}."
                self.report_error(GraphQLError(message, node, extensions={"code": "OPERATION_TOO_LARGE"}))


class _Measure:
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
                self._sizes[name] = (0, 0, 0)  # within itself; another rule reports the cycle
                self._sizes[name] = self.size_of(fragment.selection_set)
            return self._sizes[name]
        return 0, 0, 0
