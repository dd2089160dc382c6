"""How sessions end, what they tell, and who may read what they amount to."""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from manpasik.internal.v1 import cartridge_registry_pb2 as registry
from manpasik.v1 import measurement_pb2 as pb

from devices.simulator.forward_model import ForwardModel
from domain.audit import AccessLog
from domain.measurement.measurement.service import MeasurementService
from domain.messaging import payload_context
from domain.sealing import Sealer
from subgraphs.measurement.measurement.adapters.pgvector_index import PgVectorIndex
from subgraphs.measurement.measurement.background import sweep
from subgraphs.measurement.measurement.consumers import CalibrationCompleted
from subgraphs.runtime.faces import EventMetadata
from tests.integration.measurement.conftest import (
    BASE_US,
    CARTRIDGE,
    DEVICE,
    OTHER,
    USER,
    Measurement,
    as_,
    frame,
    user,
)
from tests.integration.measurement.hardware import GLUCOSE

OWNER = as_(f"user:{USER}")


def service_of(measurement: Measurement, sealer: Sealer) -> MeasurementService:
    return MeasurementService(measurement.clock, sealer, PgVectorIndex(), idle_timeout=timedelta(seconds=300))


async def events(measurement: Measurement) -> list[tuple[str, dict[str, Any]]]:
    """What was told: health data, so it lies sealed in the outbox."""
    rows = await measurement.fetch("SELECT event_id, topic, payload, sealed_payload FROM outbox ORDER BY id")
    assert all(row["payload"] is None for row in rows)
    opened = [measurement.sealer.open(row["sealed_payload"], context=payload_context(row["event_id"])) for row in rows]
    return [(row["topic"], json.loads(payload)) for row, payload in zip(rows, opened, strict=True)]


async def measured(measurement: Measurement, *levels: float, **start: Any) -> str:
    """An ended session with a frame at each level."""
    session_id = await measurement.start(**start)
    await measurement.stream([frame(session_id, n, level=level, s_ref=0) for n, level in enumerate(levels)])
    await measurement.end(session_id)
    return session_id


async def test_ending_twice_answers_the_same_and_tells_once(measurement: Measurement) -> None:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id, n, level=90, s_ref=0) for n in range(3)])
    first, second = await asyncio.gather(measurement.end(session_id), measurement.end(session_id))
    assert first == second
    [(topic, told)] = await events(measurement)
    assert topic == "measurement.completed"
    assert told["primary_value"] == 90
    assert told["session_id"] == session_id
    assert told["unit"] == "mg/dL"
    assert told["verified"] is True


async def test_a_session_without_frames_ends_as_empty_and_tells_nothing(measurement: Measurement) -> None:
    session_id = await measurement.start()
    assert (await measurement.end(session_id)).total_measurements == 0
    assert await events(measurement) == []
    history = await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(limit=10), metadata=OWNER)
    assert history.total_count == 0


async def test_the_result_survives_disturbed_frames(measurement: Measurement) -> None:
    session_id = await measured(measurement, 100, 101, 99, 100, 4000, 0.001)
    [(_, told)] = await events(measurement)
    assert abs(told["primary_value"] - 100) <= 1, session_id


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        (53.4, "critical_low"),
        (400.6, "critical_high"),
        (54, None),
        (400, None),
        (12, "critical_low"),  # below range, whose limit of 20 is below 54
        (900, "critical_high"),
        (-137, None),  # invalid
        (0, None),
        (5_000, None),
    ],
)
async def test_only_what_lies_outside_the_critical_limits_raises_an_alert(
    measurement: Measurement, level: float, kind: str | None
) -> None:
    await measured(measurement, level)
    alerts = [told for topic, told in await events(measurement) if topic == "health_alert.triggered"]
    assert [alert["kind"] for alert in alerts] == ([kind] if kind else [])


async def test_unverified_and_uncalibrated_sessions_raise_no_alert(measurement: Measurement) -> None:
    await measured(measurement, 10, device_id="unknown")
    measurement.hardware.calibrations.clear()
    await measured(measurement, 10)
    assert [topic for topic, _ in await events(measurement)] == ["measurement.completed"] * 2


