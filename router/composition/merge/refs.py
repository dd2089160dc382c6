"""Merging the type references that subgraphs give to one field or argument."""

from collections.abc import Sequence
from typing import TypeVar

from router.composition.errors import quoted
from router.composition.merge.context import MergeContext, Source
from router.composition.model import Field, InputValue
from router.composition.type_refs import is_subtype

V = TypeVar("V", Field, InputValue)


def output_ref(context: MergeContext, refs: Sequence[str]) -> str | None:
    """The reference that each of the others is a subtype of, None where there is none."""
    merged = refs[0]
    for ref in refs[1:]:
        if is_subtype(merged, ref, context.is_possible):
            merged = ref
        elif not is_subtype(ref, merged, context.is_possible):
            return None
    return merged


def input_ref(context: MergeContext, refs: Sequence[str]) -> str | None:
    """The reference that is a subtype of each of the others: what every subgraph accepts."""
    merged = refs[0]
    for ref in refs[1:]:
        if is_subtype(ref, merged, context.is_possible):
            merged = ref
        elif not is_subtype(merged, ref, context.is_possible):
            return None
    return merged


def merge_ref(
    context: MergeContext, what: str, sources: Sequence[Source[V]], *, is_input: bool, mismatch_code: str
) -> str:
    """The merged reference; where there is none, the first one and an error."""
    refs = [source.value.type for source in sources]
    if len(set(refs)) == 1:
        return refs[0]
    merged = input_ref(context, refs) if is_input else output_ref(context, refs)
    if merged is None:
        context.error(
            mismatch_code,
            f"Type of {what} is incompatible across subgraphs: it has {told_apart(sources)}.",
            sources,
        )
        return refs[0]
    context.hint(
        "INCONSISTENT_BUT_COMPATIBLE_ARGUMENT_TYPE"
        if mismatch_code == "FIELD_ARGUMENT_TYPE_MISMATCH"
        else "INCONSISTENT_BUT_COMPATIBLE_FIELD_TYPE",
        f'Type of {what} is inconsistent but compatible across subgraphs: the supergraph uses "{merged}"; it has '
        f"{told_apart(sources)}.",
        sources,
    )
    return merged


def told_apart(sources: Sequence[Source[V]]) -> str:
    """`type "Int" in subgraph "a" but type "String" in subgraphs "b" and "c"`."""
    by_ref: dict[str, list[str]] = {}
    for source in sources:
        by_ref.setdefault(source.value.type, []).append(source.schema.name)
    return " but ".join(f'type "{ref}" in {quoted(names)}' for ref, names in by_ref.items())
