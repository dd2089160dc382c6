"""The factory's imports over gRPC: lots and cartridges, and readers."""

from manpasik.internal.v1 import factory_pb2 as pb
from manpasik.internal.v1 import factory_pb2_grpc as pb_grpc

from subgraphs.hardware.services import HardwareServices
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database


class CartridgeFactoryServicer(pb_grpc.CartridgeFactoryServicer):
    """manpasik.internal.v1.CartridgeFactory, for the factory's service only."""

    def __init__(self, services: HardwareServices, database: Database) -> None:
        self._lots = services.lots
        self._database = database

    async def ImportLots(  # noqa: N802 - the name of the wire
        self, request: pb.ImportLotsRequest, _context: object
    ) -> pb.ImportLotsResponse:
        async with self._database.transaction() as session:
            done = await self._lots.import_file(session, current().principal, request.csv, replace=request.replace)
        return pb.ImportLotsResponse(
            lots_added=done.lots_added,
            cartridges_added=done.cartridges_added,
            replaced=done.replaced,
            unchanged=done.unchanged,
        )


class DeviceFactoryServicer(pb_grpc.DeviceFactoryServicer):
    """manpasik.internal.v1.DeviceFactory, for the factory's service only."""

    def __init__(self, services: HardwareServices, database: Database) -> None:
        self._records = services.device_records
        self._database = database

    async def ImportDevices(  # noqa: N802 - the name of the wire
        self, request: pb.ImportDevicesRequest, _context: object
    ) -> pb.ImportDevicesResponse:
        async with self._database.transaction() as session:
            done = await self._records.import_file(session, current().principal, request.csv, replace=request.replace)
        return pb.ImportDevicesResponse(added=done.added, replaced=done.replaced, unchanged=done.unchanged)
