"""Readers, cartridges and calibrations, asked over gRPC of the group that owns them.

Nothing is cached here: an answer is copied into the session at its start, and a session starts every few minutes. What
changes most (uses left, a field calibration) is what a stale answer would get wrong.
"""

import numpy as np
from manpasik.internal.v1 import cartridge_registry_pb2 as registry
from manpasik.internal.v1 import device_directory_pb2 as directory
from manpasik.internal.v1.cartridge_registry_pb2_grpc import CartridgeRegistryStub
from manpasik.internal.v1.device_directory_pb2_grpc import DeviceDirectoryStub
from manpasik.v1 import calibration_pb2, cartridge_pb2
from manpasik.v1.calibration_pb2_grpc import CalibrationServiceStub
from manpasik.v1.cartridge_pb2_grpc import CartridgeServiceStub

from domain.errors import Conflict, NotFound
from domain.measurement.measurement.ports import KnownCalibration, KnownCartridge, KnownDevice, KnownType, Permission
from domain.measurement.measurement.quality import DEFAULT_DECIMAL_PLACES, DEFAULT_MIN_CONFIDENCE, MeasuringRange
from subgraphs.runtime.clients import ServiceClient

_TIMEOUT_S = 3.0
_IN_FORCE = (calibration_pb2.CALIBRATION_STATUS_VALID, calibration_pb2.CALIBRATION_STATUS_EXPIRING)


class UseNotRecorded(Conflict):
    """The cartridge's service answered that it did not record the use, without saying why."""

    reason = "USE_NOT_RECORDED"


class GrpcHardware:
    """`domain.measurement.measurement.ports.Hardware` over gRPC."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._devices = client.stub("device", DeviceDirectoryStub)
        self._registry = client.stub("cartridge", CartridgeRegistryStub)
        self._cartridges = client.stub("cartridge", CartridgeServiceStub)
        self._calibrations = client.stub("calibration", CalibrationServiceStub)

    async def device(self, device_id: str) -> KnownDevice | None:
        try:
            found = await self._client.unary(
                self._devices.GetDevice,
                directory.GetDeviceRequest(device_id=device_id),
                timeout_s=_TIMEOUT_S,
                safe=True,
            )
        except NotFound:
            return None
        return KnownDevice(found.device_id, found.owner_user_id)

    async def cartridge(self, cartridge_uid: str, *, user_id: str) -> KnownCartridge | None:
        try:
            found = await self._client.unary(
                self._registry.GetCartridge,
                registry.GetCartridgeRequest(cartridge_uid=cartridge_uid, user_id=user_id),
                timeout_s=_TIMEOUT_S,
                safe=True,
            )
        except NotFound:
            return None
        return KnownCartridge(
            cartridge_uid=found.cartridge_uid,
            type=_type_of(found.type),
            alpha=found.alpha if found.HasField("alpha") else None,
            temp_coefficient=found.temp_coefficient if found.HasField("temp_coefficient") else None,
            humidity_coefficient=found.humidity_coefficient if found.HasField("humidity_coefficient") else None,
            verified=not found.unverified,
        )

    async def permission(self, *, user_id: str, cartridge_uid: str, category_code: int, type_index: int) -> Permission:
        try:
            answer = await self._client.unary(
                self._cartridges.ValidateCartridge,
                cartridge_pb2.ValidateCartridgeRequest(
                    cartridge_uid=cartridge_uid,
                    category_code=category_code,
                    type_index=type_index,
                    user_id=user_id,
                ),
                timeout_s=_TIMEOUT_S,
                safe=True,
            )
        except NotFound:
            return Permission()  # never read: whether that is allowed is not the cartridge's service's to say
        return Permission(
            refusal=None if answer.is_valid else answer.reason or "CARTRIDGE_REFUSED",
            message=answer.detail.validation_message,
            required_channels=answer.detail.required_channels or None,
        )

    async def calibration(self, *, device_id: str, category_code: int, type_index: int) -> KnownCalibration | None:
        try:
            found = await self._client.unary(
                self._calibrations.GetCalibration,
                calibration_pb2.GetCalibrationRequest(
                    device_id=device_id, cartridge_category=category_code, cartridge_type_index=type_index
                ),
                timeout_s=_TIMEOUT_S,
                safe=True,
            )
        except NotFound:
            return None
        if found.status not in _IN_FORCE:
            return None
        return KnownCalibration(
            type=await self._type_of_calibration(found),
            alpha=found.alpha or None,
            temp_coefficient=found.temp_coefficient,
            humidity_coefficient=found.humidity_coefficient,
            gains=np.array(found.channel_gains, dtype=np.float64) if found.channel_gains else np.ones(1),
            offsets=np.array(found.channel_offsets, dtype=np.float64) if found.channel_offsets else np.zeros(1),
        )

    async def _type_of_calibration(self, found: calibration_pb2.CalibrationRecord) -> KnownType | None:
        request = registry.GetTypeRequest(
            category_code=found.cartridge_category,
            type_index=found.cartridge_type_index,
            calibration_id=found.calibration_id,
        )
        try:
            return _type_of(await self._client.unary(self._registry.GetType, request, timeout_s=_TIMEOUT_S, safe=True))
        except NotFound:
            return None

    async def record_use(
        self, *, user_id: str, session_id: str, cartridge_uid: str, category_code: int, type_index: int
    ) -> None:
        request = cartridge_pb2.RecordUsageRequest(
            user_id=user_id,
            session_id=session_id,
            cartridge_uid=cartridge_uid,
            category_code=category_code,
            type_index=type_index,
        )
        # Safe to repeat, because a use counts once for a session.
        answer = await self._client.unary(self._cartridges.RecordUsage, request, timeout_s=_TIMEOUT_S, safe=True)
        if not answer.success:
            raise UseNotRecorded("The use of the cartridge was not recorded; start the session again.")


def _type_of(found: registry.TypeRecord) -> KnownType:
    return KnownType(
        category_code=found.category_code,
        type_index=found.type_index,
        name_en=found.name_en,
        name_ko=found.name_ko,
        unit=found.unit,
        loinc_code=found.loinc_code,
        required_channels=found.required_channels,
        reference_low=found.reference_low if found.HasField("reference_low") else None,
        reference_high=found.reference_high if found.HasField("reference_high") else None,
        critical_low=found.critical_low if found.HasField("critical_low") else None,
        critical_high=found.critical_high if found.HasField("critical_high") else None,
        measuring=MeasuringRange(
            low=found.measuring_low if found.HasField("measuring_low") else None,
            high=found.measuring_high if found.HasField("measuring_high") else None,
            min_confidence=found.min_confidence if found.HasField("min_confidence") else DEFAULT_MIN_CONFIDENCE,
            decimal_places=found.decimal_places if found.HasField("decimal_places") else DEFAULT_DECIMAL_PLACES,
        ),
    )
