"""The equivalence with a monolith over random federations: values, nulls, errors and their places."""

from typing import Any

import pytest

from router.execution.errors import SubgraphFailure
from tests.federation.explained import differences
from tests.federation.random_federation import RandomFederation, random_operation

OPERATIONS = 4
SEEDS = 30
"""Federations of each kind; `make fuzz` looks at new ones for as long as it is told."""


async def check(
    seed: int, *, faults: float = 0.0, lost: float = 0.0, broken: str = "", operations: int = OPERATIONS
) -> int:
    """Ask random operations of one random federation; how many. Fails on the first difference, with what is needed to see it."""
    made = RandomFederation(seed, faults=faults, lost=lost)
    given = made.federation()
    asked = 0
    for part in range(operations):
        query = random_operation(given.engine.supergraph.api_schema, seed * 1000 + part, depth=3 + part % 3)
        if query is None:
            continue
        asked += 1
        expected = given.monolith(query)
        if broken:
            given.broken[broken] = SubgraphFailure("away", code="SERVICE_UNAVAILABLE")
        answer = await given.ask(query)
        errors = [tuple(error["path"]) if "path" in error else None for error in answer.get("errors", ())]
        wrong = differences(answer["data"], expected["data"], errors)
        if lost:  # an entity that a subgraph does not know is null, which is no error where it may be
            wrong = [each for each in wrong if not each.endswith("no error says why")]
        elif not faults and not broken and (answer["data"] != expected["data"] or errors):
            wrong.append("the answer is not the monolith's, though nothing fails")
        if not broken and not lost and expected["errors"] and not errors:
            wrong.append("the monolith has errors and the answer none")
        mode = f"seed {seed}, part {part}, faults {faults}, lost {lost}, broken {broken!r}"
        assert not wrong, _report(mode, query, given.plan(query), wrong, answer, expected)
    return asked


def _report(mode: str, query: str, plan: str, wrong: list[str], *answers: Any) -> str:
    told = "\n".join(wrong[:10])
    return f"{mode}\n{query}\n{plan}\n{told}\n{answers[0]}\n{answers[1]}"


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_random_operation_on_a_random_federation_gets_the_monoliths_answer(seed: int) -> None:
    assert await check(seed) > 0


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_where_fields_are_null_or_fail_every_difference_is_explained_by_an_error(seed: int) -> None:
    assert await check(1000 + seed, faults=0.15) > 0


@pytest.mark.parametrize("seed", range(SEEDS // 2))
async def test_where_entities_are_unknown_no_value_is_wrong(seed: int) -> None:
    assert await check(3000 + seed, lost=0.2) > 0


@pytest.mark.parametrize("seed", range(SEEDS // 2))
async def test_where_a_subgraph_fails_every_difference_is_explained_by_an_error(seed: int) -> None:
    assert await check(2000 + seed, broken="abc"[seed % 3]) > 0


async def test_an_error_of_an_input_is_told_at_the_object_that_the_client_asked_for() -> None:
    """Found by `make fuzz`: the path of the error led to what only a sibling type was asked for."""
    assert await check(901374, faults=0.15, operations=3) > 0
