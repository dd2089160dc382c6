"""Puts the hardware group together: services, gRPC, GraphQL, events and background work."""

from manpasik.internal.v1.cartridge_registry_pb2_grpc import add_CartridgeRegistryServicer_to_server
from manpasik.internal.v1.device_directory_pb2_grpc import add_DeviceDirectoryServicer_to_server
from manpasik.internal.v1.factory_pb2_grpc import (
    add_CartridgeFactoryServicer_to_server,
    add_DeviceFactoryServicer_to_server,
)
from manpasik.v1.calibration_pb2_grpc import add_CalibrationServiceServicer_to_server
from manpasik.v1.cartridge_pb2_grpc import add_CartridgeServiceServicer_to_server
from manpasik.v1.device_pb2_grpc import add_DeviceServiceServicer_to_server

from domain.catalog import Group
from domain.hardware.device.repository import COMMANDS_CHANNEL
from subgraphs.hardware.calibration.consumers import calibration_consumers
from subgraphs.hardware.calibration.servicer import CalibrationServicer
from subgraphs.hardware.cartridge.adapters.plans import GrpcPlans
from subgraphs.hardware.cartridge.servicer import CartridgeRegistryServicer, CartridgeServicer
from subgraphs.hardware.context import HardwareContext
from subgraphs.hardware.device.adapters.allowances import GrpcAllowances
from subgraphs.hardware.device.adapters.claim_attempts import LimitedClaimAttempts
from subgraphs.hardware.device.adapters.firmware_objects import FirmwareObjects
from subgraphs.hardware.device.consumers import device_consumers
from subgraphs.hardware.device.presence import PresenceSweep
from subgraphs.hardware.device.servicer import DeviceDirectoryServicer, DeviceServicer, LocalDeviceCredentials
from subgraphs.hardware.factory import CartridgeFactoryServicer, DeviceFactoryServicer
from subgraphs.hardware.schema import schema
from subgraphs.hardware.services import HardwareServices, hardware_services
from subgraphs.runtime.account_proof import account_proof_consumer
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import Background, GroupFaces, GroupResources, GrpcServicer, ServiceFaces
from subgraphs.runtime.signals import Signals


async def build(resources: GroupResources) -> GroupFaces:
    """The faces of the group on the given resources."""
    database = resources.database
    settings = resources.settings.service
    services = hardware_services(
        settings,
        resources.clock,
        store=FirmwareObjects(resources.objects),
        plans=GrpcPlans(resources.clients("cartridge")),
        sealer=resources.sealer,
        attempts=LimitedClaimAttempts(resources.limiter),
        allowances=GrpcAllowances(resources.clients("device")),
    )
    return GroupFaces(
        group=Group.HARDWARE,
        services=(
            _device(services, database, heartbeat_interval_s=settings.heartbeat_interval_seconds),
            _cartridge(services, database, default_alpha=settings.default_alpha),
            _calibration(services, database),
        ),
        schema=schema,
        graphql_context=lambda request: HardwareContext.of(request, services, database),
        device_credentials=LocalDeviceCredentials(services, database),
    )


def _device(services: HardwareServices, database: Database, *, heartbeat_interval_s: float) -> ServiceFaces:
    signals = Signals(database, COMMANDS_CHANNEL)
    servicer = DeviceServicer(services, database, signals)
    directory = DeviceDirectoryServicer(services, database)
    factory = DeviceFactoryServicer(services, database)
    presence = PresenceSweep(services.devices, database, heartbeat_interval_s=heartbeat_interval_s)
    return ServiceFaces(
        name="device",
        servicers=(
            GrpcServicer(
                full_name="manpasik.v1.DeviceService",
                register=lambda server: add_DeviceServiceServicer_to_server(servicer, server),
            ),
            GrpcServicer(
                full_name="manpasik.internal.v1.DeviceDirectory",
                register=lambda server: add_DeviceDirectoryServicer_to_server(directory, server),
                service_only=True,
            ),
            GrpcServicer(
                full_name="manpasik.internal.v1.DeviceFactory",
                register=lambda server: add_DeviceFactoryServicer_to_server(factory, server),
                service_only=True,
            ),
        ),
        consumers=device_consumers(services.devices),
        background=(Background("presence", presence.run), Background("command signals", signals.listen)),
    )


def _cartridge(services: HardwareServices, database: Database, *, default_alpha: float) -> ServiceFaces:
    servicer = CartridgeServicer(services, database, default_alpha=default_alpha)
    registry = CartridgeRegistryServicer(services, database)
    factory = CartridgeFactoryServicer(services, database)
    return ServiceFaces(
        name="cartridge",
        servicers=(
            GrpcServicer(
                full_name="manpasik.v1.CartridgeService",
                register=lambda server: add_CartridgeServiceServicer_to_server(servicer, server),
            ),
            GrpcServicer(
                full_name="manpasik.internal.v1.CartridgeRegistry",
                register=lambda server: add_CartridgeRegistryServicer_to_server(registry, server),
                service_only=True,
            ),
            GrpcServicer(
                full_name="manpasik.internal.v1.CartridgeFactory",
                register=lambda server: add_CartridgeFactoryServicer_to_server(factory, server),
                service_only=True,
            ),
        ),
        consumers=(account_proof_consumer("cartridge", services.cartridges.drop),),
    )


def _calibration(services: HardwareServices, database: Database) -> ServiceFaces:
    servicer = CalibrationServicer(services, database)
    return ServiceFaces(
        name="calibration",
        servicers=(
            GrpcServicer(
                full_name="manpasik.v1.CalibrationService",
                register=lambda server: add_CalibrationServiceServicer_to_server(servicer, server),
            ),
        ),
        consumers=calibration_consumers(services.calibrations),
    )
