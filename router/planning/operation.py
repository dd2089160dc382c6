"""The first stage: an operation as the planner wants it.

Fragments are inlined where they always apply and kept as type conditions where they do not, `@skip` and `@include` are
decided, fields with one response key are merged. The work is bounded: an operation whose fragments multiply beyond
`max_fields` is refused while it is expanded, not after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    get_named_type,
    is_composite_type,
    print_ast,
    value_from_ast_untyped,
    visit,
)
from graphql.type import GraphQLInterfaceType, GraphQLObjectType

from router.errors import ClientError
from router.supergraph.model import Kind, Supergraph
from router.supergraph.selection import Argument, Field, Fragment, Selection, print_arguments


@dataclass(frozen=True, slots=True)
class Operation:
    """A normalized operation.

    variables: for each declared variable, its definition as printed.
    introspection: the root fields that the router answers by itself.
    """

    kind: OperationType
    name: str | None
    root_type: str
    selection: Selection
    variables: Mapping[str, str]
    introspection: tuple[FieldNode, ...] = ()


class _Node:
    """A selection while it is merged; the order of first appearance is kept."""

    __slots__ = ("fields", "fragments", "order")

    def __init__(self) -> None:
        self.fields: dict[str, _FieldNode] = {}
        self.fragments: dict[str, _Node] = {}
        self.order: list[tuple[str, str]] = []

    def freeze(self) -> Selection:
        items: list[Field | Fragment] = []
        for kind, name in self.order:
            if kind == "field":
                items.append(self.fields[name].freeze())
            elif self.fragments[name].order:
                items.append(Fragment(name, self.fragments[name].freeze()))
        return Selection(tuple(items))


class _FieldNode:
    __slots__ = ("arguments", "children", "key", "name")

    def __init__(self, key: str, name: str, arguments: tuple[Argument, ...], children: _Node | None) -> None:
        self.key = key
        self.name = name
        self.arguments = arguments
        self.children = children

    def freeze(self) -> Field:
        selection = None if self.children is None else self.children.freeze()
        return Field(self.key, self.name, self.arguments, print_arguments(self.arguments), selection)


def condition_variables(document: DocumentNode) -> tuple[str, ...]:
    """The variables whose values decide what is selected, sorted."""
    names: set[str] = set()

    class Conditions(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: object) -> None:
            if node.name.value in ("skip", "include"):
                for argument in node.arguments or ():
                    if isinstance(argument.value, VariableNode):
                        names.add(argument.value.name.value)

    visit(document, Conditions())
    return tuple(sorted(names))


def normalize(
    supergraph: Supergraph,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    *,
    variables: Mapping[str, object],
    max_fields: int = 20_000,
) -> Operation:
    """A valid operation in normal form; `variables` need only hold those used in `@skip` and `@include`.

    Raises:
        ClientError: its fragments expand to more than `max_fields` fields.
    """
    normalizer = _Normalizer(supergraph, document, variables, max_fields)
    root_type = supergraph.root_types[operation.operation.value]
    root = _Node()
    normalizer.expand(operation.selection_set, root_type, root)
    return Operation(
        kind=operation.operation,
        name=operation.name.value if operation.name else None,
        root_type=root_type,
        selection=root.freeze(),
        variables={
            definition.variable.name.value: _print_definition(definition)
            for definition in operation.variable_definitions or ()
        },
        introspection=tuple(normalizer.introspection),
    )


def _print_definition(definition: VariableDefinitionNode) -> str:
    return print_ast(
        VariableDefinitionNode(
            variable=definition.variable, type=definition.type, default_value=definition.default_value, directives=()
        )
    )


class _Normalizer:
    def __init__(
        self, supergraph: Supergraph, document: DocumentNode, variables: Mapping[str, object], max_fields: int
    ) -> None:
        self._supergraph = supergraph
        self._schema = supergraph.api_schema
        self._variables = variables
        self._left = max_fields
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self.introspection: list[FieldNode] = []

    def expand(self, selection_set: SelectionSetNode, parent: str, into: _Node) -> None:
        for item in selection_set.selections:
            if not self._is_included(item.directives or ()):
                continue
            self._left -= 1
            if self._left < 0:
                raise ClientError("The operation expands to too many fields.", code="OPERATION_TOO_LARGE")
            if isinstance(item, FieldNode):
                self._field(item, parent, into)
            elif isinstance(item, InlineFragmentNode):
                condition = item.type_condition.name.value if item.type_condition else parent
                self._fragment(condition, item.selection_set, parent, into)
            elif isinstance(item, FragmentSpreadNode):
                fragment = self._fragments[item.name.value]
                self._fragment(fragment.type_condition.name.value, fragment.selection_set, parent, into)

    def _field(self, node: FieldNode, parent: str, into: _Node) -> None:
        name = node.name.value
        if name in ("__schema", "__type"):
            self.introspection.append(node)
            return
        key = node.alias.value if node.alias else name
        existing = into.fields.get(key)
        if existing is None:
            arguments = tuple((a.name.value, a.value) for a in node.arguments or ())
            existing = _FieldNode(key, name, arguments, _Node() if node.selection_set else None)
            into.fields[key] = existing
            into.order.append(("field", key))
        if node.selection_set and existing.children is not None:
            self.expand(node.selection_set, self._type_of(parent, name), existing.children)

    def _fragment(self, condition: str, selection_set: SelectionSetNode, parent: str, into: _Node) -> None:
        if self._supergraph.is_subtype(parent, condition):
            self.expand(selection_set, parent, into)
        elif self._supergraph.kinds[parent] is not Kind.OBJECT and self._supergraph.overlaps(parent, condition):
            if condition not in into.fragments:
                into.fragments[condition] = _Node()
                into.order.append(("fragment", condition))
            self.expand(selection_set, condition, into.fragments[condition])

    def _type_of(self, parent: str, name: str) -> str:
        parent_type = self._schema.type_map[parent]
        assert isinstance(parent_type, GraphQLObjectType | GraphQLInterfaceType)  # noqa: S101  validated before
        named = get_named_type(parent_type.fields[name].type)
        assert is_composite_type(named)  # noqa: S101
        return named.name

    def _is_included(self, directives: Sequence[DirectiveNode]) -> bool:
        for directive in directives:
            if directive.name.value in ("skip", "include") and directive.arguments:
                value = directive.arguments[0].value
                decided = (
                    self._variables.get(value.name.value)
                    if isinstance(value, VariableNode)
                    else value_from_ast_untyped(value)
                )
                if bool(decided) is (directive.name.value == "skip"):
                    return False
        return True
