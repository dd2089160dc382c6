"""The group over real gRPC: every method of the contract, credentials of readers, and commands between processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import grpc.aio
import pytest
from fakeredis import FakeAsyncRedis
from manpasik.internal.v1 import cartridge_registry_pb2, cartridge_registry_pb2_grpc, device_directory_pb2
from manpasik.internal.v1.device_directory_pb2_grpc import DeviceDirectoryStub
from manpasik.v1 import calibration_pb2, cartridge_pb2, device_pb2
from manpasik.v1.calibration_pb2_grpc import CalibrationServiceStub
from manpasik.v1.cartridge_pb2_grpc import CartridgeServiceStub
from manpasik.v1.device_pb2_grpc import DeviceServiceStub

from devices.nfc_tag import encode_v2
from domain.hardware.device.models import CommandType
from domain.sealing import Sealer
from subgraphs.hardware.group import build
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.clients import Channels, client_factory
from subgraphs.runtime.faces import GroupFaces, GroupResources
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.settings import ServiceSettings, Settings, TokenSettings
from tests.integration.hardware.conftest import ALICE, GLUCOSE_TAG, SIGNED_TAG, TECHNICIAN, Hardware
from tests.support.patience import PATIENCE_S
from tests.support.trust import service_tokens

TOKENS = TokenSettings()
UID = GLUCOSE_TAG.cartridge_uid


@dataclass(frozen=True)
class Process:
    """One process that serves the group."""

    faces: GroupFaces
    ports: dict[str, int]

    @asynccontextmanager
    async def channel(self, service: str) -> AsyncIterator[grpc.aio.Channel]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.ports[service]}") as channel:
            yield channel


@asynccontextmanager
async def serving(hardware: Hardware, sealer: Sealer, *, permissive: bool) -> AsyncIterator[Process]:
    settings = Settings(service=ServiceSettings(grpc_auth="permissive" if permissive else "strict"))
    tokens = service_tokens()
    redis = FakeAsyncRedis()
    faces = await build(
        GroupResources(
            settings=settings,
            database=hardware.database,
            sealer=sealer,
            redis=redis,
            limiter=RateLimiter(redis),
            objects=hardware.objects,
            clients=client_factory(Channels(settings), tokens),
            clock=hardware.clock,
        )
    )
    authenticator = Authenticator({}, services=tokens, devices=faces.device_credentials)
    servers: list[GrpcServer] = []
    ports: dict[str, int] = {}
    tasks = [asyncio.ensure_future(background.run()) for service in faces.services for background in service.background]
    try:
        for service in faces.services:
            access = access_of(service.name, service.servicers, authenticator, settings.service)
            servers.append(GrpcServer("127.0.0.1:0", service.servicers, access, settings.service))
            ports[service.name] = await servers[-1].start()
        yield Process(faces, ports)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in servers:
            await server.stop(0)
        await faces.close()


def update(
    battery: int = 80, device_id: str = "dev-1", status: Any = device_pb2.DEVICE_STATUS_ONLINE
) -> device_pb2.DeviceStatusUpdate:
    """A heartbeat; `status` may be any number, as it may on the wire."""
    return device_pb2.DeviceStatusUpdate(
        device_id=device_id, status=status, battery_percent=battery, signal_strength=-60
    )


async def queue(hardware: Hardware, command_type: CommandType = CommandType.REBOOT) -> str:
    """Queue a command as another process of the group would."""
    async with hardware.database.transaction() as session:
        command = await hardware.services.devices.send_command(
            session, ALICE, device_id="dev-1", command_type=command_type, payload={"delay_s": 5}
        )
        return command.command_id


async def test_the_flow_of_existing_clients_without_tokens(hardware: Hardware, sealer: Sealer) -> None:
    async with serving(hardware, sealer, permissive=True) as process, process.channel("device") as channel:
        devices = DeviceServiceStub(channel)
        registered = await devices.RegisterDevice(
            device_pb2.RegisterDeviceRequest(
                device_id="e2e-dev-001", serial_number="SN-E2E-2026", firmware_version="1.0.0", user_id="alice"
            )
        )
        assert registered.device_id == "e2e-dev-001"
        assert registered.registration_token
        listed = await devices.ListDevices(device_pb2.ListDevicesRequest(user_id="alice"))
        (device,) = listed.devices
        assert (device.device_id, device.name, device.status) == ("e2e-dev-001", "SN-E2E-2026", 0)
        assert device.last_seen == registered.registered_at
        done = await devices.UpdateDeviceStatus(
            device_pb2.UpdateDeviceStatusRequest(device_id="e2e-dev-001", status="DEVICE_STATUS_ONLINE")
        )
        assert done.success
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await devices.RequestOtaUpdate(device_pb2.OtaRequest(device_id="e2e-dev-001", target_version="2.0.0"))
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
        async with hardware.database.transaction() as session:
            await hardware.services.firmware.publish(session, TECHNICIAN, version="2.0.0", content=b"image")
        ota = await devices.RequestOtaUpdate(device_pb2.OtaRequest(device_id="e2e-dev-001", target_version="2.0.0"))
        assert ota.update_id
        assert ota.download_url.startswith("http://objects.test/objects/firmware/2.0.0/")
        assert len(ota.checksum) == 64


async def test_every_method_of_the_cartridge_service(hardware: Hardware, sealer: Sealer) -> None:
    async with serving(hardware, sealer, permissive=True) as process, process.channel("cartridge") as channel:
        stub = CartridgeServiceStub(channel)
        await hardware.import_lots()
        detail = await stub.ReadCartridge(cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=encode_v2(SIGNED_TAG)))
        assert detail.validation_message == ""
        assert (detail.cartridge_uid, detail.name_ko, detail.is_valid, detail.unit) == (UID, "혈당", True, "mg/dL")
        assert (detail.expiry_date, detail.alpha_coefficient, detail.required_channels) == ("20270630", 0.93, 88)
        usage = cartridge_pb2.RecordUsageRequest(user_id="alice", session_id="s-1", cartridge_uid=UID.lower())
        for _ in range(2):
            recorded = await stub.RecordUsage(usage)
            assert (recorded.success, recorded.remaining_uses) == (True, 9)
            assert (recorded.remaining_daily, recorded.remaining_monthly) == (-1, -1)
        history = await stub.GetUsageHistory(cartridge_pb2.GetUsageHistoryRequest(user_id="alice"))
        assert [(r.session_id, r.type_name_ko) for r in history.records] == [("s-1", "혈당")]
        assert history.total_count == 1
        left = await stub.GetRemainingUses(cartridge_pb2.GetRemainingUsesRequest(cartridge_uid=UID))
        assert (left.remaining_uses, left.max_uses, left.is_expired) == (9, 10, False)
        valid = await stub.ValidateCartridge(cartridge_pb2.ValidateCartridgeRequest(cartridge_uid=UID, user_id="alice"))
        assert (valid.is_valid, valid.reason, valid.remaining_uses, valid.access_level) == (True, "", 9, 0)
        unknown = await stub.ValidateCartridge(
            cartridge_pb2.ValidateCartridgeRequest(cartridge_uid="e2e-cart-001", user_id="alice")
        )
        assert (unknown.is_valid, unknown.reason, unknown.HasField("detail")) == (False, "CARTRIDGE_UNKNOWN", False)
        categories = await stub.ListCategories(cartridge_pb2.ListCategoriesRequest())
        assert [c.type_count for c in categories.categories[:5]] == [14, 4, 4, 3, 4]
        types = await stub.ListTypesByCategory(cartridge_pb2.ListTypesByCategoryRequest(category_code=2))
        assert [t.name_en for t in types.types] == ["WaterQuality", "IndoorAirQuality", "Radon", "Radiation"]
        every = await stub.ListTypesByCategory(cartridge_pb2.ListTypesByCategoryRequest())
        assert len(every.types) == 30
        radon = await stub.GetCartridgeType(cartridge_pb2.GetCartridgeTypeRequest(category_code=2, type_index=3))
        assert (radon.legacy_code, radon.reference_range) == (0x22, "<=100 Bq/m3")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.ReadCartridge(cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=b"short", tag_version=2))
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_expired_cartridge_is_told_in_the_language_of_the_caller(hardware: Hardware, sealer: Sealer) -> None:
    expired = replace(GLUCOSE_TAG, expires_on=GLUCOSE_TAG.expires_on.replace(year=2020))
    request = cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=encode_v2(expired))
    async with serving(hardware, sealer, permissive=True) as process, process.channel("cartridge") as channel:
        stub = CartridgeServiceStub(channel)
        english = await stub.ReadCartridge(request)
        korean = await stub.ReadCartridge(request, metadata=(("accept-language", "ko-KR"),))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.RecordUsage(cartridge_pb2.RecordUsageRequest(user_id="alice", session_id="s", cartridge_uid=UID))
    assert (english.is_valid, english.validation_message) == (False, "This cartridge has expired.")
    assert korean.validation_message == "유효 기간이 지난 카트리지입니다."
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert b"CARTRIDGE_EXPIRED" in dict(refusal.value.trailing_metadata() or ())["grpc-status-details-bin"]


async def test_every_method_of_the_calibration_service(hardware: Hardware, sealer: Sealer) -> None:
    named: dict[str, Any] = {"device_id": "dev-1", "cartridge_category": 1, "cartridge_type_index": 1}
    async with serving(hardware, sealer, permissive=True) as process, process.channel("calibration") as channel:
        stub = CalibrationServiceStub(channel)
        needed = await stub.CheckCalibrationStatus(calibration_pb2.CheckCalibrationStatusRequest(**named))
        assert needed.status == calibration_pb2.CALIBRATION_STATUS_NEEDED
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.GetCalibration(calibration_pb2.GetCalibrationRequest(**named))
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
        made = await stub.RegisterFactoryCalibration(
            calibration_pb2.RegisterFactoryCalibrationRequest(
                **named, alpha=0.9, channel_gains=[2.0] * 88, reference_standard="NIST SRM 965b"
            )
        )
        assert (made.calibration_type, made.status, made.accuracy_score) == (1, 1, 1.0)
        fitted = await stub.PerformFieldCalibration(
            calibration_pb2.PerformFieldCalibrationRequest(
                **named,
                user_id="alice",
                reference_values=[100.0, 200.0, 300.0],
                measured_values=[80.8, 160.8, 240.8],
                temperature_c=25.0,
                humidity_pct=50.0,
            )
        )
        assert fitted.channel_gains == pytest.approx([2.5] * 88)
        assert fitted.channel_offsets == pytest.approx([-1.0])
        current = await stub.GetCalibration(calibration_pb2.GetCalibrationRequest(**named))
        assert current.calibration_id == fitted.calibration_id
        history = await stub.ListCalibrationHistory(
            calibration_pb2.ListCalibrationHistoryRequest(device_id="dev-1", limit=1)
        )
        assert ([r.calibration_id for r in history.records], history.total_count) == ([fitted.calibration_id], 2)
        status = await stub.CheckCalibrationStatus(calibration_pb2.CheckCalibrationStatusRequest(**named))
        assert (status.status, status.latest_record.calibration_id) == (1, fitted.calibration_id)
        models = await stub.ListCalibrationModels(calibration_pb2.ListCalibrationModelsRequest())
        assert len(models.models) == 30
        with pytest.raises(grpc.aio.AioRpcError) as poor:
            await stub.PerformFieldCalibration(
                calibration_pb2.PerformFieldCalibrationRequest(
                    **named,
                    user_id="alice",
                    reference_values=[100.0, 200.0, 300.0],
                    measured_values=[101.0, 51.0, 151.0],
                )
            )
        assert poor.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "R2" in (poor.value.details() or "")


async def test_a_device_streams_with_its_credential_and_nobody_without(hardware: Hardware, sealer: Sealer) -> None:
    registration = await hardware.register()
    async with serving(hardware, sealer, permissive=False) as process, process.channel("device") as channel:
        stub = DeviceServiceStub(channel)
        for authorization, expected in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Device dev-1:wrong"),), grpc.StatusCode.UNAUTHENTICATED),
        ):
            call = stub.StreamDeviceStatus(metadata=authorization)
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await call.write(update())
            assert await call.code() is expected
        call = stub.StreamDeviceStatus(metadata=_credential(registration.credential))
        await call.write(update(battery=55))
        await call.done_writing()
        assert [command async for command in call] == []
        assert await call.code() is grpc.StatusCode.OK
    rows = await hardware.fetch("SELECT status, battery_percent FROM devices")
    assert rows == [{"status": "online", "battery_percent": 55}]  # the stream's end says nothing of the device


async def test_a_command_of_another_process_reaches_the_open_stream_without_a_heartbeat(
    hardware: Hardware, sealer: Sealer
) -> None:
    registration = await hardware.register()
    async with serving(hardware, sealer, permissive=False) as process, process.channel("device") as channel:
        call = DeviceServiceStub(channel).StreamDeviceStatus(metadata=_credential(registration.credential))
        early = await queue(hardware, CommandType.CALIBRATE)
        await call.write(update())
        first = await asyncio.wait_for(call.read(), PATIENCE_S)
        assert isinstance(first, device_pb2.DeviceCommand)
        assert (first.command_id, first.command_type) == (early, device_pb2.COMMAND_TYPE_CALIBRATE)
        assert first.payload == b'{"delay_s":5}'
        late = await queue(hardware)
        second = await asyncio.wait_for(call.read(), PATIENCE_S)
        assert isinstance(second, device_pb2.DeviceCommand)
        assert second.command_id == late
        call.cancel()
        # Nothing proves that they arrived: the next stream delivers both again, under the same ids.
        again = DeviceServiceStub(channel).StreamDeviceStatus(metadata=_credential(registration.credential))
        await again.write(update())
        redelivered = [await asyncio.wait_for(again.read(), PATIENCE_S) for _ in range(2)]
        assert [c.command_id for c in redelivered if isinstance(c, device_pb2.DeviceCommand)] == [early, late]
        for battery in (79, 78):
            await again.write(update(battery))
        await again.done_writing()
        assert await asyncio.wait_for(again.read(), PATIENCE_S) is grpc.aio.EOF
    rows = await hardware.fetch("SELECT count(*) AS arrived FROM device_commands WHERE acknowledged_at IS NOT NULL")
    assert rows == [{"arrived": 2}]


@pytest.mark.parametrize(
    "wrong", [update(101), update(device_id="dev-2"), update(status=77), update(device_id="")], ids=str
)
async def test_a_heartbeat_that_makes_no_sense_ends_its_stream_and_harms_nothing_else(
    hardware: Hardware, sealer: Sealer, wrong: device_pb2.DeviceStatusUpdate
) -> None:
    registration = await hardware.register()
    async with serving(hardware, sealer, permissive=False) as process, process.channel("device") as channel:
        stub = DeviceServiceStub(channel)
        healthy = stub.StreamDeviceStatus(metadata=_credential(registration.credential))
        await healthy.write(update(60))
        broken = stub.StreamDeviceStatus(metadata=_credential(registration.credential))
        await broken.write(update(59))
        await broken.write(wrong)
        assert await asyncio.wait_for(broken.code(), PATIENCE_S) is grpc.StatusCode.INVALID_ARGUMENT
        await healthy.write(update(58))
        await healthy.done_writing()
        assert [command async for command in healthy] == []
        assert await healthy.code() is grpc.StatusCode.OK
    assert await hardware.fetch("SELECT battery_percent FROM devices") == [{"battery_percent": 58}]


async def test_the_directories_answer_services_and_nobody_else(hardware: Hardware, sealer: Sealer) -> None:
    registration = await hardware.register()
    await hardware.import_lots()
    await hardware.read(SIGNED_TAG)
    tokens = service_tokens()

    def service(callee: str) -> tuple[tuple[str, str]]:
        return (("authorization", f"Service {tokens.issue('measurement', callee)}"),)

    async with serving(hardware, sealer, permissive=True) as process:
        async with process.channel("device") as channel:
            directory = DeviceDirectoryStub(channel)
            asked = device_directory_pb2.GetDeviceRequest(device_id="dev-1")
            verified = device_directory_pb2.VerifyCredentialRequest(
                device_id="dev-1", credential=registration.credential
            )
            record = await directory.GetDevice(asked, metadata=service("device"))
            assert (record.owner_user_id, record.serial_number) == ("alice", "SN-dev-1")
            assert await directory.VerifyCredential(verified, metadata=service("device")) == record
            for authorization in ((), _credential(registration.credential)):
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await directory.GetDevice(asked, metadata=authorization)
                assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
        async with process.channel("cartridge") as channel:
            registry = cartridge_registry_pb2_grpc.CartridgeRegistryStub(channel)
            cartridge = await registry.GetCartridge(
                cartridge_registry_pb2.GetCartridgeRequest(cartridge_uid=UID, user_id="alice"),
                metadata=service("cartridge"),
            )
            assert (cartridge.alpha, cartridge.type.loinc_code, cartridge.type.critical_low) == (0.93, "2339-0", 54)
            assert cartridge.expires_at.ToDatetime().isoformat() == "2027-07-01T00:00:00"
            crp = await registry.GetType(
                cartridge_registry_pb2.GetTypeRequest(category_code=1, type_index=13), metadata=service("cartridge")
            )
            unknown = cartridge_registry_pb2.GetTypeRequest(category_code=1, type_index=1, calibration_id="no such")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await registry.GetType(unknown, metadata=service("cartridge"))
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            assert not crp.HasField("critical_high")
            assert not crp.HasField("reference_low")


def _credential(credential: str, device_id: str = "dev-1") -> tuple[tuple[str, str]]:
    return (("authorization", f"Device {device_id}:{credential}"),)
