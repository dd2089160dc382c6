"""A fleet of simulated readers that replays real glucose traces against a running platform.

Each reader is registered, gets its factory calibration recorded, reads the tag of a fresh cartridge and then runs one
session per glucose reading: the forward model makes the raw frames, the platform answers each with a value, and the
median of these is compared with the true one. The cartridge is replaced when its uses are spent.

Frames carry the time at which they are sent, not that of the trace (see `devices.simulator.traces`); drift and time
of day in the forward model follow the trace.
"""

import asyncio
import datetime as dt
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import grpc
import structlog
from manpasik.v1 import calibration_pb2, cartridge_pb2, device_pb2

from devices.client.credentials import AccessToken, bearer_metadata
from devices.client.errors import CallRejected, ClientError
from devices.client.heartbeat import Command, CommandHandler, ReaderHealth
from devices.client.platform import Platform
from devices.client.reader import ClientPolicy, ReaderClient, SessionPlan
from devices.client.retry import CallPolicy, call_unary
from devices.client.session import StreamPolicy
from devices.errors import DeviceError
from devices.frame import RawFrame
from devices.nfc_signature import Ed25519Lot
from devices.nfc_tag import TagV2, encode_v2
from devices.simulator.forward_model import ForwardModel
from devices.simulator.mard import MardUndefined
from devices.simulator.traces import GlucoseReading, GlucoseTrace

_log = structlog.get_logger(__name__)

GLUCOSE_CATEGORY = 0x01
GLUCOSE_TYPE = 0x01
GLUCOSE_UNIT = "mg/dL"
SIMULATED_LOT = "SIM00001"

# After a restart the platform may have ended the session, or counted uses that this side did not see ...
_ABOUT_THE_CARTRIDGE = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND})
# ... and it may be too busy for the moment. Both end; a real refusal does not.
_PASSING = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED})
_SETBACKS = 5
_SETBACK_PAUSE_S = 1.0


class CartridgeNotUsable(DeviceError):
    """The platform does not accept a freshly made cartridge."""


