"""Merging enums: which values survive depends on whether clients send the enum, receive it, or both."""

from collections.abc import Sequence

from router.composition.errors import quoted
from router.composition.merge.context import MergeContext, Source
from router.composition.merge.directives import merge_applied, merge_description
from router.composition.model import Applied, EnumValue, TypeDef


def merge_enum_values(context: MergeContext, sources: Sequence[Source[TypeDef]]) -> dict[str, EnumValue]:
    """Sent: the values all subgraphs know. Received (or unused): those any knows. Both: they must agree."""
    name = sources[0].value.name
    is_input, is_output = name in context.input_types, name in context.output_types
    merged: dict[str, EnumValue] = {}
    if not is_input and not is_output:
        context.hint(
            "UNUSED_ENUM_TYPE",
            f'Enum type "{name}" is defined but unused. It will be included in the supergraph with all the values '
            "appearing in any subgraph.",
            sources,
        )
    for value in dict.fromkeys(value for source in sources for value in source.value.values):
        found = [
            Source(source.schema, source.value.values[value]) for source in sources if value in source.value.values
        ]
        lacking = [source.schema.name for source in sources if value not in source.value.values]
        is_hidden = any(applied.name == "inaccessible" for source in found for applied in source.value.directives)
        if lacking and is_input and not is_hidden:
            if is_output:
                context.error(
                    "ENUM_VALUE_MISMATCH",
                    f'Enum type "{name}" is used as both input type and output type, but value "{value}" is not '
                    f'defined in all the subgraphs defining "{name}": it is defined in '
                    f"{quoted([source.schema.name for source in found])} but not in {quoted(lacking)}.",
                    found,
                )
            else:
                context.hint(
                    "INCONSISTENT_ENUM_VALUE_FOR_INPUT_ENUM",
                    f'Value "{value}" of enum type "{name}" will not be part of the supergraph as it is not defined in '
                    f'all the subgraphs defining "{name}": it is not defined in {quoted(lacking)}.',
                    found,
                )
                continue
        elif lacking and not is_hidden:
            context.hint(
                "INCONSISTENT_ENUM_VALUE_FOR_OUTPUT_ENUM",
                f'Value "{value}" of enum type "{name}" has been added to the supergraph but is only defined in a '
                f'subset of the subgraphs defining "{name}": it is not defined in {quoted(lacking)}.',
                found,
            )
        joins = tuple(Applied("join__enumValue", (("graph", source.schema.graph),)) for source in found)
        coordinate = f'"{name}.{value}"'
        merged[value] = EnumValue(
            value,
            merge_description(context, coordinate, found),
            (*joins, *merge_applied(context, coordinate, found)),
        )
    if not merged:
        context.error(
            "EMPTY_MERGED_ENUM_TYPE",
            f'None of the values of enum type "{name}" are defined consistently in all the subgraphs defining that type. '
            "As only values common to all subgraphs are merged, this would result in an empty type.",
            sources,
        )
    return merged