async def test_a_session_without_a_signal_ends_by_itself_and_one_with_a_signal_does_not(
    measurement: Measurement, sealer: Sealer
) -> None:
    service = service_of(measurement, sealer)
    silent, speaking = await measurement.start(), await measurement.start()
    measurement.clock.ahead += timedelta(seconds=200)
    await measurement.stream([frame(speaking, number, level=90) for number in range(3)])
    measurement.clock.ahead += timedelta(seconds=150)
    await asyncio.gather(*(sweep(service, measurement.database) for _ in range(3)))
    rows = {
        r["id"]: r for r in await measurement.fetch("SELECT id::text, status, end_reason FROM measurement_sessions")
    }
    assert (rows[silent]["status"], rows[silent]["end_reason"]) == ("empty", "idle")
    assert rows[speaking]["status"] == "active"
    measurement.clock.ahead += timedelta(seconds=151)
    await sweep(service, measurement.database)
    assert [told["session_id"] for topic, told in await events(measurement) if topic == "measurement.completed"] == [
        speaking
    ]


async def test_a_tampered_session_does_not_keep_others_from_ending(measurement: Measurement, sealer: Sealer) -> None:
    broken, sound = await measurement.start(), await measurement.start()
    await measurement.stream([frame(broken)])
    await measurement.stream([frame(sound)])
    await measurement.fetch(
        "UPDATE measurement_frames SET sealed = set_byte(sealed, 60, (get_byte(sealed, 60) + 1) % 256)"
        " WHERE session_id = $1",
        broken,
    )
    measurement.clock.ahead += timedelta(seconds=301)
    await sweep(service_of(measurement, sealer), measurement.database)
    rows = {r["id"]: r["status"] for r in await measurement.fetch("SELECT id::text, status FROM measurement_sessions")}
    assert rows == {broken: "active", sound: "completed"}


async def test_the_chain_holds_and_shows_every_kind_of_tampering(measurement: Measurement, sealer: Sealer) -> None:
    service, who = service_of(measurement, sealer), user()

    async def first_broken(session_id: str) -> int | None:
        async with measurement.database.read() as session:
            return (await service.verify_chain(session, who, session_id)).first_broken

    session_id = await measured(measurement, *range(1, 11))
    assert await first_broken(session_id) is None
    keep = "CREATE TEMP TABLE kept AS SELECT * FROM measurement_frames"
    tampering = {
        "UPDATE measurement_frames SET sealed = set_byte(sealed, 60, 0) || '' WHERE sequence = 4": {4},
        "DELETE FROM measurement_frames WHERE sequence = 7": {7},
        "DELETE FROM measurement_frames WHERE sequence = 10": {10},
        "UPDATE measurement_frames SET sequence = 13 - sequence WHERE sequence IN (6, 7)": {6},
        "UPDATE measurement_frames SET chain_hash = sha256(chain_hash) WHERE sequence = 2": {2},
    }
    for statement, expected in tampering.items():
        async with measurement.database.raw() as connection:
            await connection.execute(keep)
            await connection.execute(statement)
        assert await first_broken(session_id) in expected, statement
        async with measurement.database.raw() as connection:
            await connection.execute("DELETE FROM measurement_frames")
            await connection.execute("INSERT INTO measurement_frames SELECT * FROM kept; DROP TABLE kept")
    assert await first_broken(session_id) is None


async def measured_at(measurement: Measurement, when: datetime, level: float = 90.0, *, frames: int = 3) -> str:
    """An ended session whose frames were taken then, a second apart up to that moment."""
    session_id = await measurement.start()
    messages = []
    for number in range(frames):
        messages.append(frame(session_id, level=level, s_ref=0))
        messages[-1].timestamp.FromDatetime(when - timedelta(seconds=frames - 1 - number))
    await measurement.stream(messages)
    await measurement.end(session_id)
    return session_id


