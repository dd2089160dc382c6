import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from devices.client.credentials import DeviceCredential
from devices.client.delivery import deliver_ready, keep_delivering, measure_or_store
from devices.client.errors import (
    CallRejected,
    FrameOutOfOrder,
    OutboxFull,
    OutboxUnusable,
    PlatformFailing,
    PlatformUnreachable,
    SessionClosed,
)
from devices.client.outbox import OutboxState, OutboxStore
from devices.client.platform import Platform
from devices.client.reader import ReaderClient, SessionPlan
from devices.client.retry import Backoff
from devices.frame import RawFrame
from devices.packet import Packet, encode_packet
from tests.unit.devices.client.registered import PLAN, frames, known_reader, quick_policy, times
from tests.unit.devices.fake_platform import FakePlatform, Server, connected

ROOM = 10_000_000


@asynccontextmanager
async def opened(folder: Path, max_bytes: int = ROOM) -> AsyncIterator[OutboxStore]:
    async with await OutboxStore.open(folder / "outbox.db", max_bytes=max_bytes) as store:
        yield store


async def _record(store: OutboxStore, recorded: list[RawFrame], plan: SessionPlan = PLAN) -> None:
    async with store.record(plan) as recording:
        for frame in recorded:
            await recording.add(frame)


def _later(session: int, count: int) -> list[RawFrame]:
    return frames(count, start_us=1_790_000_000_000_000 + session * 1_000_000)


