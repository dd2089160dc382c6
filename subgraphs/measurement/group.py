"""Puts the measurement group together: service, faces, background work."""

from datetime import timedelta

from manpasik.v1 import measurement_pb2_grpc

from domain.catalog import Group
from domain.measurement.measurement.ingest import FrameWriter
from domain.measurement.measurement.service import MeasurementService
from domain.measurement.measurement.start import SessionStarter
from subgraphs.measurement.context import MeasurementContext
from subgraphs.measurement.measurement.adapters.frame_store import PostgresFrameStore
from subgraphs.measurement.measurement.adapters.hardware import GrpcHardware
from subgraphs.measurement.measurement.adapters.partitions import ensure_partitions, keep_partitions
from subgraphs.measurement.measurement.adapters.pgvector_index import PgVectorIndex
from subgraphs.measurement.measurement.background import keep_sweeping
from subgraphs.measurement.measurement.consumers import calibration_completed, result_units_chosen
from subgraphs.measurement.measurement.loaders import page_loader, session_loader, units_loader
from subgraphs.measurement.measurement.servicer import FULL_NAME, MeasurementServicer
from subgraphs.measurement.schema import schema
from subgraphs.runtime.account_proof import account_proof_consumer
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.faces import Background, GroupFaces, GroupResources, GrpcServicer, ServiceFaces


async def build(resources: GroupResources) -> GroupFaces:
    """The group's faces; makes the partitions that the first frames need."""
    settings, database, clock = resources.settings.service, resources.database, resources.clock
    await ensure_partitions(database, clock.now())
    idle_timeout = timedelta(seconds=settings.session_idle_timeout_seconds)
    service = MeasurementService(
        clock,
        resources.sealer,
        PgVectorIndex(),
        idle_timeout=idle_timeout,
        takes_stored_frames=settings.offline_mode_enabled,
    )
    starter = SessionStarter(
        GrpcHardware(resources.clients("measurement")),
        database.transaction,
        clock,
        default_alpha=settings.default_alpha,
        allow_unverified=settings.allows_unverified_sessions,
        idle_timeout=idle_timeout,
    )
    store = PostgresFrameStore(database)
    writer = FrameWriter(store, resources.sealer, clock, dimension=settings.max_fingerprint_dimension)
    servicer = MeasurementServicer(starter, service, writer, database)

    def graphql_context(request: RequestContext) -> MeasurementContext:
        return MeasurementContext(
            request=request,
            starter=starter,
            service=service,
            database=database,
            sessions=session_loader(service, database, request.principal),
            pages=page_loader(service, database, request.principal),
            units=units_loader(service, database),
        )

    return GroupFaces(
        group=Group.MEASUREMENT,
        services=(
            ServiceFaces(
                name="measurement",
                servicers=(
                    GrpcServicer(
                        full_name=FULL_NAME,
                        register=lambda server: measurement_pb2_grpc.add_MeasurementServiceServicer_to_server(
                            servicer, server
                        ),
                    ),
                ),
                consumers=(
                    calibration_completed(service),
                    result_units_chosen(service),
                    account_proof_consumer("measurement", service.drop),
                ),
                background=(
                    Background("idle sessions", lambda: keep_sweeping(service, database)),
                    Background("frame partitions", lambda: keep_partitions(database, clock)),
                ),
            ),
        ),
        schema=schema,
        graphql_context=graphql_context,
        close=writer.stop,
    )