async def test_history_is_newest_first_by_the_time_at_which_it_was_measured(measurement: Measurement) -> None:
    now = measurement.clock.now().replace(microsecond=0)
    hours_ago = [20, 0, 30, 10, 25]  # delivered in this order: late ones interleave with those that came at once
    by_age = {age: await measured_at(measurement, now - timedelta(hours=age)) for age in hours_ago}
    newest = [by_age[age] for age in sorted(hours_ago)]
    page = await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(limit=10), metadata=OWNER)
    assert [m.session_id for m in page.measurements] == newest
    assert [m.measured_at.ToDatetime(tzinfo=UTC) for m in page.measurements] == [
        now - timedelta(hours=age) for age in sorted(hours_ago)
    ]
    part = await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(limit=2, offset=1), metadata=OWNER)
    assert [m.session_id for m in part.measurements] == newest[1:3]
    since = pb.GetHistoryRequest(start_time=part.measurements[1].measured_at)
    assert (await measurement.stub.GetMeasurementHistory(since, metadata=OWNER)).total_count == 3
    until = pb.GetHistoryRequest(end_time=part.measurements[1].measured_at)
    assert (await measurement.stub.GetMeasurementHistory(until, metadata=OWNER)).total_count == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(user_id=USER), metadata=as_(f"user:{OTHER}"))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_late_result_belongs_to_the_day_on_which_it_was_measured_and_says_when_it_became_known(
    measurement: Measurement,
) -> None:
    now = measurement.clock.now()
    when = now - timedelta(hours=40)
    await measured_at(measurement, when, level=450)
    told = dict(await events(measurement))
    for event in told.values():
        assert datetime.fromisoformat(event["measured_at"]) == when
        assert datetime.fromisoformat(event["issued_at"]) >= now
        assert event["time_basis"] == "reader"
    day = when.date().isoformat()
    request = pb.ExportToFHIRObservationsRequest(from_date=day, to_date=day)
    answer = await measurement.stub.ExportToFHIRObservations(request, metadata=OWNER)
    Bundle.model_validate_json(answer.fhir_bundle_json)
    [entry] = json.loads(answer.fhir_bundle_json)["entry"]
    assert datetime.fromisoformat(entry["resource"]["effectiveDateTime"]).replace(microsecond=0) == when.replace(
        microsecond=0
    )
    assert datetime.fromisoformat(entry["resource"]["issued"]) >= now - timedelta(seconds=1)
    today = pb.ExportToFHIRObservationsRequest(from_date=now.date().isoformat())
    assert (await measurement.stub.ExportToFHIRObservations(today, metadata=OWNER)).resource_count == 0


@pytest.mark.parametrize(
    "clock",
    [
        datetime(1970, 1, 1, 0, 5, tzinfo=UTC),
        datetime(2020, 1, 1, tzinfo=UTC),
        timedelta(hours=9),  # local time of Seoul, told as UTC
    ],
)
async def test_a_clock_that_cannot_be_believed_leaves_the_time_unknown(
    measurement: Measurement, clock: datetime | timedelta
) -> None:
    now = measurement.clock.now()
    await measured_at(measurement, now + clock if isinstance(clock, timedelta) else clock, level=450)
    for event in dict(await events(measurement)).values():
        assert event["time_basis"] == "unknown"
        assert now <= datetime.fromisoformat(event["measured_at"]) <= measurement.clock.now()
    answer = await measurement.stub.ExportToFHIRObservations(pb.ExportToFHIRObservationsRequest(), metadata=OWNER)
    Bundle.model_validate_json(answer.fhir_bundle_json)
    [entry] = json.loads(answer.fhir_bundle_json)["entry"]
    assert "effectiveDateTime" not in entry["resource"]
    assert entry["resource"]["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"


async def test_a_session_that_ends_by_idleness_ends_at_its_last_frame(measurement: Measurement, sealer: Sealer) -> None:
    session_id = await measurement.start()
    [answer] = await measurement.stream([frame(session_id, level=90)])
    measurement.clock.ahead += timedelta(seconds=4_000)
    await sweep(service_of(measurement, sealer), measurement.database)
    [row] = await measurement.fetch("SELECT end_reason, ended_at, issued_at FROM measurement_sessions")
    assert row["end_reason"] == "idle"
    assert row["ended_at"] == answer.processed_at.ToDatetime(tzinfo=UTC)
    assert row["issued_at"] - row["ended_at"] >= timedelta(seconds=4_000)


@pytest.mark.parametrize(("count", "is_told"), [(1, False), (2, False), (3, True)])
async def test_a_session_whose_reader_falls_silent_has_a_result_only_of_three_frames_or_more(
    measurement: Measurement, sealer: Sealer, count: int, *, is_told: bool
) -> None:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id, number, level=30) for number in range(count)])
    measurement.clock.ahead += timedelta(seconds=301)
    await sweep(service_of(measurement, sealer), measurement.database)
    told = await events(measurement)
    if is_told:
        assert [topic for topic, _ in told] == ["measurement.completed", "health_alert.triggered"]
    else:
        assert [(topic, event["reasons"]) for topic, event in told] == [("measurement.invalid", ["cut_short"])]


