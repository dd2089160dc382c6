"""What a stranger tries with another person's cartridge and reader, over gRPC and GraphQL, on the whole platform."""

import asyncio
import base64
import datetime as dt
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from manpasik.internal.v1 import factory_pb2, factory_pb2_grpc
from manpasik.v1 import cartridge_pb2, device_pb2, measurement_pb2

from devices.client.credentials import Metadata
from devices.client.platform import Platform as ReaderSide
from devices.nfc_tag import encode_v2
from devices.simulator.fleet import glucose_tag, serial_number_of
from domain.catalog import Group
from subgraphs.runtime.service_keys import PUBLIC_FOLDER, PublicKeyFolder, SigningKeys, make_missing_keys
from subgraphs.runtime.service_tokens import ServiceTokens
from tests.support.furnish import FACTORY, FREE_DEVICES, import_device_records
from tests.support.patience import PATIENCE_S
from tests.support.platform import Platform
from tests.support.readers import Person, Reader, new_reader, remaining_uses, sign_up, technician, unique

pytestmark = [pytest.mark.xdist_group("security"), pytest.mark.timeout(180)]

TRUE_MG_DL = 100.0


async def refusal(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


async def read_raw(side: ReaderSide, person: Person, raw: bytes) -> cartridge_pb2.CartridgeDetail:
    return await side.cartridges.ReadCartridge(
        cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=raw, tag_version=2), metadata=person.metadata, timeout=20
    )


def forged(reader: Reader, **changes: object) -> bytes:
    """A tag with the victim's uid, a fitting checksum, and what a stranger likes."""
    tag = glucose_tag(reader.model, uses=10, today=dt.datetime.now(dt.UTC).date())
    return encode_v2(replace(tag, cartridge_uid=reader.cartridge_uid, **changes))  # type: ignore[arg-type]


async def measured(reader: Reader) -> tuple[float, str]:
    """What the reader shows for a known value."""
    async with reader.client.session(reader.plan) as session:
        answers = [await session.send(frame) for frame in reader.frames(TRUE_MG_DL, 5)]
    return sorted(answer.primary_value for answer in answers)[2], answers[0].unit


@pytest.fixture
async def scene(platform: Platform, readers: ReaderSide) -> tuple[Person, Reader, Person]:
    victim, stranger = await sign_up(platform, "victim"), await sign_up(platform, "stranger")
    return victim, await new_reader(readers, victim, await technician(platform)), stranger


async def test_forged_tags_of_a_stranger_change_no_measurement(
    platform: Platform, readers: ReaderSide, scene: tuple[Person, Reader, Person]
) -> None:
    victim, reader, stranger = scene
    before, unit = await measured(reader)
    assert before == pytest.approx(TRUE_MG_DL, rel=0.05)
    assert unit == "mg/dL"
    for raw in (
        forged(reader, alpha=0.0, temp_coefficient=0.9),
        forged(reader, remaining_uses=0),
        forged(reader, expires_on=dt.date(2020, 1, 1)),
        forged(reader, type_index=2),
    ):
        detail = await read_raw(readers, await sign_up(platform, "stranger"), raw)
        assert (detail.cartridge_uid, detail.alpha_coefficient) == (reader.cartridge_uid, 0.95)
    answer = await platform.graphql(
        "mutation ($tag: String!) { readCartridge(input: {tagBase64: $tag}) { verified alpha remainingUses } }",
        {"tag": base64.b64encode(forged(reader, alpha=0.0, temp_coefficient=0.9)).decode()},
        token=stranger.token,
    )
    assert answer["data"]["readCartridge"]["verified"] is False
    assert answer["data"]["readCartridge"]["alpha"] is None
    after, unit = await measured(reader)
    assert after == pytest.approx(TRUE_MG_DL, rel=0.05)
    assert unit == "mg/dL"
    assert await remaining_uses(readers, victim, reader.cartridge_uid) == 8


async def test_a_stranger_sees_and_takes_none_of_anothers_uses(
    platform: Platform, readers: ReaderSide, scene: tuple[Person, Reader, Person]
) -> None:
    victim, reader, stranger = scene
    uid = reader.cartridge_uid
    stub = readers.cartridges
    codes = {
        await refusal(
            stub.GetRemainingUses(
                cartridge_pb2.GetRemainingUsesRequest(cartridge_uid=spelled), metadata=stranger.metadata, timeout=20
            )
        )
        for spelled in (uid, uid.lower(), "FFFFFFFFFFFFFFFF")
    }
    assert codes == {grpc.StatusCode.NOT_FOUND}
    for person in ("", victim.user_id):
        use = cartridge_pb2.RecordUsageRequest(user_id=person, session_id=unique("invented"), cartridge_uid=uid)
        assert await refusal(stub.RecordUsage(use, metadata=stranger.metadata, timeout=20)) in (
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.PERMISSION_DENIED,
        )
    await read_raw(readers, stranger, forged(reader))
    use = cartridge_pb2.RecordUsageRequest(session_id=unique("invented"), cartridge_uid=uid)
    assert await refusal(stub.RecordUsage(use, metadata=stranger.metadata, timeout=20)) is grpc.StatusCode.NOT_FOUND
    answer = await platform.graphql(
        "query ($id: ID!) { cartridge(id: $id) { remainingUses } }",
        {"id": uid},
        token=(await sign_up(platform, "other")).token,
    )
    assert answer == {"data": {"cartridge": None}}
    assert await remaining_uses(readers, victim, uid) == 10


