"""A federated answer is the answer of one server with the whole schema, for any operation."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis_graphql import queries

from router.supergraph.read import read_supergraph
from tests.federation.operations import everything
from tests.federation.shop import SHOP, shop

_SCHEMA = read_supergraph(SHOP).api_schema


async def _assert_same(query: str) -> None:
    federation = shop()
    expected = federation.monolith(query)

    answer = await federation.ask(query)

    assert answer["data"] == expected["data"], federation.plan(query)
    assert bool(answer.get("errors")) == bool(expected["errors"]), answer["errors"]


@given(queries(_SCHEMA))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
async def test_a_generated_operation_gets_the_monoliths_answer(query: str) -> None:
    await _assert_same(query)


@pytest.mark.parametrize("seed", range(60))
async def test_a_random_deep_operation_gets_the_monoliths_answer(seed: int) -> None:
    await _assert_same(everything(_SCHEMA, "Query", depth=2 + seed % 4, chance=0.25 + (seed % 5) / 10, seed=seed))


async def test_an_operation_for_everything_gets_the_monoliths_answer() -> None:
    await _assert_same(everything(_SCHEMA, "Query", depth=3))