async def test_reading_results_is_logged_in_a_chain_that_holds(measurement: Measurement) -> None:
    session_id = await measured(measurement, 90)
    await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(), metadata=OWNER)
    await measurement.stub.ExportSingleMeasurement(
        pb.ExportSingleMeasurementRequest(session_id=session_id), metadata=OWNER
    )
    rows = await measurement.fetch("SELECT subject_user_id, action, resource_ids FROM health_data_access ORDER BY id")
    assert [(r["subject_user_id"], r["action"], r["resource_ids"]) for r in rows] == [
        (USER, "list", [session_id]),
        (USER, "export", [session_id]),
    ]
    async with measurement.database.read() as session:
        assert await AccessLog(session).first_broken(USER) is None


async def test_results_are_sealed_at_rest(measurement: Measurement) -> None:
    await measured(measurement, 123.456)
    [row] = await measurement.fetch("SELECT * FROM measurement_sessions")
    assert b"123.456" not in row["sealed_result"]
    assert not any(value == 123.456 for value in row.values())


async def test_a_fhir_export_validates_and_says_what_is_known(measurement: Measurement) -> None:
    low, critical = await measured(measurement, 65), await measured(measurement, 450)
    unverified = await measured(measurement, 90, device_id="unknown")
    answer = await measurement.stub.ExportToFHIRObservations(pb.ExportToFHIRObservationsRequest(), metadata=OWNER)
    assert answer.resource_count == 3
    bundle = Bundle.model_validate_json(answer.fhir_bundle_json)
    assert bundle.type == "collection"
    found = {entry["resource"]["id"]: entry["resource"] for entry in json.loads(answer.fhir_bundle_json)["entry"]}
    coding = found[low]["code"]["coding"][0]
    assert (coding["system"], coding["code"]) == ("http://loinc.org", "2339-0")
    assert found[low]["status"] == "final"
    assert found[low]["valueQuantity"] == {
        "value": 65.0,
        "unit": "mg/dL",
        "system": "http://unitsofmeasure.org",
        "code": "mg/dL",
    }
    assert found[low]["interpretation"][0]["coding"][0]["code"] == "L"
    assert found[critical]["interpretation"][0]["coding"][0]["code"] == "HH"
    assert found[low]["referenceRange"][0]["high"]["value"] == 99
    assert found[low]["subject"]["reference"] == f"Patient/{USER}"
    assert found[unverified]["status"] == "preliminary"
    assert "loinc" not in json.dumps(found[unverified])
    assert found[unverified]["meta"]["tag"][0]["code"] == "unverified"


@pytest.mark.parametrize(
    ("loinc_code", "unit", "code"),
    [("15074-8", "mmol/L", "15074-8"), ("2339-0", "mmol/L", None), ("15074-8", "mg/dL", None)],
)
async def test_an_export_has_a_loinc_code_only_where_it_is_for_the_unit(
    measurement: Measurement, loinc_code: str, unit: str, code: str | None
) -> None:
    kind = registry.TypeRecord()
    kind.CopyFrom(GLUCOSE)
    kind.loinc_code, kind.unit = loinc_code, unit
    measurement.hardware.calibrated_in = kind
    session_id = await measured(measurement, 65)
    single = await measurement.stub.ExportSingleMeasurement(
        pb.ExportSingleMeasurementRequest(session_id=session_id), metadata=OWNER
    )
    [entry] = json.loads(single.fhir_bundle_json)["entry"]
    found = [c["code"] for c in entry["resource"]["code"]["coding"] if c["system"] == "http://loinc.org"]
    assert found == ([code] if code else [])
    assert entry["resource"]["valueQuantity"]["code"] == unit


