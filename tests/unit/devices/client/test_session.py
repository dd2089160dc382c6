import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from devices.client.errors import (
    CallRejected,
    FrameOutOfOrder,
    PlatformFailing,
    PlatformUnreachable,
    ProtocolViolated,
    SessionClosed,
)
from devices.client.platform import Platform
from devices.client.reader import SessionPlan
from devices.frame import RawFrame
from tests.support.patience import PATIENCE_S
from tests.unit.devices.client.registered import PLAN, frames, known_reader, quick_policy, register, times
from tests.unit.devices.fake_platform import FakePlatform, Relay, Server, connected


async def test_each_result_belongs_to_the_frame_it_answers(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform)
    async with client.session(PLAN) as session:
        results = await asyncio.gather(*(session.send(frame) for frame in frames(40)))
    assert [result.primary_value for result in results] == times(frames(40))
    assert session.ended is not None
    assert session.ended.total_measurements == 40
    assert session.connections == 1
    stored = fake.sessions[session.session_id]
    assert stored.device_id == "dev-1"
    assert stored.frames[times(frames(1))[0]].raw_channels == [1.0] * 88


@pytest.mark.parametrize("breaks", [[1], [4, 5, 6], [3, 7, 20, 21, 40], [10, 11, 12]])
async def test_broken_streams_are_resumed_and_each_frame_counts_once(
    platform: Platform, fake: FakePlatform, breaks: list[int]
) -> None:
    fake.faults.break_after_frames = list(breaks)
    client = await register(platform)
    async with client.session(PLAN) as session:
        results = await asyncio.gather(*(session.send(frame) for frame in frames(40)))
    assert [result.primary_value for result in results] == times(frames(40))
    stored = fake.sessions[session.session_id]
    assert list(stored.frames) == times(frames(40))
    assert len(stored.received_us) > 40  # the frames whose answers were lost came twice
    assert session.connections > len(set(breaks))


async def test_connections_cut_at_any_moment_lose_and_double_nothing(server: Server, fake: FakePlatform) -> None:
    relay = Relay(server.port)
    await relay.start()
    async with connected(relay.port) as platform:
        client = known_reader(fake, platform)

        async def cut_often() -> None:
            for due in range(25, 200, 25):
                await fake.wait_until(lambda due=due: fake.received >= due)  # type: ignore[misc]
                relay.cut()

        cutting = asyncio.create_task(cut_often())
        async with client.session(PLAN) as session:
            results = await asyncio.gather(*(session.send(frame) for frame in frames(200)))
        await cutting
    await relay.stop()
    assert [result.primary_value for result in results] == times(frames(200))
    assert list(fake.sessions[session.session_id].frames) == times(frames(200))
    assert session.connections > 3


async def test_a_slow_line_gets_the_time_that_it_needs_to_connect(server: Server, fake: FakePlatform) -> None:
    relay = Relay(server.port)
    relay.delay_s = 1.0
    await relay.start()
    async with connected(relay.port) as platform:
        await known_reader(fake, platform).start_session(PLAN)
    assert relay.accepted == 1
    await relay.stop()


async def test_a_platform_that_restarts_in_the_middle_is_found_again(server: Server, fake: FakePlatform) -> None:
    async with connected(server.port) as platform:
        client = known_reader(fake, platform)
        async with client.session(PLAN) as session:
            sending = asyncio.gather(*(session.send(frame) for frame in frames(60)))
            await fake.wait_until(lambda: fake.received >= 20)
            fake.answering.clear()
            await server.kill()
            fake.answering.set()
            await asyncio.sleep(0.2)
            await server.start()
            await sending
    assert list(fake.sessions[session.session_id].frames) == times(frames(60))
    assert session.connections > 1
    assert session.ended is not None
    assert session.ended.total_measurements == 60


async def test_a_platform_that_stops_answering_is_left_for_a_new_connection(
    platform: Platform, fake: FakePlatform
) -> None:
    client = await register(platform, quick_policy(answer_timeout_s=0.2))
    fake.answering.clear()
    async with client.session(PLAN) as session:
        sending = asyncio.create_task(session.send(frames(1)[0]))
        await fake.wait_until(lambda: fake.streams >= 3)
        fake.answering.set()
        await sending
    assert list(fake.sessions[session.session_id].frames) == times(frames(1))


