"""device-service over gRPC: the contract with readers and apps, and the directory for the platform's own services."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from manpasik.internal.v1 import device_directory_pb2 as directory_pb
from manpasik.internal.v1 import device_directory_pb2_grpc as directory_grpc
from manpasik.v1 import device_pb2 as pb
from manpasik.v1 import device_pb2_grpc as pb_grpc

from domain.hardware.device.models import Device, DeviceStatus
from domain.principal import Principal
from subgraphs.hardware.device.status_stream import StatusStream
from subgraphs.hardware.services import HardwareServices
from subgraphs.hardware.wire import timestamp
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database
from subgraphs.runtime.device_credentials import device_principal
from subgraphs.runtime.signals import Signals

CLAIM_CODE_METADATA = "x-claim-code"

STATUS_TO_WIRE = {
    DeviceStatus.UNKNOWN: pb.DEVICE_STATUS_UNKNOWN,
    DeviceStatus.ONLINE: pb.DEVICE_STATUS_ONLINE,
    DeviceStatus.OFFLINE: pb.DEVICE_STATUS_OFFLINE,
    DeviceStatus.MEASURING: pb.DEVICE_STATUS_MEASURING,
    DeviceStatus.UPDATING: pb.DEVICE_STATUS_UPDATING,
    DeviceStatus.ERROR: pb.DEVICE_STATUS_ERROR,
}


class DeviceServicer(pb_grpc.DeviceServiceServicer):
    """manpasik.v1.DeviceService."""

    def __init__(self, services: HardwareServices, database: Database, signals: Signals) -> None:
        self._devices = services.devices
        self._firmware = services.firmware
        self._database = database
        self._signals = signals

    async def RegisterDevice(  # noqa: N802 - the name of the wire
        self, request: pb.RegisterDeviceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RegisterDeviceResponse:
        principal = current().principal
        allowance = await self._devices.allowance(principal, user_id=request.user_id)
        async with self._database.transaction() as session:
            registration = await self._devices.register(
                session,
                principal,
                device_id=request.device_id,
                serial_number=request.serial_number,
                firmware_version=request.firmware_version,
                user_id=request.user_id,
                claim_code=_claim_code(context),
                max_devices=allowance,
            )
        verified = "true" if registration.device.verified else "false"
        await context.send_initial_metadata((("x-device-verified", verified),))
        return pb.RegisterDeviceResponse(
            device_id=registration.device.device_id,
            registration_token=registration.credential,
            registered_at=timestamp(registration.registered_at),
        )

    async def ListDevices(  # noqa: N802 - the name of the wire
        self, request: pb.ListDevicesRequest, _context: object
    ) -> pb.ListDevicesResponse:
        async with self._database.read() as session:
            devices = await self._devices.list_owned(session, current().principal, user_id=request.user_id)
        return pb.ListDevicesResponse(devices=[_device_info(device) for device in devices])

    async def StreamDeviceStatus(  # noqa: N802 - the name of the wire
        self,
        request_iterator: AsyncIterator[pb.DeviceStatusUpdate],
        _context: object,
    ) -> AsyncIterator[pb.DeviceCommand]:
        stream = StatusStream(self._devices, self._database, self._signals, current().principal)
        async for command in stream.serve(request_iterator):
            yield command

    async def RequestOtaUpdate(  # noqa: N802 - the name of the wire
        self, request: pb.OtaRequest, _context: object
    ) -> pb.OtaResponse:
        async with self._database.transaction() as session:
            download = await self._firmware.request_update(
                session, current().principal, device_id=request.device_id, target_version=request.target_version
            )
        return pb.OtaResponse(update_id=download.update_id, download_url=download.url, checksum=download.checksum)

    async def UpdateDeviceStatus(  # noqa: N802 - the name of the wire
        self, request: pb.UpdateDeviceStatusRequest, _context: object
    ) -> pb.UpdateDeviceStatusResponse:
        async with self._database.transaction() as session:
            device = await self._devices.set_status(
                session, current().principal, device_id=request.device_id, status=request.status
            )
        return pb.UpdateDeviceStatusResponse(success=True, message=f"The device is {device.status}.")


class DeviceDirectoryServicer(directory_grpc.DeviceDirectoryServicer):
    """manpasik.internal.v1.DeviceDirectory, for services only."""

    def __init__(self, services: HardwareServices, database: Database) -> None:
        self._devices = services.devices
        self._database = database

    async def GetDevice(  # noqa: N802 - the name of the wire
        self, request: directory_pb.GetDeviceRequest, _context: object
    ) -> directory_pb.DeviceRecord:
        async with self._database.read() as session:
            return _device_record(await self._devices.get(session, current().principal, request.device_id))

    async def VerifyCredential(  # noqa: N802 - the name of the wire
        self, request: directory_pb.VerifyCredentialRequest, _context: object
    ) -> directory_pb.DeviceRecord:
        async with self._database.read() as session:
            device = await self._devices.verify_credential(
                session, device_id=request.device_id, credential=request.credential
            )
        return _device_record(device)


class LocalDeviceCredentials:
    """Tells readers by their credential, for the processes that host this group."""

    def __init__(self, services: HardwareServices, database: Database) -> None:
        self._devices = services.devices
        self._database = database

    async def verify(self, device_id: str, credential: str) -> Principal:
        """Raises: CredentialRefused: unknown device, or not its credential."""
        async with self._database.read() as session:
            device = await self._devices.verify_credential(session, device_id=device_id, credential=credential)
        return device_principal(device.device_id, device.owner_user_id)


def _claim_code(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The claim code of a call, in its metadata: the messages of the wire have no field for it."""
    given = [value for key, value in context.invocation_metadata() or () if key == CLAIM_CODE_METADATA]
    return given[0] if given and isinstance(given[0], str) else ""


def _device_info(device: Device) -> pb.DeviceInfo:
    return pb.DeviceInfo(
        device_id=device.device_id,
        name=device.name,
        firmware_version=device.firmware_version,
        status=STATUS_TO_WIRE[DeviceStatus(device.status)],
        battery_percent=device.battery_percent or 0,
        last_seen=timestamp(device.last_seen_at),
    )


def _device_record(device: Device) -> directory_pb.DeviceRecord:
    return directory_pb.DeviceRecord(
        device_id=device.device_id,
        owner_user_id=device.owner_user_id,
        serial_number=device.serial_number,
        firmware_version=device.firmware_version,
        status=STATUS_TO_WIRE[DeviceStatus(device.status)],
        registered_at=timestamp(device.registered_at),
    )
