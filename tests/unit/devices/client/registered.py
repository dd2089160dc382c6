"""A registered reader with short waits, and frames for it to send."""

import numpy as np

from devices.client.credentials import DeviceCredential, fixed_token
from devices.client.heartbeat import PresencePolicy
from devices.client.platform import Platform
from devices.client.reader import ClientPolicy, ReaderClient, SessionPlan
from devices.client.retry import Backoff, CallPolicy
from devices.client.session import StreamPolicy
from devices.frame import RawFrame
from tests.unit.devices.fake_platform import USER_TOKEN, FakePlatform

PLAN = SessionPlan(cartridge_id="04A1B2C3D4E5F607")
_BACKOFF = Backoff(initial_s=0.02, max_s=0.1)


def quick_policy(*, window: int = 4, answer_timeout_s: float = 5.0, give_up_after_s: float = 10.0) -> ClientPolicy:
    return ClientPolicy(
        calls=CallPolicy(try_timeout_s=2.0, give_up_after_s=give_up_after_s, backoff=_BACKOFF),
        stream=StreamPolicy(
            window=window, answer_timeout_s=answer_timeout_s, give_up_after_s=give_up_after_s, backoff=_BACKOFF
        ),
        presence=PresencePolicy(interval_s=0.02, backoff=_BACKOFF),
    )


async def register(platform: Platform, policy: ClientPolicy | None = None, device_id: str = "dev-1") -> ReaderClient:
    client = ReaderClient(platform, policy=policy or quick_policy())
    await client.register(device_id, f"SN-{device_id}", "1.0.0", access_token=fixed_token(USER_TOKEN))
    return client


def known_reader(fake: FakePlatform, platform: Platform, policy: ClientPolicy | None = None) -> ReaderClient:
    """A reader that was registered earlier: works while the platform is down."""
    fake.credentials["dev-1"] = "known"
    return ReaderClient(platform, DeviceCredential("dev-1", "known"), policy=policy or quick_policy())


def frames(count: int, *, start_us: int = 1_790_000_000_000_001) -> list[RawFrame]:
    return [
        RawFrame(
            timestamp_us=start_us + number,
            raw_channels=np.full(88, 1.0 + number),
            s_det=1.234,
            s_ref=0.012,
            alpha=0.95,
            temp_c=25.0,
            humidity_pct=50.0,
            pressure_kpa=101.25,
        )
        for number in range(count)
    ]


def times(sent: list[RawFrame]) -> list[int]:
    return [frame.timestamp_us for frame in sent]
