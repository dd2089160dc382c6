"""Validates documents as graphql-core does, ordinary ones in a fraction of the time, and hostile ones within bounds.

An ordinary document is proven valid in one walk that knows only what ordinary documents hold. Whatever it does not know,
errors above all, is left to graphql-core's rules, so that what is accepted, and every message, is their own. Only one of
those takes more than linear time, whether overlapping fields can be merged. It is asked last, if the fields that share a
response name are not simply equal, and may compare only so many.

Source: https://spec.graphql.org/October2021/#sec-Validation
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    GraphQLOutputType,
    GraphQLSchema,
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
    is_composite_type,
    is_input_type,
    is_leaf_type,
    is_required_argument,
    type_from_ast,
    validate,
)
from graphql.utilities import do_types_overlap
from graphql.utilities.validate_input_value import validate_input_literal
from graphql.validation import (
    ASTValidationRule,
    NoSchemaIntrospectionCustomRule,
    OverlappingFieldsCanBeMergedRule,
    ValidationContext,
    specified_rules,
)
from graphql.validation.rules.variables_in_allowed_position import allowed_variable_usage

from router.errors import ClientError

_MOST_ERRORS = 20
_MOST_COMPARED = 50_000
"""Of what graphql-core compares in fields that overlap, in its units: about a third of a second."""
_MOST_MERGED = 100_000
"""Fields, counted at each use of their fragment: about a tenth of a second."""
_MOST_NESTED_FRAGMENTS = 50
_CONDITIONS = frozenset({"skip", "include"})


class Validator:
    """Of one API schema. introspection: whether `__schema` and `__type` may be asked for."""

    def __init__(self, schema: GraphQLSchema, *, introspection: bool) -> None:
        self._schema = schema
        self._facts = _Facts(schema)
        self._rules: list[type[ASTValidationRule]] = [
            rule for rule in specified_rules if rule is not OverlappingFieldsCanBeMergedRule
        ]
        if not introspection:
            self._rules.append(NoSchemaIntrospectionCustomRule)

    def errors(self, document: DocumentNode) -> Sequence[GraphQLError]:
        """What is wrong with the document; of many errors, the first.

        Raises:
            ClientError: too many fields overlap (`OPERATION_TOO_LARGE`).
        """
        if not self.is_plain(document):
            errors = validate(self._schema, document, self._rules, max_errors=_MOST_ERRORS)
            if errors:
                return errors
        merged = _Merged(self._facts, document)
        if merged.is_equal():
            return ()
        errors = validate(self._schema, document, [_OverlappingFields], max_errors=_MOST_ERRORS)
        if errors and errors[-1].message == "Validation aborted.":
            which = "" if merged.unequal is None else f", such as {merged.unequal!r}"
            message = f"The document has too many different fields under one response name{which}."
            raise ClientError(message, code="OPERATION_TOO_LARGE")
        return errors

    def is_plain(self, document: DocumentNode) -> bool:
        """Whether it keeps all rules but that of overlapping fields, for sure; if not, it may still keep them."""
        try:
            _Walk(self._facts, document).check()
        except _Unproven:
            return False
        return True


class _OverlappingFields(OverlappingFieldsCanBeMergedRule):
    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = _MOST_COMPARED


class _Unproven(Exception):
    """The document holds something that the walk does not know."""


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """required: the names of arguments it cannot be without."""

    type: GraphQLOutputType
    named: GraphQLNamedType
    is_leaf: bool
    arguments: Mapping[str, GraphQLArgument]
    required: frozenset[str]


class _Facts:
    """What documents ask a schema again and again."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._fields: dict[GraphQLNamedType, dict[str, _Field | None]] = {}
        self._overlaps: dict[tuple[str, str], bool] = {}
        self.conditions = {
            directive.name: (directive, frozenset(n for n, a in directive.args.items() if is_required_argument(a)))
            for directive in schema.directives
            if directive.name in _CONDITIONS and not directive.is_repeatable
        }

    def fields(self, parent: GraphQLNamedType) -> dict[str, _Field | None]:
        """Those asked for until now."""
        known = self._fields.get(parent)
        if known is None:
            known = self._fields[parent] = {}
        return known

    def field(self, parent: GraphQLNamedType, name: str) -> _Field | None:
        """None: there is none, or it is one of introspection."""
        if not is_composite_type(parent) or (name.startswith("__") and name != "__typename"):
            return None
        definition = self.schema.get_field(parent, name)
        if definition is None:
            return None
        named = get_named_type(definition.type)
        required = frozenset(n for n, argument in definition.args.items() if is_required_argument(argument))
        field = _Field(definition.type, named, is_leaf_type(named), definition.args, required)
        self.fields(parent)[name] = field  # only what exists, or clients could fill the memory
        return field

    def composite(self, name: str) -> GraphQLNamedType | None:
        found = self.schema.type_map.get(name)
        return found if is_composite_type(found) else None

    def overlap(self, one: GraphQLNamedType, other: GraphQLNamedType) -> bool:
        """Whether an object can be of both types."""
        if one is other:
            return True
        key = (one.name, other.name)
        known = self._overlaps.get(key)
        if known is None:
            known = is_composite_type(one) and is_composite_type(other) and do_types_overlap(self.schema, one, other)
            self._overlaps[key] = known
        return known


