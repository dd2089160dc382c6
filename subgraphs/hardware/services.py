"""The group's services, constructed once a process and joined in-process."""

from dataclasses import dataclass
from datetime import timedelta

from domain.clock import Clock
from domain.hardware.calibration.handover import FieldCalibrationsOfOwners
from domain.hardware.calibration.service import CalibrationService
from domain.hardware.cartridge.lot_keys import LotKeys
from domain.hardware.cartridge.lots import LotService
from domain.hardware.cartridge.ports import Plans
from domain.hardware.cartridge.registry import RegistryService
from domain.hardware.cartridge.service import CartridgeService
from domain.hardware.device.claims import RegistrationRules
from domain.hardware.device.firmware import FirmwareService
from domain.hardware.device.ports import Allowances, ClaimAttempts, FirmwareStore
from domain.hardware.device.records import DeviceRecordService
from domain.hardware.device.service import DeviceService
from domain.sealing import Sealer
from subgraphs.runtime.settings import ServiceSettings

MISSED_HEARTBEATS = 3


@dataclass(frozen=True, slots=True)
class HardwareServices:
    devices: DeviceService
    device_records: DeviceRecordService
    firmware: FirmwareService
    cartridges: CartridgeService
    lots: LotService
    registry: RegistryService
    calibrations: CalibrationService


def hardware_services(
    settings: ServiceSettings,
    clock: Clock,
    *,
    store: FirmwareStore,
    plans: Plans,
    sealer: Sealer | None = None,
    attempts: ClaimAttempts | None = None,
    allowances: Allowances | None = None,
) -> HardwareServices:
    """The services, each with what it needs of the others.

    Args:
        sealer: of the group's database, for the secret keys of lots.
        attempts, allowances: what limits the registration of readers; None: nothing does.
    """
    keys = LotKeys(sealer)
    offline_after = timedelta(seconds=MISSED_HEARTBEATS * settings.heartbeat_interval_seconds)
    registration = RegistrationRules(
        takes_unknown=settings.takes_unknown_devices,
        attempts=attempts,
        allowances=allowances,
        field_calibrations=FieldCalibrationsOfOwners(),
    )
    devices = DeviceService(clock, offline_after=offline_after, registration=registration)
    registry = RegistryService()
    return HardwareServices(
        devices=devices,
        device_records=DeviceRecordService(clock),
        firmware=FirmwareService(clock, devices, store),
        cartridges=CartridgeService(clock, devices, plans, keys),
        lots=LotService(clock, keys),
        registry=registry,
        calibrations=CalibrationService(clock, devices, registry, default_alpha=settings.default_alpha),
    )
