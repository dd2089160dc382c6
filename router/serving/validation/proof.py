"""Proves that an ordinary document is valid, in one walk that knows only what ordinary documents hold."""

from collections.abc import Iterable, Mapping
from typing import NoReturn

from graphql import (
    ArgumentNode,
    DirectiveLocation,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLArgument,
    GraphQLError,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNamedType,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Undefined,
    ValueNode,
    VariableDefinitionNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_input_type,
    type_from_ast,
)
from graphql.utilities.validate_input_value import validate_input_literal
from graphql.validation.rules.variables_in_allowed_position import allowed_variable_usage

from router.serving.validation.facts import SchemaFacts, Unproven, unproven

_MOST_NESTED_FRAGMENTS = 50


class Proof:
    """A walk through a document of one query or mutation, each fragment once."""

    def __init__(self, facts: SchemaFacts, document: DocumentNode) -> None:
        self._facts = facts
        self._document = document
        self._fragments: dict[str, tuple[FragmentDefinitionNode, GraphQLNamedType]] = {}
        self._defined: dict[str, tuple[VariableDefinitionNode, GraphQLInputType]] = {}
        self._used: set[str] = set()
        self._within: set[str] = set()
        self._done: set[str] = set()

    def check(self) -> None:
        """Raises:
        Unproven: the document is not valid, or not known to be.
        """
        operations = []
        for definition in self._document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                operations.append(definition)
            elif isinstance(definition, FragmentDefinitionNode):
                self._define(definition)
            else:
                raise Unproven
        if len(operations) != 1:
            raise Unproven
        operation = operations[0]
        root = self._facts.schema.get_root_type(operation.operation)
        if root is None or operation.directives or operation.operation is OperationType.SUBSCRIPTION:
            raise Unproven
        for variable in operation.variable_definitions or ():
            self._define_variable(variable)
        self._selections(operation.selection_set, root)
        if len(self._done) != len(self._fragments) or len(self._used) != len(self._defined):
            raise Unproven

    def _define(self, fragment: FragmentDefinitionNode) -> None:
        name = fragment.name.value
        on = self._facts.composite(fragment.type_condition.name.value)
        if on is None or name in self._fragments or fragment.directives or fragment.variable_definitions:
            raise Unproven
        self._fragments[name] = (fragment, on)

    def _define_variable(self, variable: VariableDefinitionNode) -> None:
        name = variable.variable.name.value
        defined = type_from_ast(self._facts.schema, variable.type)
        if not is_input_type(defined) or name in self._defined or variable.directives:
            raise Unproven
        self._defined[name] = (variable, defined)
        if variable.default_value is not None:
            self._value(variable.default_value, defined)

    def _selections(self, selection_set: SelectionSetNode, parent: GraphQLNamedType) -> None:
        known = self._facts.fields(parent)
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                name = node.name.value
                field = known.get(name) or self._facts.field(parent, name)
                if field is None or field.is_leaf is not (node.selection_set is None):
                    raise Unproven
                if node.directives:
                    self._directives(node.directives, DirectiveLocation.FIELD)
                if node.arguments or field.required:
                    self._arguments(node.arguments, field.arguments, field.required)
                if node.selection_set is not None:
                    self._selections(node.selection_set, field.named)
            elif isinstance(node, InlineFragmentNode):
                on = parent
                if node.type_condition is not None:
                    on = self._facts.composite(node.type_condition.name.value) or unproven()
                if not self._facts.overlap(parent, on):
                    raise Unproven
                self._directives(node.directives, DirectiveLocation.INLINE_FRAGMENT)
                self._selections(node.selection_set, on)
            elif isinstance(node, FragmentSpreadNode):
                self._spread(node, parent)
            else:
                raise Unproven

    def _spread(self, node: FragmentSpreadNode, parent: GraphQLNamedType) -> None:
        name = node.name.value
        if name not in self._fragments or name in self._within or node.arguments:
            raise Unproven
        fragment, on = self._fragments[name]
        if not self._facts.overlap(parent, on):
            raise Unproven
        self._directives(node.directives, DirectiveLocation.FRAGMENT_SPREAD)
        if name in self._done:
            return
        if len(self._within) > _MOST_NESTED_FRAGMENTS:
            raise Unproven
        self._within.add(name)
        self._selections(fragment.selection_set, on)
        self._within.discard(name)
        self._done.add(name)

    def _directives(self, nodes: Iterable[DirectiveNode] | None, place: DirectiveLocation) -> None:
        seen = set()
        for node in nodes or ():
            name = node.name.value
            known = self._facts.conditions.get(name)
            if known is None or name in seen or place not in known[0].locations:
                raise Unproven
            seen.add(name)
            self._arguments(node.arguments, known[0].args, known[1])

    def _arguments(
        self, nodes: Iterable[ArgumentNode] | None, known: Mapping[str, GraphQLArgument], required: frozenset[str]
    ) -> None:
        seen = set()
        for node in nodes or ():
            name = node.name.value
            argument = known.get(name)
            if argument is None or name in seen:
                raise Unproven
            seen.add(name)
            if isinstance(node.value, VariableNode):
                self._variable(node.value, argument.type, argument)
            else:
                self._value(node.value, argument.type)
        if not required <= seen:
            raise Unproven

    def _variable(
        self, node: VariableNode, expected: GraphQLInputType, place: GraphQLArgument | GraphQLInputField | None
    ) -> None:
        name = node.name.value
        defined = self._defined.get(name)
        if defined is None:
            raise Unproven
        self._used.add(name)
        variable, given = defined
        default: object = Undefined
        if place is not None:
            default = place.default if place.default is not None else place.default_value
        if not allowed_variable_usage(self._facts.schema, given, variable.default_value, expected, default):
            raise Unproven

    def _value(self, value: ValueNode, expected: GraphQLInputType) -> None:
        if isinstance(value, ListValueNode | ObjectValueNode):
            self._inside(value, expected)
        validate_input_literal(value, expected, _refuse)

    def _inside(self, value: ValueNode, expected: GraphQLInputType) -> None:
        """The variables of a value, and that its fields are there once."""
        if isinstance(value, ListValueNode):
            nullable = get_nullable_type(expected)
            if not isinstance(nullable, GraphQLList):
                raise Unproven
            for item in value.values:
                if isinstance(item, VariableNode):
                    self._variable(item, nullable.of_type, None)
                else:
                    self._inside(item, nullable.of_type)
        elif isinstance(value, ObjectValueNode):
            named = get_named_type(expected)  # for a list, one object may stand
            if not isinstance(named, GraphQLInputObjectType) or named.is_one_of:
                raise Unproven
            seen = set()
            for node in value.fields:
                field = named.fields.get(node.name.value)
                if field is None or node.name.value in seen:
                    raise Unproven
                seen.add(node.name.value)
                if isinstance(node.value, VariableNode):
                    self._variable(node.value, field.type, field)
                else:
                    self._inside(node.value, field.type)


def _refuse(_: GraphQLError, __: object) -> NoReturn:
    raise Unproven
