"""One graph over three subgraphs: joins over live data, partial answers, and what nobody else may see."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from devices.client.platform import Platform as ReaderSide
from domain.catalog import Group
from domain.sealing import Sealer, derive_key
from tests.e2e.running import running_platform
from tests.support.patience import PATIENCE_S
from tests.support.platform import SECRETS, Platform, Reply
from tests.support.postgres import PostgresServer
from tests.support.readers import Person, Reader, new_reader, sign_up, technician
from tests.support.shared import run

pytestmark = [pytest.mark.xdist_group("e2e-graph"), pytest.mark.timeout(150)]

_log = logging.getLogger(__name__)

SESSIONS = 3


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Platform]:
    """The hardware group runs in a process of its own, which may be stopped."""
    home = tmp_path_factory.mktemp("apart")
    with running_platform(home, postgres.settings, {"GRPC_AUTH": "strict"}, apart=(Group.HARDWARE,)) as started:
        yield started


@dataclass(frozen=True, slots=True)
class Owned:
    """A person with a reader that has measured."""

    person: Person
    reader: Reader
    sessions: tuple[str, ...]
    calibration_id: str


@asynccontextmanager
async def measuring(platform: Platform) -> AsyncIterator[tuple[ReaderSide, Person, Reader]]:
    async with platform.reader_side() as side:
        person = await sign_up(platform)
        yield side, person, await new_reader(side, person, await technician(platform))


async def measure(reader: Reader, glucose_mg_dl: float) -> str:
    async with reader.client.session(reader.plan) as session:
        for frame in reader.frames(glucose_mg_dl, 5):
            await session.send(frame)
    return session.session_id


async def _own(platform: Platform) -> Owned:
    async with measuring(platform) as (_, person, reader):
        sessions = tuple([await measure(reader, 90.0 + 20 * number) for number in range(SESSIONS)])
    answer = await platform.graphql(
        "query ($id: ID!) { device(id: $id) { calibrations { edges { node { id } } } } }",
        {"id": reader.device_id},
        token=person.token,
    )
    calibration = answer["data"]["device"]["calibrations"]["edges"][0]["node"]["id"]
    return Owned(person, reader, sessions, calibration)


@pytest.fixture(scope="module")
def owned(apart: Platform) -> Owned:
    return run(lambda: _own(apart))


# The cartridge is one that nobody has read: what is started is unverified, and takes no use.
START = """mutation Start($id: ID!) {
  startMeasurementSession(input: {deviceId: $id, cartridgeId: "never-read"}) { session { id } } }"""

JOINED = """query Joined($first: Int!) {
  me { id email displayName
    devices(first: 5) { edges { node { id firmwareVersion status owner { displayName }
      currentCalibration(categoryCode: 1, typeIndex: 1) { alpha status }
      sessions(first: $first) { totalCount edges { node { id result { value } } } } } } }
    measurements(first: $first) { totalCount edges { node { value unit interpretation
      session { id verified calibrated frameCount chainVerified
        user { id displayName }
        device { id firmwareVersion }
        cartridge { id lotId remainingUses type { nameEn nameKo unit criticalLow } } } } } } } }"""


async def requests_of(platform: Platform, work: Callable[[], Awaitable[object]]) -> dict[str, int]:
    """How many requests the router sent to each subgraph for the work."""
    before = await platform.subgraph_requests()
    await work()
    after = await platform.subgraph_requests()
    return {name: after[name] - before[name] for name in after}


async def test_one_query_joins_live_data_of_all_three_subgraphs(apart: Platform, owned: Owned) -> None:
    answer = await apart.graphql(JOINED, {"first": 10}, token=owned.person.token)
    assert "errors" not in answer, answer
    me = answer["data"]["me"]
    assert (me["id"], me["email"]) == (owned.person.user_id, owned.person.email)
    [device] = [edge["node"] for edge in me["devices"]["edges"]]
    assert (device["id"], device["firmwareVersion"]) == (owned.reader.device_id, "1.0.0")
    assert device["owner"]["displayName"] == me["displayName"]
    assert device["currentCalibration"]["status"] == "VALID"
    assert {edge["node"]["id"] for edge in device["sessions"]["edges"]} == set(owned.sessions)
    assert me["measurements"]["totalCount"] == SESSIONS
    measured = [edge["node"] for edge in me["measurements"]["edges"]]
    assert [node["session"]["id"] for node in measured] == list(reversed(owned.sessions))
    for node, true_mg_dl in zip(reversed(measured), (90.0, 110.0, 130.0), strict=True):
        assert node["unit"] == "mg/dL"
        assert node["value"] == pytest.approx(true_mg_dl, rel=0.12)
        session = node["session"]
        assert session["verified"]
        assert session["calibrated"]
        assert session["chainVerified"]
        assert session["frameCount"] == 5
        assert session["user"] == {"id": owned.person.user_id, "displayName": me["displayName"]}
        assert session["device"] == {"id": owned.reader.device_id, "firmwareVersion": "1.0.0"}
        assert session["cartridge"]["remainingUses"] == 10 - SESSIONS
        assert session["cartridge"]["type"]["nameKo"] == "혈당"


async def test_the_number_of_subgraph_requests_does_not_grow_with_the_data(apart: Platform, owned: Owned) -> None:
    async def ask(first: int) -> None:
        answer = await apart.graphql(JOINED, {"first": first}, token=owned.person.token)
        assert len(answer["data"]["me"]["measurements"]["edges"]) == first

    few = await requests_of(apart, lambda: ask(1))
    many = await requests_of(apart, lambda: ask(SESSIONS))
    _log.info("requests for the joined query: %s", many)
    assert few == many
    # me; its devices and measurements; their sessions and their devices and cartridges; the users of both.
    assert many["identity"] <= 3
    assert many["hardware"] <= 3
    assert many["measurement"] <= 2


async def test_mutations_run_one_after_the_other(apart: Platform) -> None:
    person = await sign_up(apart)
    device_id = f"ordered-{person.user_id[:13]}"
    answer = await apart.graphql(
        """mutation Ordered($id: ID!) {
             registered: registerDevice(input: {deviceId: $id, serialNumber: $id_, firmwareVersion: "1.0.0"}) {
               device { id name } registrationToken }
             first: updateDevice(input: {id: $id, name: "first"}) { name }
             started: startMeasurementSession(input: {deviceId: $id, cartridgeId: "nobody-read-it"}) {
               session { status verified device { name } } }
             second: updateDevice(input: {id: $id, name: "second"}) { name }
             profile: updateProfile(input: {displayName: "Ordered"}) { user { displayName
               devices(first: 2) { edges { node { name } } } } } }""".replace("$id_", f'"SN-{device_id}"'),
        {"id": device_id},
        token=person.token,
    )
    assert "errors" not in answer, answer
    data = answer["data"]
    assert list(data) == ["registered", "first", "started", "second", "profile"]
    assert data["registered"]["device"]["id"] == device_id
    assert data["registered"]["registrationToken"]
    assert data["started"]["session"] == {"status": "ACTIVE", "verified": False, "device": {"name": "first"}}
    assert data["second"]["name"] == "second"
    [edge] = data["profile"]["user"]["devices"]["edges"]
    assert edge["node"]["name"] == "second"


async def test_a_stopped_subgraph_costs_only_its_part_of_the_answer(apart: Platform, owned: Owned) -> None:
    await apart.stop_group(Group.HARDWARE)
    try:
        answer = await apart.graphql(JOINED, {"first": 2}, token=owned.person.token)
        started = await apart.graphql(START, {"id": owned.reader.device_id}, token=owned.person.token)
    finally:
        await apart.start_group(Group.HARDWARE)
    me = answer["data"]["me"]
    assert me["email"] == owned.person.email
    assert me["devices"] is None
    assert len(me["measurements"]["edges"]) == 2
    assert me["measurements"]["edges"][0]["node"]["value"] > 0
    assert answer["errors"]
    for error in answer["errors"]:
        assert error["extensions"]["code"] == "SERVICE_UNAVAILABLE"
        assert error["extensions"]["serviceName"] == "hardware"
        assert error["path"][0] == "me"
    # A session is not started unverified only because nobody can be asked.
    assert started["errors"][0]["extensions"]["code"] == "SERVICE_UNAVAILABLE"
    again = await apart.graphql(JOINED, {"first": 2}, token=owned.person.token)
    assert "errors" not in again, "it recovers by itself"
    # The services' own calls to it do, too: the one that is let through after a pause finds it.
    async with asyncio.timeout(PATIENCE_S):
        while "errors" in await apart.graphql(  # noqa: ASYNC110 - only asking tells
            START, {"id": owned.reader.device_id}, token=owned.person.token
        ):
            await asyncio.sleep(0.2)


def _found_nothing(answer: dict[str, Any], field: str) -> None:
    """Null with an error that does not say whether the thing exists for somebody else, or plain null."""
    assert (answer.get("data") or {}).get(field) is None, answer
    for error in answer.get("errors", ()):
        assert error["extensions"]["code"] in {"FORBIDDEN", "NOT_FOUND"}, answer


async def test_another_person_sees_nothing_of_mine(apart: Platform, owned: Owned) -> None:
    stranger = await sign_up(apart, "stranger")
    attempts: dict[str, tuple[str, str]] = {
        "device": ("query ($id: ID!) { device(id: $id) { id name serialNumber } }", owned.reader.device_id),
        "measurementSession": (
            "query ($id: ID!) { measurementSession(id: $id) { id status frameCount result { value } } }",
            owned.sessions[0],
        ),
        "user": (
            (
                "query ($id: ID!) { user(id: $id) { id email devices { totalCount } measurements { totalCount }"
                " measurementSessions { totalCount } } }"
            ),
            owned.person.user_id,
        ),
        "measurements": ("query ($id: ID!) { measurements(userId: $id) { totalCount } }", owned.person.user_id),
        "measurementsFhirBundle": ("query ($id: ID!) { measurementsFhirBundle(userId: $id) }", owned.person.user_id),
        "endMeasurementSession": (
            "mutation ($id: ID!) { endMeasurementSession(sessionId: $id) { session { id } } }",
            owned.sessions[0],
        ),
        "updateDevice": (
            'mutation ($id: ID!) { updateDevice(input: {id: $id, name: "mine now"}) { name } }',
            owned.reader.device_id,
        ),
        "removeDevice": ("mutation ($id: ID!) { removeDevice(id: $id) }", owned.reader.device_id),
        "sendDeviceCommand": (
            "mutation ($id: ID!) { sendDeviceCommand(input: {deviceId: $id, type: REBOOT}) { id } }",
            owned.reader.device_id,
        ),
        "requestOtaUpdate": (
            "mutation ($id: ID!) { requestOtaUpdate(input: {deviceId: $id}) { downloadUrl } }",
            owned.reader.device_id,
        ),
        "performFieldCalibration": (
            (
                "mutation ($id: ID!) { performFieldCalibration(input: {deviceId: $id, categoryCode: 1, typeIndex: 1,"
                " referenceValues: [80, 120, 200], measuredValues: [81, 119, 202], temperatureC: 23, humidityPct: 45})"
                " { id } }"
            ),
            owned.reader.device_id,
        ),
        "startMeasurementSession": (
            (
                "mutation ($id: ID!) { startMeasurementSession(input: {deviceId: $id, cartridgeId: $id})"
                " { session { id } } }"
            ),
            owned.reader.device_id,
        ),
        "updateProfile": (
            'mutation ($id: ID!) { updateProfile(input: {userId: $id, displayName: "x"}) { user { id } } }',
            owned.person.user_id,
        ),
    }
    for field, (query, node_id) in attempts.items():
        _found_nothing(await apart.graphql(query, {"id": node_id}, token=stranger.token), field)
    # Nothing of it happened, and nothing of the owner is lost.
    answer = await apart.graphql(JOINED, {"first": 10}, token=owned.person.token)
    assert answer["data"]["me"]["measurements"]["totalCount"] == SESSIONS
    assert answer["data"]["me"]["devices"]["edges"][0]["node"]["id"] == owned.reader.device_id


async def test_entities_asked_for_by_their_keys_are_guarded_too(apart: Platform, owned: Owned) -> None:
    """Straight at the subgraphs, past the router: what a stranger gets for representations of my entities."""
    stranger = await sign_up(apart, "stranger")
    questions = {
        Group.HARDWARE: (
            (
                "... on Device { id name serialNumber } ... on Cartridge { id remainingUses }"
                " ... on Calibration { id alpha } ... on User { id devices { totalCount } }"
            ),
            [
                {"__typename": "Device", "id": owned.reader.device_id},
                {"__typename": "Cartridge", "id": owned.reader.cartridge_uid},
                {"__typename": "Calibration", "id": owned.calibration_id},
                {"__typename": "User", "id": owned.person.user_id},
            ],
        ),
        Group.MEASUREMENT: (
            (
                "... on MeasurementSession { id status result { value } }"
                " ... on User { id measurements { totalCount } measurementSessions { totalCount } }"
                " ... on Device { id sessions { totalCount edges { node { id } } } }"
                " ... on Cartridge { id sessions { totalCount edges { node { id } } } }"
            ),
            [
                {"__typename": "MeasurementSession", "id": owned.sessions[0]},
                {"__typename": "User", "id": owned.person.user_id},
                {"__typename": "Device", "id": owned.reader.device_id},
                {"__typename": "Cartridge", "id": owned.reader.cartridge_uid},
            ],
        ),
        Group.IDENTITY: (
            "... on User { id email displayName healthProfile { bloodType } }",
            [{"__typename": "User", "id": owned.person.user_id}],
        ),
    }
    for group, (selection, representations) in questions.items():
        query = "query ($r: [_Any!]!) { _entities(representations: $r) { __typename " + selection + " } }"
        mine = await _ask_subgraph(apart, group, query, representations, owned.person.token)
        assert "errors" not in mine, (group, mine)
        assert all(mine["data"]["_entities"]), (group, mine)
        theirs = await _ask_subgraph(apart, group, query, representations, stranger.token)
        for entity in (theirs.get("data") or {}).get("_entities") or ():
            seen = {k: v for k, v in (entity or {}).items() if k not in {"__typename", "id"} and v is not None}
            # Of a reader or a cartridge the stranger may count his own sessions: none. What stands on a cartridge is
            # for whoever knows its id, as it is for whoever holds it; it says nothing about a person.
            if entity and entity["__typename"] == "Cartridge":
                seen.pop("remainingUses", None)
            assert all(value == {"totalCount": 0, "edges": []} for value in seen.values()), (group, entity)
        nobody = await _ask_subgraph(apart, group, query, representations, "")
        for entity in (nobody.get("data") or {}).get("_entities") or ():
            assert not {k for k, v in (entity or {}).items() if k not in {"__typename", "id"} and v is not None}


async def _ask_subgraph(
    platform: Platform, group: Group, query: str, representations: list[dict[str, str]], token: str
) -> dict[str, Any]:
    url = platform.subgraph_url(group)
    answer: dict[str, Any] = (await platform.ask(query, {"r": representations}, token=token, url=url)).json
    return answer


def _decoded(part: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return content


def _forged(token: str, **changes: object) -> dict[str, str]:
    """The token's claims, changed, under signatures that do not hold."""
    header, payload, signature = token.split(".")
    claims, key_id = _decoded(payload), _decoded(header)["kid"]
    changed = base64.urlsafe_b64encode(json.dumps(claims | changes).encode()).rstrip(b"=").decode()
    nothing = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    other_key = ECKey.generate_key("P-256", {"kid": key_id})
    return {
        "changed claims": f"{header}.{changed}.{signature}",
        "another key under the same id": jwt.encode({"alg": "ES256", "kid": key_id}, claims | changes, other_key),
        "no algorithm": f"{nothing}.{changed}.",
        "another issuer": jwt.encode(
            {"alg": "ES256", "kid": key_id}, claims | {"iss": "somebody-else"}, ECKey.generate_key("P-256")
        ),
        "not a token": "nonsense",
        "cut short": token[:-10],
    }


