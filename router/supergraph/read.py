"""Reads supergraph SDL into the model.

The join directives of every version from v0.1 to v0.5 are read by one rule set: what an older version does not say has the
meaning that it had then (for example, v0.1 lists an owner per entity and says nothing of value types).

Source: Apollo join specification v0.1-v0.5 (specs.apollo.dev/join).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    EnumTypeExtensionNode,
    EnumValueNode,
    FieldDefinitionNode,
    GraphQLError,
    InterfaceTypeDefinitionNode,
    ListTypeNode,
    NamedTypeNode,
    NonNullTypeNode,
    ObjectTypeDefinitionNode,
    ScalarTypeDefinitionNode,
    StringValueNode,
    TypeDefinitionNode,
    TypeNode,
    UnionTypeDefinitionNode,
    value_from_ast_untyped,
)

from router.errors import InvalidSupergraph
from router.sdl import parse_sdl
from router.supergraph.api_schema import build_api_schema, linked_names, schema_definition
from router.supergraph.faults import describe
from router.supergraph.model import (
    Access,
    ContextArgument,
    Cost,
    Key,
    Kind,
    Subgraph,
    SubgraphField,
    SubgraphName,
    SubgraphType,
    Supergraph,
)
from router.supergraph.selection import Field, Fragment, Selection, parse_field_set
from router.supergraph.unsaid import with_unsaid_fields

_Composite = ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode
_Arguments = dict[str, Any]


def read_supergraph(sdl: str) -> Supergraph:
    """The model of a supergraph.

    Raises:
        InvalidSupergraph: the text is not SDL, or not a supergraph in the join specification; the message names the line.
    """
    try:
        document = parse_sdl(sdl, no_location=True)
    except GraphQLError as error:
        line = f"line {error.locations[0].line}: " if error.locations else ""
        raise InvalidSupergraph(f"The supergraph is not valid SDL: {line}{error.message}") from error
    except RecursionError as error:
        raise InvalidSupergraph("The supergraph is not valid SDL: it is nested too deeply.") from error
    place = _Place()
    try:
        return _Reader(document, place).read()
    except InvalidSupergraph as error:
        if not place.at:
            raise
        raise InvalidSupergraph(describe(sdl, error, join=place.join, at=place.at)) from error
    except _WRONG_TEXT as error:
        raise InvalidSupergraph(describe(sdl, error, join=place.join, at=place.at)) from error


_WRONG_TEXT = (LookupError, TypeError, ValueError, AttributeError, AssertionError, RecursionError, GraphQLError)
"""What reading a text raises that is SDL but has not the form of a supergraph."""


@dataclass(slots=True)
class _Place:
    """Where reading has come to. join: the prefix of the join directives; at: a type, or a field of one."""

    join: str = "join"
    at: str = ""


class _Reader:
    def __init__(self, document: DocumentNode, place: _Place) -> None:
        self._document = document
        self._place = place
        features = linked_names(schema_definition(document))
        self._join = place.join = features["join"]
        self._names = {feature: features.get(feature, feature) for feature in _DIRECTIVES_READ}
        # By identity: the parser makes equal directives, and equal references to types, one node.
        self._known_arguments: dict[int, _Arguments] = {}
        self._known_fields: dict[tuple[str, int], SubgraphField] = {}
        self._types = {d.name.value: d for d in document.definitions if isinstance(d, TypeDefinitionNode)}
        self._graphs = self._read_graphs()
        self._graph_of = {name: graph for graph, (name, _) in self._graphs.items()}
        self._possible = self._read_possible()
        self._interfaces = self._read_interfaces()
        self._implementers: defaultdict[str, list[str]] = defaultdict(list)
        for name, interfaces in self._interfaces.items():
            for interface in interfaces:
                self._implementers[interface].append(name)
        self._marked = list(self._read_marked())

    def read(self) -> Supergraph:
        views: dict[str, dict[str, SubgraphType]] = {graph: {} for graph in self._graphs}
        for name, node in self._types.items():
            if name.startswith(f"{self._join}__"):
                continue
            self._place.at = name
            for graph, view in self._views(node).items():
                views[graph][name] = view
        self._place.at = ""
        if owned := self._read_owned():
            views = {graph: with_unsaid_fields(types, owned) for graph, types in views.items()}
        subgraphs = {
            SubgraphName(name): Subgraph(SubgraphName(name), url, _with_key_fields_resolvable(views[graph]))
            for graph, (name, url) in self._graphs.items()
        }
        schema = schema_definition(self._document)
        roots = (
            {o.operation.value: o.type.name.value for o in schema.operation_types}
            if schema
            else {k.lower(): k for k in ("Query", "Mutation", "Subscription") if k in self._types}
        )
        if "query" not in roots or not subgraphs:
            raise InvalidSupergraph("The supergraph has no query type, or no subgraph.")
        return Supergraph(
            subgraphs=subgraphs,
            kinds={name: _kind(node) for name, node in self._types.items()},
            possible=self._possible,
            interfaces=self._interfaces,
            root_types=roots,
            api_schema=build_api_schema(self._document),
            document=self._document,
            access=self._read_access(),
            costs=self._read_costs(),
            contexts=self._read_contexts(),
            labels=frozenset(
                label
                for subgraph in subgraphs.values()
                for view in subgraph.types.values()
                for f in view.fields.values()
                for label in (f.override_label, f.unless_label)
                if label
            ),
        )

    def _read_graphs(self) -> dict[str, tuple[str, str]]:
        node = self._types.get(f"{self._join}__Graph")
        if not isinstance(node, EnumTypeDefinitionNode | EnumTypeExtensionNode):
            raise InvalidSupergraph(
                f"The supergraph has no enum {self._join}__Graph: is this a subgraph's or an API schema?"
            )
        graphs = {}
        for value in node.values or ():
            for directive in self._directives(value, "graph"):
                arguments = self._arguments(directive)
                graphs[value.name.value] = (str(arguments.get("name", value.name.value)), str(arguments.get("url", "")))
        return graphs

    def _read_owned(self) -> dict[str, dict[str, SubgraphField]]:
        """The fields of each type that has an owner, as only join v0.1 has it."""
        return {
            name: {definition.name.value: self._base(definition) for definition in node.fields or ()}
            for name, node in self._types.items()
            if isinstance(node, _Composite) and self._directives(node, "owner")
        }

    def _read_possible(self) -> dict[str, tuple[str, ...]]:
        possible: defaultdict[str, set[str]] = defaultdict(set)
        for name, node in self._types.items():
            if isinstance(node, ObjectTypeDefinitionNode):
                possible[name].add(name)
                for interface in node.interfaces or ():
                    possible[interface.name.value].add(name)
            elif isinstance(node, UnionTypeDefinitionNode):
                possible[name].update(member.name.value for member in node.types or ())
        return {name: tuple(sorted(members)) for name, members in possible.items()}

    def _read_interfaces(self) -> dict[str, frozenset[str]]:
        return {
            name: frozenset(interface.name.value for interface in node.interfaces or ())
            for name, node in self._types.items()
            if isinstance(node, _Composite)
        }

    def _directives(self, node: object, name: str) -> list[DirectiveNode]:
        wanted = f"{self._join}__{name}"
        return [d for d in getattr(node, "directives", None) or () if d.name.value == wanted]

    def _arguments(self, directive: DirectiveNode) -> _Arguments:
        known = self._known_arguments.get(id(directive))
        if known is None:
            known = self._known_arguments[id(directive)] = _read_arguments(directive)
        return known

    def _base(self, definition: FieldDefinitionNode) -> SubgraphField:
        """The field as the supergraph has it."""
        key = (definition.name.value, id(definition.type))
        known = self._known_fields.get(key)
        if known is None:
            type_text = _text(definition.type)
            known = self._known_fields[key] = SubgraphField(key[0], type_text, type_text.strip("[]!"))
        return known

    def _named(self, node: object, feature: str) -> _Arguments | None:
        for directive in getattr(node, "directives", None) or ():
            if directive.name.value == self._names[feature]:
                return self._arguments(directive)
        return None

    # -- one type in each subgraph ---------------------------------------------------------------------------------

    def _views(self, node: TypeDefinitionNode) -> dict[str, SubgraphType]:
        keys: defaultdict[str, list[Key]] = defaultdict(list)
        interface_object: set[str] = set()
        extensions: set[str] = set()
        for directive in self._directives(node, "type"):
            arguments = self._arguments(directive)
            graph = str(arguments["graph"])
            keys[graph]  # a subgraph that has the type without a key is listed too
            if key := arguments.get("key"):
                keys[graph].append(Key(parse_field_set(key), key, arguments.get("resolvable", True)))
            if arguments.get("isInterfaceObject"):
                interface_object.add(graph)
            if arguments.get("extension"):
                extensions.add(graph)
        owner = next((str(self._arguments(d)["graph"]) for d in self._directives(node, "owner")), None)
        if owner:
            keys[owner]
        if not keys:  # join v0.1 says nothing of value types and root types: they are everywhere
            keys.update({graph: [] for graph in self._graphs})
        fields = self._fields(node, tuple(keys), owner) if isinstance(node, _Composite) else {}
        return {
            graph: SubgraphType(
                name=node.name.value,
                kind=Kind.OBJECT if graph in interface_object else _kind(node),
                fields=fields.get(graph, {}),
                keys=tuple(keys[graph]),
                possible=self._possible_in(node, graph),
                interface_object=graph in interface_object,
                extension=graph in extensions,
            )
            for graph in keys
        }

    def _possible_in(self, node: TypeDefinitionNode, graph: str) -> tuple[str, ...]:
        if isinstance(node, UnionTypeDefinitionNode):
            members = [self._arguments(d) for d in self._directives(node, "unionMember")]
            if not members:
                return self._possible[node.name.value]
            return tuple(sorted(m["member"] for m in members if m["graph"] == graph))
        if isinstance(node, InterfaceTypeDefinitionNode):
            name = node.name.value
            known = self._implementers.get(name, ())
            return tuple(sorted(one for one in known if self._implements_in(self._types[one], name, graph)))
        return (node.name.value,)

    def _implements_in(self, node: TypeDefinitionNode, interface: str, graph: str) -> bool:
        types = [self._arguments(d) for d in self._directives(node, "type")]
        here = [t for t in types if t["graph"] == graph]
        if types and not here:
            return False
        if isinstance(node, InterfaceTypeDefinitionNode) and not any(t.get("isInterfaceObject") for t in here):
            return False
        implements = [self._arguments(d) for d in self._directives(node, "implements")]
        return not implements or any(i["graph"] == graph and i["interface"] == interface for i in implements)

    def _fields(
        self, node: _Composite, graphs: tuple[str, ...], owner: str | None
    ) -> dict[str, dict[str, SubgraphField]]:
        fields: dict[str, dict[str, SubgraphField]] = {graph: {} for graph in graphs}
        for definition in node.fields or ():
            joins = self._directives(definition, "field")
            base = self._base(definition)
            self._place.at = f"{node.name.value}.{base.name}"
            if not joins:
                for graph in (owner,) if owner else graphs:
                    fields[graph][base.name] = base
                continue
            for graph, view in self._joined(base, [self._arguments(join) for join in joins]).items():
                if graph in fields:
                    fields[graph][base.name] = view
        return fields

    def _joined(self, base: SubgraphField, joins: list[_Arguments]) -> dict[str, SubgraphField]:
        """The field in each subgraph that a `@join__field` names; one without a graph comes from an interface object."""
        views: dict[str, SubgraphField] = {}
        labels = {
            self._graph_of.get(str(j["override"])): j["overrideLabel"]
            for j in joins
            if j.get("overrideLabel") and j.get("override")
        }
        for join in joins:
            graph = join.get("graph")
            if graph is None:
                continue
            if len(join) == 1 and graph not in labels:
                views[graph] = base
                continue
            type_text = join.get("type") or base.type_text
            label = join.get("overrideLabel") if join.get("override") else None
            unless = labels.get(graph)
            views[graph] = replace(
                base,
                type_text=type_text,
                type_name=type_text.strip("[]!"),
                external=bool(join.get("external")) or (bool(join.get("usedOverridden")) and not unless),
                requires=parse_field_set(join["requires"]) if join.get("requires") else None,
                provides=parse_field_set(join["provides"]) if join.get("provides") else None,
                override_label=label,
                unless_label=unless,
                context_arguments=tuple(
                    ContextArgument(c["name"], c["type"], c["context"], parse_field_set(c["selection"]))
                    for c in join.get("contextArguments") or ()
                ),
            )
        return views

    # -- what the edge asks for ------------------------------------------------------------------------------------

    def _read_access(self) -> dict[str, Access]:
        access = {}
        for coordinate, node in self._marked:
            self._place.at = coordinate
            scopes = self._named(node, "requiresScopes")
            policies = self._named(node, "policy")
            rule = Access(
                authenticated=self._named(node, "authenticated") is not None,
                scopes=_groups(scopes, "scopes"),
                policies=_groups(policies, "policies"),
            )
            if not rule.is_open:
                access[coordinate] = rule
        return access

    def _read_costs(self) -> dict[str, Cost]:
        costs = {}
        for coordinate, node in self._marked:
            self._place.at = coordinate
            weight = (self._named(node, "cost") or {}).get("weight")
            size = self._named(node, "listSize")
            if weight is None and size is None:
                continue
            size = size or {}
            costs[coordinate] = Cost(
                weight=None if weight is None else int(weight),
                assumed_size=size.get("assumedSize"),
                slicing_arguments=tuple(size.get("slicingArguments") or ()),
                sized_fields=tuple(size.get("sizedFields") or ()),
                require_one_slicing_argument=bool(size and size.get("requireOneSlicingArgument", True)),
            )
        return costs

    def _read_contexts(self) -> dict[str, frozenset[str]]:
        contexts: defaultdict[str, set[str]] = defaultdict(set)
        for name, node in self._types.items():
            for directive in getattr(node, "directives", None) or ():
                if directive.name.value == self._names["context"]:
                    contexts[str(self._arguments(directive).get("name"))].add(name)
        return {name: frozenset(types) for name, types in contexts.items()}

    def _read_marked(self) -> Iterable[tuple[str, TypeDefinitionNode | FieldDefinitionNode]]:
        """The types and fields, by coordinate, that carry a directive that is read here."""
        wanted = frozenset(self._names.values())
        for name, node in self._types.items():
            if any(directive.name.value in wanted for directive in node.directives or ()):
                yield name, node
            if isinstance(node, _Composite):
                for definition in node.fields or ():
                    if any(directive.name.value in wanted for directive in definition.directives or ()):
                        yield f"{name}.{definition.name.value}", definition


_DIRECTIVES_READ = ("authenticated", "requiresScopes", "policy", "cost", "listSize", "context")


def _read_arguments(directive: DirectiveNode) -> _Arguments:
    return {
        argument.name.value: (
            argument.value.value
            if isinstance(argument.value, EnumValueNode | StringValueNode)
            else value_from_ast_untyped(argument.value)
        )
        for argument in directive.arguments or ()
    }


def _groups(arguments: _Arguments | None, name: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(group) for group in (arguments or {}).get(name) or ())


def _text(node: TypeNode) -> str:
    if isinstance(node, NonNullTypeNode):
        return f"{_text(node.type)}!"
    if isinstance(node, ListTypeNode):
        return f"[{_text(node.type)}]"
    return node.name.value if isinstance(node, NamedTypeNode) else ""


def _kind(node: TypeDefinitionNode) -> Kind:
    if isinstance(node, ObjectTypeDefinitionNode):
        return Kind.OBJECT
    if isinstance(node, InterfaceTypeDefinitionNode):
        return Kind.INTERFACE
    if isinstance(node, UnionTypeDefinitionNode):
        return Kind.UNION
    if isinstance(node, ScalarTypeDefinitionNode | EnumTypeDefinitionNode):
        return Kind.LEAF
    return Kind.INPUT


def _with_key_fields_resolvable(types: dict[str, SubgraphType]) -> Mapping[str, SubgraphType]:
    """Fields of a key are answered by a Federation 1 extension, which had to mark them external."""
    answered: set[tuple[str, str]] = set()
    for view in types.values():
        for key in view.keys if view.extension else ():
            _collect(types, view.name, key.selection, answered)
    if not answered:
        return types
    return {
        name: replace(
            view,
            fields={
                f.name: replace(f, external=False) if f.external and (name, f.name) in answered else f
                for f in view.fields.values()
            },
        )
        for name, view in types.items()
    }


def _collect(
    types: Mapping[str, SubgraphType], type_name: str, selection: Selection, into: set[tuple[str, str]]
) -> None:
    for item in selection.items:
        if isinstance(item, Fragment):
            _collect(types, item.type_condition, item.selection, into)
        elif isinstance(item, Field):
            into.add((type_name, item.name))
            view = types.get(type_name)
            if item.selection and view and item.name in view.fields:
                _collect(types, view.fields[item.name].type_name, item.selection, into)