class _Walk:
    """Through a document of one query or mutation, each fragment once."""

    def __init__(self, facts: _Facts, document: DocumentNode) -> None:
        self._facts = facts
        self._document = document
        self._fragments: dict[str, tuple[FragmentDefinitionNode, GraphQLNamedType]] = {}
        self._defined: dict[str, tuple[VariableDefinitionNode, GraphQLInputType]] = {}
        self._used: set[str] = set()
        self._within: set[str] = set()
        self._done: set[str] = set()

    def check(self) -> None:
        """Raises:
        _Unproven: the document is not valid, or not known to be.
        """
        operations = []
        for definition in self._document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                operations.append(definition)
            elif isinstance(definition, FragmentDefinitionNode):
                self._define(definition)
            else:
                raise _Unproven
        if len(operations) != 1:
            raise _Unproven
        operation = operations[0]
        root = self._facts.schema.get_root_type(operation.operation)
        if root is None or operation.directives or operation.operation is OperationType.SUBSCRIPTION:
            raise _Unproven
        for variable in operation.variable_definitions or ():
            self._define_variable(variable)
        self._selections(operation.selection_set, root)
        if len(self._done) != len(self._fragments) or len(self._used) != len(self._defined):
            raise _Unproven

    def _define(self, fragment: FragmentDefinitionNode) -> None:
        name = fragment.name.value
        on = self._facts.composite(fragment.type_condition.name.value)
        if on is None or name in self._fragments or fragment.directives or fragment.variable_definitions:
            raise _Unproven
        self._fragments[name] = (fragment, on)

    def _define_variable(self, variable: VariableDefinitionNode) -> None:
        name = variable.variable.name.value
        defined = type_from_ast(self._facts.schema, variable.type)
        if not is_input_type(defined) or name in self._defined or variable.directives:
            raise _Unproven
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
                    raise _Unproven
                if node.directives:
                    self._directives(node.directives, DirectiveLocation.FIELD)
                if node.arguments or field.required:
                    self._arguments(node.arguments, field.arguments, field.required)
                if node.selection_set is not None:
                    self._selections(node.selection_set, field.named)
            elif isinstance(node, InlineFragmentNode):
                on = parent
                if node.type_condition is not None:
                    on = self._facts.composite(node.type_condition.name.value) or _unproven()
                if not self._facts.overlap(parent, on):
                    raise _Unproven
                self._directives(node.directives, DirectiveLocation.INLINE_FRAGMENT)
                self._selections(node.selection_set, on)
            elif isinstance(node, FragmentSpreadNode):
                self._spread(node, parent)
            else:
                raise _Unproven

    def _spread(self, node: FragmentSpreadNode, parent: GraphQLNamedType) -> None:
        name = node.name.value
        if name not in self._fragments or name in self._within or node.arguments:
            raise _Unproven
        fragment, on = self._fragments[name]
        if not self._facts.overlap(parent, on):
            raise _Unproven
        self._directives(node.directives, DirectiveLocation.FRAGMENT_SPREAD)
        if name in self._done:
            return
        if len(self._within) > _MOST_NESTED_FRAGMENTS:
            raise _Unproven
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
                raise _Unproven
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
                raise _Unproven
            seen.add(name)
            if isinstance(node.value, VariableNode):
                self._variable(node.value, argument.type, argument)
            else:
                self._value(node.value, argument.type)
        if not required <= seen:
            raise _Unproven

    def _variable(
        self, node: VariableNode, expected: GraphQLInputType, place: GraphQLArgument | GraphQLInputField | None
    ) -> None:
        name = node.name.value
        defined = self._defined.get(name)
        if defined is None:
            raise _Unproven
        self._used.add(name)
        variable, given = defined
        default: object = Undefined
        if place is not None:
            default = place.default if place.default is not None else place.default_value
        if not allowed_variable_usage(self._facts.schema, given, variable.default_value, expected, default):
            raise _Unproven

    def _value(self, value: ValueNode, expected: GraphQLInputType) -> None:
        if isinstance(value, ListValueNode | ObjectValueNode):
            self._inside(value, expected)
        validate_input_literal(value, expected, _refuse)

    def _inside(self, value: ValueNode, expected: GraphQLInputType) -> None:
        """The variables of a value, and that its fields are there once."""
        if isinstance(value, ListValueNode):
            nullable = get_nullable_type(expected)
            if not isinstance(nullable, GraphQLList):
                raise _Unproven
            for item in value.values:
                if isinstance(item, VariableNode):
                    self._variable(item, nullable.of_type, None)
                else:
                    self._inside(item, nullable.of_type)
        elif isinstance(value, ObjectValueNode):
            named = get_named_type(expected)  # for a list, one object may stand
            if not isinstance(named, GraphQLInputObjectType) or named.is_one_of:
                raise _Unproven
            seen = set()
            for node in value.fields:
                field = named.fields.get(node.name.value)
                if field is None or node.name.value in seen:
                    raise _Unproven
                seen.add(node.name.value)
                if isinstance(node.value, VariableNode):
                    self._variable(node.value, field.type, field)
                else:
                    self._inside(node.value, field.type)


