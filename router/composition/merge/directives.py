"""Merging descriptions and directive applications."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TypeVar

from router.composition.merge.context import MergeContext, Source
from router.composition.merge.joined import join_directives
from router.composition.model import Applied, EnumValue, Field, InputValue, TypeDef
from router.composition.sdl_text import sdl_text

Described = TypeDef | Field | InputValue | EnumValue
E = TypeVar("E", TypeDef, Field, InputValue, EnumValue)

_ALWAYS_MERGED = frozenset({"deprecated", "specifiedBy", "oneOf"})


def merge_description(context: MergeContext, coordinate: str, sources: Sequence[Source[E]]) -> str | None:
    """The description most subgraphs give; among equals, the first."""
    counted = Counter(source.value.description for source in sources if source.value.description)
    if not counted:
        return None
    if len(counted) > 1:
        context.hint(
            "INCONSISTENT_DESCRIPTION",
            f"{coordinate} has inconsistent descriptions across subgraphs; the supergraph uses the most common one.",
            sources,
        )
    return counted.most_common(1)[0][0]


def merge_applied(context: MergeContext, coordinate: str, sources: Sequence[Source[E]]) -> tuple[Applied, ...]:
    """The applications that reach the supergraph: repeatable ones all, others combined into one."""
    by_name: dict[str, list[Source[Applied]]] = {}
    kept: tuple[Applied, ...] = join_directives((source.schema, source.value.directives) for source in sources)
    for source in sources:
        for applied in source.value.directives:
            if applied.name in _ALWAYS_MERGED or applied.name in context.composed_directives:
                by_name.setdefault(applied.name, []).append(Source(source.schema, applied))
    merged: list[Applied] = []
    for name, applications in by_name.items():
        local = context.composed_directives.get(name, name)
        distinct = list(dict.fromkeys(source.value for source in applications))
        if name == "context":
            distinct = [_scoped_context(source) for source in applications]
        if name in context.repeatable or len(distinct) == 1:
            merged.extend(Applied(local, applied.args) for applied in distinct)
        else:
            merged.append(Applied(local, _combined(context, coordinate, name, applications, distinct)))
    return (*kept, *merged)


def _scoped_context(source: Source[Applied]) -> Applied:
    """Context names belong to a subgraph: the supergraph calls `name` of subgraph `a` `a__name`."""
    return Applied(
        "context",
        (
            (
                "name",
                sdl_text(context_name(source.schema.name, source.value.string("name"))),
            ),
        ),
    )


def context_name(subgraph: str, name: str | None) -> str:
    return f"{subgraph}__{name}"


def _combined(
    context: MergeContext, coordinate: str, name: str, applications: Sequence[Source[Applied]], distinct: list[Applied]
) -> tuple[tuple[str, str], ...]:
    """The arguments of the one application that stands for several differing ones."""
    if name in ("requiresScopes", "policy", "cost", "listSize"):
        context.hint(
            "MERGED_NON_REPEATABLE_DIRECTIVE_ARGUMENTS",
            f"Directive @{name} is applied to {coordinate} in several subgraphs with different arguments. They have been "
            "combined into one application.",
            applications,
        )
    if name in ("requiresScopes", "policy"):
        argument = "scopes" if name == "requiresScopes" else "policies"
        return ((argument, sdl_text(all_of([applied.value(argument) for applied in distinct]))),)
    if name == "cost":
        return (("weight", str(max(_integers(applied.value("weight") for applied in distinct)))),)
    if name == "listSize":
        return tuple(_list_size(distinct))
    chosen, _ = Counter(source.value for source in applications).most_common(1)[0]
    context.hint(
        "INCONSISTENT_NON_REPEATABLE_DIRECTIVE_ARGUMENTS",
        f"Non-repeatable directive @{name} is applied to {coordinate} in several subgraphs but with different "
        f"arguments. The supergraph uses {chosen}.",
        applications,
    )
    return chosen.args


def all_of(alternatives: Iterable[object]) -> list[list[str]]:
    """Each input is an OR of ANDs; the result is the OR of ANDs that demands all of them, without redundant terms."""
    forms = [
        [frozenset(str(item) for item in every) for every in form if isinstance(every, list)]
        for form in alternatives
        if isinstance(form, list)
    ]
    terms = {frozenset().union(*choice) for choice in product(*forms)}
    minimal = [term for term in terms if not any(other < term for other in terms)]
    return sorted(sorted(term) for term in minimal)


def _integers(values: Iterable[object]) -> list[int]:
    return [value for value in values if isinstance(value, int)]


def _list_size(distinct: Sequence[Applied]) -> Iterable[tuple[str, str]]:
    assumed = _integers(applied.value("assumedSize") for applied in distinct)
    if assumed:
        yield "assumedSize", str(max(assumed))
    for argument in ("slicingArguments", "sizedFields"):
        lists = [value for applied in distinct if isinstance(value := applied.value(argument), list)]
        names = list(dict.fromkeys(str(name) for names in lists for name in names))
        if names:
            yield argument, sdl_text(names)
    if any(applied.text("requireOneSlicingArgument") == "false" for applied in distinct):
        yield "requireOneSlicingArgument", "false"
