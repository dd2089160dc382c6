"""Composition from end to end: read, upgrade, validate each subgraph, merge, validate the merge, satisfiability, print."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from graphql import GraphQLSchema

from router.composition.api import api_schema
from router.composition.contracts import with_contract
from router.composition.errors import CompositionError, CompositionFailed, Hint
from router.composition.graph_names import graph_names
from router.composition.merge import Prepared, Supergraph, merge_schemas
from router.composition.overrides import read_overrides
from router.composition.ownership import Ownership
from router.composition.printer import print_supergraph
from router.composition.read import read_subgraph
from router.composition.satisfiability import check_satisfiability
from router.composition.upgrade import upgrade
from router.composition.validate.inaccessible import check_inaccessible
from router.composition.validate.subgraph import check_subgraph

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Subgraph:
    """One subgraph to compose: its name, where it is served, and its SDL with federation directives."""

    name: str
    url: str
    sdl: str


@dataclass(frozen=True)
class Composition:
    """A supergraph, the schema it gives clients, and what could be better."""

    supergraph_sdl: str
    hints: tuple[Hint, ...]
    _supergraph: Supergraph = field(repr=False, compare=False)

    @cached_property
    def api_schema(self) -> GraphQLSchema:
        """What clients see. Built when first asked for."""
        return api_schema(self._supergraph)


def compose(
    subgraphs: Sequence[Subgraph], *, include_tags: Sequence[str] = (), exclude_tags: Sequence[str] = ()
) -> Composition:
    """Compose the subgraphs; equal input gives equal output, whatever the order of the subgraphs.

    Args:
        include_tags: where given, the API keeps only what carries one of these tags.
        exclude_tags: the API loses what carries one of these tags.
    Raises:
        CompositionFailed: with every error of the first stage that found any.
    """
    with _collection_paused():
        return _compose(subgraphs, frozenset(include_tags), frozenset(exclude_tags))


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Composition makes large trees and no cycles; the collector would walk them again and again, for more time than
    composing takes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _compose(subgraphs: Sequence[Subgraph], include: frozenset[str], exclude: frozenset[str]) -> Composition:
    _check_names(subgraphs)
    ordered = sorted(subgraphs, key=lambda subgraph: subgraph.name)
    enums = graph_names([subgraph.name for subgraph in ordered])
    prepared = _upgraded(_each(ordered, lambda one: _prepare(one, enums[one.name])))
    schemas = [one.schema for one in prepared]
    overrides, errors, hints = read_overrides(schemas)
    supergraph = merge_schemas(prepared, overrides, found=errors)
    _check_api(supergraph)
    satisfiability = check_satisfiability(supergraph, prepared, overrides)
    _raise_any(satisfiability.errors)
    if include or exclude:
        supergraph = with_contract(supergraph, include, exclude)
        _check_api(supergraph)
    return Composition(print_supergraph(supergraph), (*hints, *supergraph.hints, *satisfiability.hints), supergraph)


def _prepare(subgraph: Subgraph, graph: str) -> Prepared:
    schema = read_subgraph(subgraph.name, subgraph.url, subgraph.sdl, graph)
    prepared = Prepared(schema, Ownership.of(schema))
    if schema.is_federation_2:
        _raise_any(check_subgraph(schema, prepared.ownership))
    return prepared


def _upgraded(subgraphs: Sequence[Prepared]) -> list[Prepared]:
    """The subgraphs, with those of Federation 1 rewritten and checked as what they then are."""
    schemas = upgrade([one.schema for one in subgraphs])
    prepared = [
        one if schema is one.schema else Prepared(schema, Ownership.of(schema))
        for one, schema in zip(subgraphs, schemas, strict=True)
    ]
    _raise_any(
        error
        for one in prepared
        if not one.schema.is_federation_2
        for error in check_subgraph(one.schema, one.ownership)
    )
    return prepared


def _raise_any(errors: Iterable[CompositionError]) -> None:
    found = tuple(errors)
    if found:
        raise CompositionFailed(found)


def _check_api(supergraph: Supergraph) -> None:
    hidden = supergraph.composed.names.get("inaccessible")
    errors = list(check_inaccessible(supergraph.types, hidden)) if hidden else []
    if errors:
        raise CompositionFailed(errors)


def _each(subgraphs: Sequence[Subgraph], stage: Callable[[Subgraph], R]) -> list[R]:
    """The stage's result for each subgraph; errors of all subgraphs are reported together."""
    results: list[R] = []
    errors: list[CompositionError] = []
    for subgraph in subgraphs:
        try:
            results.append(stage(subgraph))
        except CompositionFailed as failure:
            errors.extend(failure.errors)
    if errors:
        raise CompositionFailed(errors)
    return results


def _check_names(subgraphs: Sequence[Subgraph]) -> None:
    errors = []
    seen: set[str] = set()
    for subgraph in subgraphs:
        if subgraph.name == "_" or not subgraph.name:
            errors.append(
                CompositionError(
                    "INVALID_SUBGRAPH_NAME", f'Invalid name "{subgraph.name}" for a subgraph.', (subgraph.name,)
                )
            )
        if subgraph.name in seen:
            errors.append(
                CompositionError(
                    "INVALID_SUBGRAPH_NAME", f'A subgraph named "{subgraph.name}" already exists.', (subgraph.name,)
                )
            )
        seen.add(subgraph.name)
    if errors:
        raise CompositionFailed(errors)
