"""From a cartridge's tag to values, uses and alerts, with readers of the client library against a whole platform."""

import asyncio
import datetime as dt
import logging
import uuid
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from manpasik.v1 import cartridge_pb2, measurement_pb2

from devices.client.credentials import fixed_token
from devices.client.errors import CallRejected
from devices.client.platform import Platform as ReaderSide
from devices.client.reader import SessionPlan
from devices.nfc_tag import encode_v2
from devices.simulator.fleet import Fleet, FleetAccess, FleetPlan, RecoveredReading, glucose_tag
from devices.simulator.mard import mard_percent
from devices.simulator.traces import load_trace, packaged_subjects
from tests.support.events import EventTap
from tests.support.furnish import FACTORY
from tests.support.patience import PATIENCE_S
from tests.support.platform import Platform
from tests.support.readers import Person, Reader, new_reader, remaining_uses, sign_up, technician, unique

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(120)]

_log = logging.getLogger(__name__)

READINGS = 40


async def test_the_values_of_real_traces_are_recovered(platform: Platform, readers: ReaderSide) -> None:
    person, token = await sign_up(platform), await technician(platform)
    subjects = list(packaged_subjects())
    recovered: list[RecoveredReading] = []
    fleet = Fleet(
        readers,
        FleetAccess(owner=fixed_token(person.token), technician=fixed_token(token)),
        [load_trace(subject) for subject in subjects],
        FleetPlan(
            readers=len(subjects),
            readings_per_reader=READINGS,
            reading_interval_s=0,
            uses_per_cartridge=15,
            device_prefix=unique("trace"),
            lot=FACTORY.lot,
        ),
        on_reading=recovered.append,
    )
    progress = await fleet.run()
    assert (progress.readings, progress.setbacks) == (READINGS * len(subjects), 0)
    for subject in subjects:
        mine = [reading for reading in recovered if reading.subject == subject]
        assert len(mine) == READINGS
        mard = mard_percent([reading.recovered_mg_dl for reading in mine], [reading.true_mg_dl for reading in mine])
        _log.info("subject %s: MARD %.2f %% over %d readings", subject, mard, len(mine))
        assert mard < 5
    # What the platform keeps is what it answered: the results of the sessions, read back through the graph.
    kept: dict[str, float] = {}
    after = None
    while True:
        answer = await platform.graphql(
            "query ($after: String) { measurements(first: 50, after: $after) { totalCount pageInfo { endCursor"
            " hasNextPage } edges { node { value unit session { id } } } } }",
            {"after": after},
            token=person.token,
        )
        page = answer["data"]["measurements"]
        assert page["totalCount"] == len(recovered)
        kept |= {edge["node"]["session"]["id"]: edge["node"]["value"] for edge in page["edges"]}
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert set(kept) == {reading.session_id for reading in recovered}
    results = [kept[reading.session_id] for reading in recovered]
    overall = mard_percent(results, [reading.true_mg_dl for reading in recovered])
    _log.info("all subjects: MARD %.2f %% of the results of %d sessions", overall, len(results))
    assert overall < 5


async def test_each_session_takes_one_use_also_when_its_start_is_repeated(
    platform: Platform, readers: ReaderSide
) -> None:
    person = await sign_up(platform)
    reader = await new_reader(readers, person, await technician(platform), uses=10)
    key = str(uuid.uuid4())
    first = await reader.client.start_session(reader.plan, key=key)
    # The answer was lost, and the reader asks again, twice at the same time.
    again = await asyncio.gather(*(reader.client.start_session(reader.plan, key=key) for _ in range(2)))
    assert set(again) == {first}
    assert await remaining_uses(readers, person, reader.cartridge_uid) == 9
    other = await reader.client.start_session(reader.plan)
    assert other != first
    assert await remaining_uses(readers, person, reader.cartridge_uid) == 8
    # A start whose repetitions overlap with itself.
    key = str(uuid.uuid4())
    at_once = await asyncio.gather(*(reader.client.start_session(reader.plan, key=key) for _ in range(4)))
    assert len(set(at_once)) == 1
    assert await remaining_uses(readers, person, reader.cartridge_uid) == 7
    await reader.client.end_session(first)
    usage = await readers.cartridges.GetUsageHistory(
        cartridge_pb2.GetUsageHistoryRequest(user_id=person.user_id, limit=50), metadata=person.metadata, timeout=20
    )
    assert sorted(record.session_id for record in usage.records) == sorted({first, other, *at_once})


