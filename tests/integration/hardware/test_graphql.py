"""The hardware subgraph: joins without a statement per item, entities, errors with their codes."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
from graphql import GraphQLNonNull, GraphQLObjectType
from sqlalchemy import event

from devices.nfc_tag import encode_v2
from domain.principal import ANONYMOUS, Principal
from subgraphs.hardware.context import HardwareContext
from subgraphs.hardware.schema import schema
from subgraphs.runtime.context import RequestContext
from tests.integration.hardware.conftest import ADMIN, ALICE, BOB, GLUCOSE_TAG, SIGNED_TAG, TECHNICIAN, Hardware
from tests.integration.hardware.test_calibrations import factory, field

REGISTER = """
mutation ($id: ID!, $serial: String!) {
  registerDevice(input: {deviceId: $id, serialNumber: $serial, firmwareVersion: "1.0.0"}) {
    registrationToken device { id name status owner { id } }
  }
}
"""
EVERYTHING_OF_A_PERSON = """
query ($people: [_Any!]!) {
  _entities(representations: $people) {
    ... on User {
      id
      devices(first: 10) {
        totalCount
        pageInfo { hasNextPage endCursor }
        edges { cursor node {
          id status batteryPercent
          owner { id }
          currentCartridge { id remainingUses isValid type { nameEn unit } }
          currentCalibration { id status accuracyScore }
          calibrations(first: 5) { totalCount edges { node { id kind } } }
        } }
      }
    }
  }
}
"""


async def run(
    hardware: Hardware, query: str, principal: Principal = ALICE, **variables: object
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    context = HardwareContext.of(RequestContext(principal=principal), hardware.services, hardware.database)
    result = await schema.execute(
        query,
        variable_values=deepcopy(variables),  # strawberry takes representations apart
        context_value=context,
    )
    return result.data, [dict(error.extensions or {}) for error in result.errors or []]


@contextmanager
def statements(hardware: Hardware) -> Iterator[list[str]]:
    """The statements that are sent meanwhile, without those that open a transaction."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SET TRANSACTION"):
            sent.append(statement)

    engine = hardware.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", record)


async def furnish(hardware: Hardware, count: int) -> None:
    """So many devices of Alice's, each with a cartridge and a calibration."""
    for number in range(count):
        device_id = f"dev-{number}"
        await hardware.register(device_id=device_id)
        hardware.clock.advance(seconds=1)
        tag = GLUCOSE_TAG.__class__(
            **{
                **{name: getattr(GLUCOSE_TAG, name) for name in GLUCOSE_TAG.__dataclass_fields__},
                "cartridge_uid": f"{number:016X}",
            }
        )
        await hardware.read(tag, hardware.device(device_id), device_id)
        await factory(hardware, device_id=device_id)


async def test_a_person_with_many_devices_costs_as_many_statements_as_one_with_one(hardware: Hardware) -> None:
    people = [{"__typename": "User", "id": "alice"}]
    counts = []
    for count in (1, 7):
        await furnish(hardware, count)
        with statements(hardware) as sent:
            data, errors = await run(hardware, EVERYTHING_OF_A_PERSON, people=people)
        assert errors == []
        assert data is not None
        devices = data["_entities"][0]["devices"]
        assert devices["totalCount"] == count
        for number, edge in enumerate(devices["edges"]):
            node = edge["node"]
            assert node["id"] == f"dev-{number}"
            assert node["currentCartridge"] == {
                "id": f"{number:016X}",
                "remainingUses": 10,
                "isValid": True,
                "type": {"nameEn": "Glucose", "unit": "mg/dL"},
            }
            assert node["currentCalibration"]["status"] == "VALID"
            assert node["calibrations"]["totalCount"] >= 1
        counts.append(len(sent))
    assert counts[0] == counts[1]
    assert counts[1] <= 7


async def test_entities_come_in_the_order_asked_with_null_for_those_that_are_not_the_callers(
    hardware: Hardware,
) -> None:
    await furnish(hardware, 2)
    await hardware.register(BOB, "dev-bob")
    asked = [
        {"__typename": "Device", "id": "dev-1"},
        {"__typename": "Cartridge", "id": f"{1:016x}"},
        {"__typename": "Device", "id": "dev-bob"},
        {"__typename": "Device", "id": "none"},
        {"__typename": "CartridgeType", "id": "0203"},
        {"__typename": "CartridgeType", "id": "nonsense"},
        {"__typename": "Device", "id": "dev-0"},
    ]
    query = """query ($asked: [_Any!]!) { _entities(representations: $asked) {
      __typename ... on Device { id } ... on Cartridge { id } ... on CartridgeType { nameEn }
    } }"""
    with statements(hardware) as sent:
        data, errors = await run(hardware, query, asked=asked)
    assert errors == []
    assert data is not None
    assert data["_entities"] == [
        {"__typename": "Device", "id": "dev-1"},
        {"__typename": "Cartridge", "id": f"{1:016X}"},
        None,
        None,
        {"__typename": "CartridgeType", "nameEn": "Radon"},
        None,
        {"__typename": "Device", "id": "dev-0"},
    ]
    assert len(sent) == 4  # devices, cartridges with types, categories, types