def _unproven() -> NoReturn:
    raise _Unproven


def _refuse(_: GraphQLError, __: object) -> NoReturn:
    raise _Unproven


@dataclass(slots=True)
class _Group:
    """Fields that share a response name and are equal but for what they select."""

    node: FieldNode
    field: _Field
    selected: list[SelectionSetNode]


class _Merged:
    """Whether all fields that meet under one response name have the same name, arguments and type.

    Then they can be merged, whatever their parents are. It takes as long as the document with its fragments is large.
    unequal: the response name of the first fields that are not.
    """

    unequal: str | None = None

    def __init__(self, facts: _Facts, document: DocumentNode) -> None:
        self._facts = facts
        self._operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._left = _MOST_MERGED

    def is_equal(self) -> bool:
        """False also if it would take too long to find out. The document keeps all other rules."""
        try:
            for operation in self._operations:
                root = self._facts.schema.get_root_type(operation.operation) or _unproven()
                self._merge([operation.selection_set], root)
        except _Unproven:
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
            raise _Unproven
        known = self._facts.fields(parent)
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                name = node.name.value
                key = node.alias.value if node.alias is not None else name
                # The fields of introspection are not known, nor how often they may nest.
                field = known.get(name) or self._facts.field(parent, name) or _unproven()
                group = groups.get(key)
                if group is None:
                    groups[key] = _Group(node, field, [node.selection_set] if node.selection_set is not None else [])
                    if node.directives and any(directive.name.value == "stream" for directive in node.directives):
                        raise _Unproven
                    continue
                if (
                    (group.field is not field and not _equal_types(group.field.type, field.type))
                    or group.node.name.value != name
                    or not _equal_arguments(group.node, node)
                    or (node.directives and any(directive.name.value == "stream" for directive in node.directives))
                ):
                    self.unequal = key
                    raise _Unproven
                if node.selection_set is not None:
                    group.selected.append(node.selection_set)
            elif isinstance(node, InlineFragmentNode):
                on = parent
                if node.type_condition is not None:
                    on = self._facts.composite(node.type_condition.name.value) or _unproven()
                self._collect(node.selection_set, on, groups, spread)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                spread.add(node.name.value)
                fragment = self._fragments[node.name.value]
                on = self._facts.composite(fragment.type_condition.name.value) or _unproven()
                self._collect(fragment.selection_set, on, groups, spread)


def _equal_types(one: GraphQLOutputType, other: GraphQLOutputType) -> bool:
    return one is other or str(one) == str(other)


def _equal_arguments(one: FieldNode, other: FieldNode) -> bool:
    if not one.arguments and not other.arguments:
        return True
    values = {argument.name.value: argument.value for argument in one.arguments or ()}
    others = {argument.name.value: argument.value for argument in other.arguments or ()}
    return values == others
