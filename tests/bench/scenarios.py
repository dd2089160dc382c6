"""What is measured. Each scenario prepares its own people, readers and sessions over the public interfaces."""

import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp
import grpc.aio
import numpy as np
import psutil
from google.protobuf.timestamp_pb2 import Timestamp
from manpasik.v1 import auth_pb2, auth_pb2_grpc, device_pb2, device_pb2_grpc, measurement_pb2, measurement_pb2_grpc

from devices.client.credentials import fixed_token
from devices.client.platform import Platform as ReaderPlatform
from devices.client.platform import PlatformAddresses
from devices.simulator.fleet import Fleet, FleetAccess, FleetPlan
from devices.simulator.traces import load_trace, packaged_subjects
from subgraphs.runtime.settings import Settings
from tests.bench.commerce import notifications, orders
from tests.bench.events import events
from tests.bench.load import Result, closed_loop
from tests.support.furnish import FACTORY
from tests.support.platform import ADMIN, PASSWORD, Platform

_CHANNELS_A_CONNECTION = 25  # callers that share an HTTP/2 connection

ONE_SUBGRAPH = "{ me { id displayName language } }"
THREE_SUBGRAPHS = """{ me { displayName
  devices(first: 3) { edges { node { id status } } }
  measurements(first: 5) { edges { node { value unit session { device { firmwareVersion } } } } } } }"""


