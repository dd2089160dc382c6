"""Progressive `@override`: which label is active for whom, and that every choice gives the same answer."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from router.serving.engine import GraphQLRequest
from router.serving.identity import ANONYMOUS, Identity
from router.serving.settings import RouterSettings
from tests.federation.graph import Federation, Universe

SUPERGRAPH = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.4", for: EXECUTION) {
  query: Query
}
enum join__Graph {
  OLD @join__graph(name: "old", url: "http://old")
  NEW @join__graph(name: "new", url: "http://new")
  MID @join__graph(name: "mid", url: "http://mid")
}
type Query @join__type(graph: OLD) @join__type(graph: NEW) @join__type(graph: MID) {
  bill: Bill @join__field(graph: OLD)
  other: Int @join__field(graph: OLD)
}
type Bill @join__type(graph: OLD, key: "id") @join__type(graph: NEW, key: "id") @join__type(graph: MID, key: "id") {
  id: ID!
  amount: Int @join__field(graph: OLD, overrideLabel: "percent(25)")
    @join__field(graph: NEW, override: "old", overrideLabel: "percent(25)")
  note: String @join__field(graph: OLD, overrideLabel: "notes")
    @join__field(graph: NEW, override: "old", overrideLabel: "notes")
  tax: Int @join__field(graph: OLD, overrideLabel: "percent(100)")
    @join__field(graph: NEW, override: "old", overrideLabel: "percent(100)")
  rate: Int @join__field(graph: OLD, overrideLabel: "percent(0)")
    @join__field(graph: NEW, override: "old", overrideLabel: "percent(0)")
  total: Int @join__field(graph: MID, requires: "amount") @join__field(graph: OLD)
  sum: Int @join__field(graph: MID, requires: "amount")
}
"""


def bills(**settings: Any) -> Federation:
    bill = {"__typename": "Bill", "id": "1", "amount": 7, "note": "n", "tax": 1, "rate": 2, "total": 8, "sum": 9}
    return Federation(SUPERGRAPH, Universe({"bill": bill, "other": 3}, [bill]), RouterSettings.model_validate(settings))


async def asked_new(
    federation: Federation,
    field: str,
    *,
    headers: Mapping[str, str] | None = None,
    identity: Identity = ANONYMOUS,
) -> bool:
    """Whether the field was asked of the subgraph that takes it over."""
    request = GraphQLRequest(f"{{ bill {{ {field} }} }}")
    prepared = await federation.engine.prepare(request, identity, headers or {})
    return 'service: "new"' in str(prepared.compiled.plan)


async def test_nobody_and_everybody_are_exact() -> None:
    federation = bills()
    for _ in range(200):
        assert await asked_new(federation, "tax")
        assert not await asked_new(federation, "rate")


async def test_a_part_of_the_requests_is_that_part() -> None:
    federation = bills()
    chosen = sum([await asked_new(federation, "amount") for _ in range(2000)])
    assert 400 < chosen < 600  # 500 expected; five standard deviations are 97


async def test_a_caller_who_can_be_told_apart_always_falls_on_the_same_side() -> None:
    federation = bills()
    sides = []
    for number in range(400):
        caller = Identity(authenticated=True, subject=f"user-{number}")
        first = await asked_new(federation, "amount", identity=caller)
        assert all([await asked_new(federation, "amount", identity=caller) is first for _ in range(3)])
        sides.append(first)
    assert 57 < sum(sides) < 143  # 100 expected


async def test_a_header_tells_callers_apart_before_their_tokens_do() -> None:
    federation = bills(override_sticky_header="x-device")
    by_device = [
        {await asked_new(federation, "amount", headers={"x-device": str(n)}, identity=Identity(subject=str(user)))}
        | {
            await asked_new(
                federation, "amount", headers={"x-device": str(n)}, identity=Identity(subject=str(user + 1))
            )
        }
        for n in range(30)
        for user in range(3)
    ]
    assert all(len(sides) == 1 for sides in by_device)
    assert {True} in by_device
    assert {False} in by_device


async def test_two_labels_do_not_meet_the_same_people() -> None:
    federation = bills(override_labels={"notes": 25})
    both = neither = 0
    for number in range(400):
        caller = Identity(subject=str(number))
        sides = {await asked_new(federation, name, identity=caller) for name in ("amount", "note")}
        both, neither = both + (sides == {True}), neither + (sides == {False})
    assert both < 60  # 25 expected; 100 if they were one
    assert neither < 290  # 225 expected; 300 if they were one


@pytest.mark.parametrize(
    ("setting", "headers", "expected"),
    [
        ({}, {}, False),
        ({"notes": True}, {}, True),
        ({"notes": False}, {}, False),
        ({"notes": 0}, {}, False),
        ({"notes": 100}, {}, True),
        (["notes"], {}, True),
        ({"notes": {"header": "x-labels"}}, {}, False),
        ({"notes": {"header": "x-labels"}}, {"x-labels": "a, notes"}, True),
        ({"notes": {"header": "x-labels"}}, {"x-labels": "no-notes"}, False),
        ({"percent(25)": {"header": "x-labels"}}, {"x-labels": "notes"}, False),
    ],
)
async def test_other_labels_are_what_the_settings_say(setting: Any, headers: Mapping[str, str], expected: bool) -> None:
    federation = bills(override_labels=setting)
    assert [await asked_new(federation, "note", headers=headers) for _ in range(20)] == [expected] * 20


@pytest.mark.parametrize("setting", [{"a": 101}, {"a": -1}, {"a": "often"}, {"a": {"header": "X Labels"}}])
def test_a_setting_that_means_nothing_is_refused(setting: Any) -> None:
    with pytest.raises(ValidationError):
        RouterSettings(override_labels=setting)


@pytest.mark.parametrize("query", ["{ bill { amount note tax rate } }", "{ bill { total sum } }", "{ other }"])
async def test_every_choice_gives_the_same_answer(query: str) -> None:
    answers = [
        await bills(override_labels=labels).ask(query)
        for labels in (
            {"percent(25)": True, "notes": True, "percent(0)": True},
            {"percent(25)": False, "notes": False, "percent(100)": False},
        )
    ]
    assert answers[0] == answers[1]
    assert "errors" not in answers[0]


async def test_a_label_is_heeded_where_a_field_is_only_required() -> None:
    for active in (True, False):
        federation = bills(override_labels={"percent(25)": active})
        assert await asked_new(federation, "sum") is active


async def test_plans_are_kept_by_the_labels_that_an_operation_can_touch() -> None:
    federation = bills(override_labels={"notes": {"header": "x-labels"}, "percent(25)": False})
    engine = federation.engine

    async def plan_of(query: str, labels: str) -> int:
        prepared = await engine.prepare(GraphQLRequest(query), ANONYMOUS, {"x-labels": labels})
        return id(prepared.compiled)

    assert await plan_of("{ bill { note } }", "notes") != await plan_of("{ bill { note } }", "")
    assert await plan_of("{ other }", "notes") == await plan_of("{ other }", "")
    assert await plan_of("{ bill { note } }", "notes, a") == await plan_of("{ bill { note } }", "notes, b")
