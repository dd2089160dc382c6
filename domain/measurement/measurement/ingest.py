"""The hot path: frames of all open streams are gathered, computed, sealed, chained and written together.

Group commit: while one batch is being written, the frames that arrive meanwhile form the next one. So a lone reader
waits for one commit only, and a thousand readers share one. A batch costs one COPY and one fsync however many frames it
has, and numpy works on it as a few matrices. Answers are released after the commit; a frame that was answered is on disk.

Fairness: a batch takes at most `QUANTUM` frames of a session and goes around; the rest waits for the next batch. A
stream that has `MAX_PENDING` frames unanswered is not read from (the caller of `offer` waits with `room`), so memory
is bounded by the number of streams.

Only the stream that holds a session's lease writes: the store compares the lease in the transaction of the frames, and
refuses those of an older stream or of an ended session, in whatever process they are. That is why a set of known
timestamps in memory is enough to count a repeated frame once.

A stream that has failed takes no frame any more, however many its reader has still on the way: what failed is sent again on
the next stream, and a frame stored in between would stand before those that it follows.

Nothing in here is awaited for a single frame, and nothing is logged for one.
"""

import asyncio
import math
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from domain.clock import Clock
from domain.errors import AppError
from domain.measurement.measurement import chain
from domain.measurement.measurement.correction import FloatArray, environment_factor
from domain.measurement.measurement.errors import (
    FrameInvalid,
    FramesNotStored,
    FrameStoredOffline,
    SessionBusy,
    SessionEnded,
    StreamSuperseded,
)
from domain.measurement.measurement.frame_values import Answer, Calibrations, answer_of, compute, told
from domain.measurement.measurement.frames import Reading, encode_frame, from_us, open_frame, seal_context, to_us
from domain.measurement.measurement.models import CHANNEL_COUNTS, Coefficients
from domain.measurement.measurement.ports import BatchRejected, FrameRecord, FrameStore, Refusal
from domain.measurement.measurement.quality import UNKNOWN_RANGE, MeasuringRange
from domain.sealing import Sealer

MAX_PENDING = 32
QUANTUM = 16
MAX_BATCH_FRAMES = 512
MAX_BATCH_CHANNELS = 65_536
BUSY_RETRY_S = 0.02
BUSY_LIMIT_S = 10.0

EARLIEST_US = 0
"""1970-01-01. A reader that has lost its clock counts from there: its frames are taken, and their time is unknown."""
MAX_AHEAD_US = 86_400_000_000
"""A reader's clock may be ahead by a day: more is an error, and would need partitions far ahead."""
MIN_ENV, MAX_ENV = 0.1, 10.0
"""Beyond these the linear coefficients have left the range in which they mean anything."""
TEMP_RANGE_C = (-60.0, 100.0)
HUMIDITY_RANGE_PCT = (0.0, 100.0)
MAX_SIGNAL = 750_000.0
"""In the reader's unit, nanoampere: full scale of the largest amperometric front end that readers have, so a larger number
never came out of a converter. Source: Texas Instruments LMP91000, data sheet SNAS506I (full-scale current 5 to 750 uA)."""

