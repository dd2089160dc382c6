"""Demand control: what an operation may cost at most, from `@cost` and `@listSize`, before it runs.

Source: IBM GraphQL cost directive specification, as Federation 2.9 adopts it: an object or abstract type weighs 1, a leaf 0,
a list its assumed or sliced size (default 1 when nothing is said).
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLList,
    GraphQLNonNull,
    GraphQLOutputType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    is_composite_type,
    value_from_ast_untyped,
)

from router.supergraph.model import Cost, Supergraph

_MUTATION_WEIGHT = 10


def estimate_cost(
    supergraph: Supergraph, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> int:
    """The greatest cost that the directives allow for, with these variables."""
    root = supergraph.root_types[operation.operation.value]
    estimate = _Estimate(supergraph, document, variables)
    base = _MUTATION_WEIGHT if operation.operation.value == "mutation" else 0
    return base + estimate.selection(operation.selection_set, root, {})


class _Estimate:
    def __init__(self, supergraph: Supergraph, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._supergraph = supergraph
        self._variables = dict(variables)
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._fragment_costs: dict[str, int] = {}

    def selection(self, selection_set: SelectionSetNode, type_name: str, sized: Mapping[str, int]) -> int:
        """sized: list fields below that an argument of the field above sizes (`sizedFields`)."""
        total = 0
        for item in selection_set.selections:
            if isinstance(item, FieldNode):
                total += self._field(item, type_name, sized)
            elif isinstance(item, InlineFragmentNode):
                condition = item.type_condition.name.value if item.type_condition else type_name
                total += self.selection(item.selection_set, condition, sized)
            elif isinstance(item, FragmentSpreadNode):
                total += self._fragment(item.name.value)
        return total

    def _fragment(self, name: str) -> int:
        if name not in self._fragment_costs:
            fragment = self._fragments[name]
            self._fragment_costs[name] = self.selection(fragment.selection_set, fragment.type_condition.name.value, {})
        return self._fragment_costs[name]

    def _field(self, node: FieldNode, type_name: str, sized: Mapping[str, int]) -> int:
        name = node.name.value
        fields = getattr(self._supergraph.api_schema.type_map.get(type_name), "fields", {})
        if name.startswith("__") or name not in fields:
            return 0
        output: GraphQLOutputType = fields[name].type
        named = get_named_type(output)
        cost = self._supergraph.costs.get(f"{type_name}.{name}", Cost())
        type_cost = self._supergraph.costs.get(named.name, Cost())
        weight = cost.weight
        if weight is None:
            weight = type_cost.weight if type_cost.weight is not None else int(is_composite_type(named))
        size = self._size(node, cost) if _is_list(output) else 1
        below: dict[str, int] = {}
        if cost.sized_fields:
            below, size = dict.fromkeys(cost.sized_fields, self._size(node, cost)), 1
        if name in sized:
            size = sized[name]
        inner = self.selection(node.selection_set, named.name, below) if node.selection_set else 0
        return size * (weight + inner)

    def _size(self, node: FieldNode, cost: Cost) -> int:
        sliced: list[int] = []
        for argument in node.arguments or ():
            if argument.name.value in cost.slicing_arguments:
                value = value_from_ast_untyped(argument.value, self._variables)
                if isinstance(value, int):
                    sliced.append(max(value, 0))
        if sliced:
            return max(sliced)
        return cost.assumed_size if cost.assumed_size is not None else 1


def _is_list(output: GraphQLOutputType) -> bool:
    inner = output.of_type if isinstance(output, GraphQLNonNull) else output
    return isinstance(inner, GraphQLList)
