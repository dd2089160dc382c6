"""What the group's resolvers have at hand for one request."""

from dataclasses import dataclass

import strawberry

from subgraphs.hardware.calibration.loaders import CalibrationLoaders
from subgraphs.hardware.cartridge.loaders import CartridgeLoaders
from subgraphs.hardware.device.loaders import DeviceLoaders
from subgraphs.hardware.services import HardwareServices
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.database import Database
from subgraphs.runtime.graphql import GraphQLContext


@dataclass(kw_only=True)
class HardwareContext(GraphQLContext):
    """Services, database and the loaders of this request."""

    services: HardwareServices
    database: Database
    devices: DeviceLoaders
    cartridges: CartridgeLoaders
    calibrations: CalibrationLoaders

    @classmethod
    def of(cls, request: RequestContext, services: HardwareServices, database: Database) -> "HardwareContext":
        """A context with fresh loaders: nothing is remembered from one request to the next."""
        principal = request.principal
        return cls(
            request=request,
            services=services,
            database=database,
            devices=DeviceLoaders(services, database, principal),
            cartridges=CartridgeLoaders(services, database, principal),
            calibrations=CalibrationLoaders(services, database, principal),
        )


Info = strawberry.Info[HardwareContext, None]
