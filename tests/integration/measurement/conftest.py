"""measurement-service as the host serves it, on a database of the test's own, before hardware on a real socket."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
import pytest
from fakeredis import FakeAsyncRedis
from manpasik.v1 import measurement_pb2 as pb
from manpasik.v1.measurement_pb2_grpc import MeasurementServiceStub

from domain.catalog import Group
from domain.clock import Clock
from domain.ids import UserId
from domain.principal import ANONYMOUS, ROLE_SCOPES, Principal, PrincipalKind, Role
from domain.sealing import Sealer
from subgraphs.measurement.group import build
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.clients import Channels, client_factory
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import GroupFaces, GroupResources
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.objects import object_store
from subgraphs.runtime.settings import ObjectSettings, ServiceSettings, Settings
from tests.integration.measurement.hardware import Hardware, serve
from tests.support.postgres import DatabaseFor
from tests.support.trust import service_tokens

USER = "018f0000-0000-7000-8000-000000000001"
OTHER = "018f0000-0000-7000-8000-000000000002"
DEVICE = "reader-1"
CARTRIDGE = "cart-1"


def user(user_id: str = USER, role: Role = Role.USER) -> Principal:
    scopes = frozenset(scope.value for scope in ROLE_SCOPES[role])
    return Principal(kind=PrincipalKind.USER, subject=user_id, role=role, scopes=scopes)


def device(device_id: str = DEVICE, owner: str = USER) -> Principal:
    return Principal(kind=PrincipalKind.DEVICE, subject=device_id, owner=UserId(owner))


class NamedPrincipals(Authenticator):
    """Believes `user:<id>` and `device:<id>:<owner>`: how tokens are checked is the runtime's own test."""

    def __init__(self) -> None:
        super().__init__({}, services=service_tokens(), devices=None)

    async def principal(self, authorization: str, *, callee: str = "") -> Principal:
        match authorization.split(":"):
            case ["user", user_id]:
                return user(user_id)
            case ["device", device_id, owner]:
                return device(device_id, owner)
            case _:
                return ANONYMOUS


class MovableClock:
    """The machine's clock, which a test may set ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Measurement:
    """The running service, and how tests speak to it."""

    faces: GroupFaces
    database: Database
    hardware: Hardware
    clock: MovableClock
    channel: grpc.aio.Channel
    stub: "MeasurementServiceStub"
    port: int
    sealer: Sealer

    async def start(self, who: str = f"user:{USER}", **fields: Any) -> str:
        request = pb.StartSessionRequest(**{"device_id": DEVICE, "cartridge_id": CARTRIDGE, "user_id": USER} | fields)
        response = await self.stub.StartSession(request, metadata=as_(who))
        return response.session_id

    async def stream(
        self, frames: Sequence[pb.MeasurementData], who: str = f"user:{USER}"
    ) -> list[pb.MeasurementResult]:
        """All answers to frames that are sent at once."""

        async def requests() -> AsyncIterator[pb.MeasurementData]:
            for one in frames:
                yield one

        return [answer async for answer in self.stub.StreamMeasurement(requests(), metadata=as_(who))]

    async def end(self, session_id: str, who: str = f"user:{USER}") -> pb.EndSessionResponse:
        return await self.stub.EndSession(pb.EndSessionRequest(session_id=session_id), metadata=as_(who))

    async def fetch(self, statement: str, *values: object) -> list[Any]:
        async with self.database.raw() as connection:
            return list(await connection.fetch(statement, *values))


def as_(who: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", who),) if who else ()


BASE_US = int(datetime.now(UTC).timestamp() - 900) * 1_000_000
"""A quarter of an hour before the tests began: a time that the platform believes."""


def frame(
    session_id: str,
    number: int = 0,
    *,
    level: float = 1.234,
    s_ref: float = 0.012,
    channels: int = 88,
    raw: Sequence[float] | None = None,
    timed: bool = True,
    env: tuple[float, float] | None = None,
) -> pb.MeasurementData:
    """Frame `number` of a session, all channels at one level unless `raw` says otherwise."""
    message = pb.MeasurementData(
        session_id=session_id,
        raw_channels=[level] * channels if raw is None else raw,
        differential=pb.DifferentialCorrection(s_det=level, s_ref=s_ref, alpha=0.5),
        env_meta=None if env is None else pb.EnvironmentMeta(temp_c=env[0], humidity_pct=env[1], pressure_kpa=101.3),
    )
    if timed:
        message.timestamp.FromMicroseconds(BASE_US + number * 1_000_000)
    return message


@asynccontextmanager
async def running(
    database: Database,
    sealer: Sealer,
    hardware: Hardware,
    clock: MovableClock | Clock,
    tmp: str,
    **service: Any,
) -> AsyncIterator[Measurement]:
    """measurement-service on a free port; `service` differs from the default settings."""
    hardware_server, port = await serve(hardware)
    address = f"127.0.0.1:{port}"
    settings = Settings(
        service=ServiceSettings.model_validate({"GRPC_AUTH": "permissive"} | service),
        objects=ObjectSettings(directory=tmp),
        addresses={f"{name}_SERVICE_ADDR": address for name in ("DEVICE", "CARTRIDGE", "CALIBRATION")},
    )
    channels = Channels(settings)
    redis = FakeAsyncRedis()
    faces = await build(
        GroupResources(
            settings=settings,
            database=database,
            sealer=sealer,
            redis=redis,
            limiter=RateLimiter(redis),
            objects=object_store(settings),
            clients=client_factory(channels, service_tokens()),
            clock=clock,
        )
    )
    servicers = faces.services[0].servicers
    access = access_of("measurement", servicers, NamedPrincipals(), settings.service)
    server = GrpcServer("127.0.0.1:0", servicers, access, settings.service)
    port = await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        yield Measurement(
            faces=faces,
            database=database,
            hardware=hardware,
            clock=clock,  # type: ignore[arg-type]  # tests that move it pass a movable one
            channel=channel,
            stub=MeasurementServiceStub(channel),
            port=port,
            sealer=sealer,
        )
    finally:
        await channel.close()
        await server.stop(0.5)
        await faces.close()
        await channels.close()
        await hardware_server.stop(0.5)
        await redis.aclose()


@pytest.fixture
def hardware() -> Hardware:
    """A reader of USER's and a glucose cartridge; a calibration that leaves signals as they are, in mg/dL."""
    found = Hardware()  # type: ignore[abstract]  # what measurement never calls stays unimplemented
    found.register(DEVICE, USER)
    found.read(CARTRIDGE, alpha=0.95)
    found.calibrate(DEVICE, alpha=0.9, channel_gains=[1.0], channel_offsets=[0.0])
    return found


@pytest.fixture
async def measurement(
    database_for: DatabaseFor, sealer: Sealer, hardware: Hardware, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Measurement]:
    database = await database_for(Group.MEASUREMENT)
    folder = str(tmp_path_factory.mktemp("objects"))
    async with running(database, sealer, hardware, MovableClock(), folder) as service:
        yield service
