"""The GraphQL face over a real database, statement by statement."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from graphql import GraphQLObjectType, build_schema
from sqlalchemy import event

from domain.principal import ANONYMOUS, Principal, Role
from domain.units import ResultUnits
from subgraphs.measurement.measurement.consumers import ResultUnitsChosen
from subgraphs.measurement.schema import schema
from subgraphs.runtime.context import RequestContext
from tests.integration.measurement.conftest import BASE_US, CARTRIDGE, DEVICE, OTHER, USER, Measurement, frame, user
from tests.integration.measurement.test_account_proof import prove
from tests.integration.operations.conftest import metadata_of
from tests.support.patience import PATIENCE_S

SESSION_FIELDS = (
    "id status verified calibrated frameCount device { id } cartridge { id } user { id } result { id value }"
)


async def ask(measurement: Measurement, query: str, who: Principal | None = None, **variables: Any) -> Any:
    """The result of an operation."""
    context = measurement.faces.graphql_context(RequestContext(principal=user() if who is None else who))
    return await schema.execute(query, variable_values=variables, context_value=context)


async def data(measurement: Measurement, query: str, who: Principal | None = None, **variables: Any) -> dict[str, Any]:
    result = await ask(measurement, query, who, **variables)
    assert result.errors is None, result.errors
    found: dict[str, Any] = result.data
    return found


async def measured(measurement: Measurement, level: float = 90.0, *, after_s: int = 0) -> str:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id, after_s + n, level=level, s_ref=0) for n in range(3)])
    await measurement.end(session_id)
    return session_id


@contextmanager
def counted(measurement: Measurement) -> Iterator[list[str]]:
    """The statements that are executed meanwhile, but for transaction control."""
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if not re.match(r"(BEGIN|COMMIT|ROLLBACK|SET)", statement):
            statements.append(statement)

    engine = measurement.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def test_a_session_shows_itself_its_result_and_its_neighbours(measurement: Measurement) -> None:
    first, second = await measured(measurement), await measured(measurement, 500)
    found = await data(
        measurement,
        f"query ($id: ID!) {{ measurementSession(id: $id) {{ {SESSION_FIELDS} endReason chainVerified"
        " result { unit confidence interpretation loincCode typeNameKo session { id } }"
        " similar(first: 3) { similarity session { id } } fhirBundle } }",
        id=second,
    )
    session = found["measurementSession"]
    assert session["status"] == "COMPLETED"
    assert session["endReason"] == "REQUESTED"
    assert session["frameCount"] == 3
    assert (session["device"]["id"], session["cartridge"]["id"], session["user"]["id"]) == (DEVICE, CARTRIDGE, USER)
    assert session["result"]["interpretation"] == "HH"
    assert session["result"]["loincCode"] == "2339-0"
    assert session["result"]["typeNameKo"] == "혈당"
    assert session["result"]["session"]["id"] == second
    assert session["chainVerified"] is True
    assert [near["session"]["id"] for near in session["similar"]] == [first]
    assert session["fhirBundle"]["entry"][0]["resource"]["id"] == second


async def test_a_person_reads_a_result_in_the_unit_that_they_choose(measurement: Measurement) -> None:
    fields = "value comparator text unit referenceLow referenceHigh loincCode"
    query = (
        "query ($id: ID!) { measurementSession(id: $id) { result { value unit text "
        f'mmol: inUnit(unit: "mmol/L") {{ {fields} spread }} mg: inUnit(unit: "mg/dL") {{ {fields} }} '
        'no: inUnit(unit: "mol/L") { value } } } }'
    )
    found = await data(measurement, query, id=await measured(measurement, 168))
    result = found["measurementSession"]["result"]
    assert (result["value"], result["unit"], result["text"], result["no"]) == (168, "mg/dL", "168", None)
    spread = result["mmol"].pop("spread")
    assert spread is not None
    assert tuple(result["mmol"].values()) == (9.3, None, "9.3", "mmol/L", 3.9, 5.5, "15074-8")
    assert tuple(result["mg"].values()) == (168, None, "168", "mg/dL", 70, 99, "2339-0")
    outside = await data(measurement, query, id=await measured(measurement, 700))
    above = outside["measurementSession"]["result"]
    assert (above["text"], above["mmol"]["text"], above["mmol"]["comparator"]) == (">600", ">33.3", ">")
    [row] = await measurement.fetch("SELECT DISTINCT unit FROM measurement_sessions")
    assert row["unit"] == "mg/dL"


async def choose(
    measurement: Measurement, chosen: ResultUnits, *, who: str = USER, ago: timedelta = timedelta()
) -> None:
    """The person has chosen a kind of unit in their profile, as user-service tells it."""
    consumers: Any = measurement.faces.services[0].consumers
    consumer = next(c for c in consumers if c.topic == ResultUnitsChosen.topic)
    event = ResultUnitsChosen(user_id=who, result_units=chosen, chosen_at=datetime.now(UTC) - ago)
    async with measurement.database.transaction() as session:
        await consumer.handle(session, event, metadata_of())


DISPLAY = (
    "query ($id: ID!) { measurementSession(id: $id) { result { value unit"
    " display { text unit referenceLow referenceHigh loincCode } } } }"
)


async def test_results_are_displayed_in_the_kind_of_unit_of_the_readers_profile(measurement: Measurement) -> None:
    session_id = await measured(measurement, 168)

    async def display(who: Principal | None = None) -> tuple[Any, ...]:
        found = await data(measurement, DISPLAY, who, id=session_id)
        result = found["measurementSession"]["result"]
        assert (result["value"], result["unit"]) == (168, "mg/dL")
        return tuple(result["display"].values())

    as_measured = ("168", "mg/dL", 70, 99, "2339-0")
    assert await display() == as_measured
    await choose(measurement, ResultUnits.AMOUNT)
    assert await display() == ("9.3", "mmol/L", 3.9, 5.5, "15074-8")
    await choose(measurement, ResultUnits.MASS, ago=timedelta(minutes=1))  # comes late, and is older
    assert await display() == ("9.3", "mmol/L", 3.9, 5.5, "15074-8")
    assert await display(user(OTHER, Role.ADMIN)) == as_measured  # it is the reader's choice that counts
    await choose(measurement, ResultUnits.AS_MEASURED)
    assert await display() == as_measured
    [row] = await measurement.fetch("SELECT DISTINCT unit FROM measurement_sessions")
    assert row["unit"] == "mg/dL"


async def test_an_invalid_result_and_one_outside_the_range_are_displayed_as_such(measurement: Measurement) -> None:
    await choose(measurement, ResultUnits.AMOUNT)
    above = await data(measurement, DISPLAY, id=await measured(measurement, 700))
    assert above["measurementSession"]["result"]["display"]["text"] == ">33.3"
    invalid = await data(measurement, DISPLAY, id=await measured(measurement, -500))
    assert invalid["measurementSession"]["result"]["display"]["text"] is None


async def test_the_unit_that_an_unproven_holder_chose_ends_with_the_proof(measurement: Measurement) -> None:
    await choose(measurement, ResultUnits.AMOUNT, ago=timedelta(minutes=2))
    await prove(measurement)
    await choose(measurement, ResultUnits.AMOUNT, ago=timedelta(minutes=1))  # was on its way
    found = await data(measurement, DISPLAY, id=await measured(measurement, 168))
    assert found["measurementSession"]["result"]["display"]["unit"] == "mg/dL"


async def test_results_are_paged_by_cursor_without_gap_or_repeat(measurement: Measurement) -> None:
    ids = []
    for number in range(5):
        measurement.clock.ahead = timedelta(hours=number)
        ids.append(await measured(measurement, 80 + number, after_s=3600 * number))
    query = (
        "query ($after: String) { measurements(first: 2, after: $after)"
        " { totalCount pageInfo { hasNextPage endCursor } edges { node { id value } } } }"
    )
    seen: list[str] = []
    after, more = None, True
    while more:
        page = (await data(measurement, query, after=after))["measurements"]
        assert page["totalCount"] == 5
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert seen == ids[::-1]
    since = datetime.fromtimestamp(BASE_US / 1e6, UTC) + timedelta(hours=2, minutes=30)
    filtered = await data(
        measurement,
        "query ($since: DateTime, $kind: CartridgeTypeFilter) "
        "{ measurements(since: $since, cartridgeType: $kind) { totalCount } }",
        since=since.isoformat(),
        kind={"categoryCode": 1, "typeIndex": 1},
    )
    assert filtered["measurements"]["totalCount"] == 2
    other_kind = "{ measurements(cartridgeType: {categoryCode: 2}) { totalCount } }"
    assert (await data(measurement, other_kind))["measurements"]["totalCount"] == 0


ENTITIES = """
    query ($representations: [_Any!]!) {
      _entities(representations: $representations) {
        ... on User { id measurements { edges { node { id } } } measurementSessions { totalCount } }
        ... on Device { id sessions { edges { node { id } } } }
        ... on Cartridge { id sessions { totalCount } }
        ... on MeasurementSession { id frameCount }
        ... on Measurement { id value }
      }
    }