async def test_a_key_means_its_start_only_for_the_reader_that_used_it(platform: Platform, readers: ReaderSide) -> None:
    token = await technician(platform)
    mine, theirs = [
        await new_reader(readers, person, token) for person in (await sign_up(platform), await sign_up(platform))
    ]
    key = str(uuid.uuid4())
    ids = [await reader.client.start_session(reader.plan, key=key) for reader in (mine, theirs)]
    assert ids[0] != ids[1]


async def test_a_used_up_cartridge_is_refused_with_the_reason(platform: Platform, readers: ReaderSide) -> None:
    person = await sign_up(platform)
    reader = await new_reader(readers, person, await technician(platform), uses=2)
    for _ in range(2):
        await reader.client.end_session(await reader.client.start_session(reader.plan))
    with pytest.raises(CallRejected) as refused:
        await reader.client.start_session(reader.plan)
    assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.reason == "CARTRIDGE_USED_UP"
    validation = await readers.cartridges.ValidateCartridge(
        cartridge_pb2.ValidateCartridgeRequest(
            cartridge_uid=reader.cartridge_uid, category_code=1, type_index=1, user_id=person.user_id
        ),
        metadata=person.metadata,
        timeout=20,
    )
    assert not validation.is_valid
    assert validation.reason == refused.value.reason
    answer = await platform.graphql(
        "query ($id: ID!) { cartridge(id: $id) { remainingUses isValid refusal validationMessage } }",
        {"id": reader.cartridge_uid},
        token=person.token,
    )
    cartridge = answer["data"]["cartridge"]
    assert (cartridge["remainingUses"], cartridge["isValid"], cartridge["refusal"]) == (0, False, "USED_UP")


async def test_expired_and_forged_tags_are_refused_with_the_reason(platform: Platform, readers: ReaderSide) -> None:
    person = await sign_up(platform)
    reader = await new_reader(readers, person, await technician(platform))
    tag = glucose_tag(reader.model, uses=5, today=dt.datetime.now(dt.UTC).date())
    old = replace(tag, expires_on=dt.date(2025, 1, 31))
    detail = await readers.cartridges.ReadCartridge(
        cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=encode_v2(old), tag_version=2),
        metadata=person.metadata,
        timeout=20,
    )
    assert not detail.is_valid
    assert "expired" in detail.validation_message
    with pytest.raises(CallRejected) as refused:
        await reader.client.start_session(replace(reader.plan, cartridge_id=detail.cartridge_uid))
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CARTRIDGE_EXPIRED")
    forged = bytearray(encode_v2(tag))
    forged[28] = 0xFF  # more uses than were paid for
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await readers.cartridges.ReadCartridge(
            cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=bytes(forged), tag_version=2),
            metadata=person.metadata,
            timeout=20,
        )
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "checksum" in (error.value.details() or "")


async def _measure(reader: Reader, glucose_mg_dl: float, plan: SessionPlan | None = None) -> str:
    async with reader.client.session(plan or reader.plan) as session:
        for frame in reader.frames(glucose_mg_dl, 5):
            await session.send(frame)
    return session.session_id


