"""How many objects an operation can ask a subgraph for at most, before it runs.

The count is a formula of the document, made once for each, and of the values of its variables. A field of an object type
counts 1 and a leaf 0, or what `@cost` says; what lies below a list counts as often as the list has items: the value of a slicing
argument, else the assumed size of `@listSize`, else the size of a default page. Representations count by their types.

The router computes the same over all subgraphs, with a lower limit: what it plans is taken here.

Source: IBM GraphQL cost directive specification, as Federation 2.9 adopts it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLField,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    Undefined,
    ValueNode,
    is_abstract_type,
    is_composite_type,
)
from graphql.utilities import value_from_ast_untyped
from strawberry.federation.schema_directives import Cost, ListSize

from domain.paging import DEFAULT_PAGE

MAX_COST = 30_000
"""Of a signed-in caller; the router's limit is 20,000."""
MAX_ANONYMOUS_COST = 3_000

_LARGEST_SIZE = 2**31
_ENTITIES = "_entities"

Variables = Mapping[str, Any]
Amount = int | Callable[[Variables], int]
"""A number, or what computes it from the values of the variables."""


def evaluate(amount: Amount, variables: Variables) -> int:
    """The number that an amount has with these values."""
    return amount if isinstance(amount, int) else amount(variables)


def costs_of(schema: GraphQLSchema, document: DocumentNode) -> dict[str, Amount]:
    """What each operation of a valid document costs, by its name; the name of an anonymous one is empty."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    pricing = _Pricing(schema, fragments)
    found: dict[str, Amount] = {}
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            root = schema.get_root_type(node.operation)
            if root is not None:
                amount = pricing.selection(node.selection_set, root)
                found[node.name.value if node.name else ""] = _with_defaults(amount, node)
    return found


def _with_defaults(amount: Amount, operation: OperationDefinitionNode) -> Amount:
    """The amount with the defaults of the operation's variables."""
    defaults = {
        definition.variable.name.value: value_from_ast_untyped(definition.default_value)
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }
    if isinstance(amount, int) or not defaults:
        return amount
    return lambda variables: amount({**defaults, **variables})


