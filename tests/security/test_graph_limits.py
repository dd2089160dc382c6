"""What one request may make the graph do, with the limits that the platform runs with."""

import pytest

from tests.support.platform import Platform
from tests.support.readers import sign_up

pytestmark = [pytest.mark.xdist_group("security"), pytest.mark.timeout(120)]


def _similar(levels: int) -> str:
    """Sessions like sessions like sessions ...: fifty times as many at every level."""
    return "id" if levels == 0 else f"similar(first: 50) {{ session {{ {_similar(levels - 1)} }} }}"


async def test_lists_in_lists_in_lists_are_too_costly(platform: Platform) -> None:
    person = await sign_up(platform, "greedy")
    query = "query ($id: ID!) {{ measurementSession(id: $id) {{ {} }} }}"
    variables = {"id": "01890a5d-ac96-774b-bcce-b302099a8057"}
    [error] = (await platform.graphql(query.format(_similar(3)), variables, token=person.token))["errors"]
    assert error["extensions"]["code"] == "OPERATION_TOO_COSTLY"
    [error] = (await platform.graphql(query.format(_similar(1)), variables, token=person.token))["errors"]
    assert error["extensions"]["code"] == "NOT_FOUND"


async def test_whole_pages_of_joined_lists_are_served(platform: Platform) -> None:
    person = await sign_up(platform, "curious")
    answer = await platform.graphql(
        "{ me { devices(first: 50) { edges { node { sessions(first: 50) { edges { node { result { value }"
        " cartridge { type { nameEn } } } } } } } } measurements(first: 100) { edges { node { value session { device"
        " { name currentCartridge { id } } } } } } } }",
        token=person.token,
    )
    assert answer["data"]["me"] == {"devices": {"edges": []}, "measurements": {"edges": []}}
