"""Which directives reach the supergraph, under which names, and with which `@link`s."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from router.composition import specs
from router.composition.errors import CompositionError, Hint, quoted
from router.composition.model import Applied, DirectiveDef, Feature, SubgraphSchema, TypeDef
from router.composition.sdl_text import sdl_text


@dataclass(frozen=True, slots=True)
class ComposedDirectives:
    names: Mapping[str, str]
    """Name in the subgraphs' models to name in the supergraph."""
    repeatable: frozenset[str]
    definitions: tuple[DirectiveDef | str, ...]
    """Definitions to print: of custom directives as values, of core directives as SDL."""
    scalars: tuple[str, ...]
    """Scalars that the core directives' arguments need."""
    links: tuple[Applied, ...]
    errors: tuple[CompositionError, ...] = ()
    hints: tuple[Hint, ...] = ()


def composed_directives(subgraphs: Sequence[SubgraphSchema]) -> ComposedDirectives:
    """Core directives that are used, and the custom ones that some subgraph composes by `@composeDirective`."""
    used = {name for schema in subgraphs for name in _applied_names(schema)}
    errors: list[CompositionError] = []
    hints: list[Hint] = []
    names: dict[str, str] = {}
    definitions: list[DirectiveDef | str] = []
    scalars: list[str] = []
    links: list[Applied] = []
    for spec in specs.CORE_SPECS:
        present = [directive for directive in spec.directives if directive in used]
        if not present:
            continue
        for directive in spec.directives:
            if directive not in used:
                unused = directive if directive == spec.name else f"{spec.name}__{directive}"
                definitions.append(f"directive @{unused}{specs.SUPERGRAPH_DIRECTIVES[directive]}")
        for directive in present:
            names[directive] = _supergraph_name(directive, subgraphs, errors)
            definitions.append(f"directive @{names[directive]}{specs.SUPERGRAPH_DIRECTIVES[directive]}")
        if spec.name == "context":
            definitions.append(
                "directive @context__fromContext(field: context__ContextFieldValue) on ARGUMENT_DEFINITION"
            )
        if spec.name in specs.SUPERGRAPH_SCALARS:
            scalars.append(specs.SUPERGRAPH_SCALARS[spec.name])
        links.append(_core_link(spec, present, names))
    repeatable = {"tag", "context"} & names.keys()
    for custom in _custom(subgraphs, errors, hints):
        names[custom.name] = custom.name
        definitions.append(custom.definition)
        if custom.definition.is_repeatable:
            repeatable.add(custom.name)
        if custom.link not in links:
            links.append(custom.link)
    return ComposedDirectives(
        names,
        frozenset(repeatable),
        tuple(definitions),
        tuple(scalars),
        _joined(links),
        tuple(errors),
        tuple(hints),
    )


def with_inaccessible(composed: ComposedDirectives) -> ComposedDirectives:
    """The same, with `@inaccessible` among the directives of the supergraph."""
    if "inaccessible" in composed.names:
        return composed
    spec = specs.SPEC_OF_DIRECTIVE["inaccessible"]
    names = {**composed.names, "inaccessible": "inaccessible"}
    return replace(
        composed,
        names=names,
        definitions=(*composed.definitions, f"directive @inaccessible{specs.SUPERGRAPH_DIRECTIVES['inaccessible']}"),
        links=(*composed.links, _core_link(spec, ["inaccessible"], names)),
    )


def _applied_names(schema: SubgraphSchema) -> Iterator[str]:
    for applied in schema.schema_directives:
        yield applied.name
    for found in schema.types.values():
        yield from _names(found)


def _names(found: TypeDef) -> Iterator[str]:
    for applied in found.directives:
        yield applied.name
    for field in found.fields.values():
        for applied in field.directives:
            yield applied.name
        for argument in field.args.values():
            for applied in argument.directives:
                yield applied.name
    for value in found.inputs.values():
        for applied in value.directives:
            yield applied.name
    for enum_value in found.values.values():
        for applied in enum_value.directives:
            yield applied.name


def _supergraph_name(directive: str, subgraphs: Sequence[SubgraphSchema], errors: list[CompositionError]) -> str:
    """The name that the subgraphs import the directive under; a namespaced name counts as the plain one."""
    by_name: dict[str, list[str]] = {}
    for schema in subgraphs:
        if directive not in set(_applied_names(schema)):
            continue
        local = schema.local_names.get(directive, directive)
        by_name.setdefault(local, []).append(schema.name)
    if len(by_name) > 1:
        told = " but ".join(f'"@{name}" in {quoted(where)}' for name, where in by_name.items())
        errors.append(
            CompositionError(
                "LINK_IMPORT_NAME_MISMATCH",
                f'The "@{directive}" directive is imported with mismatched name between subgraphs: it is imported as '
                f"{told}",
                tuple(name for where in by_name.values() for name in where),
            )
        )
    return next(iter(by_name), directive)


def _core_link(spec: specs.CoreSpec, present: Iterable[str], names: Mapping[str, str]) -> Applied:
    imports = []
    for directive in present:
        if names[directive] != directive:
            imports.append(f'{{name: "@{directive}", as: "@{names[directive]}"}}')
        elif directive != spec.name:
            imports.append(f'"@{directive}"')
    args = [("url", sdl_text(spec.url))]
    if imports:
        args.append(("import", f"[{', '.join(imports)}]"))
    if spec.purpose:
        args.append(("for", spec.purpose))
    return Applied("link", tuple(args))


