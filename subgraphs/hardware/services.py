"""The group's services, constructed once a process and joined in-process."""

from dataclasses import dataclass
from datetime import timedelta

from domain.clock import Clock
from domain.hardware.calibration.service import CalibrationService
from domain.hardware.cartridge.lot_keys import LotKeys
from domain.hardware.cartridge.lots import LotService
from domain.hardware.cartridge.ports import Plans
from domain.hardware.cartridge.registry import RegistryService
from domain.hardware.cartridge.service import CartridgeService
from domain.hardware.device.firmware import FirmwareService
from domain.hardware.device.ports import FirmwareStore
from domain.hardware.device.service import DeviceService
from domain.sealing import Sealer
from subgraphs.runtime.settings import ServiceSettings

MISSED_HEARTBEATS = 3


@dataclass(frozen=True, slots=True)
class HardwareServices:
    devices: DeviceService
    firmware: FirmwareService
    cartridges: CartridgeService
    lots: LotService
    registry: RegistryService
    calibrations: CalibrationService


def hardware_services(
    settings: ServiceSettings, clock: Clock, *, store: FirmwareStore, plans: Plans, sealer: Sealer | None = None
) -> HardwareServices:
    """The services, each with what it needs of the others.

    Args:
        sealer: of the group's database, for the secret keys of lots.
    """
    keys = LotKeys(sealer)
    offline_after = timedelta(seconds=MISSED_HEARTBEATS * settings.heartbeat_interval_seconds)
    devices = DeviceService(clock, offline_after=offline_after)
    return HardwareServices(
        devices=devices,
        firmware=FirmwareService(clock, devices, store),
        cartridges=CartridgeService(clock, devices, plans, keys),
        lots=LotService(clock, keys),
        registry=RegistryService(),
        calibrations=CalibrationService(clock, devices, default_alpha=settings.default_alpha),
    )
