"""The first stage: an operation as the planner wants it.

Fragments are inlined where they always apply and kept as type conditions where they do not, `@skip` and `@include` are
decided, fields with one response key are merged. Each field of a fragment with `@defer` notes the fragment (`defer.py`
parts them), unless the answer is wanted in one piece. The work is bounded: an operation whose fragments multiply beyond
`max_fields` is refused while it is expanded, not after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphql import (
    REMOVE,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    get_named_type,
    is_composite_type,
    print_ast,
    value_from_ast_untyped,
    visit,
)
from graphql.language import VisitorAction
from graphql.type import GraphQLDeferDirective, GraphQLInterfaceType, GraphQLObjectType

from router.errors import ClientError
from router.supergraph.model import Kind, Supergraph
from router.supergraph.selection import NOT_DEFERRED, Argument, Field, Fragment, Selection, print_arguments

Conditions = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Defer:
    """A fragment with `@defer` at one place of the operation.

    outer: the number of the deferred fragment that it is in, or NOT_DEFERRED.
    """

    number: int
    label: str | None
    outer: int


@dataclass(frozen=True, slots=True)
class Operation:
    """A normalized operation.

    variables: for each declared variable, its definition as printed.
    introspection: the root fields that the router answers by itself.
    defers: its deferred fragments, by number from 1; none when the answer is wanted in one piece.
    """

    kind: OperationType
    name: str | None
    root_type: str
    selection: Selection
    variables: Mapping[str, str]
    introspection: tuple[FieldNode, ...] = ()
    defers: tuple[Defer, ...] = ()


class _Node:
    """A selection while it is merged; the order of first appearance is kept.

    place: of a type condition, the node of the selection set that it is in.
    """

    __slots__ = ("fields", "fragments", "order", "place")

    def __init__(self, place: "_Node | None" = None) -> None:
        self.place = place
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
    __slots__ = ("arguments", "children", "defers", "key", "name")

    def __init__(self, key: str, name: str, arguments: tuple[Argument, ...], children: _Node | None) -> None:
        self.key = key
        self.name = name
        self.arguments = arguments
        self.children = children
        self.defers: set[int] = set()

    def freeze(self) -> Field:
        selection = None if self.children is None else self.children.freeze()
        defers = frozenset(self.defers) if any(self.defers) else None
        return Field(self.key, self.name, self.arguments, print_arguments(self.arguments), selection, defers)


def condition_variables(document: DocumentNode) -> tuple[str, ...]:
    """The variables whose values decide what is selected, sorted."""
    names: set[str] = set()

    class Conditions(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: object) -> None:
            if node.name.value in ("skip", "include", "defer"):
                for argument in node.arguments or ():
                    if argument.name.value == "if" and isinstance(argument.value, VariableNode):
                        names.add(argument.value.name.value)

    visit(document, Conditions())
    return tuple(sorted(names))


def has_defer(document: DocumentNode) -> bool:
    """Whether any fragment of the document is deferred, be it on a condition."""
    found: list[DirectiveNode] = []

    class Defers(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: object) -> None:
            if node.name.value == GraphQLDeferDirective.name:
                found.append(node)

    visit(document, Defers())
    return bool(found)


def without_defer(document: DocumentNode) -> DocumentNode:
    """The document with nothing deferred."""

    class Defers(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: object) -> VisitorAction:
            return REMOVE if node.name.value == GraphQLDeferDirective.name else None

    undeferred: DocumentNode = visit(document, Defers())
    return undeferred


def normalize(
    supergraph: Supergraph,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    *,
    variables: Conditions,
    max_fields: int = 20_000,
    defer: bool = False,
) -> Operation:
    """A valid operation in normal form; `variables` need only hold those used in `@skip`, `@include` and `@defer`.

    defer: whether the answer may come in parts; if not, `@defer` means nothing.
    Raises:
        ClientError: its fragments expand to more than `max_fields` fields, or a subscription defers some.
    """
    normalizer = _Normalizer(supergraph, document, variables, max_fields, defer=defer)
    root_type = supergraph.root_types[operation.operation.value]
    root = _Node()
    normalizer.expand(operation.selection_set, root_type, root, NOT_DEFERRED)
    if normalizer.defers and operation.operation is OperationType.SUBSCRIPTION:
        message = "A subscription cannot defer: set the `if` argument of `@defer` to false."
        raise ClientError(message, code="BAD_USER_INPUT")
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
        defers=tuple(normalizer.defers.values()),
    )


def _print_definition(definition: VariableDefinitionNode) -> str:
    return print_ast(
        VariableDefinitionNode(
            variable=definition.variable, type=definition.type, default_value=definition.default_value, directives=()
        )
    )


class _Normalizer:
    def __init__(
        self, supergraph: Supergraph, document: DocumentNode, variables: Conditions, max_fields: int, *, defer: bool
    ) -> None:
        self._supergraph = supergraph
        self._schema = supergraph.api_schema
        self._variables = variables
        self._left = max_fields
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._defer = defer
        self.introspection: list[FieldNode] = []
        self.defers: dict[tuple[int, _Node, int], Defer] = {}

    def expand(self, selection_set: SelectionSetNode, parent: str, into: _Node, defer: int) -> None:
        """defer: the number of the innermost deferred fragment that this selection set is in."""
        for item in selection_set.selections:
            if not self._is_included(item.directives or ()):
                continue
            self._left -= 1
            if self._left < 0:
                raise ClientError("The operation expands to too many fields.", code="OPERATION_TOO_LARGE")
            if isinstance(item, FieldNode):
                self._field(item, parent, into, defer)
            elif isinstance(item, InlineFragmentNode):
                condition = item.type_condition.name.value if item.type_condition else parent
                self._fragment(condition, item.selection_set, parent, into, self._deferred(item, into, defer))
            elif isinstance(item, FragmentSpreadNode):
                fragment = self._fragments[item.name.value]
                condition = fragment.type_condition.name.value
                self._fragment(condition, fragment.selection_set, parent, into, self._deferred(item, into, defer))

    def _deferred(self, node: InlineFragmentNode | FragmentSpreadNode, into: _Node, defer: int) -> int:
        """The innermost deferred fragment that the fields of this one are in: itself, or the one around it."""
        if not self._defer:
            return defer
        for directive in node.directives or ():
            if directive.name.value == GraphQLDeferDirective.name:
                arguments = {a.name.value: a.value for a in directive.arguments or ()}
                if "if" in arguments and not self._decided(arguments["if"]):
                    return defer
                label = arguments.get("label")
                key = (id(directive), into.place or into, defer)
                known = self.defers.get(key)
                if known is None:
                    text = label.value if isinstance(label, StringValueNode) else None
                    known = self.defers[key] = Defer(len(self.defers) + 1, text, defer)
                return known.number
        return defer

    def _field(self, node: FieldNode, parent: str, into: _Node, defer: int) -> None:
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
        existing.defers.add(defer)
        if node.selection_set and existing.children is not None:
            self.expand(node.selection_set, self._type_of(parent, name), existing.children, defer)

    def _fragment(self, condition: str, selection_set: SelectionSetNode, parent: str, into: _Node, defer: int) -> None:
        if self._supergraph.is_subtype(parent, condition):
            self.expand(selection_set, parent, into, defer)
        elif self._supergraph.kinds[parent] is not Kind.OBJECT and self._supergraph.overlaps(parent, condition):
            if condition not in into.fragments:
                into.fragments[condition] = _Node(into.place or into)
                into.order.append(("fragment", condition))
            self.expand(selection_set, condition, into.fragments[condition], defer)

    def _type_of(self, parent: str, name: str) -> str:
        parent_type = self._schema.type_map[parent]
        assert isinstance(parent_type, GraphQLObjectType | GraphQLInterfaceType)  # noqa: S101  validated before
        named = get_named_type(parent_type.fields[name].type)
        assert is_composite_type(named)  # noqa: S101
        return named.name

    def _is_included(self, directives: Sequence[DirectiveNode]) -> bool:
        for directive in directives:
            name = directive.name.value
            if name not in ("skip", "include") or not directive.arguments:
                continue
            if self._decided(directive.arguments[0].value) is (name == "skip"):
                return False
        return True

    def _decided(self, value: ValueNode) -> bool:
        if isinstance(value, VariableNode):
            return bool(self._variables.get(value.name.value))
        return bool(value_from_ast_untyped(value))
