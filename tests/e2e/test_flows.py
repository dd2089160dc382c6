"""The flows that clients in the field run, over real sockets, with credentials and without."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from manpasik.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    measurement_pb2,
    measurement_pb2_grpc,
)

from domain.catalog import built_groups, services_of
from tests.e2e.conftest import ChannelTo
from tests.support.platform import PASSWORD, Platform
from tests.support.readers import unique

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

SERVICES = [service for group in built_groups() for service in services_of(group)]
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SignedIn:
    """A person with an account and, on a strict platform, the metadata that proves it."""

    user_id: str
    email: str
    token: str
    metadata: Metadata


async def sign_in(platform: Platform, channel_to: ChannelTo, *, with_token: bool = True) -> SignedIn:
    """Register as existing clients do (no consent flags), and sign in."""
    auth = auth_pb2_grpc.AuthServiceStub(channel_to(platform, "auth"))
    email = f"{unique('flow')}@e2e.example"
    registered = await auth.Register(
        auth_pb2.RegisterRequest(email=email, password=PASSWORD, display_name="E2E 사용자"), timeout=20
    )
    assert registered.email == email
    assert registered.role == "user"
    tokens = await auth.Login(auth_pb2.LoginRequest(email=email, password=PASSWORD), timeout=20)
    assert tokens.token_type == "Bearer"
    assert tokens.expires_in == 15 * 60
    metadata = (("authorization", f"Bearer {tokens.access_token}"),) if with_token else ()
    return SignedIn(registered.user_id, email, tokens.access_token, metadata)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_every_port_is_serving(platform: Platform, channel_to: ChannelTo, service: Any) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel_to(platform, service.name))
    for name in ("", service.grpc_service):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_register_login_and_validate(platform: Platform, channel_to: ChannelTo) -> None:
    person = await sign_in(platform, channel_to)
    auth = auth_pb2_grpc.AuthServiceStub(channel_to(platform, "auth"))
    known = await auth.ValidateToken(auth_pb2.ValidateTokenRequest(access_token=person.token), timeout=20)
    assert (known.user_id, known.email, known.role) == (person.user_id, person.email, "user")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await auth.ValidateToken(auth_pb2.ValidateTokenRequest(access_token=person.token[:-4] + "AAAA"), timeout=20)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def run_device_and_session(
    platform: Platform, channel_to: ChannelTo, person: SignedIn, *, device_id: str, register: bool
) -> None:
    """RegisterDevice, ListDevices, StartSession, EndSession, GetMeasurementHistory, with the clients' own inputs."""
    devices = device_pb2_grpc.DeviceServiceStub(channel_to(platform, "device"))
    measurements = measurement_pb2_grpc.MeasurementServiceStub(channel_to(platform, "measurement"))
    if register:
        registered = await devices.RegisterDevice(
            device_pb2.RegisterDeviceRequest(
                device_id=device_id, serial_number="SN-E2E-2026", firmware_version="1.0.0", user_id=person.user_id
            ),
            metadata=person.metadata,
            timeout=20,
        )
        assert registered.device_id == device_id
        assert registered.registration_token
        listed = await devices.ListDevices(
            device_pb2.ListDevicesRequest(user_id=person.user_id), metadata=person.metadata, timeout=20
        )
        assert device_id in [device.device_id for device in listed.devices]
    started = await measurements.StartSession(
        measurement_pb2.StartSessionRequest(device_id=device_id, cartridge_id="e2e-cart-001", user_id=person.user_id),
        metadata=person.metadata,
        timeout=20,
    )
    assert started.session_id
    ended = await measurements.EndSession(
        measurement_pb2.EndSessionRequest(session_id=started.session_id), metadata=person.metadata, timeout=20
    )
    assert ended.session_id == started.session_id
    history = await measurements.GetMeasurementHistory(
        measurement_pb2.GetHistoryRequest(user_id=person.user_id, limit=10), metadata=person.metadata, timeout=20
    )
    assert history.total_count >= 0


async def test_a_reader_is_registered_and_measures(platform: Platform, channel_to: ChannelTo) -> None:
    person = await sign_in(platform, channel_to)
    await run_device_and_session(platform, channel_to, person, device_id="e2e-dev-001", register=True)


async def test_existing_clients_call_without_credentials_on_a_development_network(
    open_platform: Platform, channel_to: ChannelTo
) -> None:
    person = await sign_in(open_platform, channel_to, with_token=False)
    await run_device_and_session(open_platform, channel_to, person, device_id="e2e-dev-001", register=True)


async def test_existing_clients_start_sessions_on_readers_that_nobody_registered(
    open_platform: Platform, channel_to: ChannelTo
) -> None:
    person = await sign_in(open_platform, channel_to, with_token=False)
    await run_device_and_session(open_platform, channel_to, person, device_id=unique("unknown"), register=False)


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer nonsense"),)], ids=["none", "forged"])
async def test_a_call_without_a_credential_that_holds_is_refused(
    platform: Platform, channel_to: ChannelTo, metadata: Metadata
) -> None:
    devices = device_pb2_grpc.DeviceServiceStub(channel_to(platform, "device"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await devices.ListDevices(device_pb2.ListDevicesRequest(user_id="someone"), metadata=metadata, timeout=20)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_nobody_sees_the_readers_and_sessions_of_another(platform: Platform, channel_to: ChannelTo) -> None:
    owner = await sign_in(platform, channel_to)
    stranger = await sign_in(platform, channel_to)
    devices = device_pb2_grpc.DeviceServiceStub(channel_to(platform, "device"))
    measurements = measurement_pb2_grpc.MeasurementServiceStub(channel_to(platform, "measurement"))
    attempts: Mapping[str, Any] = {
        "devices": lambda: devices.ListDevices(
            device_pb2.ListDevicesRequest(user_id=owner.user_id), metadata=stranger.metadata, timeout=20
        ),
        "history": lambda: measurements.GetMeasurementHistory(
            measurement_pb2.GetHistoryRequest(user_id=owner.user_id), metadata=stranger.metadata, timeout=20
        ),
    }
    for attempt in attempts.values():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await attempt()
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
