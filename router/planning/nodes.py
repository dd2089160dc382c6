"""Fetch groups as plan nodes: the text of their operations, what they send, and under which variables."""

from collections.abc import Iterable, Mapping

from graphql import ValueNode, VariableNode
from graphql.language import ListValueNode, ObjectValueNode

from router.planning.contexts import Contextual
from router.planning.contexts import freeze as freeze_context
from router.planning.fetch_graph import FetchGroup, FetchSelection, GroupKind, Representation
from router.planning.operation import Operation
from router.planning.plan import (
    BatchFetchNode,
    BatchPart,
    FetchNode,
    FlattenNode,
    PrintedField,
    PrintedSelection,
    RequiredObject,
)
from router.supergraph.selection import Selection


class FetchNodes:
    """Makes the nodes of one operation. numbers: of the groups that others refer to."""

    def __init__(self, operation: Operation, numbers: Mapping[int, int]) -> None:
        self._operation = operation
        self._numbers = numbers
        self._title = f" {operation.name}" if operation.name else ""
        self._representations = "representations"
        while any(name.startswith(self._representations) for name in operation.variables):  # a client's own
            self._representations = f"_{self._representations}"

    def _names(self, used: set[str]) -> tuple[str, ...]:
        return tuple(name for name in self._operation.variables if name in used)

    def _definitions(self, names: Iterable[str]) -> list[str]:
        return [self._operation.variables[name] for name in names]

    def node(self, group: FetchGroup) -> FetchNode | FlattenNode | BatchFetchNode:
        plain = self._representations == "representations" or group.kind is GroupKind.ROOT or bool(group.contexts)
        if group.parts or not plain:
            return self._batch(group)
        fetch = self.fetch(group)
        return FlattenNode(group.path, fetch) if group.path else fetch

    def _batch(self, group: FetchGroup) -> BatchFetchNode:
        alike: dict[tuple[str, str], list[tuple[FetchGroup, PrintedSelection, tuple[RequiredObject, ...]]]] = {}
        for part in group.parts or [group]:
            selection, required = freeze(part.selection, top=True), _required(part)
            alike.setdefault((selection.compact(), _required_text(required)), []).append((part, selection, required))
        used: set[str] = set()
        parts: list[BatchPart] = []
        bodies: list[str] = []
        for number, ((text, _), same) in enumerate(alike.items()):
            first, selection, required = same[0]
            _collect_variables(first.selection, used)
            single = len(alike) == 1
            alias, suffix = ("_entities", "") if single else (f"_e{number}", str(number))
            variable = f"{self._representations}{suffix}"
            paths = tuple(part.path for part, _, _ in same)
            parts.append(BatchPart(alias, variable, paths, required, selection))
            bodies.append(f"{'' if single else f'{alias}:'}_entities(representations:${variable}){text}")
        names = self._names(used)
        definitions = [*(f"${part.variable}:[_Any!]!" for part in parts), *self._definitions(names)]
        operation = f"query{self._title}({','.join(definitions)}){{{' '.join(bodies)}}}"
        return BatchFetchNode(group.subgraph, operation, names, tuple(parts), self._numbers.get(group.number))

    def fetch(self, group: FetchGroup) -> FetchNode:
        selection = freeze(group.selection, top=True)
        used: set[str] = set()
        _collect_variables(group.selection, used)
        names = self._names(used)
        definitions = self._definitions(names)
        entities = group.kind is GroupKind.ENTITIES
        kind = "query" if entities or group.path else self._operation.kind.value
        body = selection.compact()
        if entities:
            definitions.insert(0, "$representations:[_Any!]!")
            body = f"{{_entities(representations:$representations){body}}}"
        header = f"({','.join(definitions)})" if definitions else ""
        operation = f"{kind}{self._title}{header}{body}" if header or self._title or kind != "query" else body
        contextual = None
        if variables := tuple(freeze_context(read) for name, read in sorted(group.contexts.items()) if name in used):
            contextual = Contextual(variables, self._representations, self._title, tuple(self._definitions(names)))
            operation = contextual.operation(selection.compact(), 1)
        return FetchNode(
            subgraph=group.subgraph,
            operation=operation,
            kind=kind,
            variables=names,
            selection=selection,
            requires=_required(group),
            contextual=contextual,
            number=self._numbers.get(group.number),
        )


def _required(group: FetchGroup) -> tuple[RequiredObject, ...]:
    """The group's representations; object types that are sent alike (to an interface object) are one."""
    alike: dict[tuple[str, str, frozenset[str]], list[Representation]] = {}
    for _, each in sorted(group.representations.items()):
        alike.setdefault((each.type_name, str(Selection(tuple(each.fields))), each.inputs), []).append(each)
    return tuple(
        RequiredObject(
            same[0].type_name,
            tuple(sorted(frozenset().union(*(each.applies_to for each in same)))),
            tuple(same[0].fields),
            same[0].key_names,
            same[0].inputs,
        )
        for same in alike.values()
    )


def _required_text(required: tuple[RequiredObject, ...]) -> str:
    return " ".join(
        f"{each.send_as} {each.applies_to} {Selection(each.fields)} {sorted(each.key_names)} {sorted(each.inputs)}"
        for each in required
    )


def freeze(selection: FetchSelection, *, top: bool = False) -> PrintedSelection:
    """The selection as it is sent; top: fragments on entity types are kept without fields too."""
    fields = tuple(
        PrintedField(f.key, f.name, f.arguments_text, None if f.selection is None else freeze(f.selection))
        for f in selection.fields.values()
    )
    fragments = tuple(
        (name, freeze(inner)) for name, inner in selection.fragments.items() if top or not inner.is_empty()
    )
    return PrintedSelection(selection.typename or not (fields or fragments), fields, fragments)


def _collect_variables(selection: FetchSelection, into: set[str]) -> None:
    for item in selection.fields.values():
        for _, value in item.arguments:
            _variables_in(value, into)
        if item.selection is not None:
            _collect_variables(item.selection, into)
    for inner in selection.fragments.values():
        _collect_variables(inner, into)


def _variables_in(value: ValueNode, into: set[str]) -> None:
    if isinstance(value, VariableNode):
        into.add(value.name.value)
    elif isinstance(value, ListValueNode):
        for item in value.values:
            _variables_in(item, into)
    elif isinstance(value, ObjectValueNode):
        for field in value.fields:
            _variables_in(field.value, into)