async def test_sessions_recorded_offline_arrive_whole_and_in_order(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    client = known_reader(fake, platform)
    async with opened(tmp_path) as store:
        for number in range(3):
            plan = SessionPlan(cartridge_id=f"c{number}", user_id="u", cartridge_category=1, cartridge_type_index=1)
            await _record(store, _later(number, 10 * (number + 1)), plan)
        assert await deliver_ready(client, store) == 3
        assert store.used_bytes == 0
        assert await deliver_ready(client, store) == 0
    assert [session.cartridge_id for session in fake.sessions.values()] == ["c0", "c1", "c2"]
    for number, session in enumerate(fake.sessions.values()):
        assert list(session.frames) == times(_later(number, 10 * (number + 1)))
        assert session.ended_at is not None


async def test_a_stored_frame_is_sent_bit_for_bit(tmp_path: Path, platform: Platform, fake: FakePlatform) -> None:
    client = known_reader(fake, platform)
    async with opened(tmp_path) as store:
        await _record(store, frames(1))
        await deliver_ready(client, store)
    (sent,) = fake.sessions["session-1"].frames.values()
    assert list(sent.raw_channels) == frames(1)[0].raw_channels.tolist()
    assert (sent.differential.s_det, sent.differential.s_ref) == (1.234, 0.012)
    assert sent.differential.s_corrected == pytest.approx(1.2226)


_RECORDER = """
import asyncio, sys
from pathlib import Path
from devices.client.outbox import OutboxStore
from tests.unit.devices.client.registered import PLAN, frames

async def main():
    store = await OutboxStore.open(Path(sys.argv[1]), max_bytes=10_000_000)
    async with store.record(PLAN) as recording:
        for frame in frames(100_000):
            await recording.add(frame)
            print(frame.timestamp_us, flush=True)

asyncio.run(main())
"""


async def test_a_killed_recorder_loses_no_stored_frame(tmp_path: Path, platform: Platform, fake: FakePlatform) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(_RECORDER),
        str(tmp_path / "outbox.db"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    confirmed = [int(await process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    rest, _ = await process.communicate()
    confirmed += [int(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    client = known_reader(fake, platform)
    async with opened(tmp_path) as store:
        assert await deliver_ready(client, store) == 1
    arrived = list(fake.sessions["session-1"].frames)
    assert arrived[: len(confirmed)] == confirmed
    assert len(arrived) <= len(confirmed) + 1  # one may have been stored and not yet told


async def test_a_delivery_that_is_interrupted_anywhere_ends_up_exactly_once(
    tmp_path: Path, server: Server, fake: FakePlatform
) -> None:
    recorded = frames(100)
    async with opened(tmp_path) as store:
        await _record(store, recorded)
    async with connected(server.port) as platform:
        for stop_at in (1, 30, 50, 90, 130):
            async with opened(tmp_path) as store:
                delivering = asyncio.create_task(deliver_ready(known_reader(fake, platform), store))
                waiting = asyncio.create_task(fake.wait_until(lambda stop_at=stop_at: fake.received >= stop_at))  # type: ignore[misc]
                await asyncio.wait([delivering, waiting], return_when=asyncio.FIRST_COMPLETED)
                delivering.cancel()
                await asyncio.wait([delivering])
                waiting.cancel()
                await asyncio.wait([waiting])
        async with opened(tmp_path) as store:
            await deliver_ready(known_reader(fake, platform), store)
            assert await store.sessions(OutboxState.READY) == []
    assert list(fake.sessions) == ["session-1"]
    assert list(fake.sessions["session-1"].frames) == times(recorded)
    assert fake.sessions["session-1"].ended_at is not None


async def test_lost_answers_to_start_and_end_make_no_second_session(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    client = known_reader(fake, platform, quick_policy(give_up_after_s=0.01))
    fake.faults.lost_start_answers = 1
    fake.faults.lost_end_answers = 1
    async with opened(tmp_path) as store:
        await _record(store, frames(40))
        for _ in range(2):
            with pytest.raises(PlatformUnreachable):
                await deliver_ready(client, store)
        assert await deliver_ready(client, store) == 1
    assert list(fake.sessions) == ["session-1"]
    assert list(fake.sessions["session-1"].frames) == times(frames(40))


async def test_a_refused_session_is_kept_with_its_reason_and_does_not_hold_up_the_next(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    client = known_reader(fake, platform)
    async with opened(tmp_path) as store:
        await _record(store, _later(0, 5), SessionPlan(cartridge_id="expired"))
        await _record(store, _later(1, 5))
        assert await deliver_ready(client, store) == 1
        (kept,) = await store.sessions(OutboxState.REJECTED)
        assert "expired" in kept.rejection
        assert await store.frames(kept) == _later(0, 5)
        await store.discard(kept)
        assert store.used_bytes == 0
        assert await store.sessions(OutboxState.REJECTED) == []
    assert list(fake.sessions["session-1"].frames) == times(_later(1, 5))


async def test_a_session_at_which_the_platform_fails_stays_ready_and_does_not_hold_up_the_next(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    client = known_reader(fake, platform, quick_policy(give_up_after_s=0.3))
    fake.faults.refuse_us = {_later(0, 5)[2].timestamp_us: grpc.StatusCode.INTERNAL}
    async with opened(tmp_path) as store:
        await _record(store, _later(0, 5))
        await _record(store, _later(1, 5))
        with pytest.raises(PlatformFailing):
            await deliver_ready(client, store)
        assert len(await store.sessions(OutboxState.READY)) == 1
        assert list(fake.sessions["session-2"].frames) == times(_later(1, 5))
        fake.faults.refuse_us = {}  # the bug is mended
        assert await deliver_ready(client, store) == 1
    assert list(fake.sessions["session-1"].frames) == times(_later(0, 5))


async def test_a_reader_that_is_refused_keeps_its_sessions(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    stranger = ReaderClient(platform, DeviceCredential("dev-1", "wrong"), policy=quick_policy())
    async with opened(tmp_path) as store:
        await _record(store, frames(5))
        with pytest.raises(CallRejected) as caught:
            await deliver_ready(stranger, store)
        assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
        assert await deliver_ready(known_reader(fake, platform), store) == 1


async def test_a_full_store_says_so_and_keeps_what_it_has(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    recorded = frames(10)
    size = len(encode_packet(Packet("01234567-89ab-cdef-0123-456789abcdef", 0, recorded[0])))
    async with opened(tmp_path, max_bytes=3 * size) as store:
        with pytest.raises(OutboxFull, match=f"holds {3 * size} of {3 * size} bytes"):
            await _record(store, recorded)
        assert store.used_bytes == 3 * size
        with pytest.raises(OutboxFull):
            await store.adopt(PLAN, "session-9", recorded[:1])
        assert await deliver_ready(known_reader(fake, platform), store) == 1
        await _record(store, _later(1, 3))
    assert list(fake.sessions["session-1"].frames) == times(recorded[:3])
    async with opened(tmp_path, max_bytes=3 * size) as store:
        assert store.used_bytes == 3 * size


async def test_a_session_goes_straight_through_while_the_platform_is_there(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    async with opened(tmp_path) as store:
        assert await measure_or_store(known_reader(fake, platform), store, PLAN, frames(20))
        assert await store.sessions(OutboxState.READY) == []
    assert list(fake.sessions["session-1"].frames) == times(frames(20))


async def test_a_start_that_only_seemed_to_fail_is_taken_up_by_the_delivery(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    fake.faults.lost_start_answers = 10_000
    async with opened(tmp_path) as store:
        hasty = known_reader(fake, platform, quick_policy(give_up_after_s=1.0))
        assert not await measure_or_store(hasty, store, PLAN, frames(5))
        assert list(fake.sessions) == ["session-1"]
        fake.faults.lost_start_answers = 0
        assert await deliver_ready(known_reader(fake, platform), store) == 1
    assert list(fake.sessions) == ["session-1"]
    assert list(fake.sessions["session-1"].frames) == times(frames(5))


async def test_a_session_waits_in_the_store_until_the_platform_comes_back(
    tmp_path: Path, server: Server, fake: FakePlatform
) -> None:
    async with connected(server.port) as platform, opened(tmp_path) as store:
        await server.kill()
        hasty = known_reader(fake, platform, quick_policy(give_up_after_s=0.2))
        assert not await measure_or_store(hasty, store, PLAN, frames(20))
        delivering = asyncio.create_task(
            keep_delivering(hasty, store, backoff=Backoff(initial_s=0.05, max_s=0.1), poll_s=0.1)
        )
        await asyncio.sleep(0.3)
        await server.start()
        await fake.wait_until(lambda: any(session.ended_at is not None for session in fake.sessions.values()))
        delivering.cancel()
        await asyncio.wait([delivering])
    assert list(fake.sessions["session-1"].frames) == times(frames(20))
    assert fake.sessions["session-1"].ended_at is not None


async def test_a_session_that_breaks_in_the_middle_is_completed_later(
    tmp_path: Path, server: Server, fake: FakePlatform
) -> None:
    async with connected(server.port) as platform, opened(tmp_path) as store:
        hasty = known_reader(fake, platform, quick_policy(give_up_after_s=0.3))
        measuring = asyncio.create_task(measure_or_store(hasty, store, PLAN, frames(300)))
        await fake.wait_until(lambda: fake.received >= 20)
        await server.kill()
        assert not await measuring
        assert len(fake.sessions["session-1"].frames) < 300
        await server.start()
        assert await deliver_ready(known_reader(fake, platform), store) == 1
    assert list(fake.sessions) == ["session-1"]
    assert list(fake.sessions["session-1"].frames) == times(frames(300))


async def test_a_store_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(OutboxUnusable, match="locked"):
            await OutboxStore.open(tmp_path / "outbox.db", max_bytes=ROOM)


async def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(OutboxUnusable, match="not a database"):
        await OutboxStore.open(tmp_path / "outbox.db", max_bytes=ROOM)


async def test_a_recording_without_frames_is_forgotten_and_a_closed_one_takes_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        async with store.record(PLAN) as recording:
            pass
        assert await store.sessions(OutboxState.READY) == []
        with pytest.raises(SessionClosed):
            await recording.add(frames(1)[0])


async def test_frames_of_a_recording_must_follow_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as store, store.record(PLAN) as recording:
        await recording.add(frames(2)[1])
        with pytest.raises(FrameOutOfOrder):
            await recording.add(frames(1)[0])