async def test_an_invented_session_takes_no_use_and_a_real_one_takes_one(
    readers: ReaderSide, scene: tuple[Person, Reader, Person]
) -> None:
    victim, reader, _ = scene
    started = await readers.measurements.StartSession(
        measurement_pb2.StartSessionRequest(device_id=reader.device_id, cartridge_id=reader.cartridge_uid),
        metadata=victim.metadata,
        timeout=20,
    )
    real = cartridge_pb2.RecordUsageRequest(session_id=started.session_id, cartridge_uid=reader.cartridge_uid)
    for _ in range(3):
        answer = await readers.cartridges.RecordUsage(real, metadata=victim.metadata, timeout=20)
        assert answer.remaining_uses == 9
    invented = cartridge_pb2.RecordUsageRequest(session_id=unique("s"), cartridge_uid=reader.cartridge_uid)
    code = await refusal(readers.cartridges.RecordUsage(invented, metadata=victim.metadata, timeout=20))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_an_unsigned_cartridge_measures_unverified_with_default_coefficients_and_is_marked_everywhere(
    platform: Platform, readers: ReaderSide
) -> None:
    person = await sign_up(platform)
    reader = await new_reader(readers, person, await technician(platform))
    tag = replace(
        glucose_tag(reader.model, uses=3, today=dt.datetime.now(dt.UTC).date()), alpha=0.1, temp_coefficient=0.5
    )
    call = readers.cartridges.ReadCartridge(
        cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=encode_v2(tag)), metadata=person.metadata, timeout=20
    )
    detail = await call
    assert dict(await call.initial_metadata())["x-cartridge-verified"] == "false"
    assert detail.is_valid
    assert "not verified" in detail.validation_message
    assert (detail.alpha_coefficient, detail.temp_coefficient) == (0.95, 0.0)
    reader.cartridge_uid = detail.cartridge_uid
    value, unit = await measured(reader)  # with the coefficients of the reader's calibration
    assert value == pytest.approx(TRUE_MG_DL, rel=0.05)
    assert unit == "mg/dL"
    answer = await platform.graphql(
        "{ me { measurementSessions(first: 1) { edges { node { verified cartridge { verified } } } } } }",
        token=person.token,
    )
    [edge] = answer["data"]["me"]["measurementSessions"]["edges"]
    assert edge["node"] == {"verified": False, "cartridge": {"verified": False}}


@pytest.mark.parametrize(("offset", "value"), [(36, 1e300), (36, float("nan")), (44, float("inf")), (52, -1e300)])
async def test_numbers_that_no_cartridge_has_are_refused(
    readers: ReaderSide, scene: tuple[Person, Reader, Person], offset: int, value: float
) -> None:
    victim, reader, _ = scene
    raw = bytearray(forged(reader))
    struct.pack_into("<d", raw, offset, value)
    struct.pack_into("<I", raw, 60, zlib.crc32(raw[:60]))
    request = cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=bytes(raw))
    code = await refusal(readers.cartridges.ReadCartridge(request, metadata=victim.metadata, timeout=20))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


# --- readers


async def register(
    side: ReaderSide, person: Person, device_id: str, *, serial: str = "", code: str = ""
) -> device_pb2.RegisterDeviceResponse:
    metadata: Metadata = (*person.metadata, *((("x-claim-code", code),) if code else ()))
    request = device_pb2.RegisterDeviceRequest(
        device_id=device_id, serial_number=serial or serial_number_of(device_id), firmware_version="1.0.0"
    )
    return await side.devices.RegisterDevice(request, metadata=metadata, timeout=20)


