"""Merging the fields of object and interface types, and saying with `@join__field` which subgraph resolves what."""

from collections.abc import Mapping, Sequence

from router.composition.errors import quoted
from router.composition.merge.context import MergeContext, Source
from router.composition.merge.directives import context_name, merge_applied, merge_description
from router.composition.merge.inputs import merge_arguments
from router.composition.merge.refs import merge_ref, told_apart
from router.composition.model import ROOT_TYPES, Applied, Field, FieldId, InputValue, TypeDef, TypeKind
from router.composition.sdl_text import sdl_text
from router.composition.type_refs import is_subtype
from router.composition.validate.from_context import parse_from_context

_MERGED_ON_EXTERNAL = frozenset(
    {"tag", "inaccessible", "authenticated", "requiresScopes", "policy", "cost", "listSize"}
)


def merge_fields(context: MergeContext, kind: TypeKind, sources: Sequence[Source[TypeDef]]) -> dict[str, Field]:
    """Every field that some subgraph gives the type, in order of first appearance."""
    merged: dict[str, Field] = {}
    for name in dict.fromkeys(name for source in sources for name in source.value.fields):
        field = _FieldMerge(context, kind, sources, name).result()
        if field is not None:
            merged[name] = field
    return merged


class _FieldMerge:
    """The merge of one field."""

    def __init__(self, context: MergeContext, kind: TypeKind, sources: Sequence[Source[TypeDef]], name: str) -> None:
        self._context = context
        self._kind = kind
        self._parents = sources
        self._id = FieldId(sources[0].value.name, name)
        self._sources = [
            Source(source.schema, source.value.fields[name]) for source in sources if name in source.value.fields
        ]

    def result(self) -> Field | None:
        owners = [source for source in self._sources if not self._is_external(source)]
        if owners:
            self._check_sharing([source for source in owners if not self._is_gone(source)] or owners)
        else:
            owners = self._added_to_interface()
        if not owners:
            self._context.error(
                "EXTERNAL_MISSING_ON_BASE",
                f'Field "{self._id}" is marked @external on all the subgraphs in which it is listed '
                f"({quoted([source.schema.name for source in self._sources])}).",
                self._sources,
            )
            return None
        coordinate = f'"{self._id}"'
        merged = Field(
            name=self._id.field,
            type=merge_ref(
                self._context,
                f"field {coordinate}",
                owners,
                is_input=False,
                mismatch_code="FIELD_TYPE_MISMATCH",
            ),
            args=merge_arguments(self._context, str(self._id), owners),
            description=merge_description(self._context, coordinate, self._sources),
        )
        self._check_externals(merged)
        self._hint_partial()
        return Field(
            merged.name,
            merged.type,
            merged.args,
            merged.description,
            (*self._joins(), *merge_applied(self._context, coordinate, owners)),
        )

    def _is_external(self, source: Source[Field]) -> bool:
        return self._id in self._context.ownership(source.schema.name).external

    def _added_to_interface(self) -> list[Source[Field]]:
        """The field in the subgraphs that resolve it for an interface of the type, by `@interfaceObject`."""
        interfaces = dict.fromkeys(name for source in self._parents for name in source.value.interfaces)
        found = [
            (prepared, prepared.schema.types[name])
            for prepared in self._context.subgraphs
            for name in interfaces
            if name in prepared.schema.types
        ]
        return [
            Source(prepared.schema, one.fields[self._id.field])
            for prepared, one in found
            if one.is_interface_object
            and self._id.field in one.fields
            and FieldId(one.name, self._id.field) not in prepared.ownership.external
        ]

    def _is_all_external(self, source: Source[TypeDef]) -> bool:
        """Whether the subgraph only names fields of the type that others resolve."""
        external = self._context.ownership(source.schema.name).external
        return all(FieldId(source.value.name, name) in external for name in source.value.fields)

    def _is_gone(self, source: Source[Field]) -> bool:
        return self._context.overrides.is_gone(self._id, source.schema.name)

    def _check_sharing(self, resolvers: Sequence[Source[Field]]) -> None:
        if self._id.type == "Subscription" and any(source.value.has("shareable") for source in resolvers):
            self._context.error(
                "INVALID_FIELD_SHARING",
                f'Field "{self._id}" cannot be @shareable: the root fields of subscriptions are resolved by one subgraph.',
                resolvers,
            )
            return
        if self._kind is TypeKind.INTERFACE and not any(
            source.schema.types[self._id.type].is_interface_object for source in resolvers
        ):
            return
        # While a labelled override is under way the field is in two places, but each request uses one of them.
        sharing = [
            source
            for source in resolvers
            if self._context.overrides.leaving(self._id, source.schema.name) is None
            and source.schema.types[self._id.type].kind is TypeKind.OBJECT
        ]
        provided = [
            source
            for source in self._sources
            if self._is_external(source) and self._id in self._context.ownership(source.schema.name).provided
        ]
        if len(sharing) + len(provided) < 2:
            return
        unshared = [
            source for source in sharing if self._id not in self._context.ownership(source.schema.name).shareable
        ]
        if unshared:
            self._context.error(
                "INVALID_FIELD_SHARING",
                f'Non-shareable field "{self._id}" is resolved from multiple subgraphs: it is resolved from '
                f"{quoted(sorted(source.schema.name for source in (*sharing, *provided)))} and defined as "
                "non-shareable in "
                + (
                    "all of them"
                    if len(unshared) == len(sharing) + len(provided)
                    else quoted([source.schema.name for source in unshared])
                ),
                sharing,
            )

    def _check_externals(self, merged: Field) -> None:
        """A field declared as external must look like the one it refers to."""
        external = [source for source in self._sources if self._is_external(source)]
        wrong = [source for source in external if source.value.type != merged.type]
        if wrong:
            self._context.error(
                "EXTERNAL_TYPE_MISMATCH",
                f'Type of field "{self._id}" is incompatible across subgraphs (where marked @external): it has type '
                f'"{merged.type}" in the supergraph but {told_apart(wrong)}.',
                wrong,
            )
        for name, argument in merged.args.items():
            self._check_external_argument(external, name, argument)

    def _check_external_argument(self, external: Sequence[Source[Field]], name: str, argument: InputValue) -> None:
        coordinate = f"{self._id}({name}:)"
        missing = [source for source in external if name not in source.value.args]
        if missing:
            self._context.error(
                "EXTERNAL_ARGUMENT_MISSING",
                f'Field "{self._id}" is missing argument "{coordinate}" in some subgraphs where it is marked @external: '
                f'argument "{coordinate}" is not declared in {quoted([source.schema.name for source in missing])}.',
                missing,
            )
        declared = [Source(source.schema, source.value.args[name]) for source in external if name in source.value.args]
        wrong = [
            source for source in declared if not is_subtype(argument.type, source.value.type, self._context.is_possible)
        ]
        if wrong:
            self._context.error(
                "EXTERNAL_ARGUMENT_TYPE_MISMATCH",
                f'Type of argument "{coordinate}" is incompatible across subgraphs (where "{self._id}" is marked '
                f'@external): it has type "{argument.type}" in the supergraph but {told_apart(wrong)}.',
                wrong,
            )
        differing = [source for source in declared if source.value.default != argument.default]
        if differing:
            self._context.error(
                "EXTERNAL_ARGUMENT_DEFAULT_MISMATCH",
                f'Argument "{coordinate}" has incompatible defaults across subgraphs (where "{self._id}" is marked '
                "@external).",
                differing,
            )

    def _hint_partial(self) -> None:
        lacking = [
            source
            for source in self._parents
            if self._id.field not in source.value.fields and not self._is_all_external(source)
        ]
        if not lacking or self._id.type in ROOT_TYPES or any(source.value.has("key") for source in self._parents):
            return
        if self._kind is TypeKind.INTERFACE:
            code = "INCONSISTENT_INTERFACE_VALUE_TYPE_FIELD"
        else:
            code = "INCONSISTENT_OBJECT_VALUE_TYPE_FIELD"
        self._context.hint(
            code,
            f'Field "{self._id}" of {self._kind.value} "{self._id.type}" is defined in some but not all subgraphs that '
            f'define "{self._id.type}": it is not defined in {quoted([source.schema.name for source in lacking])}.',
            self._sources,
        )

    def _joins(self) -> tuple[Applied, ...]:
        everywhere = len(self._sources) == len(self._parents)
        arguments = [self._join_arguments(source) for source in self._sources]
        if everywhere and not any(
            args is None or self._says_something(source, args)
            for source, args in zip(self._sources, arguments, strict=True)
        ):
            return ()
        return tuple(
            Applied("join__field", (("graph", source.schema.graph), *args.items()))
            for source, args in zip(self._sources, arguments, strict=True)
            if args is not None
        )

    def _says_something(self, source: Source[Field], arguments: Mapping[str, str]) -> bool:
        arriving = self._context.overrides.arriving(self._id, source.schema.name)
        return bool(arguments) and not (list(arguments) == ["override"] and arriving and not arriving.is_effective)

    def _join_arguments(self, source: Source[Field]) -> dict[str, str] | None:
        """What `@join__field` says besides the graph; None where the subgraph's field has no part in the supergraph."""
        name = source.schema.name
        overrides = self._context.overrides
        arguments: dict[str, str] = {}
        for directive in ("requires", "provides"):
            applied = source.value.applied(directive)
            if applied is not None:
                arguments[directive] = applied.text("fields") or '""'
        leaving, arriving = overrides.leaving(self._id, name), overrides.arriving(self._id, name)
        if len({other.value.type for other in self._sources}) > 1:
            arguments["type"] = sdl_text(source.value.type)
        if self._is_external(source):
            arguments["external"] = "true"
        if leaving is not None and leaving.label is None and "external" not in arguments:
            if not self._is_still_used(source):
                return None
            arguments["usedOverridden"] = "true"
        elif arriving is not None:
            arguments["override"] = sdl_text(arriving.source)
        label = (arriving or leaving).label if arriving or leaving else None  # type: ignore[union-attr]  # one is set
        if label is not None:
            arguments["overrideLabel"] = sdl_text(label)
        contextual = _context_arguments(source)
        if contextual:
            arguments["contextArguments"] = f"[{', '.join(contextual)}]"
        return arguments

    def _is_still_used(self, source: Source[Field]) -> bool:
        """Whether an overridden field still serves a key, a requirement, a provision or an interface."""
        if self._id in self._context.ownership(source.schema.name).used:
            return True
        parent = source.schema.types[self._id.type]
        return any(
            self._id.field in source.schema.types[interface].fields
            for interface in parent.interfaces
            if interface in source.schema.types
        )