@dataclass(frozen=True, slots=True)
class _Custom:
    name: str
    definition: DirectiveDef
    link: Applied


@dataclass(frozen=True, slots=True)
class _Use:
    """One subgraph's wish to compose one directive of one feature."""

    schema: SubgraphSchema
    local: str
    element: str
    feature: Feature


def _custom(
    subgraphs: Sequence[SubgraphSchema], errors: list[CompositionError], hints: list[Hint]
) -> Iterator[_Custom]:
    uses = [use for schema in subgraphs for use in _uses(schema, errors, hints)]
    by_element: dict[tuple[str, str], list[_Use]] = {}
    for use in uses:
        by_element.setdefault((use.feature.identity, use.element), []).append(use)
    for (identity, element), group in by_element.items():
        majors = {use.feature.version[0] for use in group}
        if len(majors) > 1:
            errors.append(
                _compose_error(
                    f'Core feature "{identity}" requested to be merged has major version mismatch across subgraphs',
                    [use.schema.name for use in group],
                )
            )
            continue
        locals_ = {use.local for use in group}
        if len(locals_) > 1:
            errors.append(
                _compose_error(
                    f'Composed directive is not named consistently in all subgraphs: "@{element}" is called '
                    f"{' and '.join(sorted('@' + name for name in locals_))}",
                    [use.schema.name for use in group],
                )
            )
            continue
        newest = max(reversed(group), key=lambda use: use.feature.version)
        definition = newest.schema.directives[newest.local]
        yield _Custom(newest.local, definition, _custom_link(newest))


def _uses(schema: SubgraphSchema, errors: list[CompositionError], hints: list[Hint]) -> Iterator[_Use]:
    for applied in schema.schema_directives:
        if applied.name != "composeDirective":
            continue
        name = applied.string("name")
        if not name or not name.startswith("@"):
            errors.append(
                _compose_error(
                    f'Argument to @composeDirective "{name}" in subgraph "{schema.name}" must have a leading "@"'
                    if name
                    else f'Argument to @composeDirective in subgraph "{schema.name}" cannot be NULL or an empty String',
                    [schema.name],
                )
            )
            continue
        local = name[1:]
        canonical = {known: key for key, known in schema.local_names.items()}.get(local)
        if canonical is not None:
            if canonical in specs.SPEC_OF_DIRECTIVE:
                hints.append(
                    Hint(
                        "DIRECTIVE_COMPOSITION_INFO",
                        f'Directive "{name}" should not be explicitly manually composed since it is a federation '
                        "directive composed by default",
                        (schema.name,),
                    )
                )
            else:
                errors.append(
                    _compose_error(
                        f'Composing federation directive "{name}" in subgraph "{schema.name}" is not supported',
                        [schema.name],
                    )
                )
            continue
        found = _feature_of(schema, local)
        if local not in schema.directives:
            errors.append(
                _compose_error(
                    f'Could not find matching directive definition for argument to @composeDirective "{name}" in '
                    f'subgraph "{schema.name}".',
                    [schema.name],
                )
            )
        elif found is None:
            errors.append(
                _compose_error(
                    f'Directive "{name}" in subgraph "{schema.name}" cannot be composed because it is not a member of '
                    "a core feature",
                    [schema.name],
                )
            )
        else:
            yield _Use(schema, local, found[1], found[0])


def _feature_of(schema: SubgraphSchema, local: str) -> tuple[Feature, str] | None:
    """The linked feature that the directive belongs to, and the directive's name there."""
    for feature in schema.features:
        for element, name in feature.imports.items():
            if name == f"@{local}":
                return feature, element[1:]
        if local == feature.namespace:
            return feature, feature.name
        if local.startswith(f"{feature.namespace}__"):
            return feature, local.removeprefix(f"{feature.namespace}__")
    return None


def _custom_link(use: _Use) -> Applied:
    args = [("url", sdl_text(use.feature.url))]
    alias = f'{{name: "@{use.element}", as: "@{use.local}"}}'
    args.append(("import", f'["@{use.element}"]' if use.element == use.local else f"[{alias}]"))
    return Applied("link", tuple(args))


def _joined(links: Sequence[Applied]) -> tuple[Applied, ...]:
    """One link a url: directives composed from one feature share it."""
    by_url: dict[str | None, Applied] = {}
    for link in links:
        known = by_url.get(link.text("url"))
        if known is None:
            by_url[link.text("url")] = link
            continue
        imports = [text[1:-1] for text in (known.text("import"), link.text("import")) if text]
        args = tuple(arg for arg in known.args if arg[0] != "import")
        by_url[link.text("url")] = Applied("link", (*args, ("import", f"[{', '.join(imports)}]")))
    return tuple(by_url.values())


def _compose_error(message: str, subgraphs: Sequence[str]) -> CompositionError:
    return CompositionError("DIRECTIVE_COMPOSITION_ERROR", message, tuple(subgraphs))
