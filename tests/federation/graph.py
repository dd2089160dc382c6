"""Subgraphs without servers: each one is derived from the supergraph and answers from one shared universe of objects.

The universe is also what the monolith answers from, so that a federated answer can be compared with a plain one.
Objects are dicts with a `__typename`; a value may be a function of (object, arguments). `Computed` marks a field with
`@requires`: its subgraph may use nothing but what the router sent.
"""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from graphql import (
    GraphQLResolveInfo,
    GraphQLSchema,
    InputValueDefinitionNode,
    InterfaceTypeDefinitionNode,
    ObjectTypeDefinitionNode,
    TypeDefinitionNode,
    build_schema,
    execute_sync,
    parse,
    print_ast,
)

from router.execution.errors import SubgraphFailure
from router.serving.engine import Engine, GraphQLRequest
from router.serving.identity import ANONYMOUS, Identity
from router.serving.settings import RouterSettings
from router.supergraph.model import Kind, SubgraphField, SubgraphName, SubgraphType, Supergraph
from router.supergraph.selection import Field, Selection

Object = dict[str, Any]


@dataclass(frozen=True)
class Computed:
    """A field computed from others of its object: by the monolith from the object, by a subgraph from what was sent."""

    function: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Contextual:
    """A field with `@fromContext` arguments, a function of (object, arguments).

    reads: for each argument, by the type of the object around that sets it, the name of the field with its value. Only
    the monolith looks around: a subgraph uses what the router sent.
    """

    function: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    reads: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Universe:
    """roots: the value of each root field; entities: every object that can be asked for by key."""

    roots: Mapping[str, Any]
    entities: Sequence[Object] = ()