def _context_arguments(source: Source[Field]) -> list[str]:
    found = []
    for argument in source.value.args.values():
        for applied in argument.directives:
            parsed = parse_from_context(applied.string("field") or "") if applied.name == "fromContext" else None
            if parsed is None:
                continue
            context = sdl_text(context_name(source.schema.name, parsed.context))
            found.append(
                f'{{context: {context}, name: "{argument.name}", type: "{argument.type}", '
                f"selection: {sdl_text(parsed.selection)}}}"
            )
    return found


def add_interface_object_fields(
    context: MergeContext, types: Mapping[str, TypeDef], by_type: Mapping[str, Sequence[Source[TypeDef]]]
) -> dict[str, TypeDef]:
    """The types, where each implementation of an interface also has the fields that subgraphs add to the interface by
    `@interfaceObject`."""
    added: dict[str, TypeDef] = {}
    for interface in types.values():
        if interface.kind is not TypeKind.INTERFACE:
            continue
        objects = [source for source in by_type[interface.name] if source.value.is_interface_object]
        names = dict.fromkeys(name for source in objects for name in source.value.fields)
        for found in types.values() if objects else ():
            if found.kind is not TypeKind.OBJECT or interface.name not in found.interfaces:
                continue
            current = added.get(found.name, found)
            fields = dict(current.fields)
            for name in names:
                resolvers = [source for source in objects if name in source.value.fields]
                if name in fields:
                    _check_sharing_through_interface(
                        context, FieldId(found.name, name), interface.name, resolvers, by_type
                    )
                elif name in interface.fields:
                    field = interface.fields[name]
                    kept = tuple(applied for applied in field.directives if not applied.name.startswith("join__"))
                    fields[name] = Field(
                        name, field.type, field.args, field.description, (Applied("join__field"), *kept)
                    )
            added[found.name] = _with_fields(current, fields)
    return {name: added.get(name, found) for name, found in types.items()}


