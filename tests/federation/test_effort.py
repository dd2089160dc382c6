"""Planning stays within a bounded effort, counted in candidate sets tried, and answers correctly whatever it took."""

import pytest
from graphql import OperationDefinitionNode, parse

from router.planning import combine
from router.planning.operation import normalize
from router.planning.query_graph import QueryGraph
from router.planning.walk import Walker
from tests.federation.crowded import crowded, deep
from tests.federation.graph import Federation


def _tried(federation: Federation, query: str) -> int:
    supergraph = federation.engine.supergraph
    document = parse(query)
    (definition,) = (d for d in document.definitions if isinstance(d, OperationDefinitionNode))
    operation = normalize(supergraph, document, definition, variables={})
    walker = Walker(QueryGraph(supergraph))
    walker.choose(operation.root_type, None, operation.selection)
    return walker.effort.tried


def test_effort_grows_with_the_depth_of_an_operation_no_faster_than_the_operation() -> None:
    federation = crowded(subgraphs=6, types=4, fields=8)
    tried = [_tried(federation, deep(types=4, fields=8, depth=depth)) for depth in (2, 4, 8, 16)]
    steps = [(tried[1] - tried[0]) / 2, (tried[2] - tried[1]) / 4, (tried[3] - tried[2]) / 8]
    assert max(steps) <= 1.5 * min(steps), tried


@pytest.mark.parametrize("subgraphs", [4, 12, 24])
def test_effort_grows_with_the_number_of_subgraphs_like_a_power_not_an_exponential(subgraphs: int) -> None:
    federation = crowded(subgraphs=subgraphs, types=4, fields=12)
    sites = 4 * 4 * subgraphs
    assert _tried(federation, deep(types=4, fields=12, depth=4)) <= sites * (2**6 + subgraphs**2)


async def test_many_equal_ways_still_give_the_monoliths_answer() -> None:
    federation = crowded(subgraphs=8, types=5, fields=10)
    query = deep(types=5, fields=10, depth=4)

    answer = await federation.ask(query)

    assert answer == {"data": federation.monolith(query)["data"]}


@pytest.mark.parametrize("budget", [0, 5, 40])
async def test_an_operation_beyond_the_budget_is_planned_worse_but_answered_right(
    budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combine, "MAX_SETS_TRIED", budget)
    federation = crowded(subgraphs=8, types=5, fields=10)
    query = deep(types=5, fields=10, depth=3)

    answer = await federation.ask(query)

    assert answer == {"data": federation.monolith(query)["data"]}


def test_beyond_twice_the_budget_no_site_is_weighed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = crowded(subgraphs=12, types=5, fields=12)
    query = deep(types=5, fields=12, depth=5)
    unlimited = _tried(federation, query)
    monkeypatch.setattr(combine, "MAX_SETS_TRIED", 0)
    assert _tried(federation, query) <= unlimited / 2