UNTIMED = -(2**63)
"""`measured_at_us` of a frame without a timestamp: it gets the time of its arrival."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """What an opened stream starts from.

    Args:
        channels: of every frame; None while an unverified session has none yet.
        sequence, head: of the last stored frame; 0 and the genesis hash before the first.
        known: `measured_at_us` of all stored frames.
        live_from_us: frames that were measured before are refused; None where what readers have stored offline is taken.
        within: the measuring range of the session.
    """

    session_id: str
    lease: int
    unit: str
    coefficients: Coefficients
    channels: int | None
    sequence: int
    head: bytes
    known: set[int]
    live_from_us: int | None = None
    within: MeasuringRange = UNKNOWN_RANGE


class LiveSession:
    """One open stream's hold on its session."""

    def __init__(self, state: StreamState, clock: Clock) -> None:
        self.session_id = state.session_id
        self.unit = state.unit
        self.lease = state.lease
        self.channels = state.channels
        self.sequence = state.sequence
        self.head = state.head
        self.coefficients = state.coefficients
        self.within = state.within
        self.pending: deque[Reading] = deque()
        self.queued = False
        self.busy_since: float | None = None
        self.failure: Exception | None = None
        self._known = state.known
        self._live_from_us = state.live_from_us
        self._clock = clock
        self._gains: FloatArray | None = None
        self._offsets: FloatArray | None = None
        self._answers: deque[Answer] = deque()
        self._outstanding = 0
        self._reading_done = False
        self._finish_error: Exception | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    # What the stream calls

    def check(self, reading: Reading) -> None:
        """Check a frame against its session, and complete it (time, environment factor, whether it is repeated).

        Raises:
            FrameInvalid: it can never be stored.
        """
        raw = reading.raw
        if raw.size != self.channels:
            self._check_channels(raw.size)
        if not np.abs(raw).max() <= MAX_SIGNAL:  # NaN fails every comparison
            first = int(np.flatnonzero(~(np.abs(raw) <= MAX_SIGNAL))[0])
            raise FrameInvalid(f"raw_channels[{first}] {_why_no_signal(raw[first])}", field="raw_channels")
        for name, signal in (("s_det", reading.s_det), ("s_ref", reading.s_ref)):
            if not abs(signal) <= MAX_SIGNAL:
                raise FrameInvalid(f"differential.{name} {_why_no_signal(signal)}", field="differential")
        if not math.isfinite(reading.reader_alpha):
            raise FrameInvalid("differential.alpha is not a finite number.", field="differential")
        self._check_environment(reading)
        self._check_time(reading)
        self.channels = raw.size

    def push(self, reading: Reading) -> None:
        """Put a checked frame into the queue of the session."""
        reading.repeated = reading.measured_at_us in self._known
        self._known.add(reading.measured_at_us)
        self.pending.append(reading)
        self._outstanding += 1
        if self._outstanding >= MAX_PENDING:
            self._room.clear()

    async def room(self) -> None:
        """Wait until the stream may be read from again."""
        await self._room.wait()

    def finish(self, error: Exception | None = None) -> None:
        """No more frames will come; `error` says why, and is raised once those before it have been answered."""
        self._reading_done = True
        self._finish_error = error
        self._changed.set()

    async def answers(self) -> Sequence[Answer]:
        """The next answers in the order of their frames; empty at the end of the stream.

        Raises:
            Exception: what ended the stream, after all answers before it.
        """
        while not self._answers:
            if self.failure is not None:
                raise self.failure
            if self._reading_done and self._outstanding == 0:
                if self._finish_error is not None:
                    raise self._finish_error
                return ()
            self._changed.clear()
            await self._changed.wait()
        ready = tuple(self._answers)
        self._answers.clear()
        return ready

    # What the writer calls

    def answer(self, answers: Sequence[Answer]) -> None:
        self._answers.extend(answers)
        self._outstanding -= len(answers)
        if self._outstanding < MAX_PENDING:
            self._room.set()
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """End the stream with an error; what is pending is dropped, so it was not counted and may be sent again."""
        if self.failure is None:
            self.failure = error
        self.pending.clear()
        self._room.set()
        self._changed.set()

    def rows(self, channels: int) -> tuple[FloatArray, FloatArray]:
        """Gains and offsets of shape (channels,)."""
        if self._gains is None or self._offsets is None:
            self._gains = np.ascontiguousarray(np.broadcast_to(self.coefficients.gains, (channels,)))
            self._offsets = np.ascontiguousarray(np.broadcast_to(self.coefficients.offsets, (channels,)))
        return self._gains, self._offsets

    def _check_channels(self, size: int) -> None:
        if self.channels is not None:
            raise FrameInvalid(
                f"The frame has {size} channels; this session needs {self.channels}.", field="raw_channels"
            )
        if size not in CHANNEL_COUNTS or not self.coefficients.fits(size):
            raise FrameInvalid(
                f"The frame has {size} channels; a frame has {', '.join(map(str, CHANNEL_COUNTS))}.",
                field="raw_channels",
            )

    def _check_environment(self, reading: Reading) -> None:
        temp, humidity = reading.temp_c, reading.humidity_pct
        if not (
            TEMP_RANGE_C[0] <= temp <= TEMP_RANGE_C[1]
            and HUMIDITY_RANGE_PCT[0] <= humidity <= HUMIDITY_RANGE_PCT[1]
            and math.isfinite(reading.pressure_kpa)
        ):  # NaN fails every comparison
            raise FrameInvalid("env_meta holds a value that no surroundings have.", field="env_meta")
        coefficients = self.coefficients
        reading.env = environment_factor(temp, humidity, coefficients.temp, coefficients.humidity)
        if not MIN_ENV <= reading.env <= MAX_ENV:
            raise FrameInvalid("env_meta is outside the range in which this cartridge can measure.", field="env_meta")

    def _check_time(self, reading: Reading) -> None:
        now_us = to_us(self._clock.now())
        if reading.measured_at_us == UNTIMED:
            # Such a frame cannot be told from its repetition: it counts each time that it arrives.
            reading.measured_at_us = now_us
            while reading.measured_at_us in self._known:
                reading.measured_at_us += 1
        elif not EARLIEST_US <= reading.measured_at_us <= now_us + MAX_AHEAD_US:
            raise FrameInvalid(
                "timestamp must lie between 1970 and tomorrow: set the reader's clock.", field="timestamp"
            )
        elif self._live_from_us is not None and reading.measured_at_us < self._live_from_us:
            raise FrameStoredOffline


