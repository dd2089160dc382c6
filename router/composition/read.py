"""Subgraph SDL to a `SubgraphSchema`.

Extensions are folded into the types they extend, directives of known specifications get their canonical names, root
types their default names, and what only serves the federation protocol (`_service`, `_entities`, `_Any`, definitions of
federation directives) goes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphql import (
    ConstDirectiveNode,
    DirectiveDefinitionNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    EnumTypeExtensionNode,
    FieldDefinitionNode,
    GraphQLSyntaxError,
    InputObjectTypeDefinitionNode,
    InputObjectTypeExtensionNode,
    InputValueDefinitionNode,
    InterfaceTypeDefinitionNode,
    InterfaceTypeExtensionNode,
    ListTypeNode,
    NonNullTypeNode,
    ObjectTypeDefinitionNode,
    ObjectTypeExtensionNode,
    ScalarTypeDefinitionNode,
    ScalarTypeExtensionNode,
    SchemaDefinitionNode,
    SchemaExtensionNode,
    StringValueNode,
    TypeDefinitionNode,
    TypeExtensionNode,
    TypeNode,
    UnionTypeDefinitionNode,
    UnionTypeExtensionNode,
    ValueNode,
    print_ast,
)
from graphql.language.print_string import print_string

from router.composition import specs
from router.composition.definitions import check_definitions
from router.composition.errors import CompositionError, CompositionFailed, SourceLocation
from router.composition.links import location, read_links
from router.composition.model import (
    ROOT_TYPES,
    Applied,
    DirectiveDef,
    EnumValue,
    Feature,
    Field,
    InputValue,
    SubgraphSchema,
    TypeDef,
    TypeKind,
)
from router.composition.type_refs import renamed
from router.composition.validity import check_graphql
from router.sdl import parse_sdl

_KINDS: Mapping[type, TypeKind] = {
    ScalarTypeDefinitionNode: TypeKind.SCALAR,
    ScalarTypeExtensionNode: TypeKind.SCALAR,
    ObjectTypeDefinitionNode: TypeKind.OBJECT,
    ObjectTypeExtensionNode: TypeKind.OBJECT,
    InterfaceTypeDefinitionNode: TypeKind.INTERFACE,
    InterfaceTypeExtensionNode: TypeKind.INTERFACE,
    UnionTypeDefinitionNode: TypeKind.UNION,
    UnionTypeExtensionNode: TypeKind.UNION,
    EnumTypeDefinitionNode: TypeKind.ENUM,
    EnumTypeExtensionNode: TypeKind.ENUM,
    InputObjectTypeDefinitionNode: TypeKind.INPUT,
    InputObjectTypeExtensionNode: TypeKind.INPUT,
}
_OPERATION_ROOTS = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}


def read_subgraph(name: str, url: str, sdl: str, graph: str) -> SubgraphSchema:
    """The subgraph's schema.

    Raises:
        CompositionFailed: the SDL is not GraphQL, or its links or root types cannot be understood.
    """
    document = _parsed(name, sdl)
    directives = [
        applied
        for node in document.definitions
        if isinstance(node, SchemaDefinitionNode | SchemaExtensionNode)
        for applied in node.directives or ()
    ]
    link_name, features = read_links(directives, name)
    vocabulary = Vocabulary.of(link_name, features)
    check_definitions(name, document, vocabulary.checked_directives(), vocabulary.known_types())
    check_graphql(name, document, vocabulary.definitions(document))
    return _Reader(name, vocabulary).schema(document, url=url, graph=graph)


def _parsed(name: str, sdl: str) -> DocumentNode:
    try:
        return parse_sdl(sdl)
    except GraphQLSyntaxError as error:
        places = tuple(SourceLocation(name, place.line, place.column) for place in error.locations or ())
        raise CompositionFailed(
            [CompositionError("INVALID_GRAPHQL", f"[{name}] {error.message}", (name,), places)]
        ) from error


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The names that one subgraph's SDL uses for what the specifications define."""

    link_name: str
    features: tuple[Feature, ...]
    federation: tuple[int, int]
    canonical: Mapping[str, str]
    """Directive name in the SDL to canonical name."""
    scalars: Mapping[str, str]
    """Federation scalar to its name in the SDL."""

    @classmethod
    def of(cls, link_name: str, features: tuple[Feature, ...]) -> "Vocabulary":
        canonical = {link_name: "link"}
        scalars = {}
        linked = next((feature for feature in features if feature.identity == specs.FEDERATION), None)
        if linked is None:
            canonical.update(
                {name: name for name, known in specs.FEDERATION_DIRECTIVES.items() if known.in_federation_1}
            )
            scalars = {"FieldSet": "_FieldSet"}
        else:
            for name, known in specs.FEDERATION_DIRECTIVES.items():
                if known.since <= linked.version:
                    canonical[linked.local(name)] = name
            for name in specs.FEDERATION_SCALARS:
                scalars[name] = linked.imports.get(name, f"{linked.namespace}__{name}")
        for feature in features:
            spec = specs.SPEC_BY_IDENTITY.get(feature.identity)
            known_here = spec.directives if spec and feature.version <= spec.version else ()
            if feature.identity == specs.CONNECT:
                known_here = tuple(specs.CONNECT_DIRECTIVES)
                scalars["JSON"] = f"{feature.namespace}__JSON"
            for directive in known_here:
                canonical[feature.local(directive)] = directive
        return cls(link_name, features, linked.version if linked else (1, 0), canonical, scalars)

    def known_directives(self) -> Mapping[str, str]:
        """Directive name in the SDL to its definition by the specifications, in SDL."""
        known = {self.link_name: specs.LINK_SDL.format(link=self.link_name)} if self.features else {}
        for local, name in self.canonical.items():
            if name in specs.FEDERATION_DIRECTIVES:
                text = specs.FEDERATION_DIRECTIVES[name].definition_in(self.federation)
            elif name in specs.CONNECT_DIRECTIVES:
                text = specs.CONNECT_DIRECTIVES[name]
            else:
                continue
            known[local] = f"directive @{local}{text.format(**self.scalars)}"
        return known

    def checked_directives(self) -> Mapping[str, str]:
        """The same, and in Federation 1 the directives that the subgraph has after its upgrade."""
        upgraded = {
            name: f"directive @{name}{known.definition.format_map(defaultdict(str, self.scalars))}"
            for name, known in specs.FEDERATION_DIRECTIVES.items()
            if self.federation < (2, 0) and known.since <= specs.UPGRADED_TO
        }
        return {**upgraded, **self.known_directives()}

    def known_types(self) -> Mapping[str, tuple[str, ...] | None]:
        """Types of the specifications by their names in the SDL: the values of enums, None for scalars."""
        return {
            **dict.fromkeys((*self.scalars.values(), "link__Import"), None),
            "link__Purpose": specs.LINK_PURPOSES,
        }

    def definitions(self, document: DocumentNode) -> str:
        """SDL for the directives and scalars that the document may use and does not define itself."""
        directives = {node.name.value for node in document.definitions if isinstance(node, DirectiveDefinitionNode)}
        types = {node.name.value for node in document.definitions if isinstance(node, TypeDefinitionNode)}
        lines = [text for local, text in self.known_directives().items() if local not in directives]
        if not self.features and self.link_name not in directives:
            lines.append(specs.LINK_SDL.format(link=self.link_name))
        # The values of `link__Purpose` are not looked at: a scalar does.
        lines.extend(f"scalar {name}" for name in self.known_types() if name not in types)
        return "\n".join(lines)

    @property
    def machinery_types(self) -> frozenset[str]:
        return specs.FEDERATION_MACHINERY_TYPES | {*self.scalars.values(), "link__Import", "link__Purpose"}


