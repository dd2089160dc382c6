"""Small sets of subgraphs, each with what composition is known to make of it: a supergraph, or certain error codes."""

from typing import Any

import pytest
from graphql import GraphQLSchema, introspection_from_schema

from router.composition import CompositionFailed, compose
from router.supergraph.read import read_supergraph
from tests.federation.composition.case_files import Case, essence, read_cases

CASES = read_cases()


@pytest.mark.parametrize("case", [case for case in CASES if not case.errors], ids=str)
def test_compatible_subgraphs_give_the_recorded_supergraph(case: Case) -> None:
    composed = compose(case.subgraphs)
    assert case.supergraph is not None
    assert essence(composed.supergraph_sdl) == case.supergraph
    assert composed.api_schema.query_type is not None


@pytest.mark.parametrize("case", [case for case in CASES if case.errors], ids=str)
def test_contradicting_subgraphs_are_refused_with_the_recorded_codes(case: Case) -> None:
    with pytest.raises(CompositionFailed) as failed:
        compose(case.subgraphs)
    assert sorted({error.code for error in failed.value.errors}) == sorted(case.errors)
    assert all(error.message for error in failed.value.errors)


@pytest.mark.parametrize("case", [case for case in CASES if not case.errors], ids=str)
def test_the_api_of_the_supergraph_is_that_of_the_composition(case: Case) -> None:
    composed = compose(case.subgraphs)
    assert api(read_supergraph(composed.supergraph_sdl).api_schema) == api(composed.api_schema)


def api(schema: GraphQLSchema) -> dict[str, object]:
    """What introspection tells, by name; without the router's own `@defer`."""
    told: dict[str, Any] = {**introspection_from_schema(schema, input_value_deprecation=True)["__schema"]}
    types: dict[str, dict[str, Any]] = {one["name"]: {**one} for one in told["types"]}
    for one in types.values():
        for listed in ("possibleTypes", "interfaces"):
            if one.get(listed):
                one[listed] = sorted(each["name"] for each in one[listed])
    told["types"] = types
    told["directives"] = {one["name"]: one for one in told["directives"] if one["name"] != "defer"}
    return told