async def test_an_export_takes_whole_days_and_refuses_what_is_no_date(measurement: Measurement) -> None:
    session_id = await measured(measurement, 65)
    today = datetime.fromtimestamp(BASE_US / 1e6, UTC).date()

    async def count(**days: str) -> int:
        request = pb.ExportToFHIRObservationsRequest(**days)
        answer = await measurement.stub.ExportToFHIRObservations(request, metadata=OWNER)
        Bundle.model_validate_json(answer.fhir_bundle_json)
        return answer.resource_count

    assert await count(from_date=today.isoformat(), to_date=today.isoformat()) == 1
    assert await count(to_date=(today - timedelta(days=1)).isoformat()) == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await count(from_date="yesterday")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    single = await measurement.stub.ExportSingleMeasurement(
        pb.ExportSingleMeasurementRequest(session_id=session_id), metadata=OWNER
    )
    assert single.resource_count == 1


async def test_active_and_empty_sessions_cannot_be_exported(measurement: Measurement) -> None:
    session_id = await measurement.start()
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await measurement.stub.ExportSingleMeasurement(
                pb.ExportSingleMeasurementRequest(session_id=session_id), metadata=OWNER
            )
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        await measurement.end(session_id)


async def test_the_nearest_fingerprints_are_found_among_the_persons_own(
    measurement: Measurement, sealer: Sealer
) -> None:
    measurement.hardware.register("theirs", OTHER)
    shapes = np.random.default_rng(5).normal(0, 1, (3, 88))
    mixed = {"same": shapes[0], "near": shapes[0] + 0.3 * shapes[1], "far": shapes[2]}
    ids: dict[str, str] = {}
    for name, raw in mixed.items():
        ids[name] = await measurement.start()
        await measurement.stream([frame(ids[name], raw=list(raw), s_ref=0)])
        await measurement.end(ids[name])
    theirs = await measurement.start(f"user:{OTHER}", user_id=OTHER, device_id="theirs")
    await measurement.stream([frame(theirs, raw=list(shapes[0]), s_ref=0)], f"user:{OTHER}")
    await measurement.end(theirs, f"user:{OTHER}")
    async with measurement.database.transaction() as session:
        found = await service_of(measurement, sealer).similar(session, user(), ids["same"], limit=5)
    assert [near.id for near, _ in found] == [ids["near"], ids["far"]]
    expected = mixed["same"] @ mixed["near"] / np.linalg.norm(mixed["same"]) / np.linalg.norm(mixed["near"])
    assert math.isclose(found[0][1], float(expected), abs_tol=1e-5)


async def test_a_calibration_during_a_session_is_noted_and_changes_no_value(measurement: Measurement) -> None:
    session_id = await measurement.start()
    [before] = await measurement.stream([frame(session_id, 0, level=90)])
    measurement.hardware.calibrate(DEVICE, channel_gains=[7.0])
    consumers = measurement.faces.services[0].consumers
    consumer = next(found for found in consumers if found.topic == "calibration.completed")
    event = CalibrationCompleted(device_id=DEVICE, cartridge_category=1, cartridge_type_index=1)
    metadata = EventMetadata("e", event.topic, DEVICE, "calibration", measurement.clock.now(), "", "")
    async with measurement.database.transaction() as session:
        await consumer.handle(session, event, metadata)
    [after] = await measurement.stream([frame(session_id, 1, level=90)])
    assert after.primary_value == before.primary_value
    [row] = await measurement.fetch("SELECT recalibrated_at FROM measurement_sessions")
    assert row["recalibrated_at"] is not None


@pytest.mark.parametrize("raw", [[-100.0] * 88, [0.0] * 88, [100.0, 0.0] * 44, [5_000.0] * 88])
async def test_a_broken_sensor_gives_no_value_in_any_face_and_asks_to_measure_again(
    measurement: Measurement, raw: list[float]
) -> None:
    session_id = await measurement.start()
    answers = await measurement.stream([frame(session_id, n, raw=raw, s_ref=0) for n in range(3)])
    assert all(math.isnan(answer.primary_value) for answer in answers)
    await measurement.end(session_id)
    [(topic, told)] = await events(measurement)
    assert topic == "measurement.invalid"
    assert told["reasons"]
    assert told["failed_electrodes"] or told["reasons"] == ["implausible"]
    assert "value" not in " ".join(told)
    history = await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(limit=10), metadata=OWNER)
    assert [math.isnan(entry.primary_value) for entry in history.measurements] == [True]
    answer = await measurement.stub.ExportSingleMeasurement(
        pb.ExportSingleMeasurementRequest(session_id=session_id), metadata=OWNER
    )
    Bundle.model_validate_json(answer.fhir_bundle_json)
    [entry] = json.loads(answer.fhir_bundle_json)["entry"]
    resource = entry["resource"]
    assert resource["status"] == "cancelled"
    assert resource["dataAbsentReason"]["coding"][0]["code"] == "error"
    assert not {"valueQuantity", "interpretation", "referenceRange"} & set(resource)