class _Reader:
    """Turns the AST of one subgraph into model values."""

    def __init__(self, name: str, vocabulary: Vocabulary) -> None:
        self._name = name
        self._vocabulary = vocabulary
        self._roots: dict[str, str] = {}

    def schema(self, document: DocumentNode, *, url: str, graph: str) -> SubgraphSchema:
        nodes: defaultdict[str, list[TypeDefinitionNode | TypeExtensionNode]] = defaultdict(list)
        schema_nodes: list[SchemaDefinitionNode | SchemaExtensionNode] = []
        directives: dict[str, DirectiveDef] = {}
        own = self._vocabulary.canonical.keys() | specs.GRAPHQL_DIRECTIVES
        for node in document.definitions:
            if isinstance(node, TypeDefinitionNode | TypeExtensionNode):
                nodes[node.name.value].append(node)
            elif isinstance(node, SchemaDefinitionNode | SchemaExtensionNode):
                schema_nodes.append(node)
            elif isinstance(node, DirectiveDefinitionNode) and node.name.value not in own:
                directives[node.name.value] = self._directive(node)
        self._roots = self._root_names(schema_nodes, nodes)
        types = {}
        machinery = self._vocabulary.machinery_types
        for name, parts in nodes.items():
            if name in machinery:
                continue
            type_def = self._type(parts)
            if type_def.name in ROOT_TYPES and not type_def.fields:
                continue
            types[type_def.name] = type_def
        # Every subgraph answers `Query._service`, so every subgraph has a Query type, though perhaps an empty one.
        types.setdefault("Query", TypeDef("Query", TypeKind.OBJECT))
        return SubgraphSchema(
            name=self._name,
            graph=graph,
            url=url,
            federation=self._vocabulary.federation,
            types=types,
            directives=directives,
            features=self._vocabulary.features,
            schema_directives=tuple(
                applied for node in schema_nodes for applied in self._applied(node.directives or ())
            ),
            local_names={name: local for local, name in self._vocabulary.canonical.items()},
        )

    def _root_names(
        self,
        schema_nodes: Sequence[SchemaDefinitionNode | SchemaExtensionNode],
        nodes: Mapping[str, Sequence[TypeDefinitionNode | TypeExtensionNode]],
    ) -> dict[str, str]:
        """Custom root type names to the default ones."""
        roots: dict[str, str] = {}
        for node in schema_nodes:
            for operation in node.operation_types or ():
                default = _OPERATION_ROOTS[operation.operation.value]
                given = operation.type.name.value
                if given == default:
                    continue
                if default in nodes:
                    raise CompositionFailed(
                        [
                            CompositionError(
                                f"ROOT_{operation.operation.value.upper()}_USED",
                                f'[{self._name}] The schema has a type named "{default}" but it is not set as the '
                                f'{operation.operation.value} root type ("{given}" is instead): this is not supported '
                                "by federation. If a root type does not use its default name, there should be no other "
                                "type with that default name.",
                                (self._name,),
                            )
                        ]
                    )
                roots[given] = default
        return roots

    def _type(self, parts: Sequence[TypeDefinitionNode | TypeExtensionNode]) -> TypeDef:
        ordered = sorted(parts, key=lambda node: isinstance(node, TypeExtensionNode))
        first = ordered[0]
        result = TypeDef(
            name=self._roots.get(first.name.value, first.name.value),
            kind=_KINDS[type(first)],
            description=_description(first),
            is_extension=isinstance(first, TypeExtensionNode),
            has_base=not isinstance(first, TypeExtensionNode),
            at=location(first, self._name),
        )
        directives: list[Applied] = []
        fields: dict[str, Field] = {}
        inputs: dict[str, InputValue] = {}
        values: dict[str, EnumValue] = {}
        members: dict[str, None] = {}
        interfaces: dict[str, None] = {}
        extensions = 0
        for node in ordered:
            applied = self._applied(node.directives or ())
            if isinstance(node, TypeExtensionNode):
                extensions += 1
                applied = tuple(replace(one, extension=extensions) for one in applied)
            directives.extend(applied)
            if isinstance(
                node,
                ObjectTypeDefinitionNode
                | ObjectTypeExtensionNode
                | InterfaceTypeDefinitionNode
                | InterfaceTypeExtensionNode,
            ):
                fields.update((field.name.value, self._field(field)) for field in node.fields or ())
                interfaces.update((implemented.name.value, None) for implemented in node.interfaces or ())
            elif isinstance(node, InputObjectTypeDefinitionNode | InputObjectTypeExtensionNode):
                inputs.update((value.name.value, self._input(value)) for value in node.fields or ())
            elif isinstance(node, EnumTypeDefinitionNode | EnumTypeExtensionNode):
                for value in node.values or ():
                    values[value.name.value] = EnumValue(
                        value.name.value,
                        _description(value),
                        self._applied(value.directives or ()),
                        location(value, self._name),
                    )
            elif isinstance(node, UnionTypeDefinitionNode | UnionTypeExtensionNode):
                members.update(
                    (self._roots.get(member.name.value, member.name.value), None) for member in node.types or ()
                )
        if result.name == "Query":
            fields = {name: field for name, field in fields.items() if name not in specs.FEDERATION_MACHINERY_FIELDS}
        return replace(
            result,
            directives=tuple(directives),
            is_extension=result.is_extension or any(one.name == "extends" for one in directives),
            fields=fields,
            inputs=inputs,
            values=values,
            members=tuple(members),
            interfaces=tuple(interfaces),
        )

    def _field(self, node: FieldDefinitionNode) -> Field:
        return Field(
            node.name.value,
            self._ref(node.type),
            {argument.name.value: self._input(argument) for argument in node.arguments} if node.arguments else {},
            _description(node),
            self._applied(node.directives) if node.directives else (),
            location(node, self._name),
        )

    def _input(self, node: InputValueDefinitionNode) -> InputValue:
        return InputValue(
            node.name.value,
            self._ref(node.type),
            value_text(node.default_value) if node.default_value is not None else None,
            _description(node),
            self._applied(node.directives) if node.directives else (),
            location(node, self._name),
        )

    def _directive(self, node: DirectiveDefinitionNode) -> DirectiveDef:
        return DirectiveDef(
            node.name.value,
            {argument.name.value: self._input(argument) for argument in node.arguments or ()},
            tuple(place.value for place in node.locations),
            bool(node.repeatable),
            _description(node),
            location(node, self._name),
        )

    def _applied(self, nodes: Iterable[ConstDirectiveNode]) -> tuple[Applied, ...]:
        canonical = self._vocabulary.canonical
        return tuple(
            Applied(
                canonical.get(node.name.value, node.name.value),
                tuple((arg.name.value, value_text(arg.value)) for arg in node.arguments or ()),
                location(node, self._name),
            )
            for node in nodes
        )

    def _ref(self, node: TypeNode) -> str:
        ref = _type_text(node)
        return renamed(ref, self._roots) if self._roots else ref


def _type_text(node: TypeNode) -> str:
    if isinstance(node, NonNullTypeNode):
        return f"{_type_text(node.type)}!"
    if isinstance(node, ListTypeNode):
        return f"[{_type_text(node.type)}]"
    return node.name.value  # type: ignore[attr-defined,no-any-return]  # TypeNode's third case is NamedTypeNode


def value_text(node: ValueNode) -> str:
    """A constant as one line of SDL, so that equal values have equal texts (block strings become plain ones)."""
    if isinstance(node, StringValueNode):
        return print_string(node.value)
    text = print_ast(node)
    if '"""' in text:
        return re.sub(r'"""(.*?)"""', lambda match: print_string(match[1]), text, flags=re.DOTALL)
    return text


def _description(node: object) -> str | None:
    described = getattr(node, "description", None)
    return described.value if described is not None else None
