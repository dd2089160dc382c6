"""The hardware subgraph: what device, cartridge and calibration show, put together."""

import strawberry

from subgraphs.hardware.calibration.schema import Calibration, CalibrationMutation, CalibrationQuery
from subgraphs.hardware.cartridge.schema import Cartridge, CartridgeMutation, CartridgeQuery, CartridgeType
from subgraphs.hardware.device.schema import Device, DeviceMutation, DeviceQuery, User
from subgraphs.runtime.graphql import build_schema


@strawberry.type
class Query(DeviceQuery, CartridgeQuery, CalibrationQuery):
    """Everything that can be asked of the group."""


@strawberry.type
class Mutation(DeviceMutation, CartridgeMutation, CalibrationMutation):
    """Everything that can be changed in the group."""


schema = build_schema(Query, Mutation, types=[User, Device, Cartridge, CartridgeType, Calibration])
