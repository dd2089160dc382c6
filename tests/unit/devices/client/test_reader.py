import asyncio
from pathlib import Path

import grpc
import pytest

from devices.client.credentials import FileCredentialStore, fixed_token
from devices.client.errors import (
    CallRejected,
    NotRegistered,
    PlatformFailing,
    PlatformUnreachable,
    ServiceNotConfigured,
)
from devices.client.platform import Platform, PlatformAddresses
from devices.client.reader import ReaderClient
from tests.support.patience import PATIENCE_S
from tests.unit.devices.client.registered import PLAN, frames, known_reader, quick_policy
from tests.unit.devices.fake_platform import USER_TOKEN, FakePlatform, Server, connected


async def test_a_registered_reader_comes_back_with_its_stored_credential(
    tmp_path: Path, platform: Platform, fake: FakePlatform
) -> None:
    store = FileCredentialStore(tmp_path / "credential.json")
    first = ReaderClient(platform, store=store)
    credential = await first.register("dev-7", "SN-7", "1.0.0", access_token=fixed_token(USER_TOKEN))
    assert fake.credentials == {"dev-7": credential.secret}
    async with ReaderClient(platform, store=store).session(PLAN) as session:
        await session.send(frames(1)[0])
    assert fake.sessions[session.session_id].device_id == "dev-7"


async def test_the_access_token_is_asked_for_at_each_registration(platform: Platform) -> None:
    tokens = ["expired", USER_TOKEN]

    async def refreshing() -> str:
        return tokens.pop(0)

    client = ReaderClient(platform)
    with pytest.raises(CallRejected) as caught:
        await client.register("dev-1", "SN-1", "1.0.0", access_token=refreshing)
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(NotRegistered):
        _ = client.credential
    await client.register("dev-1", "SN-1", "1.0.0", access_token=refreshing)


async def test_a_call_is_repeated_while_the_platform_is_unavailable(platform: Platform, fake: FakePlatform) -> None:
    fake.faults.unavailable_starts = 3
    assert await known_reader(fake, platform).start_session(PLAN) == "session-1"


async def test_a_call_that_a_stopping_platform_cancels_is_repeated(platform: Platform, fake: FakePlatform) -> None:
    fake.faults.failures = [grpc.StatusCode.CANCELLED] * 3
    assert await known_reader(fake, platform).start_session(PLAN) == "session-1"


@pytest.mark.parametrize("status", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
async def test_a_call_is_repeated_while_the_platform_fails_and_then_says_that_it_failed(
    platform: Platform, fake: FakePlatform, status: grpc.StatusCode
) -> None:
    fake.faults.failures = [status] * 3
    assert await known_reader(fake, platform).start_session(PLAN) == "session-1"
    fake.faults.failures = [status] * 1000
    with pytest.raises(PlatformFailing, match="something went wrong"):
        await known_reader(fake, platform, quick_policy(give_up_after_s=3.0)).start_session(PLAN)


async def test_a_call_gives_up_in_time_and_names_itself(server: Server, fake: FakePlatform) -> None:
    async with connected(server.port) as platform:
        client = known_reader(fake, platform, quick_policy(give_up_after_s=0.3))
        await server.kill()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(PlatformUnreachable, match="StartSession"):
                await client.start_session(PLAN)
        await server.start()


async def test_an_update_is_asked_for_in_the_name_of_the_reader(platform: Platform, fake: FakePlatform) -> None:
    answer = await known_reader(fake, platform).request_update("1.1.0")
    assert answer.download_url.endswith("1.1.0")


async def test_a_service_without_address_is_named() -> None:
    async with Platform(PlatformAddresses(device="127.0.0.1:1", measurement="127.0.0.1:1")) as platform:
        with pytest.raises(ServiceNotConfigured, match="calibration"):
            _ = platform.calibrations
