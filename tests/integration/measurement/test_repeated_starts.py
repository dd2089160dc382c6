"""A start that names itself (metadata `idempotency-key`) may be repeated: one session, one use."""

import asyncio

import grpc.aio
import pytest
from manpasik.v1 import measurement_pb2 as pb

from subgraphs.runtime.errors import from_grpc
from tests.integration.measurement.conftest import CARTRIDGE, DEVICE, USER, Measurement, as_


async def start(measurement: Measurement, key: str, *, cartridge_id: str = CARTRIDGE) -> str:
    request = pb.StartSessionRequest(device_id=DEVICE, cartridge_id=cartridge_id, user_id=USER)
    answer = await measurement.stub.StartSession(request, metadata=(*as_(f"user:{USER}"), ("idempotency-key", key)))
    return answer.session_id


async def refusal(measurement: Measurement, key: str, *, cartridge_id: str = CARTRIDGE) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(measurement, key, cartridge_id=cartridge_id)
    return caught.value.code().name, from_grpc(caught.value).reason


async def test_a_repeated_start_answers_the_same_also_after_the_end(measurement: Measurement) -> None:
    session_id = await start(measurement, "one")
    assert await start(measurement, "one") == session_id
    await measurement.end(session_id)
    assert await start(measurement, "one") == session_id
    assert await start(measurement, "two") != session_id
    assert len(measurement.hardware.uses[CARTRIDGE]) == 2


async def test_starts_at_the_same_time_make_one_session(measurement: Measurement) -> None:
    async def patiently() -> str:
        while True:
            try:
                return await start(measurement, "one")
            except grpc.aio.AioRpcError as error:
                if from_grpc(error).reason != "START_IN_PROGRESS":
                    raise
                await asyncio.sleep(0.02)

    [session_id] = set(await asyncio.gather(*(patiently() for _ in range(8))))
    assert measurement.hardware.uses[CARTRIDGE] == [session_id]


async def test_a_start_that_broke_off_goes_on_with_the_use_that_it_took(measurement: Measurement) -> None:
    measurement.hardware.lose_answers = 10
    assert (await refusal(measurement, "one"))[0] == "UNAVAILABLE"
    measurement.hardware.lose_answers = 0
    [taken] = measurement.hardware.uses[CARTRIDGE]
    assert await start(measurement, "one") == taken
    assert await start(measurement, "one") == taken
    assert measurement.hardware.uses[CARTRIDGE] == [taken]


async def test_a_refused_start_may_be_repeated_once_the_reason_is_gone(measurement: Measurement) -> None:
    measurement.hardware.expired.add(CARTRIDGE)
    assert await refusal(measurement, "one") == ("FAILED_PRECONDITION", "CARTRIDGE_EXPIRED")
    measurement.hardware.expired.clear()
    session_id = await start(measurement, "one")
    assert await start(measurement, "one") == session_id


async def test_a_key_belongs_to_one_cartridge_and_is_short_text(measurement: Measurement) -> None:
    measurement.hardware.read("another")
    await start(measurement, "one")
    assert (await refusal(measurement, "one", cartridge_id="another"))[0] == "INVALID_ARGUMENT"
    assert (await refusal(measurement, "x" * 129))[0] == "INVALID_ARGUMENT"
