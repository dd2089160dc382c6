"""Demand control: what an operation may cost at most, from `@cost` and `@listSize`, before it runs.

The cost is a formula of the normalized operation, made once for each of its variants, and of the values of its variables.
An object weighs 1 and a leaf 0, unless `@cost` says otherwise. The objects of a list weigh as often as the list has
items, at every level of nested lists: the value of a slicing argument (with the defaults of arguments and input fields),
else the assumed size, else a default size. Of the types that an object may have, the dearest counts. What introspection
asks for is counted in the schema itself.

Source: IBM GraphQL cost directive specification, as Federation 2.9 adopts it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLArgument,
    GraphQLInputField,
    GraphQLList,
    GraphQLNonNull,
    OperationType,
    Undefined,
    ValueNode,
    VariableNode,
    get_named_type,
    is_composite_type,
    value_from_ast,
)
from graphql.language import Visitor, visit

from router.planning.operation import Operation
from router.serving.introspection_cost import introspection_cost
from router.supergraph.model import Cost, Supergraph
from router.supergraph.selection import Argument, Field, Fragment, Selection

_MUTATION_WEIGHT = 10
_LARGEST = 2**31

Variables = Mapping[str, Any]
Amount = int | Callable[[Variables], int]
"""A number, or what computes it from the values of the variables."""


@dataclass(frozen=True, slots=True)
class _Priced:
    """What a field costs, whichever object it is asked of.

    weight: of one item; levels: how many lists lie within each other; named: the innermost type.
    """

    weight: int
    levels: int
    named: str
    assumed_size: int | None
    slicing: tuple[str, ...]
    sized_fields: tuple[str, ...]
    arguments: Mapping[str, GraphQLArgument]


_FREE = _Priced(0, 0, "", None, (), (), {})


class Pricing:
    """What the fields of one supergraph cost.

    default_list_size: of a list that nothing else gives a size.
    """

    def __init__(self, supergraph: Supergraph, *, default_list_size: int) -> None:
        self._supergraph = supergraph
        self._default_size = default_list_size
        self._fields: dict[tuple[str, str], _Priced] = {}
        self._possible = {name: frozenset(types) for name, types in supergraph.possible.items()}

    def formula(self, operation: Operation, document: DocumentNode) -> Amount:
        """The greatest cost that the directives allow for.

        Raises:
            ClientError: its introspection is too large to be counted (`OPERATION_TOO_COSTLY`).
        """
        base = _MUTATION_WEIGHT if operation.kind is OperationType.MUTATION else 0
        if operation.introspection:
            base += introspection_cost(self._supergraph.api_schema, document, operation.introspection)
        return _total([base, self._selection(operation.selection, operation.root_type, {})])

    def _selection(self, selection: Selection, type_name: str, sized: Mapping[str, Amount]) -> Amount:
        """sized: the sizes of list fields below, where an argument of the field above says them (`sizedFields`)."""
        amounts: list[Amount] = []
        conditional: list[tuple[str, Amount]] = []
        for item in selection.items:
            if isinstance(item, Fragment):
                inner = self._selection(item.selection, item.type_condition, sized)
                conditional.append((item.type_condition, inner))
            else:
                amounts.append(self._field(item, type_name, sized))
        if conditional:
            amounts.append(self._dearest(type_name, conditional))
        return _total(amounts)

    def _dearest(self, type_name: str, conditional: Sequence[tuple[str, Amount]]) -> Amount:
        """The greatest of what the fragments cost that apply to one object together."""
        applying: dict[str, list[int]] = {}
        within = self._possible.get(type_name, frozenset())
        for number, (condition, _) in enumerate(conditional):
            for possible in self._possible.get(condition, frozenset()) & within:
                applying.setdefault(possible, []).append(number)
        alternatives = {tuple(numbers) for numbers in applying.values()}
        return _greatest([_total([conditional[number][1] for number in numbers]) for numbers in alternatives])

    def _field(self, field: Field, type_name: str, sized: Mapping[str, Amount]) -> Amount:
        priced = self._priced(type_name, field.name)
        own_size = self._size(field.arguments, priced)
        below: dict[str, Amount] = dict.fromkeys(priced.sized_fields, own_size)
        inner = self._selection(field.selection, priced.named, below) if field.selection else 0
        amount = _total([priced.weight, inner])
        for level in range(priced.levels):
            if level == 0 and field.name in sized:
                size = sized[field.name]
            elif level == 0 and not below:
                size = own_size
            else:
                size = self._default_size
            amount = _product(size, amount)
        return amount

    def _priced(self, type_name: str, field_name: str) -> _Priced:
        key = (type_name, field_name)
        known = self._fields.get(key)
        if known is None:
            known = self._fields[key] = self._price(type_name, field_name)
        return known

    def _price(self, type_name: str, field_name: str) -> _Priced:
        fields = getattr(self._supergraph.api_schema.type_map.get(type_name), "fields", {})
        if field_name not in fields:
            return _FREE  # __typename
        output, levels = fields[field_name].type, 0
        while isinstance(output, GraphQLNonNull | GraphQLList):
            levels += isinstance(output, GraphQLList)
            output = output.of_type
        owners = self._possible.get(type_name, frozenset()) | {type_name}
        known = self._supergraph.costs
        costs = [known[c] for c in (f"{owner}.{field_name}" for owner in sorted(owners)) if c in known]
        weights = [cost.weight for cost in costs if cost.weight is not None]
        sizes = [cost.assumed_size for cost in costs if cost.assumed_size is not None]
        return _Priced(
            weight=max(weights) if weights else self._weight(output.name, is_composite=is_composite_type(output)),
            levels=levels,
            named=output.name,
            assumed_size=max(sizes, default=None),
            slicing=_distinct(name for cost in costs for name in cost.slicing_arguments),
            sized_fields=_distinct(name for cost in costs for name in cost.sized_fields),
            arguments=fields[field_name].args,
        )

    def _weight(self, type_name: str, *, is_composite: bool) -> int:
        members = self._possible.get(type_name, frozenset()) | {type_name}
        given = [self._supergraph.costs.get(member, Cost()).weight for member in members]
        return max(int(is_composite) if weight is None else weight for weight in given)

    def _size(self, arguments: Sequence[Argument], priced: _Priced) -> Amount:
        """How many items the arguments allow for."""
        otherwise = self._default_size if priced.assumed_size is None else priced.assumed_size
        given = dict(arguments)
        readers = []
        for path in priced.slicing:
            name, *inner = path.split(".")
            if name in priced.arguments:
                readers.append(_Slice(priced.arguments[name], given.get(name), tuple(inner)))

        def size(values: Variables) -> int:
            found = [number for reader in readers if (number := reader.read(values)) is not None]
            return max(found, default=otherwise)

        return size if any(reader.depends for reader in readers) else size({})


class _Slice:
    """The value of a slicing argument, or of a field of an input object in it."""

    __slots__ = ("_argument", "_default", "_node", "_path", "depends")

    def __init__(self, argument: GraphQLArgument, node: ValueNode | None, path: tuple[str, ...]) -> None:
        self._argument = argument
        self._node = node
        self._path = path
        self._default = _default_of(argument)
        self.depends = node is not None and _has_variable(node)

    def read(self, values: Variables) -> int | None:
        value: Any = Undefined
        if self._node is not None:
            value = value_from_ast(self._node, self._argument.type, dict(values) if self.depends else None)
        if value is Undefined:
            value = self._default
        within = self._argument.type
        for name in self._path:
            field = getattr(get_named_type(within), "fields", {}).get(name)
            if field is None or not isinstance(value, Mapping):
                return None
            value = value[name] if name in value else _default_of(field)
            within = field.type
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            return None
        return min(value, _LARGEST)


def _default_of(argument: GraphQLArgument | GraphQLInputField) -> Any:
    if argument.default_value is not Undefined:
        return argument.default_value
    default = argument.default
    if default is None:
        return None
    return value_from_ast(default.literal, argument.type) if default.literal is not None else default.value


def _has_variable(node: ValueNode) -> bool:
    found: list[VariableNode] = []

    class Variable(Visitor):
        def enter_variable(self, variable: VariableNode, *_: object) -> None:
            found.append(variable)

    visit(node, Variable())
    return bool(found)


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _total(amounts: Sequence[Amount]) -> Amount:
    known = sum(amount for amount in amounts if isinstance(amount, int))
    others = tuple(amount for amount in amounts if not isinstance(amount, int))
    if not others:
        return known
    return lambda values: known + sum(amount(values) for amount in others)


def _greatest(amounts: Sequence[Amount]) -> Amount:
    known = max((amount for amount in amounts if isinstance(amount, int)), default=0)
    others = tuple(amount for amount in amounts if not isinstance(amount, int))
    if not others:
        return known
    return lambda values: max(known, *(amount(values) for amount in others))


def _product(size: Amount, amount: Amount) -> Amount:
    if isinstance(size, int) and isinstance(amount, int):
        return size * amount
    if size == 0 or amount == 0:
        return 0
    return lambda values: evaluate(size, values) * evaluate(amount, values)


def evaluate(amount: Amount, variables: Variables) -> int:
    """The number that an amount has with these values."""
    return amount if isinstance(amount, int) else amount(variables)
