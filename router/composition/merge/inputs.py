"""Merging what clients send: arguments and the fields of input objects. Only what every subgraph knows is kept."""

from collections.abc import Sequence

from router.composition.errors import quoted
from router.composition.merge.context import MergeContext, Source
from router.composition.merge.directives import merge_applied, merge_description
from router.composition.merge.refs import merge_ref
from router.composition.model import Applied, Field, InputValue, TypeDef


def merge_arguments(context: MergeContext, coordinate: str, sources: Sequence[Source[Field]]) -> dict[str, InputValue]:
    """The arguments that all the sources have. Arguments filled by `@fromContext` are not the client's."""
    names = dict.fromkeys(name for source in sources for name in source.value.args)
    merged: dict[str, InputValue] = {}
    for name in names:
        found = [Source(source.schema, source.value.args[name]) for source in sources if name in source.value.args]
        contextual = [source for source in found if _is_contextual(source.value)]
        if contextual:
            _check_contextual(context, coordinate, name, sources, contextual)
            continue
        lacking = [source for source in sources if name not in source.value.args]
        if lacking:
            _report_missing_argument(context, f"{coordinate}({name}:)", found, lacking)
            continue
        merged[name] = _merge_input(context, f"{coordinate}({name}:)", found, what="argument")
    return merged


def _is_contextual(value: InputValue) -> bool:
    return any(applied.name == "fromContext" for applied in value.directives)


def _check_contextual(
    context: MergeContext,
    coordinate: str,
    name: str,
    sources: Sequence[Source[Field]],
    contextual: Sequence[Source[InputValue]],
) -> None:
    """Where one subgraph fills the argument from a context, the others must not need it from the client."""
    filled = {source.schema.name for source in contextual}
    for source in sources:
        argument = source.value.args.get(name)
        if source.schema.name in filled or argument is None:
            continue
        if argument.is_required:
            context.error(
                "CONTEXTUAL_ARGUMENT_NOT_CONTEXTUAL_IN_ALL_SUBGRAPHS",
                f'Argument "{coordinate}({name}:)" is contextual in at least one subgraph but in "{source.schema.name}" '
                "it does not have @fromContext, is required and has no default value.",
                [Source(source.schema, argument), *contextual],
            )
        else:
            context.hint(
                "CONTEXTUAL_ARGUMENT_NOT_CONTEXTUAL_IN_ALL_SUBGRAPHS",
                f'Argument "{coordinate}({name}:)" will not be added to the field in the supergraph: it is contextual '
                "in at least one subgraph.",
                [Source(source.schema, argument)],
            )


def _report_missing_argument(
    context: MergeContext, coordinate: str, found: Sequence[Source[InputValue]], lacking: Sequence[Source[Field]]
) -> None:
    mandatory = [source for source in found if source.value.is_required]
    absent = quoted([source.schema.name for source in lacking])
    if mandatory:
        context.error(
            "REQUIRED_ARGUMENT_MISSING_IN_SOME_SUBGRAPH",
            f'Argument "{coordinate}" is required in some subgraphs but does not appear in all subgraphs: it is '
            f"required in {quoted([source.schema.name for source in mandatory])} but does not appear in {absent}.",
            found,
        )
    else:
        context.hint(
            "INCONSISTENT_ARGUMENT_PRESENCE",
            f'Optional argument "{coordinate}" will not be included in the supergraph as it does not appear in all '
            f"subgraphs: it is defined in {quoted([source.schema.name for source in found])} but not in {absent}.",
            found,
        )


