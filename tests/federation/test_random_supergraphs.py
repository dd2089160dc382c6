"""The equivalence with a monolith, over random supergraphs."""

import pytest

from tests.federation.graph import Federation
from tests.federation.operations import everything
from tests.federation.random_graph import RandomGraph


@pytest.mark.parametrize("seed", range(40))
async def test_a_random_operation_on_a_random_supergraph_gets_the_monoliths_answer(seed: int) -> None:
    federation = RandomGraph(seed).federation()
    schema = federation.engine.supergraph.api_schema
    for part in range(3):
        query = everything(schema, "Query", depth=3 + part % 2, chance=0.4 + part * 0.15, seed=seed * 10 + part)
        expected = federation.monolith(query)

        answer = await federation.ask(query)

        assert answer["data"] == expected["data"], f"{query}\n{federation.plan(query)}"
        assert not answer.get("errors")


@pytest.mark.parametrize("seed", range(8))
def test_a_plan_does_not_depend_on_what_was_planned_before(seed: int) -> None:
    graph = RandomGraph(seed)
    federation = graph.federation()
    schema = federation.engine.supergraph.api_schema
    queries = [everything(schema, "Query", depth=3, chance=0.5, seed=seed * 10 + part) for part in range(5)]
    forwards = [federation.plan(query) for query in queries]

    other = Federation(graph.sdl(), federation.universe)
    backwards = [other.plan(query) for query in reversed(queries)]

    assert forwards == backwards[::-1]