class ValueNotGlucose(DeviceError):
    """The platform answered in another unit: it did not find the reader's calibration or the cartridge's type."""

    def __init__(self, device_id: str, unit: str) -> None:
        super().__init__(f"reader {device_id}: the platform answered in {unit!r}, not in {GLUCOSE_UNIT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAccess:
    """In whose name the fleet acts: the owner of the readers, and a technician who may record calibrations."""

    owner: AccessToken
    technician: AccessToken
    owner_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """What the fleet does.

    Args:
        readers: how many; reader i replays trace i, in turn when there are fewer traces.
        model: of the first reader; the others differ in their seed.
        reading_interval_s: from the start of a reading to that of the next, per reader; 0 = as fast as possible.
        frame_interval_s: between the frames of a reading.
        readings_per_reader: where to stop; None = at the end of the trace.
        repeat: begin the trace again at its end, until cancelled or the readings are done.
        lot: signs the tags of cartridges; None = they are not signed, and measurements are unverified.
        claim_codes: code that is shown on a reader, by its device id; for platforms that know their readers.
    """

    readers: int = 3
    model: ForwardModel = field(default_factory=ForwardModel)
    frames_per_reading: int = 5
    reading_interval_s: float = 1.0
    frame_interval_s: float = 0.0
    readings_per_reader: int | None = None
    repeat: bool = False
    uses_per_cartridge: int = 100
    device_prefix: str = "sim-reader"
    firmware_version: str = "1.0.0"
    lot: Ed25519Lot | None = None
    claim_codes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredReading:
    """A true value and what the platform made of its frames. ``measured_at`` is the trace's wall clock.

    ``recovered_mg_dl`` is NaN when the platform found no value that can be trusted in most of the frames.
    """

    device_id: str
    session_id: str
    subject: str
    measured_at: dt.datetime
    true_mg_dl: float
    recovered_mg_dl: float


@dataclass(slots=True)
class FleetProgress:
    """Counts so far. ``setbacks`` are sessions begun anew because the platform had lost or ended them.

    ``invalid_readings`` are those of ``readings`` that the platform gave no value for; they are in no error figure.
    """

    readers_ready: int = 0
    readings: int = 0
    frames: int = 0
    setbacks: int = 0
    invalid_readings: int = 0
    relative_error_sum: float = 0.0

    @property
    def mard_percent(self) -> float:
        """As `devices.simulator.mard.mard_percent` over the readings with a value. Raises MardUndefined: there are none."""
        valid = self.readings - self.invalid_readings
        if valid == 0:
            raise MardUndefined("there are no readings with a value yet")
        return 100.0 * self.relative_error_sum / valid


def patient_policy() -> ClientPolicy:
    """Waits for the platform as long as it takes: a fleet outlives any restart, and is stopped by cancelling it."""
    return ClientPolicy(
        calls=CallPolicy(give_up_after_s=math.inf), stream=StreamPolicy(give_up_after_s=math.inf, answer_timeout_s=10.0)
    )


def glucose_tag(model: ForwardModel, *, uses: int, today: dt.date) -> TagV2:
    """The tag of a new glucose cartridge for this model, with a random uid, valid for a year."""
    return TagV2(
        cartridge_uid=secrets.token_hex(8).upper(),
        category=GLUCOSE_CATEGORY,
        type_index=GLUCOSE_TYPE,
        legacy_code=0x01,
        lot_id=SIMULATED_LOT,
        expires_on=today + dt.timedelta(days=365),
        remaining_uses=uses,
        max_uses=uses,
        required_channels=model.channels,
        measurement_s=5,
        alpha=model.alpha,
        temp_coefficient=model.temp_coefficient,
        humidity_coefficient=model.humidity_coefficient,
    )


def device_id_of(prefix: str, number: int) -> str:
    """The id of the reader of a fleet with this number, from 0."""
    return f"{prefix}-{number + 1:03d}"


def serial_number_of(device_id: str) -> str:
    """The serial number that is shown on a simulated reader."""
    return f"SN-{device_id.upper()}"


def _recovered(values: Sequence[float]) -> float:
    """The median of the values of a reading's frames; NaN unless most frames have one: NaN has no order to sort by."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if len(finite) * 2 > len(values) else math.nan


class Fleet:
    """Runs the plan; see `run`.

    Args:
        on_reading: called after each reading, in the event loop; must not block.
        on_progress: called after each reading and when a reader is ready.
    """

    def __init__(
        self,
        platform: Platform,
        access: FleetAccess,
        traces: Sequence[GlucoseTrace],
        plan: FleetPlan | None = None,
        *,
        policy: ClientPolicy | None = None,
        on_reading: Callable[[RecoveredReading], None] | None = None,
        on_progress: Callable[[FleetProgress], None] | None = None,
    ) -> None:
        self.plan = plan or FleetPlan()
        self.progress = FleetProgress()
        self._on_reading = on_reading
        self._on_progress = on_progress
        self._readers = [
            _FleetReader(
                device_id_of(self.plan.device_prefix, number),
                ReaderClient(platform, policy=policy or patient_policy()),
                platform=platform,
                access=access,
                trace=traces[number % len(traces)],
                model=replace(self.plan.model, seed=self.plan.model.seed + number),
                fleet=self,
            )
            for number in range(self.plan.readers)
        ]

    async def run(self) -> FleetProgress:
        """Replay until the traces or the wanted readings are done, or until cancelled; gives the final counts.

        Restarts of the platform are waited out.

        Raises:
            ExceptionGroup: of CallRejected (a token or reader is refused), CartridgeNotUsable, ValueNotGlucose; the
                first failing reader stops the others.
        """
        async with asyncio.TaskGroup() as group:
            for reader in self._readers:
                group.create_task(reader.run(), name=f"fleet-{reader.device_id}")
        return self.progress

    def note_ready(self) -> None:
        self.progress.readers_ready += 1
        if self._on_progress:
            self._on_progress(self.progress)

    def note_setback(self) -> None:
        self.progress.setbacks += 1

    def note_reading(self, reading: RecoveredReading) -> None:
        self.progress.readings += 1
        self.progress.frames += self.plan.frames_per_reading
        if math.isfinite(reading.recovered_mg_dl):
            error = abs(reading.recovered_mg_dl - reading.true_mg_dl) / reading.true_mg_dl
            self.progress.relative_error_sum += error
        else:
            self.progress.invalid_readings += 1
        if self._on_reading:
            self._on_reading(reading)
        if self._on_progress:
            self._on_progress(self.progress)


class _FleetReader:
    """One reader of a fleet."""

    def __init__(
        self,
        device_id: str,
        client: ReaderClient,
        *,
        platform: Platform,
        access: FleetAccess,
        trace: GlucoseTrace,
        model: ForwardModel,
        fleet: Fleet,
    ) -> None:
        self.device_id = device_id
        self._client = client
        self._platform = platform
        self._access = access
        self._trace = trace
        self._model = model
        self._fleet = fleet
        self._cartridge_uid = ""
        self._uses_left = 0
        self._last_us = 0
        self._measuring = False
        self._battery_percent = 100.0
        self._allowed = asyncio.Event()
        self._allowed.set()

    async def run(self) -> None:
        await self._enter_service()
        presence = asyncio.create_task(self._keep_present())
        try:
            await self._replay()
        finally:
            presence.cancel()
            await asyncio.wait([presence])

    async def _keep_present(self) -> None:
        try:
            await self._client.keep_present(self._health, self._handlers())
        except ClientError as error:  # a reader without presence still measures
            _log.warning("fleet_presence_refused", device_id=self.device_id, cause=str(error))

    async def _enter_service(self) -> None:
        await self._client.register(
            self.device_id,
            serial_number_of(self.device_id),
            self._fleet.plan.firmware_version,
            access_token=self._access.owner,
            user_id=self._access.owner_id,
            claim_code=self._fleet.plan.claim_codes.get(self.device_id, ""),
        )
        calibration = self._model.calibration()
        await call_unary(
            self._platform.calibrations.RegisterFactoryCalibration,
            calibration_pb2.RegisterFactoryCalibrationRequest(
                device_id=self.device_id,
                cartridge_category=GLUCOSE_CATEGORY,
                cartridge_type_index=GLUCOSE_TYPE,
                alpha=calibration.alpha,
                channel_offsets=calibration.channel_offsets.tolist(),
                channel_gains=calibration.channel_gains.tolist(),
                temp_coefficient=calibration.temp_coefficient,
                humidity_coefficient=calibration.humidity_coefficient,
                reference_standard="simulated glucose solution",
                calibrated_by="simulated factory",
            ),
            name="RegisterFactoryCalibration",
            policy=patient_policy().calls,
            metadata=self._factory_metadata,
        )
        await self._insert_cartridge()
        self._fleet.note_ready()

    async def _factory_metadata(self) -> tuple[tuple[str, str], ...]:
        return (*await bearer_metadata(self._access.technician), ("x-calibration-unit", GLUCOSE_UNIT))

    async def _insert_cartridge(self) -> None:
        uses = self._fleet.plan.uses_per_cartridge
        tag = glucose_tag(self._model, uses=uses, today=dt.datetime.now(dt.UTC).date())
        lot = self._fleet.plan.lot
        if lot is not None:
            tag = lot.sign(tag)
        detail = await call_unary(
            self._platform.cartridges.ReadCartridge,
            cartridge_pb2.ReadCartridgeRequest(nfc_tag_data=encode_v2(tag), tag_version=2),
            name="ReadCartridge",
            policy=patient_policy().calls,
            metadata=lambda: bearer_metadata(self._access.owner),
        )
        if not detail.is_valid:
            raise CartridgeNotUsable(f"reader {self.device_id}: cartridge refused: {detail.validation_message}")
        # The platform's spelling of the uid, not ours: it is what sessions are matched by.
        self._cartridge_uid = detail.cartridge_uid
        self._uses_left = uses

    async def _replay(self) -> None:
        plan, loop = self._fleet.plan, asyncio.get_running_loop()
        done = 0
        while True:
            signal = self._model.reader()
            for reading in self._trace.readings:
                if plan.readings_per_reader is not None and done >= plan.readings_per_reader:
                    return
                await self._allowed.wait()
                started_at = loop.time()
                frames = signal.measure(
                    reading.glucose_mg_dl,
                    reading.measured_at,
                    frames=plan.frames_per_reading,
                    frame_interval_s=plan.frame_interval_s or 1.0,
                )
                self._fleet.note_reading(await self._measure(reading, frames))
                done += 1
                await asyncio.sleep(max(0.0, started_at + plan.reading_interval_s - loop.time()))
            if not plan.repeat:
                return

    async def _measure(self, reading: GlucoseReading, frames: list[RawFrame]) -> RecoveredReading:
        for setback in range(_SETBACKS):
            try:
                return await self._run_session(reading, frames)
            except CallRejected as refusal:
                if refusal.code in _ABOUT_THE_CARTRIDGE:
                    self._uses_left = 0
                elif refusal.code not in _PASSING:
                    raise
                _log.info("fleet_session_begun_anew", device_id=self.device_id, cause=str(refusal))
                self._fleet.note_setback()
                await asyncio.sleep(setback * _SETBACK_PAUSE_S)
        return await self._run_session(reading, frames)

    async def _run_session(self, reading: GlucoseReading, frames: list[RawFrame]) -> RecoveredReading:
        if self._uses_left == 0:
            await self._insert_cartridge()
        plan = SessionPlan(
            cartridge_id=self._cartridge_uid,
            user_id=self._access.owner_id,
            cartridge_category=GLUCOSE_CATEGORY,
            cartridge_type_index=GLUCOSE_TYPE,
        )
        self._measuring = True
        self._uses_left -= 1
        try:
            async with self._client.session(plan) as session:
                results = [result async for _, result in session.send_all(self._paced(frames))]
        finally:
            self._measuring = False
        self._battery_percent = max(5.0, self._battery_percent - 0.01)
        for result in results:
            if result.unit != GLUCOSE_UNIT:
                raise ValueNotGlucose(self.device_id, result.unit)
        return RecoveredReading(
            device_id=self.device_id,
            session_id=session.session_id,
            subject=self._trace.subject,
            measured_at=reading.measured_at,
            true_mg_dl=reading.glucose_mg_dl,
            recovered_mg_dl=_recovered([result.primary_value for result in results]),
        )

    async def _paced(self, frames: list[RawFrame]) -> AsyncIterator[RawFrame]:
        for number, frame in enumerate(frames):
            if number:
                await asyncio.sleep(self._fleet.plan.frame_interval_s)
            # Strictly increasing even when the clock stands still or is set back.
            self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
            yield frame.retimed(self._last_us)

    def _health(self) -> ReaderHealth:
        status = device_pb2.DEVICE_STATUS_MEASURING if self._measuring else device_pb2.DEVICE_STATUS_ONLINE
        return ReaderHealth(status=status, battery_percent=round(self._battery_percent), signal_dbm=-60)

    def _handlers(self) -> dict[device_pb2.CommandType.ValueType, CommandHandler]:
        async def start(_: Command) -> None:
            self._allowed.set()

        async def stop(_: Command) -> None:
            self._allowed.clear()

        return {device_pb2.COMMAND_TYPE_START_MEASUREMENT: start, device_pb2.COMMAND_TYPE_STOP_MEASUREMENT: stop}