def _is_refused(reply: Reply) -> None:
    assert reply.status == 401, reply
    assert reply.json["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert not (reply.json.get("data") or {}).get("me")


async def test_forged_tokens_are_refused_before_any_fetch(apart: Platform, owned: Owned) -> None:
    forged = _forged(owned.person.token, role="admin", scope="device:read user:admin")

    async def ask() -> None:
        for name, token in forged.items():
            reply = await apart.ask("{ me { id } }", token=token)
            assert reply.status == 401, name
            _is_refused(reply)

    assert not any((await requests_of(apart, ask)).values())


async def test_an_expired_token_is_refused_before_any_fetch(apart: Platform, owned: Owned) -> None:
    """The platform's own key signs it, so nothing but its age is wrong."""
    person = owned.person
    token = await _signed_by_the_platform(apart, person, expired_for=timedelta(minutes=1))
    sound = await _signed_by_the_platform(apart, person, expired_for=timedelta(minutes=-5))
    assert (await apart.graphql("{ me { id } }", token=sound))["data"]["me"]["id"] == person.user_id

    async def ask() -> None:
        _is_refused(await apart.ask("{ me { id } }", token=token))

    assert not any((await requests_of(apart, ask)).values())


async def _signed_by_the_platform(platform: Platform, person: Person, *, expired_for: timedelta) -> str:
    """The person's token with another end, signed by the key that auth-service signs with."""
    header, payload, _ = person.token.split(".")
    key_id = _decoded(header)["kid"]
    variables = platform.plan.external
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        host=variables["DB_HOST"],
        port=int(variables["DB_PORT"]),
        user=variables["DB_USER"],
        password=variables["DB_PASSWORD"],
        database=f"{variables['DB_NAME']}_identity",
    )
    try:
        sealed = await connection.fetchval("SELECT private_sealed FROM signing_keys WHERE kid = $1", key_id)
    finally:
        await connection.close()
    sealer = Sealer({1: derive_key(SECRETS["JWT_SECRET"], purpose="signing keys")})
    key = ECKey.import_key(json.loads(sealer.open(sealed, context=f"signing_keys.private_sealed:{key_id}")))
    ends = int((datetime.now(UTC) - expired_for).timestamp())
    claims = _decoded(payload) | {"iat": ends - 900, "exp": ends}
    return jwt.encode({"alg": "ES256", "kid": key_id}, claims, key)


