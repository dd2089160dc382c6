"""Calibration: what replaces what, what a field fit changes, how long it holds, and who is told."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.clock import SystemClock
from domain.errors import Forbidden, InvalidInput
from domain.hardware.access import DeviceNotFound
from domain.hardware.calibration.errors import (
    CalibrationFitPoor,
    CalibrationInvalid,
    CalibrationNotFound,
    CalibrationUnitOutdated,
)
from domain.hardware.calibration.models import Calibration, CalibrationKind, CalibrationStatus, StatusReport
from domain.hardware.calibration.service import FactoryValues, ReferencePoints
from domain.hardware.cartridge.registry_data import TYPES
from domain.hardware.codes import CartridgeCode
from domain.ids import new_id
from domain.principal import Principal
from subgraphs.hardware.calibration.consumers import CartridgeReplaced, calibration_consumers
from subgraphs.hardware.device.consumers import CalibrationCompleted, device_consumers
from subgraphs.runtime.faces import EventMetadata
from tests.integration.hardware.conftest import ADMIN, ALICE, BOB, GLUCOSE_TAG, TECHNICIAN, Hardware
from tests.support.outbox import payloads_of

GLUCOSE = CartridgeCode(1, 1)
FACTORY = FactoryValues(
    alpha=0.91,
    channel_offsets=[0.5] * 88,
    channel_gains=[2.0 + channel / 100 for channel in range(88)],
    temp_coefficient=0.002,
    humidity_coefficient=-0.001,
    reference_standard="NIST SRM 965b",
    calibrated_by="station 7",
)
POINTS = ReferencePoints(
    reference=[50.0, 100.0, 200.0, 300.0], measured=[45.0, 90.0, 180.0, 270.0], temp_c=25.0, humidity_pct=50.0
)


async def factory(
    hardware: Hardware, values: FactoryValues = FACTORY, principal: Principal = TECHNICIAN, device_id: str = "dev-1"
) -> Calibration:
    async with hardware.database.transaction() as session:
        return await hardware.services.calibrations.register_factory(
            session, principal, device_id=device_id, code=GLUCOSE, values=values
        )


async def field(hardware: Hardware, points: ReferencePoints = POINTS, principal: Principal = ALICE) -> Calibration:
    async with hardware.database.transaction() as session:
        return await hardware.services.calibrations.perform_field(
            session, principal, device_id="dev-1", user_id="", code=GLUCOSE, points=points
        )


async def in_force(hardware: Hardware, principal: Principal = ALICE) -> Calibration:
    async with hardware.database.read() as session:
        return await hardware.services.calibrations.in_force(session, principal, device_id="dev-1", code=GLUCOSE)


async def status(hardware: Hardware) -> StatusReport:
    async with hardware.database.read() as session:
        return await hardware.services.calibrations.status(session, ALICE, device_id="dev-1", code=GLUCOSE)


async def _glucose_in_mmol(hardware: Hardware) -> None:
    glucose = next(t for t in TYPES if t.name_en == "Glucose")
    molar = replace(
        glucose, unit="mmol/L", loinc_code="15074-8", reference_low=None, reference_high=None, critical_low=None,
        critical_high=None, measuring_low=1.1, measuring_high=33.3, decimal_places=1, version=2,
    )  # fmt: skip
    async with hardware.database.transaction() as session:
        await hardware.services.registry.upsert_type(session, ADMIN, molar)


async def test_a_calibration_keeps_its_unit_when_the_type_gets_another(hardware: Hardware) -> None:
    await hardware.register()
    made = await factory(hardware)
    assert (made.unit, (await field(hardware)).unit) == ("mg/dL", "mg/dL")
    await _glucose_in_mmol(hardware)
    assert (await in_force(hardware)).unit == "mg/dL"
    for unit in ("", "mg/dL", "mmol", "x" * 25):  # not said, or another than the type's
        with pytest.raises(CalibrationInvalid, match=r"unit|type is in mmol/L"):
            await factory(hardware, replace(FACTORY, unit=unit))
        with pytest.raises(CalibrationInvalid, match=r"unit|type is in mmol/L"):
            await field(hardware, replace(POINTS, unit=unit))
    with pytest.raises(CalibrationUnitOutdated, match="in mg/dL, the type in mmol/L"):
        await field(hardware, replace(POINTS, unit="mmol/L"))
    assert (await factory(hardware, replace(FACTORY, unit="mmol/L"))).unit == "mmol/L"
    assert (await field(hardware, replace(POINTS, unit="mmol/L"))).unit == "mmol/L"


async def test_a_calibration_for_a_type_that_is_not_registered_has_no_unit(hardware: Hardware) -> None:
    async with hardware.database.transaction() as session:
        made = await hardware.services.calibrations.register_factory(
            session, TECHNICIAN, device_id="dev-1", code=CartridgeCode(0xF0, 9), values=FACTORY
        )
        assert await hardware.services.calibrations.unit_of(session, made.calibration_id) is None


async def test_a_field_calibration_stands_on_the_one_in_force(hardware: Hardware) -> None:
    await hardware.register()
    made = await factory(hardware)
    fitted = await field(hardware)
    gain = 50 / 45
    assert fitted.channel_gains == pytest.approx([gain * g for g in FACTORY.channel_gains])
    assert fitted.channel_offsets == pytest.approx([gain * 0.5] * 88)
    assert (fitted.alpha, fitted.temp_coefficient, fitted.based_on) == (0.91, 0.002, made.calibration_id)
    assert fitted.accuracy_score == pytest.approx(1.0)
    again = await field(hardware, replace(POINTS, measured=list(POINTS.reference)))
    assert again.channel_gains == pytest.approx(fitted.channel_gains)  # it stands on the field calibration
    assert (await in_force(hardware)).calibration_id == again.calibration_id


async def test_the_same_points_again_correct_nothing_twice(hardware: Hardware) -> None:
    """A retry, or a second tap, must not change what the person reads."""
    await hardware.register()
    await factory(hardware)
    answers = await asyncio.gather(*(field(hardware) for _ in range(3)))
    assert len({made.calibration_id for made in answers}) == 1
    assert (await in_force(hardware)).channel_gains == pytest.approx([50 / 45 * g for g in FACTORY.channel_gains])
    assert len(await payloads_of(hardware.database, "calibration.completed")) == 2
    second = await field(hardware, replace(POINTS, measured=[value * 1.01 for value in POINTS.reference]))
    with pytest.raises(CalibrationInvalid, match="measure the references again"):
        await field(hardware)  # late, after another one
    assert (await in_force(hardware)).calibration_id == second.calibration_id


@pytest.mark.parametrize("has_factory", [True, False])
async def test_field_calibrations_together_change_no_more_than_a_sound_reader_drifts(
    hardware: Hardware, *, has_factory: bool
) -> None:
    await hardware.register()
    if has_factory:
        await factory(hardware)
    for wrong in ([value * 3 for value in POINTS.reference], [value - 100 for value in POINTS.reference]):
        with pytest.raises(CalibrationFitPoor, match="have the reader calibrated by the factory"):
            await field(hardware, replace(POINTS, measured=wrong))
    first = await field(hardware, replace(POINTS, measured=[value * 1.25 for value in POINTS.reference]))
    with pytest.raises(CalibrationFitPoor, match="All field calibrations together"):
        await field(hardware, replace(POINTS, measured=[value * 1.26 for value in POINTS.reference]))
    assert (await in_force(hardware)).calibration_id == first.calibration_id


@given(
    raw=st.lists(st.floats(0, 100), min_size=88, max_size=88),
    gain=st.floats(0.5, 2),
    offset=st.floats(-10, 10),
    env=st.floats(0.8, 1.2),
)
def test_composing_is_the_same_as_correcting_the_value(
    raw: list[float], gain: float, offset: float, env: float
) -> None:
    signal = np.array(raw)
    gains, offsets = np.array(FACTORY.channel_gains), np.array(FACTORY.channel_offsets)
    corrected = gain * (gains * (signal / env) + offsets) + offset
    composed = (gain * gains) * (signal / env) + (gain * offsets + offset)
    np.testing.assert_allclose(composed, corrected, rtol=1e-12, atol=1e-9)


async def test_a_field_calibration_without_any_before_it_stands_on_the_models_alpha(hardware: Hardware) -> None:
    await hardware.register()
    fitted = await field(hardware)
    assert (fitted.alpha, fitted.based_on) == (0.95, None)
    assert fitted.channel_gains == pytest.approx([50 / 45])
    assert fitted.channel_offsets == pytest.approx([0.0], abs=1e-9)


@pytest.mark.parametrize(
    ("measured", "figure"),
    [([300.0, 45.0, 200.0, 60.0], "R2 is"), ([-45.0, -90.0, -180.0, -270.0], "The gain is")],
)
async def test_a_poor_fit_is_refused_with_its_figures_and_changes_nothing(
    hardware: Hardware, measured: list[float], figure: str
) -> None:
    await hardware.register()
    made = await factory(hardware)
    with pytest.raises(CalibrationFitPoor, match=figure) as refusal:
        await field(hardware, replace(POINTS, measured=measured))
    assert {"r_squared", "max_residual", "gain"} <= set(refusal.value.details)
    assert (await in_force(hardware)).calibration_id == made.calibration_id


@pytest.mark.parametrize(
    "points",
    [
        replace(POINTS, measured=[1.0, 2.0], reference=[1.0, 2.0]),
        replace(POINTS, measured=[1.0, 2.0, 3.0]),
        replace(POINTS, measured=[1.0, 2.0, 3.0, float("nan")]),
        replace(POINTS, humidity_pct=101.0),
        replace(POINTS, temp_c=float("nan")),
    ],
)
async def test_points_that_make_no_sense_are_refused(hardware: Hardware, points: ReferencePoints) -> None:
    await hardware.register()
    with pytest.raises(CalibrationInvalid):
        await field(hardware, points)


@pytest.mark.parametrize(
    "values",
    [
        replace(FACTORY, channel_gains=[1.0] * 87),
        replace(FACTORY, channel_gains=[1.0] * 448),
        replace(FACTORY, channel_gains=[0.0]),
        replace(FACTORY, channel_offsets=[float("inf")]),
        replace(FACTORY, alpha=float("nan")),
        replace(FACTORY, alpha=2.5),
        replace(FACTORY, temp_coefficient=float("nan")),
    ],
)
async def test_factory_values_that_make_no_sense_are_refused(hardware: Hardware, values: FactoryValues) -> None:
    with pytest.raises(InvalidInput):
        await factory(hardware, values)


async def test_each_kind_holds_for_its_time_and_the_factorys_is_there_again_after_the_fields(
    hardware: Hardware,
) -> None:
    await hardware.register()
    assert (await status(hardware)).status is CalibrationStatus.NEEDED
    made = await factory(hardware)
    fitted = await field(hardware)
    report = await status(hardware)
    assert (report.status, report.days_until_expiry) == (CalibrationStatus.VALID, 90)
    hardware.clock.advance(days=84)
    assert (await status(hardware)).status is CalibrationStatus.EXPIRING
    assert (await in_force(hardware)).calibration_id == fitted.calibration_id
    hardware.clock.advance(days=6)
    assert (await in_force(hardware)).calibration_id == made.calibration_id
    assert (await status(hardware)).status is CalibrationStatus.VALID
    hardware.clock.advance(days=275)
    with pytest.raises(CalibrationNotFound):
        await in_force(hardware)
    report = await status(hardware)
    assert (report.status, report.days_until_expiry) == (CalibrationStatus.EXPIRED, -275)


async def test_a_factory_calibration_replaces_what_was_fitted_to_the_one_before(hardware: Hardware) -> None:
    await hardware.register()
    await factory(hardware)
    await field(hardware)
    newest = await factory(hardware, replace(FACTORY, alpha=0.0))
    assert newest.alpha == 0.95  # the model's
    assert (await in_force(hardware)).calibration_id == newest.calibration_id
    hardware.clock.advance(seconds=1)
    async with hardware.database.read() as session:
        calibrations = hardware.services.calibrations
        records, total = await calibrations.history(session, ALICE, device_id="dev-1", limit=2, offset=0)
    assert total == 3
    assert [calibrations.status_of(record) for record in records][1:] == [CalibrationStatus.EXPIRED]


async def test_calibrations_at_once_leave_one_of_their_kind_in_force(hardware: Hardware) -> None:
    await hardware.register()
    await factory(hardware)
    measured = [[value * (1 + number / 1000) for value in POINTS.reference] for number in range(6)]
    await asyncio.gather(*(field(hardware, replace(POINTS, measured=values)) for values in measured))
    rows = await hardware.fetch("SELECT kind FROM calibrations WHERE superseded_at IS NULL ORDER BY kind")
    assert [row["kind"] for row in rows] == ["factory", "field"]
    # each stands on the one before it, so none was lost
    based = await hardware.fetch("SELECT count(DISTINCT based_on) AS chain FROM calibrations WHERE kind = 'field'")
    assert based == [{"chain": 6}]


async def test_people_calibrate_their_own_devices_and_technicians_those_of_the_factory(hardware: Hardware) -> None:
    await factory(hardware)  # before anybody has registered it
    with pytest.raises(DeviceNotFound):
        await in_force(hardware)
    await hardware.register()
    await field(hardware)
    await field(hardware, principal=hardware.device())
    for refused in (BOB, TECHNICIAN, hardware.device("dev-2")):
        with pytest.raises(Forbidden):
            await field(hardware, principal=refused)
    for refused in (ALICE, hardware.device()):
        with pytest.raises(Forbidden):
            await factory(hardware, principal=refused)
    assert (await in_force(hardware, TECHNICIAN)).kind == CalibrationKind.FIELD
    with pytest.raises(Forbidden):
        await in_force(hardware, BOB)


async def outbox(hardware: Hardware, topic: str) -> list[dict[str, object]]:
    keys = await hardware.fetch("SELECT key FROM outbox WHERE topic = $1 ORDER BY id", topic)
    payloads = await payloads_of(hardware.database, topic)
    return [{**row, "payload": json.dumps(payload)} for row, payload in zip(keys, payloads, strict=True)]


def metadata(topic: str) -> EventMetadata:
    return EventMetadata(
        event_id=new_id(),
        topic=topic,
        key="dev-1",
        source="test",
        occurred_at=SystemClock().now(),
        correlation_id="",
        traceparent="",
    )


async def test_a_calibration_is_told_and_the_device_remembers_when(hardware: Hardware) -> None:
    await hardware.register()
    made = await factory(hardware)
    rows = await outbox(hardware, "calibration.completed")
    assert [row["key"] for row in rows] == ["dev-1"]
    event = CalibrationCompleted.model_validate_json(str(rows[0]["payload"]))
    consumer = next(c for c in device_consumers(hardware.services.devices) if c.topic == event.topic)
    async with hardware.database.transaction() as session:
        await consumer.handle(session, event, metadata(consumer.topic))
    late = event.model_copy(update={"calibrated_at": made.calibrated_at.replace(year=2020)})
    async with hardware.database.transaction() as session:
        await consumer.handle(session, late, metadata(consumer.topic))
    assert await hardware.fetch("SELECT last_calibrated_at FROM devices") == [
        {"last_calibrated_at": made.calibrated_at}
    ]


async def replaced(hardware: Hardware) -> int:
    """Pass on what was told of cartridges since; how many events that were."""
    rows = await outbox(hardware, "cartridge.replaced")
    (consumer,) = calibration_consumers(hardware.services.calibrations)
    for row in rows:
        event = CartridgeReplaced.model_validate_json(str(row["payload"]))
        async with hardware.database.transaction() as session:
            await consumer.handle(session, event, metadata(consumer.topic))
    return len(rows)


async def test_cartridges_of_another_lot_call_for_a_check_which_a_calibration_answers(hardware: Hardware) -> None:
    await hardware.register()
    await factory(hardware)
    device = hardware.device()
    same_lot = replace(GLUCOSE_TAG, cartridge_uid="00112233445566AB")
    lipid = replace(GLUCOSE_TAG, cartridge_uid="00112233445566AC", type_index=2, lot_id="LOT-L")
    new_lot = replace(GLUCOSE_TAG, cartridge_uid="00112233445566AD", lot_id="LOT-B")
    await hardware.read(GLUCOSE_TAG, device)
    await hardware.read(GLUCOSE_TAG, device)  # the same again
    assert await replaced(hardware) == 0
    for tag, expected in (
        (same_lot, CalibrationStatus.VALID),
        (lipid, CalibrationStatus.VALID),
        (new_lot, CalibrationStatus.NEEDED),
    ):
        hardware.clock.advance(minutes=1)
        await hardware.read(tag, device)
        await replaced(hardware)
        assert (await status(hardware)).status is expected, tag.lot_id
    await replaced(hardware)  # every event again: nothing changes
    assert (await status(hardware)).lot_changed
    await field(hardware)
    assert (await status(hardware)).status is CalibrationStatus.VALID
    assert await replaced(hardware) == 3


async def test_a_cartridge_read_without_a_device_replaces_nothing(hardware: Hardware) -> None:
    await hardware.register()
    await hardware.read(GLUCOSE_TAG, ALICE)
    assert await hardware.fetch("SELECT cartridge_uid FROM devices") == [{"cartridge_uid": None}]
    await hardware.read(GLUCOSE_TAG, ALICE, "dev-1")
    assert await hardware.fetch("SELECT cartridge_uid FROM devices") == [{"cartridge_uid": "00112233445566AA"}]
    with pytest.raises(Forbidden):
        await hardware.read(replace(GLUCOSE_TAG, cartridge_uid="00112233445566AE"), BOB, "dev-1")