async def test_the_devices_of_somebody_else_are_refused_and_the_own_ones_answered(hardware: Hardware) -> None:
    await hardware.register()
    people = [{"__typename": "User", "id": "bob"}, {"__typename": "User", "id": "alice"}]
    data, errors = await run(hardware, EVERYTHING_OF_A_PERSON, people=people)
    assert [error["code"] for error in errors] == ["FORBIDDEN"]
    assert data is not None
    assert data["_entities"][0] == {"id": "bob", "devices": None}
    assert data["_entities"][1]["devices"]["totalCount"] == 1
    _, errors = await run(hardware, EVERYTHING_OF_A_PERSON, ANONYMOUS, people=people[1:])
    assert [error["code"] for error in errors] == ["UNAUTHENTICATED"]


async def test_pages_of_devices_and_calibrations_neither_skip_nor_repeat(hardware: Hardware) -> None:
    for number in range(5):
        await hardware.register(device_id=f"dev-{number}")  # all at one moment: the id breaks the tie
    for _ in range(5):
        await factory(hardware)
    query = """query ($people: [_Any!]!, $after: String) { _entities(representations: $people) { ... on User {
      devices(first: 2, after: $after) { totalCount pageInfo { hasNextPage endCursor } edges { node { id } } }
    } } }"""
    seen: list[str] = []
    after = None
    for expected_next in (True, True, False):
        people = [{"__typename": "User", "id": "alice"}]
        data, errors = await run(hardware, query, people=people, after=after)
        assert errors == []
        assert data is not None
        page = data["_entities"][0]["devices"]
        assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (5, expected_next)
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
    assert seen == [f"dev-{number}" for number in range(5)]
    query = """query ($after: String) { device(id: "dev-1") {
      calibrations(first: 3, after: $after) { totalCount pageInfo { hasNextPage endCursor } edges { node { id } } }
    } }"""
    found: list[str] = []
    after = None
    for expected_next in (True, False):
        data, errors = await run(hardware, query, after=after)
        assert errors == []
        assert data is not None
        page = data["device"]["calibrations"]
        assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (5, expected_next)
        found += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
    assert len(set(found)) == 5
    data, errors = await run(hardware, query, after=after)
    assert (data is not None and data["device"]["calibrations"]["totalCount"], errors) == (5, [])


async def test_a_device_is_registered_renamed_commanded_and_removed(hardware: Hardware) -> None:
    data, errors = await run(hardware, REGISTER, id="dev-1", serial="SN-1")
    assert errors == []
    assert data is not None
    assert data["registerDevice"]["device"] == {
        "id": "dev-1",
        "name": "SN-1",
        "status": "UNKNOWN",
        "owner": {"id": "alice"},
    }
    _, errors = await run(hardware, REGISTER, BOB, id="dev-1", serial="SN-1")
    assert [(e["code"], e["reason"]) for e in errors] == [("FORBIDDEN", "DEVICE_CLAIM_REFUSED")]
    data, _ = await run(hardware, 'mutation { updateDevice(input: {id: "dev-1", name: "거실"}) { name } }')
    assert data == {"updateDevice": {"name": "거실"}}
    command = """mutation { sendDeviceCommand(input: {deviceId: "dev-1", type: REBOOT, payload: {delay_s: 5}}) {
      id type } }"""
    data, errors = await run(hardware, command)
    assert errors == []
    assert data is not None
    assert data["sendDeviceCommand"]["type"] == "REBOOT"
    _, errors = await run(hardware, command, BOB)
    assert [error["code"] for error in errors] == ["FORBIDDEN"]
    data, _ = await run(hardware, 'mutation { removeDevice(id: "dev-1") }')
    assert data == {"removeDevice": "dev-1"}
    data, errors = await run(hardware, '{ device(id: "dev-1") { id } }')
    assert (data, errors) == ({"device": None}, [])


