"""What a session start checks, charges and refuses."""

import asyncio
from typing import Any

import grpc
import pytest
from manpasik.internal.v1 import cartridge_registry_pb2 as registry
from manpasik.v1 import measurement_pb2 as pb

from domain.catalog import Group
from domain.sealing import Sealer
from subgraphs.runtime.errors import from_grpc
from tests.integration.measurement.conftest import (
    CARTRIDGE,
    DEVICE,
    OTHER,
    USER,
    Measurement,
    MovableClock,
    as_,
    running,
)
from tests.integration.measurement.hardware import GLUCOSE, Hardware
from tests.support.postgres import DatabaseFor


async def refusal(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), from_grpc(caught.value).reason


async def test_one_use_is_taken_for_each_session(measurement: Measurement) -> None:
    ids = await asyncio.gather(*(measurement.start() for _ in range(4)))
    assert sorted(measurement.hardware.uses[CARTRIDGE]) == sorted(ids)


async def test_a_reader_of_another_person_is_refused(measurement: Measurement) -> None:
    measurement.hardware.register("theirs", OTHER)
    assert await refusal(measurement.start(device_id="theirs")) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "DEVICE_FOREIGN",
    )
    assert measurement.hardware.uses == {}


async def test_nobody_starts_for_somebody_else_nor_a_reader_for_another_reader(measurement: Measurement) -> None:
    assert (await refusal(measurement.start(f"user:{OTHER}")))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert (await refusal(measurement.start(f"device:reader-2:{USER}")))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_an_expired_or_used_up_cartridge_is_refused_with_the_reason(measurement: Measurement) -> None:
    measurement.hardware.read("old")
    measurement.hardware.expired.add("old")
    measurement.hardware.read("empty", uses=0)
    assert await refusal(measurement.start(cartridge_id="old")) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CARTRIDGE_EXPIRED",
    )
    assert await refusal(measurement.start(cartridge_id="empty")) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CARTRIDGE_USED_UP",
    )


async def test_concurrent_starts_never_use_a_cartridge_more_often_than_it_can_be(measurement: Measurement) -> None:
    measurement.hardware.read("last", uses=2)
    outcomes = await asyncio.gather(*(measurement.start(cartridge_id="last") for _ in range(6)), return_exceptions=True)
    started = [o for o in outcomes if isinstance(o, str)]
    assert len(started) == len(set(started)) == 2
    rows = await measurement.fetch("SELECT id::text FROM measurement_sessions WHERE status = 'active'")
    assert sorted(row["id"] for row in rows) == sorted(started)


async def test_the_type_of_the_request_must_be_that_of_the_cartridge(measurement: Measurement) -> None:
    wrong = measurement.start(cartridge_category=1, cartridge_type_index=3)
    assert await refusal(wrong) == (grpc.StatusCode.INVALID_ARGUMENT, "CARTRIDGE_TYPE_MISMATCH")
    await measurement.start(cartridge_category=1, cartridge_type_index=1)


