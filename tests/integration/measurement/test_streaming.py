"""From frames to results over real sockets and a real database."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from manpasik.v1 import measurement_pb2 as pb

from domain.catalog import Group
from domain.ids import new_id
from domain.sealing import Sealer
from subgraphs.runtime.errors import from_grpc
from tests.integration.measurement.conftest import (
    BASE_US,
    CARTRIDGE,
    DEVICE,
    OTHER,
    USER,
    Measurement,
    MovableClock,
    as_,
    frame,
    running,
)
from tests.integration.measurement.hardware import Hardware
from tests.support.postgres import DatabaseFor


async def status_of(call: object) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code()


async def test_a_verified_session_is_corrected_calibrated_and_ended(measurement: Measurement) -> None:
    session_id = await measurement.start()
    answers = await measurement.stream([frame(session_id, n, level=101.234, s_ref=1) for n in range(5)])
    assert [a.primary_value for a in answers] == [100] * 5
    assert {a.unit for a in answers} == {"mg/dL"}
    assert all(a.confidence == 1.0 and len(a.fingerprint_vector) == 896 for a in answers)
    assert math.isclose(float(np.linalg.norm(answers[0].fingerprint_vector)), 1.0, rel_tol=1e-6)
    assert (await measurement.end(session_id)).total_measurements == 5
    history = await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(limit=10), metadata=as_(f"user:{USER}"))
    assert history.total_count == 1
    assert history.measurements[0].session_id == session_id
    assert history.measurements[0].cartridge_type == "Glucose"
    assert history.measurements[0].primary_value == 100


async def test_an_unverified_session_runs_with_the_default_alpha_and_claims_no_unit(measurement: Measurement) -> None:
    session_id = await measurement.start(who="", device_id="e2e-dev-001", cartridge_id="e2e-cart-001")
    [answer] = await measurement.stream([frame(session_id)], who="")
    assert math.isclose(answer.primary_value, 1.2226)
    assert answer.unit == "[arb'U]"
    assert (await measurement.end(session_id, who="")).total_measurements == 1
    history = await measurement.stub.GetMeasurementHistory(pb.GetHistoryRequest(user_id=USER))
    assert [m.cartridge_type for m in history.measurements] == ["unknown"]


async def test_the_cartridge_decides_alpha_before_the_calibration_and_the_reader_never_does(
    measurement: Measurement,
) -> None:
    measurement.hardware.read("plain")
    with_cartridge = await measurement.start()
    with_calibration = await measurement.start(cartridge_id="plain")
    [first] = await measurement.stream([frame(with_cartridge, level=200, s_ref=100)])
    [second] = await measurement.stream([frame(with_calibration, level=200, s_ref=100)])
    assert first.primary_value == 200 - 95
    assert second.primary_value == 200 - 90


async def test_gains_offsets_and_surroundings_enter_by_the_formula(measurement: Measurement) -> None:
    gains, offsets = np.linspace(2, 3, 88), np.linspace(-1, 1, 88)
    measurement.hardware.calibrate(DEVICE, channel_gains=gains, channel_offsets=offsets)
    measurement.hardware.read("warm", alpha=0.9, temp_coefficient=0.01, humidity_coefficient=0.002)
    env = (1 + 0.01 * 5) * (1 + 0.002 * 10)
    raw = (100 - offsets) / gains * env + 0.9 * 4
    session_id = await measurement.start(cartridge_id="warm")
    [answer] = await measurement.stream([frame(session_id, raw=list(raw), s_ref=4, env=(30, 60))])
    assert math.isclose(answer.primary_value, 100, rel_tol=1e-9)


async def test_dead_and_spiking_electrodes_do_not_move_the_value(measurement: Measurement) -> None:
    raw = np.full(88, 100.0) + np.random.default_rng(1).normal(0, 0.5, 88)
    raw[:9], raw[9:12] = 0.0, 5_000.0
    session_id = await measurement.start()
    [answer] = await measurement.stream([frame(session_id, raw=list(raw), s_ref=0)])
    assert abs(answer.primary_value - 100) < 0.3
    assert 0.7 < answer.confidence < 0.9


async def test_a_frame_that_was_sent_twice_counts_once_and_gets_the_same_answer(measurement: Measurement) -> None:
    session_id = await measurement.start()
    frames = [frame(session_id, n, level=30 + n) for n in range(40)]
    first = await measurement.stream([*frames, frames[3], frames[39]])
    assert first[40] == first[3]
    assert first[41] == first[39]
    again = await measurement.stream([*frames, frame(session_id, 40)])
    assert again[:40] == first[:40]
    assert (await measurement.end(session_id)).total_measurements == 41


async def test_frames_without_a_timestamp_get_the_time_of_their_arrival(measurement: Measurement) -> None:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id, timed=False) for _ in range(30)])
    assert (await measurement.end(session_id)).total_measurements == 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"raw": [1.0] * 87 + [math.nan]},
        {"raw": [1.0] * 87 + [math.inf]},
        {"raw": [1.0] * 87},
        {"raw": []},
        {"channels": 448},
        {"s_ref": math.nan},
        {"env": (math.nan, 50)},
        {"env": (25, 101)},
        {"raw": [1e308, -1e308] * 44, "s_ref": -1e308},
        {"raw": [1e300] * 88},
        {"raw": [100.0] * 87 + [1e9]},  # no converter gives so much
        {"s_ref": 1e9},
        {"number": 1_000_000_000},  # in thirty years
        {"number": -1_800_000_000},  # before 1970
    ],
)
async def test_a_wrong_frame_is_refused_and_harms_nothing_else(
    measurement: Measurement, wrong: dict[str, object]
) -> None:
    session_id, other_id = await measurement.start(), await measurement.start()
    good = [frame(session_id, n) for n in range(3)]
    fields = {"number": 7} | wrong
    call = measurement.stream([*good, frame(session_id, **fields), frame(session_id, 8)])  # type: ignore[arg-type]
    status, others = await asyncio.gather(status_of(call), measurement.stream([frame(other_id, n) for n in range(9)]))
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert len(others) == 9
    assert len(await measurement.stream(good)) == 3
    assert (await measurement.end(session_id)).total_measurements == 3


async def test_answers_come_before_the_error_that_follows_them(measurement: Measurement) -> None:
    session_id = await measurement.start()
    answers = []

    async def requests() -> AsyncIterator[pb.MeasurementData]:
        for number in range(4):
            yield frame(session_id, number)
        yield frame(session_id, 5, raw=[math.nan] * 88)

    async def collect() -> None:
        async for answer in measurement.stub.StreamMeasurement(requests(), metadata=as_(f"user:{USER}")):
            answers.append(answer)  # noqa: PERF401 - kept when the stream breaks

    assert await status_of(collect()) is grpc.StatusCode.INVALID_ARGUMENT
    assert len(answers) == 4


async def test_unknown_foreign_and_ended_sessions_get_the_fitting_status(measurement: Measurement) -> None:
    session_id = await measurement.start()
    assert await status_of(measurement.stream([frame(new_id())])) is grpc.StatusCode.NOT_FOUND
    assert await status_of(measurement.stream([frame("no-uuid")])) is grpc.StatusCode.NOT_FOUND
    foreign = measurement.stream([frame(session_id)], who=f"user:{OTHER}")
    assert await status_of(foreign) is grpc.StatusCode.PERMISSION_DENIED
    wrong_reader = measurement.stream([frame(session_id)], who=f"device:reader-2:{USER}")
    assert await status_of(wrong_reader) is grpc.StatusCode.PERMISSION_DENIED
    assert await status_of(measurement.end(session_id, who=f"user:{OTHER}")) is grpc.StatusCode.PERMISSION_DENIED
    await measurement.end(session_id)
    assert await status_of(measurement.stream([frame(session_id)])) is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_reader_streams_for_its_own_sessions(measurement: Measurement) -> None:
    who = f"device:{DEVICE}:{USER}"
    session_id = await measurement.start(who, user_id="")
    assert len(await measurement.stream([frame(session_id, n) for n in range(3)], who)) == 3
    assert (await measurement.end(session_id, who)).total_measurements == 3


async def test_a_stream_that_changes_its_session_is_refused(measurement: Measurement) -> None:
    session_id, other_id = await measurement.start(), await measurement.start()
    call = measurement.stream([frame(session_id), frame(other_id)])
    assert await status_of(call) is grpc.StatusCode.INVALID_ARGUMENT
    assert (await measurement.end(other_id)).total_measurements == 0


async def test_an_unverified_session_is_as_wide_as_its_first_frame_also_after_a_resume(
    measurement: Measurement,
) -> None:
    session_id = await measurement.start(device_id="unknown")
    await measurement.stream([frame(session_id, 0, channels=448)])
    wider = measurement.stream([frame(session_id, 1, channels=896)])
    assert await status_of(wider) is grpc.StatusCode.INVALID_ARGUMENT
    assert len(await measurement.stream([frame(session_id, 1, channels=448)])) == 1


@pytest.mark.parametrize("channels", [88, 448, 896, 1792])
async def test_every_width_gives_a_fingerprint_of_896(measurement: Measurement, channels: int) -> None:
    session_id = await measurement.start(device_id="unknown")
    raw = list(np.random.default_rng(channels).normal(5, 1, channels))
    [answer] = await measurement.stream([frame(session_id, raw=raw)])
    assert len(answer.fingerprint_vector) == 896
    assert math.isclose(float(np.linalg.norm(answer.fingerprint_vector)), 1.0, rel_tol=1e-6)
    await measurement.end(session_id)


async def test_a_verified_session_has_the_width_that_the_cartridge_says(measurement: Measurement) -> None:
    measurement.hardware.read("wide", alpha=0.95)
    measurement.hardware.widths["wide"] = 448
    session_id = await measurement.start(cartridge_id="wide")
    assert len(await measurement.stream([frame(session_id, channels=448)])) == 1
    narrow = measurement.stream([frame(session_id, 1, channels=88)])
    assert await status_of(narrow) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_second_stream_takes_the_session_over(measurement: Measurement) -> None:
    session_id = await measurement.start()
    release = asyncio.Event()

    async def slowly() -> AsyncIterator[pb.MeasurementData]:
        yield frame(session_id, 0)
        await release.wait()
        yield frame(session_id, 1)

    older = measurement.stub.StreamMeasurement(slowly(), metadata=as_(f"user:{USER}"))
    answers = aiter(older)
    await anext(answers)
    assert len(await measurement.stream([frame(session_id, n) for n in range(3)])) == 3
    release.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(answers)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert (await measurement.end(session_id)).total_measurements == 3


async def test_more_frames_than_a_stream_may_have_pending_are_all_answered_in_order(measurement: Measurement) -> None:
    session_id = await measurement.start(device_id="unknown")  # arbitrary units have no measuring range
    answers = await measurement.stream([frame(session_id, n, level=1.0 + n, s_ref=0) for n in range(700)])
    assert [a.primary_value for a in answers] == [1.0 + n for n in range(700)]


async def test_what_is_stored_is_sealed_compact_and_in_its_month(measurement: Measurement) -> None:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id, n) for n in range(3)])
    rows = await measurement.fetch(
        "SELECT tableoid::regclass::text AS place, * FROM measurement_frames ORDER BY sequence"
    )
    assert [row["sequence"] for row in rows] == [1, 2, 3]
    assert {len(row["sealed"]) for row in rows} == {33 + 103 + 88 * 8}
    assert np.float64(1.234).tobytes() not in rows[0]["sealed"]
    made = await measurement.fetch("SELECT count(*) FROM pg_inherits WHERE inhparent = 'measurement_frames'::regclass")
    assert made[0]["count"] >= 4
    assert int(rows[0]["measured_at"].timestamp()) == BASE_US // 1_000_000
    assert CARTRIDGE in measurement.hardware.uses


async def test_what_was_measured_before_the_session_is_refused_where_only_live_frames_are_taken(
    database_for: DatabaseFor, sealer: Sealer, hardware: Hardware, tmp_path: Path
) -> None:
    database, clock = await database_for(Group.MEASUREMENT), MovableClock()
    begun = clock.now()
    async with running(database, sealer, hardware, clock, str(tmp_path), OFFLINE_MODE_ENABLED=False) as measurement:
        session_id = await measurement.start()

        def measured(after: timedelta) -> pb.MeasurementData:
            message = frame(session_id)
            message.timestamp.FromDatetime(begun + after)
            return message

        behind = measured(timedelta(minutes=-9))  # a clock that is a little behind
        assert len(await measurement.stream([behind])) == 1
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await measurement.stream([measured(timedelta(minutes=-11))])
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert from_grpc(refused.value).reason == "FRAME_STORED_OFFLINE"
        clock.ahead = timedelta(seconds=250)  # the connection was lost meanwhile
        assert len(await measurement.stream([behind, measured(timedelta(seconds=1))])) == 2
        assert (await measurement.end(session_id)).total_measurements == 2


async def test_what_was_measured_before_the_session_is_taken_by_default(measurement: Measurement) -> None:
    session_id = await measurement.start()
    stored = frame(session_id)
    stored.timestamp.FromDatetime(measurement.clock.now() - timedelta(days=30))
    assert len(await measurement.stream([stored])) == 1