async def test_a_reader_with_a_factory_record_is_registered_with_its_claim_code(
    platform: Platform, readers: ReaderSide
) -> None:
    owner, stranger = await sign_up(platform, "owner"), await sign_up(platform, "stranger")
    device_id = unique("mps")
    await register(readers, stranger, device_id.upper())  # before the factory's record is imported: a squatter
    await import_device_records(platform, device_id)
    answers: set[tuple[grpc.StatusCode, str | None]] = set()
    for code in ("", "AAAA-AAAA-AAAA-AAAA"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await register(readers, owner, device_id, code=code)
        answers.add((refused.value.code(), refused.value.details()))
    await register(readers, owner, device_id, code=FACTORY.claim_code(device_id))
    with pytest.raises(grpc.aio.AioRpcError) as taken:
        await register(readers, stranger, device_id, code=FACTORY.claim_code(device_id))
    answers.add((taken.value.code(), taken.value.details()))
    assert len(answers) == 1
    [(code_, _)] = answers
    assert code_ is grpc.StatusCode.PERMISSION_DENIED
    listed = await platform.graphql(
        "{ me { devices(first: 5) { edges { node { id verified } } } } }", token=owner.token
    )
    assert [edge["node"] for edge in listed["data"]["me"]["devices"]["edges"]] == [{"id": device_id, "verified": True}]


async def test_a_reader_is_claimed_through_the_graph(platform: Platform) -> None:
    owner, device_id = await sign_up(platform, "owner"), unique("mps")
    await import_device_records(platform, device_id)
    mutation = (
        """mutation ($input: RegisterDeviceInput!) { registerDevice(input: $input) { device { id verified } } }"""
    )
    given = {"serialNumber": serial_number_of(device_id), "firmwareVersion": "1.0.0"}
    refused = await platform.graphql(mutation, {"input": given}, token=owner.token)
    assert [error["extensions"]["reason"] for error in refused["errors"]] == ["DEVICE_CLAIM_REFUSED"]
    given["claimCode"] = FACTORY.claim_code(device_id)
    answer = await platform.graphql(mutation, {"input": given}, token=owner.token)
    assert answer == {"data": {"registerDevice": {"device": {"id": device_id, "verified": True}}}}


async def test_a_readers_credential_neither_renames_nor_removes_it(
    platform: Platform, readers: ReaderSide, scene: tuple[Person, Reader, Person]
) -> None:
    _, reader, _ = scene
    [(_, credential)] = await reader.client.credential.metadata()
    scheme, _, secret = credential.partition(" ")
    assert scheme == "Device"
    for mutation in (
        'mutation { updateDevice(input: {id: "%s", name: "mine"}) { name } }',
        'mutation { removeDevice(id: "%s") }',
    ):
        reply = await platform.ask(
            mutation % reader.device_id,
            authorization=f"Device {secret}",
            url=platform.subgraph_url(Group.HARDWARE),
        )
        assert [error["extensions"]["code"] for error in reply.json["errors"]] == ["FORBIDDEN"]
    listed = await readers.devices.ListDevices(
        device_pb2.ListDevicesRequest(), metadata=await reader.client.credential.metadata(), timeout=20
    )
    assert [device.device_id for device in listed.devices] == [reader.device_id]


async def test_the_plan_limits_readers_however_many_are_registered_at_once(
    platform: Platform, readers: ReaderSide
) -> None:
    person = await sign_up(platform, "collector")
    names = [unique("many") for _ in range(FREE_DEVICES + 10)]
    answers = await asyncio.gather(*(register(readers, person, name) for name in names), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(refused) == 10
    listed = await readers.devices.ListDevices(device_pb2.ListDevicesRequest(), metadata=person.metadata, timeout=20)
    assert len(listed.devices) == FREE_DEVICES


async def _once_published(
    call: Callable[[], Awaitable[factory_pb2.ImportLotsResponse]],
) -> factory_pb2.ImportLotsResponse:
    """The answer to a call whose caller's key was published just now: processes look for new keys again and again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                    raise
            await asyncio.sleep(0.1)


async def test_only_the_service_of_the_factory_imports(platform: Platform) -> None:
    folder = platform.plan.service_keys_folder
    make_missing_keys(folder, ["factory"])
    tokens = ServiceTokens(
        SigningKeys.read(folder, ["factory", "measurement"]), PublicKeyFolder(folder / PUBLIC_FOLDER)
    )
    request = factory_pb2.ImportLotsRequest(csv=FACTORY.lot_file)
    async with platform.channel("cartridge") as channel:
        stub = factory_pb2_grpc.CartridgeFactoryStub(channel)
        as_factory = (("authorization", f"Service {tokens.issue('factory', 'cartridge')}"),)
        done = await _once_published(lambda: stub.ImportLots(request, metadata=as_factory, timeout=20))
        assert (done.lots_added, done.unchanged) == (0, 1)
        other = (("authorization", f"Service {tokens.issue('measurement', 'cartridge')}"),)
        assert await refusal(stub.ImportLots(request, metadata=other, timeout=20)) is grpc.StatusCode.PERMISSION_DENIED
