"""A frame that was answered is there, whatever happens to the process."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path

import grpc
import pytest
from manpasik.v1 import measurement_pb2 as pb
from manpasik.v1.measurement_pb2_grpc import MeasurementServiceStub

from domain.catalog import Group
from domain.sealing import Sealer
from subgraphs.measurement.measurement.adapters.partitions import ensure_partitions
from tests.integration.measurement.conftest import (
    BASE_US,
    CARTRIDGE,
    DEVICE,
    USER,
    Measurement,
    MovableClock,
    as_,
    frame,
    running,
)
from tests.integration.measurement.hardware import Hardware
from tests.integration.measurement.host import killable
from tests.support.patience import PATIENCE_S
from tests.support.postgres import DatabaseFor, PostgresServer

READERS = 8
OWNER = as_(f"user:{USER}")


async def stream_until_it_breaks(stub: MeasurementServiceStub, session_id: str, answered: dict[int, float]) -> None:
    """Send frame after frame, up to 20 ahead of the answers, and note which were answered."""
    ahead = asyncio.Semaphore(20)

    async def requests() -> AsyncIterator[pb.MeasurementData]:
        for number in range(100_000):
            await ahead.acquire()
            yield frame(session_id, number, level=100 + number, s_ref=0)

    async def collect() -> None:
        number = 0
        async for answer in stub.StreamMeasurement(requests(), metadata=OWNER):
            answered[number] = answer.primary_value
            number += 1
            ahead.release()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect()
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_what_was_answered_survives_sigkill_and_a_resume_counts_once(
    database_for: DatabaseFor, postgres: PostgresServer, tmp_path: Path
) -> None:
    database, key = await database_for(Group.MEASUREMENT), os.urandom(32)
    answered: dict[str, dict[int, float]] = {}
    async with killable(database, postgres.settings, key, tmp_path) as host:
        stub = MeasurementServiceStub(host.channel)
        request = pb.StartSessionRequest(device_id=DEVICE, cartridge_id=CARTRIDGE)
        for _ in range(READERS):
            answered[(await stub.StartSession(request, metadata=OWNER)).session_id] = {}
        streams = [asyncio.create_task(stream_until_it_breaks(stub, s, a)) for s, a in answered.items()]
        while min(len(a) for a in answered.values()) < 100:  # noqa: ASYNC110 - the streams fill plain dictionaries
            await asyncio.sleep(0.01)
        await host.kill()
        await asyncio.gather(*streams)
    async with database.raw() as connection:
        for session_id, answers in answered.items():
            rows = await connection.fetch(
                "SELECT (extract(epoch FROM measured_at) * 1000000)::bigint AS us FROM measurement_frames"
                " WHERE session_id = $1",
                session_id,
            )
            stored = {(row["us"] - BASE_US) // 1_000_000 for row in rows}
            assert answers.keys() <= stored
            assert len(stored) <= len(answers) + 20
    async with killable(database, postgres.settings, key, tmp_path) as host:
        stub = MeasurementServiceStub(host.channel)
        for session_id, answers in answered.items():
            total = len(answers) + 30
            again = stub.StreamMeasurement(
                iter_of([frame(session_id, n, level=100 + n, s_ref=0) for n in range(total)]), metadata=OWNER
            )
            values = [answer.primary_value async for answer in again]
            assert values[: len(answers)] == list(answers.values())
            ended = await stub.EndSession(pb.EndSessionRequest(session_id=session_id), metadata=OWNER)
            assert ended.total_measurements == total


async def cut_all_connections(measurement: Measurement) -> None:
    connection = await measurement.database.listen_connection()  # one of the pool may have been cut just before
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def iter_of(frames: list[pb.MeasurementData]) -> AsyncIterator[pb.MeasurementData]:
    for one in frames:
        yield one


async def test_two_processes_never_write_one_session_at_once(
    measurement: Measurement, sealer: Sealer, hardware: Hardware, tmp_path: Path
) -> None:
    session_id = await measurement.start()
    go_on = asyncio.Event()

    async def older() -> AsyncIterator[pb.MeasurementData]:
        yield frame(session_id, 0)
        await go_on.wait()
        yield frame(session_id, 1)

    answers = aiter(measurement.stub.StreamMeasurement(older(), metadata=OWNER))
    await anext(answers)
    async with running(measurement.database, sealer, hardware, MovableClock(), str(tmp_path)) as second:
        assert len(await second.stream([frame(session_id, n) for n in range(3)])) == 3
        go_on.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(answers)
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert (await second.end(session_id)).total_measurements == 3


async def test_ending_a_session_fences_off_its_open_stream(measurement: Measurement) -> None:
    session_id = await measurement.start()
    go_on = asyncio.Event()

    async def requests() -> AsyncIterator[pb.MeasurementData]:
        yield frame(session_id, 0)
        await go_on.wait()
        yield frame(session_id, 1)

    answers = aiter(measurement.stub.StreamMeasurement(requests(), metadata=OWNER))
    await anext(answers)
    assert (await measurement.end(session_id)).total_measurements == 1
    go_on.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(answers)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert len(await measurement.fetch("SELECT 1 FROM measurement_frames")) == 1


async def test_a_locked_session_is_waited_for_and_does_not_hold_up_others(measurement: Measurement) -> None:
    locked, free = await measurement.start(), await measurement.start()
    begun = asyncio.Event()

    async def requests() -> AsyncIterator[pb.MeasurementData]:
        yield frame(locked, 0)
        await begun.wait()
        yield frame(locked, 1)

    answers = aiter(measurement.stub.StreamMeasurement(requests(), metadata=OWNER))
    await anext(answers)
    async with measurement.database.raw() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM measurement_sessions WHERE id = $1 FOR UPDATE", locked)
        begun.set()
        assert len(await asyncio.wait_for(measurement.stream([frame(free, n) for n in range(50)]), PATIENCE_S)) == 50
    assert (await asyncio.wait_for(anext(answers), PATIENCE_S)).session_id == locked
    assert (await measurement.end(locked)).total_measurements == 2


async def test_a_row_that_the_database_rejects_fails_its_own_session_only(
    measurement: Measurement,
) -> None:
    bad, good = await measurement.start(), await measurement.start()
    async with measurement.database.raw() as connection:
        await connection.execute(
            f"ALTER TABLE measurement_frames ADD CONSTRAINT test CHECK (session_id <> '{bad}' OR sequence < 3)"
        )
    outcome, others = await asyncio.gather(
        measurement.stream([frame(bad, n) for n in range(5)]),
        measurement.stream([frame(good, n) for n in range(100)]),
        return_exceptions=True,
    )
    assert isinstance(outcome, grpc.aio.AioRpcError)
    assert outcome.code() is grpc.StatusCode.UNAVAILABLE
    assert isinstance(others, list)
    assert len(others) == 100


async def test_a_database_that_breaks_off_fails_the_stream_and_a_resume_loses_nothing(measurement: Measurement) -> None:
    session_id = await measurement.start()
    go_on = asyncio.Event()

    async def requests() -> AsyncIterator[pb.MeasurementData]:
        for number in range(2_000):
            if number == 5:
                await go_on.wait()
            yield frame(session_id, number)

    answered: list[pb.MeasurementResult] = []

    async def collect() -> None:
        async for answer in measurement.stub.StreamMeasurement(requests(), metadata=OWNER):
            answered.append(answer)
            if len(answered) == 5:
                go_on.set()
            if len(answered) % 32 == 0:
                await cut_all_connections(measurement)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    again = await measurement.stream([frame(session_id, n) for n in range(len(answered) + 64)])
    assert again[: len(answered)] == answered
    assert (await measurement.end(session_id)).total_measurements == len(again)


async def test_partitions_are_made_ahead_and_take_over_what_the_default_held(measurement: Measurement) -> None:
    session_id = await measurement.start()
    earlier_s = 62 * 86_400  # two months ago, for which no partition was made
    await measurement.stream([frame(session_id, n - earlier_s) for n in range(3)])
    place = "SELECT DISTINCT tableoid::regclass::text AS place FROM measurement_frames"
    assert [row["place"] for row in await measurement.fetch(place)] == ["frame_partitions.other"]
    then = frame(session_id, -earlier_s).timestamp.ToDatetime()
    made = await asyncio.gather(*(ensure_partitions(measurement.database, then.replace(tzinfo=UTC)) for _ in range(3)))
    names = [name for of_one in made for name in of_one]
    assert len(names) == len(set(names)), "two have made the same"
    assert (
        f"y{then:%Y}m{then:%m}" in names
    )  # how many more there are depends on which months the start has made by the calendar
    assert [row["place"] for row in await measurement.fetch(place)] == [f"frame_partitions.y{then:%Y}m{then:%m}"]
    assert (await measurement.end(session_id)).total_measurements == 3