"""


async def test_entities_of_every_kind_are_joined_in_order(measurement: Measurement) -> None:
    session_id = await measured(measurement)
    wanted = [("Device", DEVICE), ("MeasurementSession", session_id), ("User", USER), ("Cartridge", CARTRIDGE)]
    wanted += [("Measurement", session_id), ("MeasurementSession", "nonsense"), ("Device", "unused")]
    representations = [{"__typename": name, "id": key} for name, key in wanted]
    found = (await data(measurement, ENTITIES, representations=representations))["_entities"]
    assert found[0]["sessions"]["edges"][0]["node"]["id"] == session_id
    assert found[1] == {"id": session_id, "frameCount": 3}
    assert found[2]["measurements"]["edges"][0]["node"]["id"] == session_id
    assert found[2]["measurementSessions"]["totalCount"] == 1
    assert found[3]["sessions"]["totalCount"] == 1
    assert found[4] == {"id": session_id, "value": 90.0}
    assert found[5] is None
    assert found[6]["sessions"]["edges"] == []


async def test_many_entities_cost_as_many_statements_as_one(measurement: Measurement) -> None:
    ids = [await measured(measurement) for _ in range(6)]

    async def statements(count: int) -> int:
        representations: list[dict[str, str]] = []
        for number, session_id in enumerate(ids[:count]):
            representations += [
                {"__typename": "MeasurementSession", "id": session_id},
                {"__typename": "Device", "id": DEVICE if number == 0 else f"device-{number}"},
                {"__typename": "Measurement", "id": session_id},
            ]
        with counted(measurement) as seen:
            await data(measurement, ENTITIES, representations=representations)
        return len(seen)

    assert await statements(6) == await statements(1)


async def test_results_with_their_sessions_are_read_and_logged_once(measurement: Measurement) -> None:
    ids = {await measured(measurement), await measured(measurement, 120)}
    with counted(measurement) as statements:
        found = await data(
            measurement, "{ measurements { edges { node { value session { id frameCount result { value } } } } } }"
        )
    nodes = [edge["node"] for edge in found["measurements"]["edges"]]
    assert {node["session"]["id"] for node in nodes} == ids
    assert all(node["session"]["frameCount"] == 3 for node in nodes)
    assert [node["session"]["result"]["value"] for node in nodes] == [node["value"] for node in nodes]
    assert len([statement for statement in statements if "FROM measurement_sessions" in statement]) <= 2
    (logged,) = await measurement.fetch("SELECT action, resource_ids FROM health_data_access")
    assert (logged["action"], set(logged["resource_ids"])) == ("list", ids)


async def test_nobody_sees_what_belongs_to_another_person(measurement: Measurement) -> None:
    session_id = await measured(measurement)
    other = user(OTHER)
    refused = await ask(measurement, f'{{ measurementSession(id: "{session_id}") {{ id }} }}', other)
    assert refused.errors[0].extensions["code"] == "FORBIDDEN"
    representations = [
        {"__typename": "MeasurementSession", "id": session_id},
        {"__typename": "User", "id": USER},
        {"__typename": "Device", "id": DEVICE},
        {"__typename": "User", "id": OTHER},
    ]
    joined = await ask(measurement, ENTITIES, other, representations=representations)
    assert joined.data["_entities"][0] is None
    assert joined.data["_entities"][1]["measurements"] is None
    assert joined.data["_entities"][2]["sessions"]["edges"] == []
    assert joined.data["_entities"][3]["measurements"]["edges"] == []
    assert {error.extensions["code"] for error in joined.errors} == {"FORBIDDEN"}
    anonymous = await ask(measurement, "{ measurements { totalCount } }", ANONYMOUS)
    assert anonymous.errors[0].extensions["code"] == "UNAUTHENTICATED"


async def test_a_session_is_started_and_ended_by_mutations(measurement: Measurement) -> None:
    started = await data(
        measurement,
        "mutation ($input: StartMeasurementSessionInput!)"
        f" {{ startMeasurementSession(input: $input) {{ session {{ {SESSION_FIELDS} }} }} }}",
        input={"deviceId": DEVICE, "cartridgeId": CARTRIDGE},
    )
    session = started["startMeasurementSession"]["session"]
    assert (session["status"], session["verified"], session["calibrated"]) == ("ACTIVE", True, True)
    end = (
        "mutation ($id: ID!) { endMeasurementSession(sessionId: $id) { session { status frameCount result { id } } } }"
    )
    for _ in range(2):
        ended = await data(measurement, end, id=session["id"])
        assert ended["endMeasurementSession"]["session"] == {"status": "EMPTY", "frameCount": 0, "result": None}


async def test_a_wrong_page_is_a_clear_error(measurement: Measurement) -> None:
    for arguments in ("first: 0", "first: 101", 'after: "nonsense"'):
        result = await ask(measurement, f"{{ measurements({arguments}) {{ totalCount }} }}")
        assert result.errors[0].extensions["code"] == "BAD_USER_INPUT"


async def test_the_bundle_of_a_period_is_json(measurement: Measurement) -> None:
    await measured(measurement)
    found = await data(measurement, "{ measurementsFhirBundle }")
    assert len(found["measurementsFhirBundle"]["entry"]) == 1


async def test_frames_are_told_as_they_are_stored_until_the_session_ends(measurement: Measurement) -> None:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id, 0)])
    context = measurement.faces.graphql_context(RequestContext(principal=user()))
    subscription = "subscription ($id: ID!) { measurementFrames(sessionId: $id) { sequence value unit } }"
    results = await schema.subscribe(subscription, variable_values={"id": session_id}, context_value=context)
    told: list[Any] = []

    async def follow() -> None:
        async for result in results:
            assert result.data is not None
            told.append(result.data["measurementFrames"])

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        number = 0
        while not told:  # the subscription begins with the next frame after it looked
            number += 1
            await measurement.stream([frame(session_id, number)])
        await measurement.end(session_id)
        await following
    assert [one["sequence"] for one in told] == list(range(told[0]["sequence"], number + 2))
    assert told[0]["unit"] == "mg/dL"


@pytest.mark.parametrize("name", ["User", "Device", "Cartridge", "MeasurementSession", "Measurement", "Query"])
def test_every_field_of_the_schema_is_described(name: str) -> None:
    described = build_schema(schema.as_str(), assume_valid_sdl=True).get_type(name)
    assert isinstance(described, GraphQLObjectType)
    assert described.description
    own = {field: found for field, found in described.fields.items() if not field.startswith("_")}
    assert own
    assert [field for field, found in own.items() if not found.description] == []