def _with_fields(found: TypeDef, fields: Mapping[str, Field]) -> TypeDef:
    return TypeDef(
        name=found.name,
        kind=found.kind,
        description=found.description,
        directives=found.directives,
        fields=fields,
        interfaces=found.interfaces,
    )


def _check_sharing_through_interface(
    context: MergeContext,
    coordinate: FieldId,
    interface: str,
    resolvers: Sequence[Source[TypeDef]],
    by_type: Mapping[str, Sequence[Source[TypeDef]]],
) -> None:
    """A field of an implementation that an `@interfaceObject` also resolves must be shareable on both sides."""
    through = FieldId(interface, coordinate.field)

    def resolves(source: Source[TypeDef], at: FieldId) -> bool:
        return (
            at.field in source.value.fields
            and at not in context.ownership(source.schema.name).external
            and not context.overrides.is_gone(at, source.schema.name)
        )

    direct = [source for source in by_type[coordinate.type] if resolves(source, coordinate)]
    indirect = [source for source in resolvers if resolves(source, through)]
    if not direct or not indirect:
        return
    unshared = [source for source in direct if coordinate not in context.ownership(source.schema.name).shareable] + [
        source for source in indirect if through not in context.ownership(source.schema.name).shareable
    ]
    if unshared:
        everyone = [*direct, *indirect]
        told = [f'{source.schema.name}" (through @interfaceObject field "{through}")' for source in indirect]
        context.error(
            "INVALID_FIELD_SHARING",
            f'Non-shareable field "{coordinate}" is resolved from multiple subgraphs: it is resolved from '
            f'{quoted([source.schema.name for source in direct])} and "{", ".join(told)} and defined as non-shareable '
            f"in {quoted([source.schema.name for source in unshared])}",
            everyone,
        )