async def test_critical_values_raise_an_alert_and_unverified_ones_do_not(
    platform: Platform, readers: ReaderSide
) -> None:
    person, brokers = await sign_up(platform), platform.plan.external["KAFKA_BROKERS"]
    reader = await new_reader(readers, person, await technician(platform))
    unverified = await _measure(reader, 480.0, SessionPlan(cartridge_id=unique("never-read")))
    normal = await _measure(reader, 100.0)
    high = await _measure(reader, 480.0)
    low = await _measure(reader, 40.0)
    async with EventTap(
        brokers, "health_alert.triggered", "measurement.completed", reader=platform.event_reader()
    ) as tap:

        def told(topic: str) -> dict[str, dict[str, object]]:
            return {
                event.payload["session_id"]: event.payload  # type: ignore[misc]  # as its model has it
                for event in tap.events.values()
                if event.metadata.topic == topic and event.payload["user_id"] == person.user_id
            }

        # The alert of the last session is the last event of this person: what was to be told before is there too.
        await tap.until(lambda: low in told("health_alert.triggered") and low in told("measurement.completed"))
        alerts, completed = told("health_alert.triggered"), told("measurement.completed")
    assert set(completed) == {unverified, normal, high, low}
    assert completed[unverified]["verified"] is False
    assert set(alerts) == {high, low}
    assert (alerts[high]["kind"], alerts[high]["limit"], alerts[high]["unit"]) == ("critical_high", 400, "mg/dL")
    assert (alerts[low]["kind"], alerts[low]["limit"]) == ("critical_low", 54)
    assert alerts[high]["value"] == completed[high]["primary_value"]
    assert alerts[high]["user_id"] == person.user_id


async def test_results_are_displayed_in_the_unit_that_their_person_chooses(
    platform: Platform, readers: ReaderSide
) -> None:
    """From the profile, by an event, to measurement's face: each call goes through the router."""
    person = await sign_up(platform)
    reader = await new_reader(readers, person, await technician(platform))
    await _measure(reader, 180.0)
    answer = await platform.graphql(
        "mutation { updateProfile(input: {resultUnits: AMOUNT}) { user { resultUnits } } }", token=person.token
    )
    assert answer["data"]["updateProfile"]["user"]["resultUnits"] == "AMOUNT"
    query = "{ me { resultUnits measurements(first: 1) { edges { node { value unit display { value unit } } } } } }"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            me = (await platform.graphql(query, token=person.token))["data"]["me"]
            result = me["measurements"]["edges"][0]["node"]
            assert result["unit"] == "mg/dL"
            if result["display"]["unit"] == "mmol/L":
                break
            await asyncio.sleep(0.05)  # only asking tells when the event has taken effect
    assert me["resultUnits"] == "AMOUNT"
    assert result["display"]["value"] == pytest.approx(result["value"] / 18.0156, abs=0.05)


async def test_a_bad_frame_ends_its_own_stream_only(platform: Platform, readers: ReaderSide) -> None:
    person = await sign_up(platform)
    reader = await new_reader(readers, person, await technician(platform))
    session_id = await reader.client.start_session(reader.plan)
    bystander = await new_reader(readers, person, await technician(platform))

    async def send(*messages: measurement_pb2.MeasurementData) -> list[measurement_pb2.MeasurementResult]:
        call = readers.measurements.StreamMeasurement(
            iter(messages), metadata=await reader.client.credential.metadata()
        )
        return [answer async for answer in call]

    good = measurement_pb2.MeasurementData(session_id=session_id, raw_channels=[100.0] * 88)
    wrong = {
        "not finite": measurement_pb2.MeasurementData(session_id=session_id, raw_channels=[float("nan")] * 88),
        "infinite": measurement_pb2.MeasurementData(session_id=session_id, raw_channels=[float("inf")] * 88),
        "too short": measurement_pb2.MeasurementData(session_id=session_id, raw_channels=[1.0] * 87),
    }
    async with bystander.client.session(bystander.plan) as other:
        for name, bad in wrong.items():
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await send(good, bad)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
            for frame in bystander.frames(100.0, 2):
                await other.send(frame)
    assert other.ended is not None
    assert other.ended.total_measurements == 2 * len(wrong)
    ended = await reader.client.end_session(session_id)
    assert ended.total_measurements == len(wrong)  # the good ones before the bad ones
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await send(good)
    assert late.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await send(measurement_pb2.MeasurementData(session_id=str(uuid.uuid4()), raw_channels=[1.0] * 88))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as foreign:
        await _stream_as(readers, bystander_of(await sign_up(platform)), good)
    assert foreign.value.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND}


def bystander_of(person: Person) -> tuple[tuple[str, str], ...]:
    return person.metadata


async def _stream_as(
    readers: ReaderSide, metadata: tuple[tuple[str, str], ...], message: measurement_pb2.MeasurementData
) -> None:
    async for _ in readers.measurements.StreamMeasurement(iter([message]), metadata=metadata):
        pass