@pytest.mark.parametrize(
    "fields", [{"device_id": ""}, {"cartridge_id": " "}, {"cartridge_category": 256}, {"device_id": "x" * 129}]
)
async def test_a_start_without_sense_is_refused(measurement: Measurement, fields: dict[str, Any]) -> None:
    assert (await refusal(measurement.start(**fields)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_unreachable_service_never_makes_a_session_unverified(measurement: Measurement) -> None:
    measurement.hardware.away = True
    assert (await refusal(measurement.start()))[0] is grpc.StatusCode.UNAVAILABLE
    assert await measurement.fetch("SELECT 1 FROM measurement_sessions") == []


async def test_a_start_that_lost_its_answer_is_taken_up_again_and_costs_one_use(measurement: Measurement) -> None:
    measurement.hardware.lose_answers = 10
    assert (await refusal(measurement.start()))[0] is grpc.StatusCode.UNAVAILABLE
    measurement.hardware.lose_answers = 0
    session_id = await measurement.start()
    assert measurement.hardware.uses[CARTRIDGE] == [session_id]
    assert await measurement.start() != session_id


async def test_a_session_without_calibration_is_uncalibrated_but_verified(measurement: Measurement) -> None:
    measurement.hardware.calibrations.clear()
    session_id = await measurement.start()
    [row] = await measurement.fetch("SELECT verified, calibrated, unit FROM measurement_sessions")
    assert dict(row) == {"verified": True, "calibrated": False, "unit": "[arb'U]"}
    assert session_id


async def test_a_session_has_the_unit_and_the_limits_that_its_calibration_was_made_for(
    measurement: Measurement,
) -> None:
    molar = registry.TypeRecord()
    molar.CopyFrom(GLUCOSE)
    molar.unit, molar.loinc_code, molar.critical_high, molar.decimal_places = "mmol/L", "15074-8", 22.2, 1
    for uid in measurement.hardware.cartridges:  # the type has another unit since; the calibration has not
        measurement.hardware.cartridges[uid].type.CopyFrom(molar)
    await measurement.start()
    [row] = await measurement.fetch(
        "SELECT unit, loinc_code, critical_high, measuring_high, decimal_places FROM measurement_sessions"
    )
    assert tuple(row.values()) == ("mg/dL", "2339-0", 400, 600, 0)


async def test_a_calibration_without_a_unit_starts_no_session(measurement: Measurement) -> None:
    measurement.hardware.calibrated_in = None
    expected = (grpc.StatusCode.FAILED_PRECONDITION, "CALIBRATION_UNIT_UNKNOWN")
    assert await refusal(measurement.start()) == expected
    assert measurement.hardware.uses == {}


async def test_an_unverified_cartridge_is_measured_with_the_readers_calibration_and_marked(
    measurement: Measurement,
) -> None:
    measurement.hardware.calibrate(DEVICE, alpha=0.9, temp_coefficient=0.001, humidity_coefficient=0.002)
    measurement.hardware.read("unsigned", unverified=True)
    await measurement.start(cartridge_id="unsigned")
    [row] = await measurement.fetch(
        "SELECT verified, calibrated, unit, type_name_en, alpha, temp_coefficient, humidity_coefficient "
        "FROM measurement_sessions"
    )
    assert tuple(row.values()) == (False, True, "mg/dL", "Glucose", 0.9, 0.001, 0.002)
    assert len(measurement.hardware.uses["unsigned"]) == 1


async def test_ids_of_readers_are_compared_without_case_and_kept_as_they_are_registered(
    measurement: Measurement,
) -> None:
    await measurement.start(f"device:{DEVICE}:{USER}", device_id=DEVICE.upper())
    measurement.hardware.register(DEVICE.upper(), USER, registered_as=DEVICE)
    await measurement.start(device_id=DEVICE.upper())
    rows = await measurement.fetch("SELECT device_id FROM measurement_sessions")
    assert [row["device_id"] for row in rows] == [DEVICE, DEVICE]


async def test_a_calibration_for_another_width_is_refused_before_a_use_is_taken(measurement: Measurement) -> None:
    measurement.hardware.calibrate(DEVICE, channel_gains=[1.0] * 448)
    assert (await refusal(measurement.start()))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert measurement.hardware.uses == {}


async def test_unverified_sessions_are_refused_where_that_is_configured(
    database_for: DatabaseFor, sealer: Sealer, hardware: Hardware, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database = await database_for(Group.MEASUREMENT)
    folder = str(tmp_path_factory.mktemp("objects"))
    async with running(database, sealer, hardware, MovableClock(), folder, UNVERIFIED_SESSIONS="refuse") as service:
        expected = (grpc.StatusCode.FAILED_PRECONDITION, "UNVERIFIED_SESSION_REFUSED")
        assert await refusal(service.start(device_id="unknown")) == expected
        assert await refusal(service.start(cartridge_id="unknown")) == expected
        await service.start()


async def test_a_caller_without_credential_must_name_the_person(measurement: Measurement) -> None:
    request = pb.StartSessionRequest(device_id=DEVICE, cartridge_id=CARTRIDGE)
    assert (await refusal(measurement.stub.StartSession(request)))[0] is grpc.StatusCode.INVALID_ARGUMENT
    response = await measurement.stub.StartSession(request, metadata=as_(f"user:{USER}"))
    assert response.HasField("started_at")
