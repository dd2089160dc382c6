"""Directives for operations: the supergraph has those that every subgraph understands, where all of them allow them."""

from collections.abc import Iterator, Sequence

from router.composition.errors import quoted
from router.composition.merge.context import MergeContext, Source
from router.composition.merge.directives import merge_description
from router.composition.merge.inputs import merge_arguments
from router.composition.model import DirectiveDef, Field, SubgraphSchema
from router.sdl import EXECUTABLE_LOCATIONS


def merge_executable_directives(context: MergeContext, schemas: Sequence[SubgraphSchema]) -> Iterator[DirectiveDef]:
    """The merged definitions; hints tell what is left out."""
    names = dict.fromkeys(
        definition.name
        for schema in schemas
        for definition in schema.directives.values()
        if not EXECUTABLE_LOCATIONS.isdisjoint(definition.locations)
        and definition.name not in context.composed_directives
    )
    for name in names:
        sources = [Source(schema, schema.directives[name]) for schema in schemas if name in schema.directives]
        merged = _merge(context, name, sources, schemas)
        if merged is not None:
            yield merged


def _merge(
    context: MergeContext, name: str, sources: Sequence[Source[DirectiveDef]], schemas: Sequence[SubgraphSchema]
) -> DirectiveDef | None:
    defining = [source.schema.name for source in sources]
    lacking = [schema.name for schema in schemas if schema.name not in defining]
    if lacking:
        context.hint(
            "INCONSISTENTEXECUTABLE_LOCATIONS_DIRECTIVE_PRESENCE",
            f'Executable directive "@{name}" will not be part of the supergraph as it does not appear in all subgraphs: '
            f"it is defined in {quoted(defining)} but not in {quoted(lacking)}.",
            sources,
        )
        return None
    places = [[place for place in source.value.locations if place in EXECUTABLE_LOCATIONS] for source in sources]
    common = tuple(place for place in places[0] if all(place in other for other in places))
    if not common:
        context.hint(
            "NOEXECUTABLE_LOCATIONS_DIRECTIVE_INTERSECTION",
            f'Executable directive "@{name}" has no location that is common to all subgraphs: it will not appear in the '
            "supergraph.",
            sources,
        )
        return None
    if any(len(other) > len(common) for other in places):
        context.hint(
            "INCONSISTENTEXECUTABLE_LOCATIONS_DIRECTIVE_LOCATIONS",
            f'Executable directive "@{name}" has inconsistent locations across subgraphs: the supergraph allows it only '
            f"where all of them do ({', '.join(common)}).",
            sources,
        )
    repeatable = {source.value.is_repeatable for source in sources}
    if len(repeatable) > 1:
        context.hint(
            "INCONSISTENTEXECUTABLE_LOCATIONS_DIRECTIVE_REPEATABLE",
            f'Executable directive "@{name}" will not be repeatable in the supergraph as it is not in all subgraphs.',
            sources,
        )
    as_fields = [
        Source(source.schema, Field(name, "", source.value.args, source.value.description)) for source in sources
    ]
    return DirectiveDef(
        name,
        merge_arguments(context, f"@{name}", as_fields),
        common,
        repeatable == {True},
        merge_description(context, f'"@{name}"', as_fields),
    )