@dataclass
class Sent:
    subgraph: str
    query: str
    variables: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Federation:
    """A router over in-process subgraphs."""

    def __init__(self, sdl: str, universe: Universe, settings: RouterSettings | None = None) -> None:
        self.engine = Engine(sdl, settings or RouterSettings(), apart_from=sys.maxsize)
        self.universe = universe
        self.sent: list[Sent] = []
        self.broken: dict[str, SubgraphFailure | bytes] = {}
        self.delays_s: dict[str, float] = {}
        supergraph = self.engine.supergraph
        self._untold = {name: frozenset(_untold(supergraph, name)) for name in supergraph.subgraphs}
        self._schemas = {name: _subgraph_schema(supergraph, name) for name in supergraph.subgraphs}

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The router's transport."""
        request = orjson.loads(body)
        self.sent.append(Sent(subgraph, request["query"], request.get("variables") or {}, headers))
        await asyncio.sleep(self.delays_s.get(subgraph, 0))
        broken = self.broken.get(subgraph)
        if isinstance(broken, SubgraphFailure):
            raise broken
        if broken is not None:
            return broken
        result = execute_sync(
            self._schemas[subgraph],
            parse(request["query"]),
            root_value=_Place(self, subgraph),
            context_value=self._untold[subgraph],
            variable_values=request.get("variables"),
            field_resolver=_resolve_in_subgraph,
            type_resolver=_resolve_type,
        )
        return orjson.dumps(result.formatted)

    async def ask(
        self, query: str, variables: Mapping[str, Any] | None = None, *, identity: Identity = ANONYMOUS
    ) -> dict[str, Any]:
        """The router's answer as a client gets it."""
        prepared = await self.engine.prepare(GraphQLRequest(query, None, variables or {}), identity)
        response = await self.engine.run(prepared, self, {})
        answer: dict[str, Any] = {"data": response.data}
        if response.errors:
            redact = self.engine.settings.redact_errors
            answer["errors"] = [error.formatted(redact=redact) for error in response.errors]
        return answer

    def plan(self, query: str, variables: Mapping[str, Any] | None = None) -> str:
        preparing = self.engine.prepare(GraphQLRequest(query, None, variables or {}), ANONYMOUS)
        try:
            preparing.send(None)  # which ends it: nothing is prepared apart here
        except StopIteration as done:
            return str(done.value.compiled.plan)
        raise AssertionError("preparing waits for something")

    def monolith(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What one server with the whole schema answers."""
        result = execute_sync(
            self.engine.supergraph.api_schema,
            parse(query),
            variable_values=dict(variables or {}),
            **self.as_monolith(),
        )
        return {"data": result.data, "errors": [error.message for error in result.errors or ()]}

    def as_monolith(self) -> dict[str, Any]:
        """What makes an executor that one server, besides the API schema and the operation."""
        return {
            "root_value": _Within({"__typename": "Query", **self.universe.roots}, None),
            "field_resolver": _resolve_in_monolith,
            "type_resolver": _resolve_type,
        }


@dataclass(frozen=True)
class _Place:
    federation: Federation
    subgraph: SubgraphName


@dataclass(frozen=True)
class _Entity:
    """An object that a subgraph looked up by a representation."""

    value: Object
    representation: Mapping[str, Any]
    typename: str


@dataclass(frozen=True)
class _Within:
    """An object of the monolith, and the one around it."""

    value: Mapping[str, Any]
    outer: "_Within | None"

    def read(self, names: Mapping[str, str]) -> Any:
        """The field of the nearest object around this one that is of a type among `names`."""
        around = self.outer
        while around is not None:
            if (name := names.get(around.value["__typename"])) is not None:
                value = around.value.get(name)
                return value.function(around.value) if isinstance(value, Computed) else value
            around = around.outer
        return None

    def around(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.around(item) for item in value]
        return _Within(value, self) if isinstance(value, dict) else value


def _resolve_type(value: Any, _info: GraphQLResolveInfo[Any], _abstract: Any) -> str | None:
    if isinstance(value, _Within):
        value = value.value
    if isinstance(value, _Entity):
        return value.typename
    return str(value["__typename"])


def _resolve_in_monolith(within: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    assert isinstance(within, _Within)
    source = within.value
    value = source.get(info.field_name)
    if isinstance(value, Contextual):
        read = {argument: within.read(names) for argument, names in value.reads.items()}
        return within.around(value.function(source, {**arguments, **read}))
    if isinstance(value, Computed):
        return value.function(source)
    return within.around(value(source, arguments) if callable(value) else value)


def _resolve_in_subgraph(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    if isinstance(source, _Place):
        if info.field_name == "_entities":
            return [_look_up(source, each, info) for each in arguments["representations"]]
        value = source.federation.universe.roots.get(info.field_name)
        return value({}, arguments) if callable(value) else value
    sent: Mapping[str, Any] = {}
    if isinstance(source, _Entity):
        sent, source = source.representation, source.value
    assert (info.parent_type.name, info.field_name) not in info.context, "an external field was asked for"
    value = source.get(info.field_name)
    if isinstance(value, Contextual):
        return value.function(source, arguments)
    if isinstance(value, Computed):
        return value.function(sent)
    return value(source, arguments) if callable(value) else value


def _untold(supergraph: Supergraph, name: SubgraphName) -> Iterator[tuple[str, str]]:
    """Fields that a subgraph names but may never be asked for: external, and provided nowhere."""
    types = supergraph.subgraphs[name].types
    provided = {
        item
        for view in types.values()
        for f in view.fields.values()
        if f.provides is not None
        for item in re.findall(r"\w+", str(f.provides))
    }
    for view in types.values():
        for f in view.fields.values():
            if f.external and f.name not in provided:
                yield view.name, f.name


def _look_up(place: _Place, representation: Mapping[str, Any], _info: GraphQLResolveInfo[Any]) -> _Entity | None:
    supergraph = place.federation.engine.supergraph
    typename = representation["__typename"]
    view = supergraph.subgraphs[place.subgraph].types[typename]
    keys = [key.selection for key in view.keys if _has(representation, key.selection)]
    assert keys, f"{place.subgraph} was sent {representation} without any key of {typename}"
    for value in place.federation.universe.entities:
        same_type = value["__typename"] in supergraph.possible[typename]
        if same_type and all(_matches(value, representation, key) for key in keys):
            known_as = typename if view.interface_object else value["__typename"]
            return _Entity(value, representation, known_as)
    return None


def _has(representation: Any, selection: Selection) -> bool:
    return all(
        isinstance(item, Field)
        and item.name in representation
        and (item.selection is None or _has(representation[item.name], item.selection))
        for item in selection.items
    )


def _matches(value: Any, representation: Any, selection: Selection) -> bool:
    for item in selection.items:
        assert isinstance(item, Field)
        mine, sent = value.get(item.name), representation[item.name]
        if item.selection is None:
            if mine != sent:
                return False
        elif not _matches(mine, sent, item.selection):
            return False
    return True


def _subgraph_schema(supergraph: Supergraph, name: SubgraphName) -> GraphQLSchema:
    types = supergraph.subgraphs[name].types
    parts = [
        _print_type(node, types[node.name.value], supergraph, name)
        for node in supergraph.document.definitions
        if isinstance(node, TypeDefinitionNode) and node.name.value in types
    ]
    entities = sorted(view.name for view in types.values() if view.keys and view.kind is Kind.OBJECT)
    interfaces = sorted(view.name for view in types.values() if view.keys and view.kind is Kind.INTERFACE)
    entities = sorted({*entities, *(m for i in interfaces for m in types[i].possible)})
    query = supergraph.root_types["query"]
    if query not in types or not types[query].fields:
        parts.append(f"type {query} {{ _nothing: Int }}")
    if entities:
        parts.append(f"scalar _Any union _Entity = {' | '.join(entities)}")
        parts.append(f"extend type {query} {{ _entities(representations: [_Any!]!): [_Entity]! }}")
    return build_schema("\n".join(part for part in parts if part))


def _print_type(node: TypeDefinitionNode, view: SubgraphType, supergraph: Supergraph, subgraph: SubgraphName) -> str:
    if isinstance(node, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
        if not view.fields:
            return ""
        word = "interface" if view.kind is Kind.INTERFACE else "type"
        types = supergraph.subgraphs[subgraph].types
        implemented = [
            i for i in sorted(supergraph.interfaces[view.name]) if i in types and view.name in types[i].possible
        ]
        implements = f" implements {' & '.join(implemented)}" if implemented else ""
        arguments = {f.name.value: f.arguments or () for f in node.fields or ()}
        fields = "\n".join(
            f"  {f.name}{_print_arguments(arguments[f.name], f)}: {f.type_text}" for f in view.fields.values()
        )
        return f"{word} {view.name}{implements} {{\n{fields}\n}}"
    if view.kind is Kind.UNION:
        return f"union {view.name} = {' | '.join(view.possible)}"
    return "\n".join(_without_join_directives(print_ast(node)))


def _print_arguments(arguments: Sequence[InputValueDefinitionNode], definition: SubgraphField) -> str:
    contextual = [f"{argument.name}: {argument.type_text}" for argument in definition.context_arguments]
    text = ", ".join([*(print_ast(argument) for argument in arguments), *contextual])
    return f"({text})" if text else ""


def _without_join_directives(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield line.split(" @join__")[0] + (" {" if line.rstrip().endswith("{") and " @join__" in line else "")