async def test_a_cartridge_is_read_into_a_device_and_calibrated(hardware: Hardware) -> None:
    await hardware.register()
    await factory(hardware)
    read = """mutation ($tag: String!) { readCartridge(input: {tagBase64: $tag, deviceId: "dev-1"}) {
      id isValid verified refusal validationMessage expiresOn } }"""
    await hardware.import_lots()
    data, errors = await run(hardware, read, tag=base64.b64encode(encode_v2(SIGNED_TAG)).decode())
    assert errors == []
    assert data is not None
    assert data["readCartridge"] == {
        "id": GLUCOSE_TAG.cartridge_uid,
        "isValid": True,
        "verified": True,
        "refusal": None,
        "validationMessage": None,
        "expiresOn": "2027-06-30",
    }
    for tag, reason in (
        ("%%%", "INVALID_INPUT"),
        ("AAAA", "CARTRIDGE_TAG_TOO_SHORT"),
        ("A" * 12_000, "CONTENT_TOO_LARGE"),
    ):
        _, errors = await run(hardware, read, tag=tag)
        assert [error["reason"] for error in errors] == [reason]
    calibrate = """mutation { performFieldCalibration(input: {deviceId: "dev-1", categoryCode: 1, typeIndex: 1,
      referenceValues: [100, 200, 300], measuredValues: [80, 160, 240], temperatureC: 25, humidityPct: 50
    }) { id kind accuracyScore channelGains } }"""
    data, errors = await run(hardware, calibrate)
    assert errors == []
    assert data is not None
    calibration = data["performFieldCalibration"]
    assert (calibration["kind"], len(calibration["channelGains"])) == ("FIELD", 88)
    data, _ = await run(hardware, '{ device(id: "dev-1") { currentCalibration { id } currentCartridge { id } } }')
    assert data == {
        "device": {
            "currentCalibration": {"id": calibration["id"]},
            "currentCartridge": {"id": GLUCOSE_TAG.cartridge_uid},
        }
    }


async def test_firmware_and_registry_are_changed_by_those_who_may(hardware: Hardware) -> None:
    await hardware.register()
    image = base64.b64encode(b"image").decode()
    publish = """mutation ($image: String!) { publishFirmware(input: {version: "1.1.0", contentBase64: $image}) {
      version checksum sizeBytes } }"""
    _, errors = await run(hardware, publish, image=image)
    assert [error["code"] for error in errors] == ["FORBIDDEN"]
    data, errors = await run(hardware, publish, TECHNICIAN, image=image)
    assert errors == []
    assert data is not None
    ask = 'mutation { requestOtaUpdate(input: {deviceId: "dev-1"}) { version checksum downloadUrl } }'
    update, errors = await run(hardware, ask)
    assert errors == []
    assert update is not None
    assert update["requestOtaUpdate"]["checksum"] == data["publishFirmware"]["checksum"]
    upsert = """mutation { upsertCartridgeCategory(input: {code: 243, nameEn: "Acme", nameKo: "아크메"}) {
      code lastCode typeCount }
      upsertCartridgeType(input: {categoryCode: 243, typeIndex: 1, nameEn: "Lactate", nameKo: "젖산",
        requiredChannels: 88, measurementSeconds: 20, unit: "mmol/L", loincCode: "2524-7"}) { id isActive } }"""
    _, errors = await run(hardware, upsert, TECHNICIAN)
    assert errors[0]["code"] == "FORBIDDEN"
    data, errors = await run(hardware, upsert, ADMIN)
    assert errors == []
    assert data is not None
    assert data["upsertCartridgeType"] == {"id": "F301", "isActive": True}
    registry, errors = await run(
        hardware,
        "{ cartridgeTypes(categoryCode: 243) { nameEn } cartridgeCategories { code } calibrationModels { name } }",
    )
    assert errors == []
    assert registry is not None
    assert registry["cartridgeTypes"] == [{"nameEn": "Lactate"}]
    assert (len(registry["cartridgeCategories"]), len(registry["calibrationModels"])) == (16, 30)


async def test_a_bug_is_hidden_behind_a_fixed_text(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(hardware.services.registry.__class__, "types", fail)
    _, errors = await run(hardware, "{ cartridgeTypes { nameEn } }")
    assert [error["code"] for error in errors] == ["INTERNAL_SERVER_ERROR"]


async def test_a_field_calibration_shows_as_the_current_one(hardware: Hardware) -> None:
    await hardware.register()
    fitted = await field(hardware)
    query = '{ device(id: "dev-1") { currentCalibration(categoryCode: 1, typeIndex: 1) { id } } }'
    data, errors = await run(hardware, query)
    assert (data, errors) == ({"device": {"currentCalibration": {"id": fitted.calibration_id}}}, [])
    _, errors = await run(hardware, '{ device(id: "dev-1") { currentCalibration(categoryCode: 1) { id } } }')
    assert [error["code"] for error in errors] == ["BAD_USER_INPUT"]


def test_every_type_field_and_argument_says_what_it_is() -> None:
    graphql = schema._schema
    ours = {
        n: t
        for n, t in graphql.type_map.items()
        if not n.startswith(("_", "link__")) and n not in ("Query", "Mutation")
    }
    builtin = {"String", "Int", "Float", "Boolean", "ID"}
    silent = [name for name, type_ in ours.items() if not type_.description and name not in builtin]
    for name in (*ours, "Query", "Mutation"):
        type_ = graphql.type_map[name]
        if isinstance(type_, GraphQLObjectType):
            silent += [
                f"{name}.{field_name}"
                for field_name, field_ in type_.fields.items()
                if not field_.description and not field_name.startswith("_")
            ]
    assert silent == []
    assert isinstance(graphql.type_map["Device"], GraphQLObjectType)
    assert isinstance(graphql.type_map["Device"].fields["id"].type, GraphQLNonNull)
