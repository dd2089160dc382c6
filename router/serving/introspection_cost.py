"""What introspection costs: how many objects of the schema it asks for, counted one by one within a bound."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    InlineFragmentNode,
    SelectionSetNode,
    StringValueNode,
    is_abstract_type,
)

from router.errors import ClientError

_OBJECTS_PER_UNIT = 10
"""So many objects that the router has in memory cost as much as one that a subgraph is asked for."""
_MOST_STEPS = 500_000


def introspection_cost(schema: GraphQLSchema, document: DocumentNode, fields: Sequence[FieldNode]) -> int:
    """The cost of these fields of the query type, `__schema` and `__type`.

    Raises:
        ClientError: counting takes too long (`OPERATION_TOO_COSTLY`).
    """
    counting = _Counting(schema, document)
    return -(-sum(counting.root(field) for field in fields) // _OBJECTS_PER_UNIT)


_MEMBERS: Mapping[str, str] = {
    "fields": "fields",
    "inputFields": "fields",
    "args": "args",
    "interfaces": "interfaces",
    "enumValues": "values",
    "types": "type_map",
    "directives": "directives",
    "type": "type",
    "ofType": "of_type",
    "queryType": "query_type",
    "mutationType": "mutation_type",
    "subscriptionType": "subscription_type",
}


class _Counting:
    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._known: dict[tuple[int, int], int] = {}
        self._left = _MOST_STEPS

    def root(self, field: FieldNode) -> int:
        if field.selection_set is None:
            return 0
        if field.name.value == "__schema":
            return 1 + self._objects(self._schema, field.selection_set)
        name = next((a.value for a in field.arguments or () if a.name.value == "name"), None)
        if isinstance(name, StringValueNode):
            named = self._schema.type_map.get(name.value)
            return 1 if named is None else 1 + self._objects(named, field.selection_set)
        # A variable: any type may be meant.
        selection_set = field.selection_set
        return max((1 + self._objects(one, selection_set) for one in self._schema.type_map.values()), default=1)

    def _objects(self, parent: object, selection_set: SelectionSetNode) -> int:
        key = (id(parent), id(selection_set))
        known = self._known.get(key)
        if known is not None:
            return known
        total = 0
        for item in selection_set.selections:
            self._left -= 1
            if self._left < 0:
                raise ClientError("The introspection is too large.", code="OPERATION_TOO_COSTLY")
            if isinstance(item, InlineFragmentNode):
                total += self._objects(parent, item.selection_set)
            elif isinstance(item, FragmentSpreadNode):
                total += self._objects(parent, self._fragments[item.name.value].selection_set)
            elif isinstance(item, FieldNode) and (below := item.selection_set) is not None:
                total += sum(1 + self._objects(child, below) for child in self._children(parent, item.name.value))
        self._known[key] = total
        return total

    def _children(self, parent: Any, field: str) -> Iterable[object]:
        """The objects of the schema that a field of an introspection type leads to."""
        if field == "possibleTypes":
            return self._schema.get_possible_types(parent) if is_abstract_type(parent) else ()
        found = getattr(parent, _MEMBERS.get(field, ""), None)
        if found is None:
            return ()
        if isinstance(found, Mapping):
            return list(found.values())
        return found if isinstance(found, (list, tuple)) else (found,)
