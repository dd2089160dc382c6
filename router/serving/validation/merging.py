"""Whether fields that share a response name are simply equal, in linear time."""

from collections.abc import Iterable
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLNamedType,
    GraphQLOutputType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from router.serving.validation.facts import FieldFacts, SchemaFacts, Unproven, unproven

_MOST_MERGED = 100_000
"""Fields, counted at each use of their fragment: about a tenth of a second."""


@dataclass(slots=True)
class _Group:
    """Fields that share a response name and are equal but for what they select."""

    node: FieldNode
    field: FieldFacts
    selected: list[SelectionSetNode]


class MergedFields:
    """Whether all fields that meet under one response name have the same name, arguments and type.

    Then they can be merged, whatever their parents are. It takes as long as the document with its fragments is large.
    unequal: the response name of the first fields that are not.
    """

    unequal: str | None = None

    def __init__(self, facts: SchemaFacts, document: DocumentNode) -> None:
        self._facts = facts
        self._operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._left = _MOST_MERGED

    def is_equal(self) -> bool:
        """False also if it would take too long to find out. The document keeps all other rules."""
        try:
            for operation in self._operations:
                root = self._facts.schema.get_root_type(operation.operation) or unproven()
                self._merge([operation.selection_set], root)
        except Unproven:
            return False
        return True

    def _merge(self, selected: Iterable[SelectionSetNode], parent: GraphQLNamedType) -> None:
        groups: dict[str, _Group] = {}
        spread: set[str] = set()
        for selection_set in selected:
            self._collect(selection_set, parent, groups, spread)
        for group in groups.values():
            if group.selected:
                self._merge(group.selected, group.field.named)

    def _collect(
        self, selection_set: SelectionSetNode, parent: GraphQLNamedType, groups: dict[str, _Group], spread: set[str]
    ) -> None:
        self._left -= len(selection_set.selections)
        if self._left < 0:
            raise Unproven
        known = self._facts.fields(parent)
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                name = node.name.value
                key = node.alias.value if node.alias is not None else name
                # The fields of introspection are not known, nor how often they may nest.
                field = known.get(name) or self._facts.field(parent, name) or unproven()
                group = groups.get(key)
                if group is None:
                    groups[key] = _Group(node, field, [node.selection_set] if node.selection_set is not None else [])
                    if node.directives and any(directive.name.value == "stream" for directive in node.directives):
                        raise Unproven
                    continue
                if (
                    (group.field is not field and not _equal_types(group.field.type, field.type))
                    or group.node.name.value != name
                    or not _equal_arguments(group.node, node)
                    or (node.directives and any(directive.name.value == "stream" for directive in node.directives))
                ):
                    self.unequal = key
                    raise Unproven
                if node.selection_set is not None:
                    group.selected.append(node.selection_set)
            elif isinstance(node, InlineFragmentNode):
                on = parent
                if node.type_condition is not None:
                    on = self._facts.composite(node.type_condition.name.value) or unproven()
                self._collect(node.selection_set, on, groups, spread)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                spread.add(node.name.value)
                fragment = self._fragments[node.name.value]
                on = self._facts.composite(fragment.type_condition.name.value) or unproven()
                self._collect(fragment.selection_set, on, groups, spread)


def _equal_types(one: GraphQLOutputType, other: GraphQLOutputType) -> bool:
    return one is other or str(one) == str(other)


def _equal_arguments(one: FieldNode, other: FieldNode) -> bool:
    if not one.arguments and not other.arguments:
        return True
    values = {argument.name.value: argument.value for argument in one.arguments or ()}
    others = {argument.name.value: argument.value for argument in other.arguments or ()}
    return values == others