@pytest.mark.parametrize(
    "query",
    [
        "{ me { id displayName } }",
        '{ device(id: "x") { id } }',
        '{ measurementSession(id: "x") { id } }',
        "{ measurements(first: 1) { totalCount } }",
        'mutation { removeDevice(id: "x") }',
        'mutation { endMeasurementSession(sessionId: "x") { session { id } } }',
    ],
)
async def test_guarded_fields_are_refused_to_strangers_before_any_fetch(apart: Platform, query: str) -> None:
    async def ask() -> None:
        answer = await apart.graphql(query)
        assert not any((answer.get("data") or {}).values()), answer
        assert answer["errors"][0]["extensions"]["code"] in {"UNAUTHENTICATED", "UNAUTHORIZED_FIELD_OR_TYPE"}, answer

    assert not any((await requests_of(apart, ask)).values())


async def test_fields_beyond_a_persons_scopes_are_refused_before_any_fetch(apart: Platform, owned: Owned) -> None:
    async def ask() -> None:
        answer = await apart.graphql(
            'mutation { publishFirmware(input: {version: "9.9.9", contentBase64: "AA=="}) { version } }',
            token=owned.person.token,
        )
        assert not any((answer.get("data") or {}).values()), answer
        assert answer["errors"][0]["extensions"]["code"] in {"FORBIDDEN", "UNAUTHORIZED_FIELD_OR_TYPE"}, answer

    assert not any((await requests_of(apart, ask)).values())


async def test_many_people_at_once_get_only_their_own(apart: Platform, owned: Owned) -> None:
    people = [owned.person, *await asyncio.gather(*(sign_up(apart) for _ in range(3)))]
    answers = await asyncio.gather(
        *(apart.graphql(JOINED, {"first": 5}, token=person.token) for _ in range(5) for person in people)
    )
    for number, answer in enumerate(answers):
        person = people[number % len(people)]
        me = answer["data"]["me"]
        assert me["id"] == person.user_id
        assert me["measurements"]["totalCount"] == (SESSIONS if person is owned.person else 0)