class _Pricing:
    def __init__(self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._schema = schema
        self._fragments = fragments

    def selection(
        self, node: SelectionSetNode | None, parent: GraphQLNamedType, sized: Mapping[str, Amount] | None = None
    ) -> Amount:
        """What is asked of one object; of the types that it may have, the dearest counts.

        Args:
            sized: the sizes of list fields, where an argument of the field above says them (`sizedFields`).
        """
        by_type = self.by_type(node, parent, sized or {})
        return _greatest(by_type.values())

    def by_type(
        self, node: SelectionSetNode | None, parent: GraphQLNamedType, sized: Mapping[str, Amount]
    ) -> dict[str, Amount]:
        """What is asked of one object, by the object types that it may have."""
        possible = self._possible(parent)
        parts: dict[str, list[Amount]] = {name: [] for name in possible}
        for item in node.selections if node else ():
            if isinstance(item, FieldNode):
                amount = self._field(item, parent, sized)
                for amounts in parts.values():
                    amounts.append(amount)
                continue
            selected: Any = item
            if item.kind == "inline_fragment":
                condition, inner = selected.type_condition, selected.selection_set
            else:
                fragment = self._fragments[selected.name.value]
                condition, inner = fragment.type_condition, fragment.selection_set
            within = self._schema.type_map[condition.name.value] if condition else parent
            for name, amount in self.by_type(inner, within, sized).items():
                if name in parts:
                    parts[name].append(amount)
        return {name: _total(amounts) for name, amounts in parts.items()}

    def _possible(self, named: GraphQLNamedType) -> list[str]:
        if is_abstract_type(named):
            return [each.name for each in self._schema.get_possible_types(named)]
        return [named.name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType, sized: Mapping[str, Amount]) -> Amount:
        name = node.name.value
        field: GraphQLField | None = getattr(parent, "fields", {}).get(name)
        if field is None:
            return 0  # introspection, whose depth and number are limited
        output, levels = field.type, 0
        while isinstance(output, (GraphQLNonNull, GraphQLList)):
            levels += isinstance(output, GraphQLList)
            output = output.of_type
        named: GraphQLNamedType = output
        directives = getattr(field.extensions.get("strawberry-definition"), "directives", None) or ()
        weight = next(
            (int(each.weight) for each in directives if isinstance(each, Cost)), int(is_composite_type(named))
        )
        if name == _ENTITIES:
            return self._entities(node, named, weight)
        listed = next((each for each in directives if isinstance(each, ListSize)), None)
        size = _size(node, field, listed)
        below = dict.fromkeys((listed.sized_fields or ()) if listed is not None else (), size)
        inner = self.selection(node.selection_set, named, below) if is_composite_type(named) else 0
        amount = _total([weight, inner])
        for level in range(levels):
            if level == 0 and name in sized:
                amount = _product(sized[name], amount)
            else:
                amount = _product(size if level == 0 and not below else DEFAULT_PAGE, amount)
        return amount

    def _entities(self, node: FieldNode, named: GraphQLNamedType, weight: int) -> Amount:
        by_type = self.by_type(node.selection_set, named, {})
        representations = next((a.value for a in node.arguments or () if a.name.value == "representations"), None)

        def total(variables: Variables) -> int:
            given = value_from_ast_untyped(representations, dict(variables)) if representations else None
            if not isinstance(given, list):
                return weight
            names = Counter(str(each.get("__typename")) if isinstance(each, dict) else "" for each in given)
            return sum(count * (weight + evaluate(by_type.get(name, 0), variables)) for name, count in names.items())

        return total


def _size(node: FieldNode, field: GraphQLField, listed: ListSize | None) -> Amount:
    """How many items the arguments allow for."""
    if listed is None:
        return DEFAULT_PAGE
    otherwise = DEFAULT_PAGE if listed.assumed_size is None else listed.assumed_size
    slicing = [name for name in listed.slicing_arguments or () if name in field.args]
    if not slicing:
        return otherwise
    given = {argument.name.value: argument.value for argument in node.arguments or ()}
    readers = [(given.get(name), _default(field, name)) for name in slicing]

    def size(variables: Variables) -> int:
        found = [_value(node, default, variables) for node, default in readers]
        return max((min(each, _LARGEST_SIZE) for each in found if _is_size(each)), default=otherwise)

    return size if any(node is not None and node.kind == "variable" for node, _ in readers) else size({})


def _value(node: ValueNode | None, default: Any, variables: Variables) -> Any:
    value = Undefined if node is None else value_from_ast_untyped(node, dict(variables))
    return default if value is Undefined else value


def _default(field: GraphQLField, name: str) -> Any:
    argument = field.args[name]
    if argument.default_value is not Undefined:
        return argument.default_value
    return argument.default.value if argument.default is not None else None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _total(amounts: Iterable[Amount]) -> Amount:
    given = list(amounts)
    known = sum(amount for amount in given if isinstance(amount, int))
    others = tuple(amount for amount in given if not isinstance(amount, int))
    if not others:
        return known
    return lambda variables: known + sum(amount(variables) for amount in others)


def _greatest(amounts: Iterable[Amount]) -> Amount:
    given = list(amounts)
    known = max((amount for amount in given if isinstance(amount, int)), default=0)
    others = tuple(amount for amount in given if not isinstance(amount, int))
    if not others:
        return known
    return lambda variables: max(known, *(amount(variables) for amount in others))


def _product(size: Amount, amount: Amount) -> Amount:
    if isinstance(size, int) and isinstance(amount, int):
        return size * amount
    if size == 0 or amount == 0:
        return 0
    return lambda variables: evaluate(size, variables) * evaluate(amount, variables)