def _why_no_signal(signal: float) -> str:
    if not math.isfinite(signal):
        return "is not a finite number."
    return f"is {signal:.6g}; no reader gives more than {MAX_SIGNAL:,.0f} (nanoampere) of either sign."


@dataclass(slots=True)
class _Share:
    """What one session has in a batch.

    Args:
        left_out: the readings from the first one on that can never be stored; `error` says why it cannot.
    """

    live: LiveSession
    readings: list[Reading]
    left_out: list[Reading] = field(default_factory=list)
    answers: list[Answer | None] = field(default_factory=list)
    records: list[FrameRecord] = field(default_factory=list)
    head: bytes = b""
    error: AppError | None = None


class FrameWriter:
    """The one writer of a process."""

    def __init__(self, store: FrameStore, sealer: Sealer, clock: Clock, *, dimension: int) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._dimension = dimension
        self._live: dict[str, LiveSession] = {}
        self._ready: deque[LiveSession] = deque()
        self._wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def open(self, state: StreamState) -> LiveSession:
        """Let a stream write; one that was open for the same session in this process ends."""
        live = LiveSession(state, self._clock)
        older = self._live.get(state.session_id)
        self._live[state.session_id] = live
        if older is not None:
            older.fail(StreamSuperseded(state.session_id))
        return live

    def close(self, live: LiveSession) -> None:
        """The stream has ended, in whatever way; frames that were not answered are forgotten."""
        if self._live.get(live.session_id) is live:
            del self._live[live.session_id]
        live.fail(StreamSuperseded(live.session_id))

    def submit(self, live: LiveSession, reading: Reading) -> None:
        """Queue a frame.

        Raises:
            FrameInvalid: it can never be stored; nothing was queued.
            Exception: what the stream has failed with; nothing was queued.
        """
        if live.failure is not None:
            raise live.failure
        live.check(reading)
        live.push(reading)
        self._enqueue(live)

    async def stop(self) -> None:
        """Stop writing; streams must have been drained before."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _enqueue(self, live: LiveSession) -> None:
        if not live.queued and live.pending:
            live.queued = True
            self._ready.append(live)
            self._wakeup.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="frame-writer")

    async def _run(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._ready:
                shares = self._take()
                try:
                    await self._write(shares)
                except Exception as error:  # noqa: BLE001 - the boundary of all streams: one bug must not stop the rest
                    for share in shares:
                        share.live.fail(error)

    def _take(self) -> list[_Share]:
        """The next batch: sessions in turn, at most `QUANTUM` frames of each."""
        shares: list[_Share] = []
        frames = channels = 0
        for _ in range(len(self._ready)):
            live = self._ready[0]
            if frames >= MAX_BATCH_FRAMES or channels >= MAX_BATCH_CHANNELS:
                break
            self._ready.popleft()
            readings: list[Reading] = []
            while live.pending and len(readings) < QUANTUM:
                readings.append(live.pending.popleft())
            live.queued = bool(live.pending)
            if live.queued:
                self._ready.append(live)
            if readings:
                shares.append(_Share(live, readings))
                frames += len(readings)
                channels += len(readings) * readings[0].raw.size
        return shares

    async def _write(self, shares: list[_Share]) -> None:
        received_at = self._clock.now()
        received_at_us = to_us(received_at)
        self._prepare(shares, received_at_us)
        refused = await self._store_all(shares)
        for share in shares:
            self._settle(share, refused.get(share.live.session_id))
        await self._answer_repeated([share for share in shares if share.readings and share.live.failure is None])
        for share in shares:
            live = share.live
            if live.failure is None:
                live.answer([answer for answer in share.answers if answer is not None])
                if share.error is not None:
                    live.fail(share.error)

    def _prepare(self, shares: list[_Share], received_at_us: int) -> None:
        """Compute, seal and chain the new frames of a batch."""
        values = self._compute(shares)
        received_at = from_us(received_at_us)
        seal = self._sealer.seal
        for number, share in enumerate(shares):
            live = share.live
            session_id, alpha = live.session_id, live.coefficients.alpha
            sequence, head = live.sequence, live.head
            for position, reading in enumerate(share.readings):
                if reading.repeated:
                    share.answers.append(None)
                    continue
                value, trust, fingerprint = values[number, position]
                if not math.isfinite(value):
                    share.error = FrameInvalid(
                        "The frame's signals are too large to be measured.", field="raw_channels"
                    )
                    share.left_out = share.readings[position:]
                    del share.readings[position:]
                    break
                sequence += 1
                content = encode_frame(
                    reading,
                    sequence=sequence,
                    received_at_us=received_at_us,
                    alpha=alpha,
                    primary_value=value,
                    confidence=trust,
                )
                head = chain.link(head, content)
                share.records.append(
                    FrameRecord(
                        session_id,
                        from_us(reading.measured_at_us),
                        received_at,
                        sequence,
                        seal(content, context=seal_context(session_id, sequence)),
                        head,
                    )
                )
                share.answers.append(told(value, trust, fingerprint, received_at_us, within=live.within))
            share.head = head

    def _compute(self, shares: list[_Share]) -> dict[tuple[int, int], tuple[float, float, bytes]]:
        """Value, confidence and fingerprint by (share, position); frames of one width as one matrix."""
        by_width: dict[int, list[tuple[int, int, LiveSession, Reading]]] = {}
        for number, share in enumerate(shares):
            for position, reading in enumerate(share.readings):
                if not reading.repeated:
                    by_width.setdefault(reading.raw.size, []).append((number, position, share.live, reading))
        values: dict[tuple[int, int], tuple[float, float, bytes]] = {}
        for width, frames in by_width.items():
            rows = [live.rows(width) for _, _, live, _ in frames]
            by = Calibrations(
                alpha=np.array([live.coefficients.alpha for _, _, live, _ in frames]),
                gains=np.array([gains for gains, _ in rows]),
                offsets=np.array([offsets for _, offsets in rows]),
                within=[live.within for _, _, live, _ in frames],
            )
            computed = compute([reading for *_, reading in frames], by, self._dimension)
            for (number, position, _, _), result in zip(frames, computed, strict=True):
                values[number, position] = result
        return values

    async def _store_all(self, shares: list[_Share]) -> Mapping[str, Refusal]:
        """Write the batch, or, when the database rejects a row of it, each session for itself."""
        writing = [share for share in shares if share.records]
        if not writing:
            return {}
        try:
            return await self._store_some(writing)
        except BatchRejected:
            refused: dict[str, Refusal] = {}
            for share in writing:
                try:
                    refused.update(await self._store_some([share]))
                except (BatchRejected, FramesNotStored):
                    share.live.fail(FramesNotStored())
            return refused
        except FramesNotStored as error:
            for share in writing:
                share.live.fail(error)
            return {}

    async def _store_some(self, shares: list[_Share]) -> Mapping[str, Refusal]:
        return await self._store.write(
            {share.live.session_id: share.live.lease for share in shares},
            {share.live.session_id: share.records for share in shares},
        )

    def _settle(self, share: _Share, refusal: Refusal | None) -> None:
        """Note in the session what became of its share; of a refused share nothing is left."""
        live = share.live
        match refusal:
            case None:
                live.busy_since = None
                if share.records and live.failure is None:
                    live.sequence, live.head = share.records[-1].sequence, share.head
                return
            case Refusal.BUSY:
                self._retry_later(share)
            case Refusal.SUPERSEDED:
                live.fail(StreamSuperseded(live.session_id))
            case Refusal.ENDED:
                live.fail(SessionEnded(live.session_id))
        share.readings.clear()
        share.answers.clear()
        share.error = None

    def _retry_later(self, share: _Share) -> None:
        live, loop = share.live, asyncio.get_running_loop()
        if live.busy_since is None:
            live.busy_since = loop.time()
        if loop.time() - live.busy_since > BUSY_LIMIT_S:
            live.fail(SessionBusy(live.session_id))
        elif live.failure is None:
            live.pending.extendleft(reversed(share.readings + share.left_out))
            # Out of the queue until then, so that waiting for one session does not spin over the others.
            if live.queued:
                self._ready.remove(live)
                live.queued = False
            loop.call_later(BUSY_RETRY_S, self._enqueue, live)

    async def _answer_repeated(self, shares: list[_Share]) -> None:
        """Fill in the answers of frames that the session had already: those that were given the first time."""
        wanted = [
            (share.live.session_id, from_us(reading.measured_at_us))
            for share in shares
            for reading in share.readings
            if reading.repeated
        ]
        if not wanted:
            return
        try:
            found = await self._store.find(wanted)
        except FramesNotStored as error:
            for share in shares:
                if any(reading.repeated for reading in share.readings):
                    share.live.fail(error)
            return
        frames = {
            (sealed.session_id, to_us(sealed.measured_at)): open_frame(
                self._sealer, sealed.session_id, sealed.sequence, sealed.sealed
            )
            for sealed in found
        }
        for share in shares:
            for position, reading in enumerate(share.readings):
                if not reading.repeated:
                    continue
                frame = frames.get((share.live.session_id, reading.measured_at_us))
                if frame is None:
                    share.live.fail(FramesNotStored())
                    break
                share.answers[position] = answer_of(frame, self._dimension, share.live.within)