async def test_a_quiet_source_does_not_look_like_a_silent_platform(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform, quick_policy(answer_timeout_s=0.5, give_up_after_s=1.0))
    async with client.session(PLAN) as session:
        for frame in frames(2):
            await session.send(frame)
            await asyncio.sleep(1.2)
    assert session.connections == 1


async def test_a_stream_that_the_platform_ends_early_is_opened_again(platform: Platform, fake: FakePlatform) -> None:
    fake.faults.streams_ended_early = 3
    client = await register(platform)
    async with client.session(PLAN) as session:
        await asyncio.gather(*(session.send(frame) for frame in frames(20)))
    assert list(fake.sessions[session.session_id].frames) == times(frames(20))


async def test_no_more_than_a_window_of_frames_is_ever_unanswered(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform, quick_policy(window=5))
    fake.answering.clear()
    async with client.session(PLAN) as session:
        senders = [asyncio.create_task(session.send(frame)) for frame in frames(50)]
        await fake.wait_until(lambda: fake.received >= 5)
        await asyncio.sleep(0.1)
        assert fake.received == 5
        assert len(session.unanswered) == 5
        fake.answering.set()
        await asyncio.gather(*senders)
    assert fake.most_unanswered <= 5
    assert len(fake.sessions[session.session_id].frames) == 50


async def test_back_pressure_reaches_the_source_of_the_frames(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform, quick_policy(window=5))
    fake.answering.clear()
    produced = 0

    async def source() -> AsyncIterator[RawFrame]:
        nonlocal produced
        for frame in frames(30):
            produced += 1
            yield frame

    async with client.session(PLAN) as session:

        async def consume() -> list[tuple[int, float]]:
            return [(frame.timestamp_us, result.primary_value) async for frame, result in session.send_all(source())]

        consuming = asyncio.create_task(consume())
        await fake.wait_until(lambda: fake.received >= 5)
        await asyncio.sleep(0.1)
        assert produced <= 6
        fake.answering.set()
        pairs = await consuming
    assert [at_us for at_us, _ in pairs] == times(frames(30))
    assert all(at_us == value for at_us, value in pairs)


async def test_a_refused_frame_fails_the_session_with_the_platforms_reason(
    platform: Platform, fake: FakePlatform
) -> None:
    sent = frames(10)
    fake.faults.refuse_us = {sent[6].timestamp_us: grpc.StatusCode.INVALID_ARGUMENT}
    client = await register(platform)
    with pytest.raises(CallRejected, match="refused") as caught:
        async with client.session(PLAN) as session:
            await asyncio.gather(*(session.send(frame) for frame in sent))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert session.unanswered[0] == sent[6]
    assert list(fake.sessions[session.session_id].frames) == times(sent[:6])
    assert fake.sessions[session.session_id].ended_at is None


async def test_a_platform_that_fails_gets_the_same_frames_until_it_takes_them(
    platform: Platform, fake: FakePlatform
) -> None:
    fake.faults.break_after_frames = [5, 13]
    client = await register(platform)
    async with client.session(PLAN) as session:
        await asyncio.gather(*(session.send(frame) for frame in frames(10)))
        fake.faults.failures = [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL]
        await asyncio.gather(*(session.send(frame) for frame in frames(20)[10:]))
    assert fake.faults.failures == []
    assert list(fake.sessions[session.session_id].frames) == times(frames(20))


async def test_a_session_at_which_the_platform_keeps_failing_gives_up_in_time_and_keeps_its_frames(
    platform: Platform, fake: FakePlatform
) -> None:
    sent = frames(10)
    fake.faults.refuse_us = {sent[6].timestamp_us: grpc.StatusCode.INTERNAL}
    client = await register(platform, quick_policy(give_up_after_s=0.3, window=16))
    session = client.resume(await client.start_session(PLAN))
    outcomes = await asyncio.gather(*(session.send(frame) for frame in sent), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[6:]] == [PlatformFailing] * 4
    assert session.unanswered == tuple(sent[6:])
    await session.close()


