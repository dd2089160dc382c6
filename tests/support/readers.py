"""People with readers for end-to-end tests: accounts, registered and calibrated readers, cartridges, raw frames."""

import datetime as dt
import itertools
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import grpc.aio
from manpasik.v1 import auth_pb2, auth_pb2_grpc, calibration_pb2, cartridge_pb2

from devices.client.credentials import Metadata, fixed_token
from devices.client.platform import Platform as ReaderSide
from devices.client.reader import ClientPolicy, ReaderClient, SessionPlan
from devices.client.retry import Backoff, CallPolicy
from devices.client.session import StreamPolicy
from devices.frame import RawFrame
from devices.nfc_tag import encode_v2
from devices.simulator.fleet import GLUCOSE_CATEGORY, GLUCOSE_TYPE, glucose_tag
from devices.simulator.forward_model import CHANNEL_COUNTS, ForwardModel, SimulatedReader
from tests.support.furnish import FACTORY
from tests.support.platform import ADMIN, PASSWORD, Platform

_times_us = itertools.count(1)


def unique(name: str) -> str:
    """A name that no other test of the run uses."""
    return f"{name}-{uuid4().hex[:8]}-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in."""

    user_id: str
    email: str
    token: str = field(repr=False)

    @property
    def metadata(self) -> Metadata:
        return (("authorization", f"Bearer {self.token}"),)


async def sign_up(platform: Platform, name: str = "person") -> Person:
    """A new person, signed in."""
    email = f"{unique(name)}@e2e.example"
    async with platform.channel("auth") as channel:
        registered = await auth_pb2_grpc.AuthServiceStub(channel).Register(
            auth_pb2.RegisterRequest(email=email, password=PASSWORD, display_name=name), timeout=30
        )
    return Person(registered.user_id, email, await sign_in(platform, email, PASSWORD))


async def sign_in(platform: Platform, email: str, password: str) -> str:
    """An access token."""
    async with platform.channel("auth") as channel:
        answer = await auth_pb2_grpc.AuthServiceStub(channel).Login(
            auth_pb2.LoginRequest(email=email, password=password), timeout=30
        )
    return answer.access_token


async def technician(platform: Platform) -> str:
    """A token of somebody who may record factory calibrations."""
    return await sign_in(platform, ADMIN["BOOTSTRAP_ADMIN_EMAIL"], ADMIN["BOOTSTRAP_ADMIN_PASSWORD"])


def eager_policy(*, give_up_after_s: float = 90.0) -> ClientPolicy:
    """Tries again soon, so that a test need not wait long after an outage."""
    backoff = Backoff(initial_s=0.1, max_s=1.0)
    return ClientPolicy(
        calls=CallPolicy(try_timeout_s=5.0, give_up_after_s=give_up_after_s, backoff=backoff),
        stream=StreamPolicy(answer_timeout_s=5.0, give_up_after_s=give_up_after_s, backoff=backoff),
    )


@dataclass(slots=True)
class Reader:
    """A registered and calibrated glucose reader with a cartridge in it."""

    client: ReaderClient
    device_id: str
    cartridge_uid: str
    model: ForwardModel
    signal: SimulatedReader

    @property
    def plan(self) -> SessionPlan:
        return SessionPlan(
            cartridge_id=self.cartridge_uid, cartridge_category=GLUCOSE_CATEGORY, cartridge_type_index=GLUCOSE_TYPE
        )

    def frames(self, glucose_mg_dl: float, count: int) -> Iterator[RawFrame]:
        """Raw frames of a glucose value, each with a time of its own, just before now."""
        return frames_of(self.signal, glucose_mg_dl, count)


def frames_of(signal: SimulatedReader, glucose_mg_dl: float, count: int) -> Iterator[RawFrame]:
    """Frames of a simulated reader, made one at a time."""
    started = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - the simulator's wall clock
    for _ in range(count):
        [frame] = signal.measure(glucose_mg_dl, started, frames=1)
        # The counter keeps frames apart that are made within a microsecond.
        yield frame.retimed(time.time_ns() // 1000 + next(_times_us))


async def read_cartridge(side: ReaderSide, person: Person, model: ForwardModel, *, uses: int) -> str:
    """The platform's id of a fresh glucose cartridge whose tag was read."""
    tag = FACTORY.lot.sign(glucose_tag(model, uses=uses, today=dt.datetime.now(dt.UTC).date()))
    detail = await side.cartridges.ReadCartridge(
        cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=encode_v2(tag), tag_version=2),
        metadata=person.metadata,
        timeout=30,
        wait_for_ready=True,
    )
    assert detail.is_valid, detail.validation_message
    assert detail.remaining_uses == uses
    return detail.cartridge_uid


async def new_reader(
    side: ReaderSide, person: Person, technician_token: str, *, uses: int = 10, seed: int | None = None
) -> Reader:
    """A reader from the box: registered, with its factory calibration and a fresh cartridge."""
    model = ForwardModel(channels=CHANNEL_COUNTS[0], seed=secrets.randbelow(2**31) if seed is None else seed)
    device_id = unique("reader")
    client = ReaderClient(side, policy=eager_policy())
    await client.register(device_id, f"SN-{device_id}", "1.0.0", access_token=fixed_token(person.token))
    await calibrate(side, technician_token, device_id, model)
    cartridge_uid = await read_cartridge(side, person, model, uses=uses)
    return Reader(client, device_id, cartridge_uid, model, model.reader())


async def calibrate(side: ReaderSide, technician_token: str, device_id: str, model: ForwardModel) -> None:
    """Record what the factory knows of the reader."""
    found = model.calibration()
    await side.calibrations.RegisterFactoryCalibration(
        calibration_pb2.RegisterFactoryCalibrationRequest(
            device_id=device_id,
            cartridge_category=GLUCOSE_CATEGORY,
            cartridge_type_index=GLUCOSE_TYPE,
            alpha=found.alpha,
            channel_offsets=found.channel_offsets.tolist(),
            channel_gains=found.channel_gains.tolist(),
            temp_coefficient=found.temp_coefficient,
            humidity_coefficient=found.humidity_coefficient,
            reference_standard="simulated glucose solution",
            calibrated_by="end-to-end test",
        ),
        metadata=(("authorization", f"Bearer {technician_token}"),),
        timeout=30,
        wait_for_ready=True,
    )


async def remaining_uses(side: ReaderSide, person: Person, cartridge_uid: str) -> int:
    """What the platform has left on the cartridge."""
    answer = await side.cartridges.GetRemainingUses(
        cartridge_pb2.GetRemainingUsesRequest(cartridge_uid=cartridge_uid),
        metadata=person.metadata,
        timeout=30,
        wait_for_ready=True,
    )
    return answer.remaining_uses


def status_of(error: grpc.aio.AioRpcError) -> str:
    """The name of the status, for messages of tests."""
    return f"{error.code().name}: {error.details()}"