@pytest.mark.parametrize(("level", "seed", "amplitude_na"), [(45.0, 30, 4.0), (120.0, 13, 4.5), (430.0, 37, 8.6)])
async def test_mains_hum_in_the_frames_of_a_reader_is_no_final_value_and_without_it_there_is_one(
    measurement: Measurement, level: float, seed: int, amplitude_na: float
) -> None:
    """Three of five samples of the sine agree by chance, five times the amplitude in mg/dL off."""
    model = ForwardModel(seed=seed)
    known = model.calibration()
    measurement.hardware.read(CARTRIDGE)
    measurement.hardware.calibrate(
        DEVICE,
        alpha=known.alpha,
        channel_gains=known.channel_gains.tolist(),
        channel_offsets=known.channel_offsets.tolist(),
        temp_coefficient=known.temp_coefficient,
        humidity_coefficient=known.humidity_coefficient,
    )
    taken = model.reader().measure(level, datetime(2026, 1, 1, 12, tzinfo=UTC))
    hum = np.array([0.97, 1.0, 0.99, 0.1, -0.9]) * amplitude_na

    async def told(disturbance: np.ndarray[Any, Any]) -> list[str]:
        session_id = await measurement.start()
        frames = [
            frame(session_id, n, raw=one.raw_channels + extra, s_ref=one.s_ref, env=(one.temp_c, one.humidity_pct))
            for n, (one, extra) in enumerate(zip(taken, disturbance, strict=True))
        ]
        await measurement.stream(frames)
        await measurement.end(session_id)
        return [topic for topic, event in await events(measurement) if event["session_id"] == session_id]

    critical = ["health_alert.triggered"] if level in (45.0, 430.0) else []
    assert await told(np.zeros(5)) == ["measurement.completed", *critical]
    assert await told(hum) == ["measurement.invalid"]


@pytest.mark.parametrize(("level", "comparator", "limit", "code"), [(12, "<", 20, "LL"), (900, ">", 600, "HH")])
async def test_outside_the_measuring_range_the_limit_is_told_and_never_the_extrapolated_value(
    measurement: Measurement, level: float, comparator: str, limit: int, code: str
) -> None:
    session_id = await measured(measurement, level, level)
    told = dict(await events(measurement))
    assert told["measurement.completed"]["primary_value"] == limit
    assert told["measurement.completed"]["comparator"] == comparator
    assert (told["health_alert.triggered"]["value"], told["health_alert.triggered"]["comparator"]) == (
        limit,
        comparator,
    )
    answer = await measurement.stub.ExportSingleMeasurement(
        pb.ExportSingleMeasurementRequest(session_id=session_id), metadata=OWNER
    )
    Bundle.model_validate_json(answer.fhir_bundle_json)
    [entry] = json.loads(answer.fhir_bundle_json)["entry"]
    quantity = entry["resource"]["valueQuantity"]
    assert (quantity["value"], quantity["comparator"]) == (limit, comparator)
    assert entry["resource"]["interpretation"][0]["coding"][0]["code"] == code
    history = await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(limit=10), metadata=OWNER)
    assert [entry.primary_value for entry in history.measurements] == [limit]


async def test_values_have_the_digits_of_their_type(measurement: Measurement) -> None:
    session_id = await measured(measurement, 168.0519665844384)
    [(_, told)] = await events(measurement)
    assert told["primary_value"] == 168
    answer = await measurement.stub.ExportSingleMeasurement(
        pb.ExportSingleMeasurementRequest(session_id=session_id), metadata=OWNER
    )
    assert '"value":168,' in answer.fhir_bundle_json
