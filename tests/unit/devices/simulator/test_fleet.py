import asyncio
import math

import grpc
import pytest

from devices.client.credentials import fixed_token
from devices.client.errors import CallRejected
from devices.client.platform import Platform
from devices.nfc_signature import Ed25519Lot
from devices.nfc_tag import encode_v2
from devices.simulator.fleet import (
    Fleet,
    FleetAccess,
    FleetPlan,
    FleetProgress,
    RecoveredReading,
    device_id_of,
)
from devices.simulator.forward_model import Ambient, ForwardModel
from devices.simulator.mard import MardUndefined, mard_percent
from devices.simulator.traces import load_trace, packaged_subjects
from domain.hardware.cartridge.tag_signature import LotKeyKind, is_signed
from tests.support.patience import PATIENCE_S
from tests.unit.devices.fake_platform import TECHNICIAN_TOKEN, USER_TOKEN, FakePlatform, Server, connected

ACCESS = FleetAccess(owner=fixed_token(USER_TOKEN), technician=fixed_token(TECHNICIAN_TOKEN), owner_id="user-1")
TRACES = [load_trace(subject) for subject in packaged_subjects()]


@pytest.mark.parametrize(("without_value", "invalid"), [(2, 0), (3, 1), (7, 1), (8, 2), (30, 6)])
async def test_readings_without_a_value_are_counted_apart_and_spoil_no_figure(
    platform: Platform, fake: FakePlatform, without_value: int, invalid: int
) -> None:
    fake.faults.frames_without_value = without_value
    plan = FleetPlan(readers=1, reading_interval_s=0, readings_per_reader=6)
    found: list[RecoveredReading] = []
    progress = await Fleet(platform, ACCESS, TRACES, plan, on_reading=found.append).run()
    assert (progress.readings, progress.invalid_readings) == (6, invalid)
    assert [math.isnan(one.recovered_mg_dl) for one in found] == [True] * invalid + [False] * (6 - invalid)
    if invalid == 6:
        with pytest.raises(MardUndefined):
            _ = progress.mard_percent
    else:
        assert progress.mard_percent < 10.0


@pytest.mark.parametrize(("channels", "alpha", "temp_c"), [(88, 0.95, 23.0), (448, 0.6, 36.0), (896, 1.1, 12.0)])
async def test_the_fleet_recovers_the_traces_through_the_wire(
    platform: Platform, fake: FakePlatform, channels: int, alpha: float, temp_c: float
) -> None:
    model = ForwardModel(channels=channels, alpha=alpha, ambient=Ambient(temp_c=temp_c), seed=1)
    plan = FleetPlan(model=model, reading_interval_s=0, readings_per_reader=15, uses_per_cartridge=6)
    found: list[RecoveredReading] = []
    progress = await Fleet(platform, ACCESS, TRACES, plan, on_reading=found.append).run()
    assert (progress.readers_ready, progress.readings, progress.frames) == (3, 45, 225)
    assert progress.mard_percent < 5.0
    expected = mard_percent([one.recovered_mg_dl for one in found], [one.true_mg_dl for one in found])
    assert progress.mard_percent == pytest.approx(expected)
    assert {one.subject for one in found} == set(packaged_subjects())
    assert len(fake.sessions) == 45
    assert all(len(session.frames) == 5 and session.ended_at is not None for session in fake.sessions.values())
    assert len(fake.cartridges) == 9  # 15 readings with 6 uses each
    assert {tag.required_channels for tag in fake.cartridges.values()} == {channels}
    assert len(fake.calibrations["sim-reader-002"].channel_gains) == channels


async def test_the_tags_of_a_fleet_are_signed_and_its_readers_claimed(platform: Platform, fake: FakePlatform) -> None:
    lot = Ed25519Lot.of_seed("LOT-A", bytes(32))
    codes = {device_id_of("sim-reader", 0): "ABCDEFGHJKMN"}
    plan = FleetPlan(readers=2, reading_interval_s=0, readings_per_reader=1, lot=lot, claim_codes=codes)
    await Fleet(platform, ACCESS, TRACES, plan).run()
    assert len(fake.cartridges) == 2
    for tag in fake.cartridges.values():
        assert tag.lot_id == "LOT-A"
        assert is_signed(encode_v2(tag), LotKeyKind.ED25519, lot.public_key)
    assert fake.claim_codes == {"sim-reader-001": "ABCDEFGHJKMN", "sim-reader-002": ""}


async def test_readers_of_a_fleet_are_different_instruments(platform: Platform, fake: FakePlatform) -> None:
    await Fleet(platform, ACCESS, TRACES, FleetPlan(reading_interval_s=0, readings_per_reader=1)).run()
    gains = [tuple(record.channel_gains) for record in fake.calibrations.values()]
    assert len(set(gains)) == 3


async def test_the_fleet_outlives_a_restart_of_the_platform(server: Server, fake: FakePlatform) -> None:
    async with connected(server.port) as platform:
        plan = FleetPlan(reading_interval_s=0.01, readings_per_reader=20)
        running = asyncio.create_task(Fleet(platform, ACCESS, TRACES, plan).run())
        await fake.wait_until(lambda: fake.received >= 60)
        await server.kill()
        await asyncio.sleep(0.3)
        await server.start()
        progress = await running
    assert progress.readings == 60
    assert progress.mard_percent < 5.0
    assert sum(len(session.frames) for session in fake.sessions.values() if session.ended_at) == 300


async def test_a_session_that_the_platform_has_ended_is_begun_anew(platform: Platform, fake: FakePlatform) -> None:
    def end_first(progress: FleetProgress) -> None:
        if progress.readings == 3:
            fake.faults.refuse_next_frame = grpc.StatusCode.FAILED_PRECONDITION

    plan = FleetPlan(readers=1, reading_interval_s=0, readings_per_reader=6)
    progress = await Fleet(platform, ACCESS, TRACES, plan, on_progress=end_first).run()
    assert (progress.readings, progress.setbacks) == (6, 1)
    assert progress.mard_percent < 5.0


async def test_a_fleet_stops_at_once_when_cancelled(platform: Platform, fake: FakePlatform) -> None:
    running = asyncio.create_task(Fleet(platform, ACCESS, TRACES, FleetPlan(repeat=True, reading_interval_s=0)).run())
    await fake.wait_until(lambda: fake.received >= 50)
    running.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_refused_token_ends_the_fleet_with_the_reason(platform: Platform) -> None:
    access = FleetAccess(owner=fixed_token(USER_TOKEN), technician=fixed_token("forged"))
    fleet = Fleet(platform, access, TRACES, FleetPlan())
    with pytest.raises(ExceptionGroup) as caught:
        await fleet.run()
    assert any(
        isinstance(error, CallRejected) and error.code is grpc.StatusCode.UNAUTHENTICATED
        for error in caught.value.exceptions
    )
    with pytest.raises(MardUndefined):
        _ = fleet.progress.mard_percent


async def test_a_short_trace_is_repeated_when_asked(platform: Platform) -> None:
    plan = FleetPlan(readers=1, reading_interval_s=0, readings_per_reader=7, repeat=True)
    progress = await Fleet(platform, ACCESS, [TRACES[0].part(0, 3)], plan).run()
    assert progress.readings == 7


async def test_presence_is_kept_while_replaying(platform: Platform, fake: FakePlatform) -> None:
    plan = FleetPlan(readers=2, reading_interval_s=0, readings_per_reader=5)
    await Fleet(platform, ACCESS, TRACES, plan).run()
    assert {beat.device_id for beat in fake.heartbeats} == {"sim-reader-001", "sim-reader-002"}