def merge_input_fields(context: MergeContext, sources: Sequence[Source[TypeDef]]) -> dict[str, InputValue]:
    """The fields that all the subgraphs with the input object give it."""
    type_name = sources[0].value.name
    names = dict.fromkeys(name for source in sources for name in source.value.inputs)
    merged: dict[str, InputValue] = {}
    for name in names:
        found = [Source(source.schema, source.value.inputs[name]) for source in sources if name in source.value.inputs]
        lacking = [source.schema.name for source in sources if name not in source.value.inputs]
        coordinate = f"{type_name}.{name}"
        if lacking:
            _report_missing_field(context, type_name, name, found, lacking)
            continue
        merged_field = _merge_input(context, coordinate, found, what="field")
        if any(source.value.type != merged_field.type for source in found):
            merged_field = _with_types(merged_field, found)
        merged[name] = merged_field
    if not merged and names:
        context.error(
            "EMPTY_MERGED_INPUT_TYPE",
            f'None of the fields of input object type "{type_name}" are consistently defined in all the subgraphs '
            "defining that type. As only fields common to all subgraphs are merged, this would result in an empty type.",
            sources,
        )
    return merged


def _report_missing_field(
    context: MergeContext, type_name: str, name: str, found: Sequence[Source[InputValue]], lacking: Sequence[str]
) -> None:
    mandatory = [source for source in found if source.value.is_required]
    if mandatory:
        context.error(
            "REQUIRED_INPUT_FIELD_MISSING_IN_SOME_SUBGRAPH",
            f'Input object field "{type_name}.{name}" is required in some subgraphs but does not appear in all '
            f"subgraphs: it is required in {quoted([source.schema.name for source in mandatory])} but does not appear "
            f"in {quoted(lacking)}.",
            found,
        )
    else:
        context.hint(
            "INCONSISTENT_INPUT_OBJECT_FIELD",
            f'Input object field "{name}" will not be added to "{type_name}" in the supergraph as it does not appear '
            f"in all subgraphs: it is defined in {quoted([source.schema.name for source in found])} but not in "
            f"{quoted(lacking)}.",
            found,
        )


def _with_types(merged: InputValue, sources: Sequence[Source[InputValue]]) -> InputValue:
    joins = tuple(
        Applied("join__field", (("graph", source.schema.graph), ("type", f'"{source.value.type}"')))
        for source in sources
    )
    return InputValue(merged.name, merged.type, merged.default, merged.description, (*joins, *merged.directives))


def _merge_input(
    context: MergeContext, coordinate: str, sources: Sequence[Source[InputValue]], *, what: str
) -> InputValue:
    is_argument = what == "argument"
    return InputValue(
        name=sources[0].value.name,
        type=merge_ref(
            context,
            f'{what} "{coordinate}"',
            sources,
            is_input=True,
            mismatch_code="FIELD_ARGUMENT_TYPE_MISMATCH" if is_argument else "FIELD_TYPE_MISMATCH",
        ),
        default=_merge_default(context, coordinate, sources, is_argument=is_argument),
        description=merge_description(context, f'"{coordinate}"', sources),
        directives=merge_applied(context, f'"{coordinate}"', sources),
    )


def _merge_default(
    context: MergeContext, coordinate: str, sources: Sequence[Source[InputValue]], *, is_argument: bool
) -> str | None:
    """The default that the sources share. Where only some give one, the supergraph gives none: each subgraph that has
    a default applies its own to a value left out."""
    given: dict[str, list[str]] = {}
    for source in sources:
        if source.value.default is not None:
            given.setdefault(source.value.default, []).append(source.schema.name)
    if not given:
        return None
    if len(given) > 1:
        told = " but ".join(f'default value "{value}" in {quoted(names)}' for value, names in given.items())
        context.error(
            "FIELD_ARGUMENT_DEFAULT_MISMATCH" if is_argument else "INPUT_FIELD_DEFAULT_MISMATCH",
            f'{"Argument" if is_argument else "Input field"} "{coordinate}" has incompatible default values across '
            f"subgraphs: it has {told}.",
            sources,
        )
        return None
    if any(source.value.default is None for source in sources):
        context.hint(
            "INCONSISTENT_DEFAULT_VALUE_PRESENCE",
            f'"{coordinate}" has a default value in only some subgraphs; it will have none in the supergraph.',
            sources,
        )
        return None
    return next(iter(given))
