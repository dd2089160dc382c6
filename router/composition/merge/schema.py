"""The merge as a whole: which types there are, of which kind, and each kind's own merge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router.composition import specs
from router.composition.errors import CompositionError, CompositionFailed, Hint, quoted
from router.composition.merge.authorization import check_transitive, spread_demands
from router.composition.merge.composed import ComposedDirectives, composed_directives
from router.composition.merge.context import MergeContext, Prepared, Source
from router.composition.merge.directives import merge_applied, merge_description
from router.composition.merge.enums import merge_enum_values
from router.composition.merge.executable import merge_executable_directives
from router.composition.merge.fields import add_interface_object_fields, merge_fields
from router.composition.merge.inputs import merge_input_fields
from router.composition.merge.interfaces import check_implementations, check_interfaces
from router.composition.merge.joined import joined_links, schema_join_directives
from router.composition.model import (
    ROOT_TYPES,
    Applied,
    DirectiveDef,
    SubgraphSchema,
    TypeDef,
    TypeKind,
)
from router.composition.overrides import Overrides
from router.composition.type_refs import named
from router.composition.upgrade import is_base


@dataclass(frozen=True, slots=True)
class Graph:
    """A value of the `join__Graph` enum."""

    enum: str
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Supergraph:
    """The merged schema, with the join directives already applied to its elements."""

    graphs: tuple[Graph, ...]
    join_version: tuple[int, int]
    types: Mapping[str, TypeDef]
    composed: ComposedDirectives
    executable_directives: tuple[DirectiveDef, ...]
    schema_directives: tuple[Applied, ...] = ()
    hints: tuple[Hint, ...] = ()

    def possible_types(self, name: str) -> tuple[str, ...]:
        """The object types that a value of the type can have."""
        found = self.types[name]
        if found.kind is TypeKind.UNION:
            return found.members
        if found.kind is TypeKind.INTERFACE:
            return tuple(
                other.name
                for other in self.types.values()
                if other.kind is TypeKind.OBJECT and name in other.interfaces
            )
        return (name,)


def merge_schemas(
    subgraphs: Sequence[Prepared], overrides: Overrides, *, found: Sequence[CompositionError] = ()
) -> Supergraph:
    """The supergraph of validated subgraphs.

    Args:
        found: errors known already; they are raised together with those of the merge.
    Raises:
        CompositionFailed: the subgraphs contradict each other.
    """
    schemas = [prepared.schema for prepared in subgraphs]
    composed = composed_directives(schemas)
    if composed.errors:
        raise CompositionFailed([*found, *composed.errors])
    context = MergeContext(
        subgraphs=subgraphs,
        overrides=overrides,
        composed_directives=composed.names,
        repeatable=composed.repeatable,
        subtypes=_subtypes(schemas),
        input_types=frozenset(_input_types(schemas, composed)),
        output_types=frozenset(_output_types(schemas)),
        errors=list(found),
        hints=list(composed.hints),
    )
    by_type: dict[str, list[Source[TypeDef]]] = {}
    for schema in schemas:
        for type_def in schema.types.values():
            by_type.setdefault(type_def.name, []).append(Source(schema, type_def))
    types: dict[str, TypeDef] = {}
    for name, sources in by_type.items():
        merged = _merge_type(context, name, sources)
        if merged is not None:
            types[name] = merged
    executable = tuple(merge_executable_directives(context, schemas))
    _check_queries(context, types)
    check_interfaces(context, types, by_type)
    if not context.errors:
        check_implementations(context, types, by_type)
    types = spread_demands(context, types)
    check_transitive(context, types, by_type)
    if not context.errors:
        types = add_interface_object_fields(context, types, by_type)
        types = _with_scoped_memberships(types)
    if context.errors:
        raise CompositionFailed(context.errors)
    newest = _newest_federation(context, schemas)
    return Supergraph(
        graphs=tuple(Graph(schema.graph, schema.name, schema.url) for schema in schemas),
        join_version=specs.join_version(newest),
        types=types,
        composed=composed,
        executable_directives=executable,
        schema_directives=(
            *joined_links(schemas),
            *schema_join_directives(schemas),
            *_schema_directives(schemas, composed),
        ),
        hints=tuple(context.hints),
    )


def _newest_federation(context: MergeContext, schemas: Sequence[SubgraphSchema]) -> tuple[int, int]:
    """The newest version that a subgraph links to, or that it needs for another specification that it links to."""
    newest = max((schema.federation for schema in schemas), default=(2, 0))
    for schema in schemas:
        needed = max((specs.federation_needed(one.identity, one.version) for one in schema.features), default=(0, 0))
        if needed > schema.federation:
            context.hint(
                "IMPLICITLY_UPGRADED_FEDERATION_VERSION",
                f'Subgraph "{schema.name}" has been implicitly upgraded from federation '
                f"v{schema.federation[0]}.{schema.federation[1]} to v{needed[0]}.{needed[1]}, which the specifications "
                "it links to need.",
                [Source(schema, schema)],
            )
            newest = max(newest, needed)
    return newest


def _merge_type(context: MergeContext, name: str, sources: Sequence[Source[TypeDef]]) -> TypeDef | None:
    kinds = {_kind(source.value): source for source in sources}
    if len(kinds) > 1:
        told = " but ".join(
            f"{kind.value} in {quoted([source.schema.name for source in sources if _kind(source.value) is kind])}"
            for kind in kinds
        )
        context.error("TYPE_KIND_MISMATCH", f'Type "{name}" has mismatched kind: it is defined as {told}', sources)
        return None
    kind = next(iter(kinds))
    if kind is TypeKind.INTERFACE and all(source.value.is_interface_object for source in sources):
        context.error(
            "INTERFACE_OBJECT_USAGE_ERROR",
            f'Type "{name}" is declared with @interfaceObject in all the subgraphs in which it is defined (it is '
            f"defined in {quoted([source.schema.name for source in sources])} but should be defined as an interface in "
            "at least one subgraph)",
            sources,
        )
        return None
    if name not in ROOT_TYPES and not any(is_base(source.schema, source.value) for source in sources):
        _report_no_base(context, name, sources)
        return None
    coordinate = f'"{name}"'
    merged = TypeDef(
        name=name,
        kind=kind,
        description=merge_description(context, coordinate, sources),
        directives=(*_joins(sources), *merge_applied(context, coordinate, sources)),
        interfaces=tuple(dict.fromkeys(interface for source in sources for interface in source.value.interfaces)),
    )
    match kind:
        case TypeKind.OBJECT | TypeKind.INTERFACE:
            _hint_entity(context, name, kind, sources)
            return replace(merged, fields=merge_fields(context, kind, sources))
        case TypeKind.INPUT:
            return replace(merged, inputs=merge_input_fields(context, sources))
        case TypeKind.ENUM:
            return replace(merged, values=merge_enum_values(context, sources))
        case TypeKind.UNION:
            members = _merge_members(context, name, sources)
            joins = _union_member_joins(sources, members)
            return replace(merged, members=members, directives=(*joins, *merged.directives))
        case TypeKind.SCALAR:
            return merged


def _kind(found: TypeDef) -> TypeKind:
    return TypeKind.INTERFACE if found.is_interface_object else found.kind


def _report_no_base(context: MergeContext, name: str, sources: Sequence[Source[TypeDef]]) -> None:
    for source in sources:
        context.error(
            "EXTENSION_WITH_NO_BASE",
            f'[{source.schema.name}] Type "{name}" is an extension type, but there is no type definition for "{name}" '
            "in any subgraph.",
            [source],
        )


def _hint_entity(context: MergeContext, name: str, kind: TypeKind, sources: Sequence[Source[TypeDef]]) -> None:
    keyed = [source.schema.name for source in sources if source.value.has("key")]
    if kind is TypeKind.OBJECT and keyed and len(keyed) < len(sources):
        lacking = [source.schema.name for source in sources if source.schema.name not in keyed]
        context.hint(
            "INCONSISTENT_ENTITY",
            f'Type "{name}" is declared as an entity (has a @key applied) in some but not all defining subgraphs: it '
            f"has no @key in {quoted(lacking)} but has some @key in {quoted(keyed)}.",
            sources,
        )


def _joins(sources: Sequence[Source[TypeDef]]) -> tuple[Applied, ...]:
    return (
        *(
            Applied("join__implements", (("graph", source.schema.graph), ("interface", f'"{interface}"')))
            for source in sources
            for interface in source.value.interfaces
        ),
        *(join for source in sources for join in _type_joins(source)),
    )


def _type_joins(source: Source[TypeDef]) -> list[Applied]:
    base = [("graph", source.schema.graph)]
    flags = []
    if _joins_as_extension(source):
        flags.append(("extension", "true"))
    if source.value.is_interface_object:
        flags.append(("isInterfaceObject", "true"))
    keys = source.value.all_applied("key")
    if not keys:
        return [Applied("join__type", tuple(base + flags))]
    joins = []
    for key in keys:
        resolvable = key.text("resolvable")
        joins.append(
            Applied(
                "join__type",
                (
                    *base,
                    ("key", key.text("fields") or '""'),
                    *flags,
                    *((("resolvable", resolvable),) if resolvable else ()),
                ),
            )
        )
    return joins


def _joins_as_extension(source: Source[TypeDef]) -> bool:
    """In Federation 1 `extend type` marked any use of another subgraph's entity, so there it means nothing."""
    found = source.value
    if found.name in ROOT_TYPES:
        return False
    if found.has("extends"):
        return True
    return source.schema.is_federation_2 and any(key.extension for key in found.all_applied("key"))


