"""What an unproven holder has measured is not shown as the owner's, when the owner proves the account's address."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from manpasik.v1 import measurement_pb2 as pb

from subgraphs.runtime.account_proof import AccountProven
from tests.integration.measurement.conftest import DEVICE, OTHER, USER, Measurement, as_, frame
from tests.integration.operations.conftest import metadata_of

OWNER = as_(f"user:{USER}")


async def prove(measurement: Measurement, *, ago: timedelta = timedelta()) -> None:
    consumers: Any = measurement.faces.services[0].consumers
    consumer = next(c for c in consumers if c.topic == AccountProven.topic)
    event = AccountProven(user_id=USER, proven_at=datetime.now(UTC) - ago)
    async with measurement.database.transaction() as session:
        await consumer.handle(session, event, metadata_of())


async def total(measurement: Measurement, who: str = f"user:{USER}") -> int:
    request = pb.GetHistoryRequest(limit=10)
    return (await measurement.stub.GetMeasurementHistory(request, metadata=as_(who))).total_count


async def test_results_of_an_unproven_holder_belong_to_no_person(measurement: Measurement) -> None:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id, number) for number in range(3)])
    await measurement.end(session_id)
    assert await total(measurement) == 1
    await prove(measurement)
    await prove(measurement)
    assert await total(measurement) == 0
    assert await measurement.fetch("SELECT 1 FROM measurement_fingerprints") == []
    rows = await measurement.fetch("SELECT user_id FROM measurement_sessions")
    assert [row["user_id"].partition(":")[0] for row in rows] == ["unproven"]


async def test_a_running_session_ends_without_a_result(measurement: Measurement) -> None:
    session_id = await measurement.start()
    await measurement.stream([frame(session_id)])
    await prove(measurement)
    with pytest.raises(grpc.aio.AioRpcError):
        await measurement.end(session_id)
    with pytest.raises(grpc.aio.AioRpcError):
        await measurement.stream([frame(session_id, 1)], who=f"device:{DEVICE}:{USER}")
    assert await measurement.fetch("SELECT 1 FROM outbox") == []
    assert len(await measurement.fetch("SELECT 1 FROM measurement_frames")) == 1


async def test_sessions_of_others_and_those_after_the_proof_stay(measurement: Measurement) -> None:
    measurement.hardware.register("theirs", OTHER)
    theirs = await measurement.start(f"user:{OTHER}", device_id="theirs", user_id=OTHER)
    mine = await measurement.start()
    await prove(measurement, ago=timedelta(minutes=1))
    for session_id, who in ((theirs, OTHER), (mine, USER)):
        await measurement.stream([frame(session_id)], who=f"user:{who}")
        await measurement.end(session_id, f"user:{who}")
        assert await total(measurement, f"user:{who}") == 1
