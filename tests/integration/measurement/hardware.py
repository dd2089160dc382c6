"""The hardware group as measurement meets it: gRPC servicers on a real socket, with rules of their own.

They keep to the contract (a use counts once for a session, refusals carry reasons, unknown ids are NOT_FOUND), because a
test against something that accepts everything would prove nothing.
"""

# ruff: noqa: N802 - gRPC's generated base classes name the methods

from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc.aio
from manpasik.internal.v1 import cartridge_registry_pb2 as registry
from manpasik.internal.v1 import cartridge_registry_pb2_grpc, device_directory_pb2_grpc
from manpasik.internal.v1 import device_directory_pb2 as directory
from manpasik.v1 import calibration_pb2, calibration_pb2_grpc, cartridge_pb2, cartridge_pb2_grpc

from domain.errors import AppError, NotFound, Unavailable, WrongState
from subgraphs.runtime.errors import to_grpc

GLUCOSE = registry.TypeRecord(
    category_code=1,
    type_index=1,
    name_en="Glucose",
    name_ko="혈당",
    unit="mg/dL",
    loinc_code="2339-0",
    required_channels=88,
    reference_low=70,
    reference_high=99,
    critical_low=54,
    critical_high=400,
    measuring_low=20,
    measuring_high=600,
    min_confidence=0.5,
    decimal_places=0,
)

_Context = grpc.aio.ServicerContext[Any, Any]


class CartridgeExpired(WrongState):
    reason = "CARTRIDGE_EXPIRED"


class CartridgeUsedUp(WrongState):
    reason = "CARTRIDGE_USED_UP"


async def refuse(context: _Context, error: AppError) -> NoReturn:
    """End the call with the status of an error, as every service of the platform does."""
    await context.abort(*to_grpc(error))
    raise AssertionError


@dataclass
class Hardware(
    device_directory_pb2_grpc.DeviceDirectoryServicer,
    cartridge_registry_pb2_grpc.CartridgeRegistryServicer,
    cartridge_pb2_grpc.CartridgeServiceServicer,
    calibration_pb2_grpc.CalibrationServiceServicer,
):
    """What is registered, by id; `calibrated_in` is the type in the unit of all calibrations; `away` makes every call fail, `lose_answers` only the answers to RecordUsage."""

    owners: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)
    cartridges: dict[str, registry.CartridgeRecord] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)
    widths: dict[str, int] = field(default_factory=dict)
    calibrations: dict[tuple[str, int, int], calibration_pb2.CalibrationRecord] = field(default_factory=dict)
    calibrated_in: registry.TypeRecord | None = field(default_factory=lambda: GLUCOSE)
    uses: dict[str, list[str]] = field(default_factory=dict)
    away: bool = False
    lose_answers: int = 0

    def register(self, device_id: str, owner: str, *, registered_as: str = "") -> None:
        """Register a reader. `registered_as`: the id that it answers with, where that is spelled otherwise."""
        self.owners[device_id] = owner
        self.spellings[device_id] = registered_as or device_id

    def read(self, uid: str, *, uses: int = 10, **coefficients: Any) -> None:
        self.cartridges[uid] = registry.CartridgeRecord(
            cartridge_uid=uid, type=GLUCOSE, remaining_uses=uses, **coefficients
        )

    def calibrate(self, device_id: str, **numbers: Any) -> None:
        self.calibrations[device_id, 1, 1] = calibration_pb2.CalibrationRecord(
            calibration_id=f"calibration-of-{device_id}",
            device_id=device_id,
            cartridge_category=1,
            cartridge_type_index=1,
            status=calibration_pb2.CALIBRATION_STATUS_VALID,
            **numbers,
        )

    def left(self, uid: str) -> int:
        return self.cartridges[uid].remaining_uses - len(self.uses.get(uid, []))

    async def GetDevice(self, request: directory.GetDeviceRequest, context: _Context) -> directory.DeviceRecord:
        await self._here(context)
        owner = self.owners.get(request.device_id)
        if owner is None:
            await refuse(context, NotFound("no such device"))
        device_id = self.spellings.get(request.device_id, request.device_id)
        return directory.DeviceRecord(device_id=device_id, owner_user_id=owner)

    async def GetCartridge(self, request: registry.GetCartridgeRequest, context: _Context) -> registry.CartridgeRecord:
        await self._here(context)
        if request.cartridge_uid not in self.cartridges:
            await refuse(context, NotFound("never read"))
        return self.cartridges[request.cartridge_uid]

    async def GetType(self, request: registry.GetTypeRequest, context: _Context) -> registry.TypeRecord:
        await self._here(context)
        if not request.calibration_id or self.calibrated_in is None:
            await refuse(context, NotFound("no such type"))
        return self.calibrated_in

    async def ValidateCartridge(
        self, request: cartridge_pb2.ValidateCartridgeRequest, context: _Context
    ) -> cartridge_pb2.ValidateCartridgeResponse:
        await self._here(context)
        if request.cartridge_uid not in self.cartridges:
            await refuse(context, NotFound("never read"))
        reason = self._refusal(request.cartridge_uid)
        return cartridge_pb2.ValidateCartridgeResponse(
            is_valid=reason is None,
            reason=reason.reason if reason else "",
            detail=cartridge_pb2.CartridgeDetail(required_channels=self.widths.get(request.cartridge_uid, 88)),
        )

    async def RecordUsage(
        self, request: cartridge_pb2.RecordUsageRequest, context: _Context
    ) -> cartridge_pb2.RecordUsageResponse:
        await self._here(context)
        uses = self.uses.setdefault(request.cartridge_uid, [])
        if request.session_id not in uses:
            if reason := self._refusal(request.cartridge_uid):
                await refuse(context, reason)
            uses.append(request.session_id)
        if self.lose_answers:
            self.lose_answers -= 1
            await refuse(context, Unavailable("the answer is lost"))
        return cartridge_pb2.RecordUsageResponse(success=True, remaining_uses=self.left(request.cartridge_uid))

    async def GetCalibration(
        self, request: calibration_pb2.GetCalibrationRequest, context: _Context
    ) -> calibration_pb2.CalibrationRecord:
        await self._here(context)
        found = self.calibrations.get((request.device_id, request.cartridge_category, request.cartridge_type_index))
        if found is None:
            await refuse(context, NotFound("not calibrated"))
        return found

    def _refusal(self, uid: str) -> WrongState | None:
        if uid in self.expired:
            return CartridgeExpired("expired")
        return CartridgeUsedUp("used up") if self.left(uid) <= 0 else None

    async def _here(self, context: _Context) -> None:
        if self.away:
            await refuse(context, Unavailable("away"))


async def serve(hardware: Hardware) -> tuple[grpc.aio.Server, int]:
    """All four services on one free port."""
    server = grpc.aio.server()
    device_directory_pb2_grpc.add_DeviceDirectoryServicer_to_server(hardware, server)
    cartridge_registry_pb2_grpc.add_CartridgeRegistryServicer_to_server(hardware, server)
    cartridge_pb2_grpc.add_CartridgeServiceServicer_to_server(hardware, server)
    calibration_pb2_grpc.add_CalibrationServiceServicer_to_server(hardware, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port
