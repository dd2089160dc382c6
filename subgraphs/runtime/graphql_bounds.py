"""Bounds of one GraphQL operation at a subgraph, whoever sends it: its variables, its literals, and how much it asks for at once.

The size of the document is `query_limits`'s, its cost `operation_cost`'s, and the cost over all subgraphs the router's. A subgraph is reachable on a port of
its own, so that it refuses by itself what no plan of the router asks for.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    ValidationRule,
)
from graphql.utilities import value_from_ast_untyped
from strawberry.extensions import SchemaExtension

from domain.errors import AppError
from domain.principal import Principal, PrincipalKind
from domain.principal import Scope as AccessScope
from subgraphs.runtime.bounds import (
    MAX_ITEMS,
    MAX_TOKEN,
    NestedTooDeep,
    check_count,
    check_finite,
    check_text,
)
from subgraphs.runtime.context import current
from subgraphs.runtime.errors import to_graphql
from subgraphs.runtime.operation_cost import MAX_ANONYMOUS_COST, MAX_COST, Amount, evaluate

MAX_VARIABLES = 200
MAX_LEVELS = 12
"""Of lists and objects within a variable."""

MAX_MUTATIONS = 20
MAX_ANONYMOUS_MUTATIONS = 3
MAX_ROOT_FIELDS = 200
MAX_ANONYMOUS_ROOT_FIELDS = 30
MAX_REPEATS = 20
"""Of one field of the root under different names; as many as the router takes of a signed-in caller."""
MAX_ANONYMOUS_REPEATS = 3
MAX_INTROSPECTIONS = 3
MAX_REPRESENTATIONS = 10_000
"""Of all `_entities` fields of an operation together: the same variable can be used by many."""

_IMAGE_FIELDS = frozenset({"contentBase64"})
_MAX_NUMBER = 400  # digits: more than any 64-bit float has


class OperationBounds(SchemaExtension):
    """Refuses an operation before it is executed."""

    def on_execute(self) -> Iterator[None]:
        """Measures the variables before anything reads them, and counts what the operation asks for at its root."""
        context = self.execution_context
        try:
            check_variables(context.variables or {}, current().principal)
        except AppError as error:
            raise _refusal(error.message, to_graphql(error)) from error
        if context.graphql_document is not None:
            problem = root_problem(
                context.graphql_document, context.operation_name, context.variables or {}, current().principal
            )
            if problem is not None:
                raise _refusal(problem, {"code": "OPERATION_TOO_LARGE"})
        yield


def _refusal(message: str, extensions: dict[str, Any]) -> GraphQLError:
    return GraphQLError(message, extensions=extensions)


def check_cost(amount: Amount, variables: Mapping[str, Any], principal: Principal) -> None:
    """Raises: GraphQLError: the operation asks for too many objects."""
    most = MAX_ANONYMOUS_COST if principal.kind is PrincipalKind.ANONYMOUS else MAX_COST
    cost = evaluate(amount, variables)
    if cost > most:
        raise _refusal(
            f"The operation can ask for {cost} objects; at most {most} are taken. Ask for smaller pages.",
            {"code": "OPERATION_TOO_COSTLY"},
        )


def check_variables(variables: Mapping[str, Any], principal: Principal) -> None:
    """Raises: InvalidInput: a text, a list, a number or the nesting is out of bounds."""
    check_count(len(variables), "variables", MAX_VARIABLES)
    takes_images = principal.has_scope(AccessScope.FIRMWARE_WRITE)
    for name, value in variables.items():
        check_text(name, "variables", 256)
        _check_value(value, name, MAX_LEVELS, takes_images=takes_images)


def _check_value(value: object, path: str, levels: int, *, takes_images: bool) -> None:
    if isinstance(value, str):
        if not (takes_images and path.rpartition(".")[2] in _IMAGE_FIELDS):
            check_text(value, path, MAX_TOKEN)
    elif isinstance(value, float):
        check_finite(value, path)
    elif isinstance(value, (list, dict)):
        if levels == 0:
            raise NestedTooDeep(f"{path[:200]} is nested too deep.", field=path[:200])
        check_count(len(value), path)
        if isinstance(value, list):
            for item in value:
                _check_value(item, path, levels - 1, takes_images=takes_images)
            return
        for name, item in value.items():
            check_text(name, path, 256)
            _check_value(item, f"{path}.{name}", levels - 1, takes_images=takes_images)


class LiteralRule(ValidationRule):
    """Refuses literals that no field takes: values are sent as variables."""

    def enter_string_value(self, node: StringValueNode, *_: object) -> None:
        """A text."""
        if len(node.value) > MAX_TOKEN:
            self._report("A text in the operation is too long; send it as a variable.", node)

    def enter_list_value(self, node: ListValueNode, *_: object) -> None:
        """A list."""
        if len(node.values) > MAX_ITEMS:
            self._report("A list in the operation has too many entries.", node)

    def enter_float_value(self, node: FloatValueNode, *_: object) -> None:
        """A number with a fraction or an exponent: `1e400` would be infinite."""
        if len(node.value) > _MAX_NUMBER or not math.isfinite(float(node.value)):
            self._report("A number in the operation is not finite.", node)

    def enter_int_value(self, node: IntValueNode, *_: object) -> None:
        """A whole number: one of thousands of digits takes long to read."""
        if len(node.value) > _MAX_NUMBER:
            self._report("A number in the operation has too many digits.", node)

    def _report(self, message: str, node: Any) -> None:
        self.report_error(GraphQLError(message, node, extensions={"code": "BAD_USER_INPUT"}))


def root_problem(
    document: DocumentNode, operation_name: str | None, variables: Mapping[str, Any], principal: Principal
) -> str | None:
    """Why the operation asks for too much at its root; None when it does not."""
    fragments = {
        node.name.value: node.selection_set for node in document.definitions if isinstance(node, FragmentDefinitionNode)
    }
    for node in document.definitions:
        if not isinstance(node, OperationDefinitionNode):
            continue
        if operation_name and (node.name is None or node.name.value != operation_name):
            continue
        fields = list(_root_fields(node.selection_set, fragments, frozenset()))
        is_anonymous = principal.kind is PrincipalKind.ANONYMOUS
        most = MAX_ANONYMOUS_ROOT_FIELDS if is_anonymous else MAX_ROOT_FIELDS
        if node.operation is OperationType.MUTATION:
            most = MAX_ANONYMOUS_MUTATIONS if is_anonymous else MAX_MUTATIONS
        if len(fields) > most:
            return f"The operation has {len(fields)} fields at its root; at most {most} are taken."
        repeats = MAX_ANONYMOUS_REPEATS if is_anonymous else MAX_REPEATS
        keys = {((field.alias or field.name).value, field.name.value) for field in fields}
        for name, count in Counter(name for _, name in keys).items():
            limit = MAX_INTROSPECTIONS if name.startswith("__") and name != "__typename" else repeats
            if count > limit and name not in ("_entities", "__typename"):
                return f"The operation asks for {name} {count} times; at most {limit} are taken."
        asked = sum(_representations(field, variables) for field in fields if field.name.value == "_entities")
        if asked > MAX_REPRESENTATIONS:
            return f"The operation asks for {asked} entities; at most {MAX_REPRESENTATIONS} are taken."
    return None


def _root_fields(
    selection_set: SelectionSetNode, fragments: Mapping[str, SelectionSetNode], within: frozenset[str]
) -> Iterator[FieldNode]:
    for node in selection_set.selections:
        selected: Any = node
        if isinstance(node, FieldNode):
            yield node
        elif selected.kind == "inline_fragment":
            yield from _root_fields(selected.selection_set, fragments, within)
        elif (name := selected.name.value) in fragments and name not in within:
            yield from _root_fields(fragments[name], fragments, within | {name})


def _representations(field: FieldNode, variables: Mapping[str, Any]) -> int:
    for argument in field.arguments or ():
        if argument.name.value == "representations":
            given = value_from_ast_untyped(argument.value, dict(variables))
            return len(given) if isinstance(given, list) else 1
    return 0