async def test_waiting_senders_learn_of_the_failure(platform: Platform, fake: FakePlatform) -> None:
    sent = frames(10)
    fake.faults.refuse_us = {sent[0].timestamp_us: grpc.StatusCode.PERMISSION_DENIED}
    client = await register(platform, quick_policy(window=2))
    session = client.resume(await client.start_session(PLAN))
    outcomes = await asyncio.gather(*(session.send(frame) for frame in sent), return_exceptions=True)
    await session.close()
    assert [type(outcome) for outcome in outcomes] == [CallRejected] * 10


async def test_the_session_fails_when_the_platform_stays_away(server: Server, fake: FakePlatform) -> None:
    async with connected(server.port) as platform:
        client = known_reader(fake, platform, quick_policy(give_up_after_s=0.5))
        session = client.resume(await client.start_session(PLAN))
        await session.send(frames(1)[0])
        await server.kill()
        with pytest.raises(PlatformUnreachable, match="StreamMeasurement"):
            await session.send(frames(2)[1])
        assert times(list(session.unanswered)) == times(frames(2))[1:]
        await session.close()
    await server.start()


async def test_a_session_can_be_resumed_by_another_process(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform)
    first = client.resume(await client.start_session(PLAN))
    await first.send(frames(1)[0])
    await first.close()
    second = client.resume(first.session_id, after_us=times(frames(1))[0])
    with pytest.raises(FrameOutOfOrder):
        await second.send(frames(1)[0])
    await second.send(frames(2)[1])
    await second.finish()
    ended = await client.end_session(first.session_id)
    assert ended.total_measurements == 2


async def test_a_frame_may_not_repeat_the_time_of_the_one_before(platform: Platform) -> None:
    client = await register(platform)
    async with client.session(PLAN) as session:
        await session.send(frames(1)[0])
        with pytest.raises(FrameOutOfOrder, match="must be later"):
            await session.send(frames(1)[0])
        await session.send(frames(2)[1])
    assert session.ended is not None
    assert session.ended.total_measurements == 2


async def test_a_cancelled_sender_does_not_disturb_the_others(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform)
    fake.answering.clear()
    async with client.session(PLAN) as session:
        senders = [asyncio.create_task(session.send(frame)) for frame in frames(3)]
        await fake.wait_until(lambda: fake.received >= 3)
        senders[1].cancel()
        fake.answering.set()
        first, cancelled, third = await asyncio.gather(*senders, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert (first.primary_value, third.primary_value) == (times(frames(3))[0], times(frames(3))[2])


async def test_cancelling_the_block_breaks_off_at_once(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform)
    fake.answering.clear()

    async def measure() -> None:
        async with client.session(PLAN) as session:
            await session.send(frames(1)[0])

    measuring = asyncio.create_task(measure())
    await fake.wait_until(lambda: fake.received >= 1)
    measuring.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await measuring
    assert fake.sessions["session-1"].ended_at is None


async def test_nothing_can_be_sent_after_the_end(platform: Platform) -> None:
    client = await register(platform)
    async with client.session(PLAN) as session:
        pass
    assert session.ended is not None
    assert session.ended.total_measurements == 0
    with pytest.raises(SessionClosed):
        await session.send(frames(1)[0])


async def test_answers_that_match_no_frame_are_not_believed(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform)
    fake.faults.answers_for_another_session = True
    with pytest.raises(ProtocolViolated, match="another"):
        async with client.session(PLAN) as session:
            await session.send(frames(1)[0])


async def test_a_start_whose_answer_was_lost_opens_one_session(platform: Platform, fake: FakePlatform) -> None:
    fake.faults.lost_start_answers = 2
    fake.faults.lost_end_answers = 1
    client = await register(platform)
    async with client.session(PLAN) as session:
        await session.send(frames(1)[0])
    assert list(fake.sessions) == [session.session_id]


async def test_a_start_that_is_refused_is_not_repeated(platform: Platform, fake: FakePlatform) -> None:
    client = await register(platform)
    with pytest.raises(CallRejected, match="expired") as caught:
        async with client.session(SessionPlan(cartridge_id="expired")):
            pass
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
