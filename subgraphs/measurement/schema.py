"""The group's GraphQL schema."""

import strawberry

from subgraphs.measurement.measurement.schema import (
    Cartridge,
    Device,
    Measurement,
    MeasurementMutation,
    MeasurementQuery,
    MeasurementSession,
    MeasurementSubscription,
    User,
)
from subgraphs.runtime.graphql import build_schema


@strawberry.type(description="What can be asked about measurements.")
class Query(MeasurementQuery):
    pass


@strawberry.type(description="Starting and ending measurement sessions.")
class Mutation(MeasurementMutation):
    pass


@strawberry.type(description="Measurements as they happen.")
class Subscription(MeasurementSubscription):
    pass


schema = build_schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[User, Device, Cartridge, MeasurementSession, Measurement],
)