def _merge_members(context: MergeContext, name: str, sources: Sequence[Source[TypeDef]]) -> tuple[str, ...]:
    members = tuple(dict.fromkeys(member for source in sources for member in source.value.members))
    for member in members:
        lacking = [source.schema.name for source in sources if member not in source.value.members]
        if lacking:
            context.hint(
                "INCONSISTENT_UNION_MEMBER",
                f'Union type "{name}" includes member type "{member}" in some but not all defining subgraphs: it is '
                f"not defined in {quoted(lacking)}.",
                sources,
            )
    return members


def _with_scoped_memberships(types: Mapping[str, TypeDef]) -> dict[str, TypeDef]:
    """The types, without implementations of interfaces that did not survive."""
    return {
        name: replace(found, interfaces=tuple(interface for interface in found.interfaces if interface in types))
        for name, found in types.items()
    }


def _union_member_joins(sources: Sequence[Source[TypeDef]], members: Sequence[str]) -> tuple[Applied, ...]:
    """`@join__unionMember`: which subgraph knows which member."""
    return tuple(
        Applied("join__unionMember", (("graph", source.schema.graph), ("member", f'"{member}"')))
        for member in members
        for source in sources
        if member in source.value.members
    )


def _subtypes(schemas: Sequence[SubgraphSchema]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for schema in schemas:
        for type_def in schema.types.values():
            for interface in type_def.interfaces:
                found.setdefault(interface, set()).add(type_def.name)
            if type_def.members:
                found.setdefault(type_def.name, set()).update(type_def.members)
    return {name: frozenset(names) for name, names in found.items()}


def _input_types(schemas: Sequence[SubgraphSchema], composed: ComposedDirectives) -> set[str]:
    found: set[str] = set()
    for schema in schemas:
        for type_def in schema.types.values():
            found.update(named(value.type) for value in type_def.inputs.values())
            for field in type_def.fields.values():
                found.update(named(argument.type) for argument in field.args.values())
        for definition in schema.directives.values():
            if definition.name in composed.names:
                found.update(named(argument.type) for argument in definition.args.values())
    return found


def _output_types(schemas: Sequence[SubgraphSchema]) -> set[str]:
    return {
        named(field.type) for schema in schemas for found in schema.types.values() for field in found.fields.values()
    }


def _check_queries(context: MergeContext, types: Mapping[str, TypeDef]) -> None:
    query = types.get("Query")
    if query is None or not query.fields:
        context.error(
            "NO_QUERIES",
            "No queries found in any subgraph: a supergraph must have a query root type.",
        )


def _schema_directives(schemas: Sequence[SubgraphSchema], composed: ComposedDirectives) -> tuple[Applied, ...]:
    return tuple(
        dict.fromkeys(
            Applied(composed.names[applied.name], applied.args)
            for schema in schemas
            for applied in schema.schema_directives
            if applied.name in composed.names
        )
    )
