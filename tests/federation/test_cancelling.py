"""Requests that run side by side end together: when the client goes away, and when one of them breaks."""

import asyncio
from collections.abc import Mapping

import pytest
from graphql import OperationDefinitionNode, parse

from router.execution.run import CompiledPlan, Run
from router.planning.operation import normalize
from router.planning.planner import Planner
from router.supergraph.model import SubgraphName
from router.supergraph.read import read_supergraph
from tests.federation.shop import SHOP

_QUERY = "{ me { name } topProduct { name } reviews { body } }"


class _Waiting:
    """Answers nothing. breaking: the subgraph whose request breaks in a way that nobody foresaw."""

    def __init__(self, breaking: str | None = None) -> None:
        self.breaking = breaking
        self.asked: set[str] = set()
        self.cancelled: set[str] = set()
        self.all_asked = asyncio.Event()

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        self.asked.add(subgraph)
        if len(self.asked) == 3:
            self.all_asked.set()
        try:
            await self.all_asked.wait()
            if subgraph == self.breaking:
                raise ZeroDivisionError
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.add(subgraph)
            raise
        return b""


def _plan() -> CompiledPlan:
    supergraph = read_supergraph(SHOP)
    document = parse(_QUERY)
    definition = document.definitions[0]
    assert isinstance(definition, OperationDefinitionNode)
    operation = normalize(supergraph, document, definition, variables={})
    planned = Planner(supergraph).plan(operation)
    return CompiledPlan(supergraph, operation, planned)


async def test_a_client_that_goes_away_cancels_every_request() -> None:
    waiting = _Waiting()
    running = asyncio.create_task(_plan().run(Run(waiting, {}, {})))
    await waiting.all_asked.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert waiting.cancelled == {"people", "catalog", "reviews"}


@pytest.mark.parametrize("breaking", ["people", "catalog", "reviews"])
async def test_a_request_that_breaks_cancels_those_beside_it(breaking: str) -> None:
    waiting = _Waiting(breaking)

    with pytest.raises(BaseExceptionGroup) as raised:
        await _plan().run(Run(waiting, {}, {}))

    assert raised.group_contains(ZeroDivisionError)
    assert waiting.cancelled == {"people", "catalog", "reviews"} - {breaking}