@dataclass
class Bench:
    """A running platform and who was signed up on it."""

    platform: Platform
    services: psutil.Process
    router: psutil.Process
    connections: list[grpc.aio.Channel] = field(default_factory=list)

    def channels(self, service: str, callers: int) -> list[grpc.aio.Channel]:
        """A channel for each caller; some share a connection, as callers behind one gateway do."""
        wanted = -(-callers // _CHANNELS_A_CONNECTION)
        made = [
            grpc.aio.insecure_channel(self.platform.address(service), options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(wanted)
        ]
        self.connections += made
        return list(itertools.islice(itertools.cycle(made), callers))

    async def close(self) -> None:
        """Close the connections of the scenario."""
        for connection in self.connections:
            await connection.close()
        self.connections.clear()

    async def person(self) -> tuple[str, str, str]:
        """A new account: its address, user id and access token."""
        email = f"bench-{uuid4().hex}@bench.example"
        (channel,) = self.channels("auth", 1)
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        registered = await auth.Register(auth_pb2.RegisterRequest(email=email, password=PASSWORD), timeout=30)
        return email, registered.user_id, await self.token(email, PASSWORD)

    async def token(self, email: str, password: str) -> str:
        (channel,) = self.channels("auth", 1)
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        login = await auth.Login(auth_pb2.LoginRequest(email=email, password=password), timeout=30)
        return login.access_token

    async def reader(self, user_id: str, token: str) -> str:
        """A registered reader of a person."""
        (channel,) = self.channels("device", 1)
        device_id = f"bench-{uuid4().hex[:16]}"
        await device_pb2_grpc.DeviceServiceStub(channel).RegisterDevice(
            device_pb2.RegisterDeviceRequest(
                device_id=device_id, serial_number=device_id, firmware_version="1.0.0", user_id=user_id
            ),
            metadata=(("authorization", f"Bearer {token}"),),
            timeout=30,
        )
        return device_id


async def frames(bench: Bench, seconds: float, readers: int, *, channels: int) -> list[Result]:
    """Durable frames: every reader sends a frame, waits for its answer, and sends the next."""
    _, user_id, token = await bench.person()
    metadata = (("authorization", f"Bearer {token}"),)
    device_id = await bench.reader(user_id, token)
    streams = []
    raw = np.random.default_rng(1).normal(50.0, 2.0, (32, channels)).tolist()
    for channel in bench.channels("measurement", readers):
        stub = measurement_pb2_grpc.MeasurementServiceStub(channel)
        started = await stub.StartSession(
            measurement_pb2.StartSessionRequest(device_id=device_id, cartridge_id="bench", user_id=user_id),
            metadata=metadata,
            timeout=30,
        )
        streams.append((started.session_id, stub.StreamMeasurement(metadata=metadata)))
    clock = itertools.count(time.time_ns() // 1000)

    def step(
        session_id: str,
        stream: "grpc.aio.StreamStreamCall[measurement_pb2.MeasurementData, measurement_pb2.MeasurementResult]",
    ) -> Callable[[], Awaitable[None]]:
        numbers = itertools.count()

        async def send() -> None:
            micros = next(clock)
            frame = measurement_pb2.MeasurementData(
                session_id=session_id,
                raw_channels=raw[next(numbers) % len(raw)],
                differential=measurement_pb2.DifferentialCorrection(s_det=50.0, s_ref=2.0, alpha=0.95),
                env_meta=measurement_pb2.EnvironmentMeta(temp_c=24.0, humidity_pct=45.0, pressure_kpa=101.3),
                timestamp=Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000),
            )
            await stream.write(frame)
            answer = await stream.read()
            if answer is grpc.aio.EOF:
                raise RuntimeError(f"the stream of {session_id} ended: {await stream.details()}")

        return send

    steps = [step(session_id, stream) for session_id, stream in streams]
    result = await closed_loop(f"frames of {channels} channels", steps, seconds=seconds, processes=[bench.services])
    for _, stream in streams:
        stream.cancel()
    return [result]


async def frames_88(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """`frames` of 88 channels."""
    return await frames(bench, seconds, readers, channels=88)


async def frames_896(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """`frames` of 896 channels."""
    return await frames(bench, seconds, readers, channels=896)


async def start_session(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """StartSession on a registered reader, with its checks at the hardware services."""
    _, user_id, token = await bench.person()
    device_id = await bench.reader(user_id, token)
    request = measurement_pb2.StartSessionRequest(device_id=device_id, cartridge_id="bench", user_id=user_id)
    metadata = (("authorization", f"Bearer {token}"),)

    def step(channel: grpc.aio.Channel) -> Callable[[], Awaitable[None]]:
        stub = measurement_pb2_grpc.MeasurementServiceStub(channel)

        async def start() -> None:
            await stub.StartSession(request, metadata=metadata, timeout=30)

        return start

    steps = [step(channel) for channel in bench.channels("measurement", min(readers, 32))]
    return [await closed_loop("StartSession", steps, seconds=seconds, processes=[bench.services])]


async def login(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """Login with the right password: the cost of Argon2id is on purpose."""
    people = [await bench.person() for _ in range(min(readers, 8))]

    def step(email: str, channel: grpc.aio.Channel) -> Callable[[], Awaitable[None]]:
        stub = auth_pb2_grpc.AuthServiceStub(channel)

        async def sign_in() -> None:
            await stub.Login(auth_pb2.LoginRequest(email=email, password=PASSWORD), timeout=30)

        return sign_in

    channels = bench.channels("auth", len(people))
    steps = [step(email, channel) for (email, _, _), channel in zip(people, channels, strict=True)]
    return [await closed_loop("Login", steps, seconds=seconds, processes=[bench.services])]


async def graphql(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """Queries through the router: of one subgraph, and joined from three, over really measured data."""
    _, user_id, token = await bench.person()
    await _measure_some(bench, token, user_id)
    url = f"http://127.0.0.1:{bench.platform.plan.router_port}/graphql"
    headers = {"authorization": f"Bearer {token}"}
    results = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
        for name, query in (("query, one subgraph", ONE_SUBGRAPH), ("query, three subgraphs", THREE_SUBGRAPHS)):
            steps = [_question(http, url, query)] * min(readers, 20)
            results.append(await closed_loop(name, steps, seconds=seconds, processes=[bench.services, bench.router]))
    return results


def _question(http: aiohttp.ClientSession, url: str, query: str) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        async with http.post(url, json={"query": query}) as response:
            answer = await response.json()
        if answer.get("errors"):
            raise RuntimeError(f"the router answered with errors: {answer['errors']}")

    return ask


async def _measure_some(bench: Bench, token: str, user_id: str) -> None:
    technician = await bench.token(ADMIN["BOOTSTRAP_ADMIN_EMAIL"], ADMIN["BOOTSTRAP_ADMIN_PASSWORD"])
    addresses = PlatformAddresses(
        **{name: bench.platform.address(name) for name in ("device", "measurement", "cartridge", "calibration")}
    )
    plan = FleetPlan(
        readers=3,
        readings_per_reader=5,
        reading_interval_s=0.0,
        device_prefix=f"bench-{uuid4().hex[:8]}",
        lot=FACTORY.lot,
    )
    access = FleetAccess(owner=fixed_token(token), technician=fixed_token(technician), owner_id=user_id)
    async with ReaderPlatform(addresses) as readers:
        await Fleet(readers, access, [load_trace(subject) for subject in packaged_subjects()], plan).run()


async def committed_events(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """Events per second from commit to consumer, with their lag."""
    return await events(Settings.load(bench.platform.plan.external), seconds)


async def paid_orders(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """Orders through the graph, from the cart until they are paid."""
    url = f"http://127.0.0.1:{bench.platform.plan.router_port}/graphql"
    tokens = [(await bench.person())[2] for _ in range(min(readers, 16))]
    admin = await bench.token(ADMIN["BOOTSTRAP_ADMIN_EMAIL"], ADMIN["BOOTSTRAP_ADMIN_PASSWORD"])
    settings = Settings.load(bench.platform.plan.external)
    return await orders(
        url, settings, tokens=tokens, admin=admin, seconds=seconds, processes=[bench.services, bench.router]
    )


async def told_people(bench: Bench, seconds: float, readers: int) -> list[Result]:
    """Notifications from the commit of an event to the inbox."""
    settings = Settings.load(bench.platform.plan.external)
    return await notifications(settings, seconds=seconds, processes=[bench.services])


Scenario = Callable[[Bench, float, int], Awaitable[list[Result]]]


def _closing(scenario: Scenario) -> Scenario:
    async def run(bench: Bench, seconds: float, readers: int) -> list[Result]:
        try:
            return await scenario(bench, seconds, readers)
        finally:
            await bench.close()

    return run


SCENARIOS: dict[str, Scenario] = {
    "frames-88": _closing(frames_88),
    "frames-896": _closing(frames_896),
    "start-session": _closing(start_session),
    "login": _closing(login),
    "graphql": _closing(graphql),
    "events": _closing(committed_events),
    "orders": _closing(paid_orders),
    "notifications": _closing(told_people),
}
