"""Streaming the frames of one measurement session, over as many connections as it takes.

Frames wait in a queue until the platform has answered them. One connection at a time writes them in order and reads
the answers, which come in the same order: the next answer always belongs to the head of the queue. When a connection
breaks, the next one starts again at the head. The platform may have stored some of those frames although its
answer was lost; it names a frame by session and time and counts it once, so sending again is safe and skipping is not. A connection that follows a broken one sends the head alone until that is
answered: a frame that the platform refuses then shows its status, which grpc.aio hides when writes are under way.

Back-pressure: at most ``window`` frames are unanswered. Whoever brings one more waits, and so in the end does the
source of the frames.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import grpc
import structlog
from manpasik.v1 import measurement_pb2, measurement_pb2_grpc

from devices.client.credentials import Metadata
from devices.client.errors import ClientError, FrameOutOfOrder, ProtocolViolated, SessionClosed
from devices.client.messages import to_measurement_data
from devices.client.retry import Backoff, LostConnection, cancelled_by_peer, classify
from devices.frame import RawFrame

_log = structlog.get_logger(__name__)

_Call = grpc.aio.StreamStreamCall[measurement_pb2.MeasurementData, measurement_pb2.MeasurementResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPolicy:
    """Limits of a stream.

    Args:
        window: most unanswered frames.
        answer_timeout_s: a connection whose next answer takes longer counts as lost.
        give_up_after_s: how long to reconnect without a single answer before the session fails.
        close_timeout_s: how long a connection may take to close in good order.
    """

    window: int = 16
    answer_timeout_s: float = 10.0
    give_up_after_s: float = 120.0
    close_timeout_s: float = 2.0
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(slots=True)
class _Unanswered:
    frame: RawFrame
    message: measurement_pb2.MeasurementData
    answer: asyncio.Future[measurement_pb2.MeasurementResult]


class MeasurementStream:
    """The frames of one session on their way to the platform. Must be created in a running event loop.

    Args:
        after_us: time of the last frame of the session that was answered earlier, when a session is resumed.
    """

    def __init__(
        self,
        stub: measurement_pb2_grpc.MeasurementServiceStub,
        session_id: str,
        *,
        metadata: Callable[[], Awaitable[Metadata]],
        policy: StreamPolicy,
        after_us: int = -1,
    ) -> None:
        self.session_id = session_id
        self._stub = stub
        self._metadata = metadata
        self._policy = policy
        self._last_us = after_us
        self._answered = 0
        self._connections = 0
        self._queue: deque[_Unanswered] = deque()
        self._sent = 0  # how many of the queue's frames the current connection has written
        self._probing = False  # whether the current connection has to prove itself with the head alone
        self._changed = asyncio.Condition()
        # A lock is fair, a condition is not: whoever calls first is sent first.
        self._turn = asyncio.Lock()
        self._finishing = False
        self._failure: ClientError | None = None
        self._runner = asyncio.create_task(self._run(), name=f"measurement-stream-{session_id}")

    @property
    def answered(self) -> int:
        """Frames that the platform has answered."""
        return self._answered

    @property
    def connections(self) -> int:
        """Connections opened so far; more than one means that the stream was resumed."""
        return self._connections

    @property
    def unanswered(self) -> tuple[RawFrame, ...]:
        """Frames not answered yet, in order. After a failure these are what a later try has to send."""
        return tuple(item.frame for item in self._queue)

    async def submit(self, frame: RawFrame) -> asyncio.Future[measurement_pb2.MeasurementResult]:
        """Put a frame on its way; the future becomes its result. Waits while the window is full, in order of the calls.

        Raises:
            FrameOutOfOrder: the frame is not later than the one before it.
            SessionClosed: the stream was finished or closed.
            CallRejected, PlatformUnreachable, ProtocolViolated: the stream has failed.
        """
        async with self._turn, self._changed:
            await self._changed.wait_for(lambda: self._stopped or len(self._queue) < self._policy.window)
            self._check_open()
            if frame.timestamp_us <= self._last_us:
                raise FrameOutOfOrder(timestamp_us=frame.timestamp_us, after_us=self._last_us)
            self._last_us = frame.timestamp_us
            answer: asyncio.Future[measurement_pb2.MeasurementResult] = asyncio.get_running_loop().create_future()
            self._queue.append(_Unanswered(frame, to_measurement_data(self.session_id, frame), answer))
            self._changed.notify_all()
        return answer

    async def send(self, frame: RawFrame) -> measurement_pb2.MeasurementResult:
        """The platform's result for this frame. Raises as `submit`; a failure while waiting is raised too."""
        return await (await self.submit(frame))

    async def send_all(
        self, frames: AsyncIterable[RawFrame]
    ) -> AsyncIterator[tuple[RawFrame, measurement_pb2.MeasurementResult]]:
        """Frames with their results, in order, a full window of them on the way at any time. Raises as `send`."""
        waiting: deque[tuple[RawFrame, asyncio.Future[measurement_pb2.MeasurementResult]]] = deque()
        async for frame in frames:
            if len(waiting) == self._policy.window:
                first, answer = waiting.popleft()
                yield first, await answer
            waiting.append((frame, await self.submit(frame)))
        while waiting:
            first, answer = waiting.popleft()
            yield first, await answer

    async def finish(self) -> None:
        """Wait for all answers, then close the connection in good order. Repeating it changes nothing.

        Raises:
            CallRejected, PlatformUnreachable, ProtocolViolated: the stream failed before all were answered.
        """
        async with self._changed:
            self._finishing = True
            self._changed.notify_all()
        await asyncio.shield(self._runner)
        if self._failure is not None and not isinstance(self._failure, SessionClosed):
            raise self._failure

    async def close(self) -> None:
        """Break off now. Unanswered frames stay in `unanswered`; whoever awaits one gets SessionClosed."""
        self._runner.cancel()
        await asyncio.wait([self._runner])
        await self._fail(SessionClosed(self.session_id))

    @property
    def _stopped(self) -> bool:
        return self._finishing or self._failure is not None

    @property
    def _may_write(self) -> bool:
        return self._sent < (min(1, len(self._queue)) if self._probing else len(self._queue))

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._finishing:
            raise SessionClosed(self.session_id)

    async def _fail(self, failure: ClientError) -> None:
        async with self._changed:
            self._failure = self._failure or failure
            for item in self._queue:
                if not item.answer.done():
                    item.answer.set_exception(self._failure)
                    # Marks it as seen: whoever dropped the future still learns of the failure from `finish`.
                    item.answer.exception()
            self._changed.notify_all()

    async def _run(self) -> None:
        try:
            await self._deliver()
        except ClientError as failure:
            await self._fail(failure)

    async def _deliver(self) -> None:
        """Open connections until the stream is finished."""
        loop = asyncio.get_running_loop()
        failures = 0
        silent_since: float | None = None
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._queue) or self._finishing)
                if not self._queue:
                    return
            answered_before = self._answered
            if silent_since is None:
                silent_since = loop.time()
            try:
                await self._converse()
                return
            except LostConnection as lost:
                if self._answered > answered_before:
                    failures, silent_since = 0, loop.time()
                silent_s = loop.time() - silent_since
                wait_s = self._policy.backoff.wait_s(failures)
                if self._queue and silent_s + wait_s >= self._policy.give_up_after_s:
                    raise lost.given_up("StreamMeasurement", tried_for_s=silent_s) from lost
                _log.info("measurement_stream_lost", session_id=self.session_id, cause=str(lost), retry_in_s=wait_s)
            if not self._queue:
                silent_since = None  # idle is not silent: the time counts from the next frame
            failures += 1
            await asyncio.sleep(wait_s)

    async def _converse(self) -> None:
        """One connection from its opening until it is finished in good order.

        Raises:
            LostConnection: it broke; the queue still holds what was not answered.
            CallRejected, ProtocolViolated: the platform refuses the session or a frame for good.
        """
        self._sent = 0
        self._probing = self._connections > 0
        self._connections += 1
        call = self._stub.StreamMeasurement(metadata=await self._metadata())
        writer = asyncio.create_task(self._write(call))
        try:
            while await self._read_one(call):
                pass
        finally:
            writer.cancel()
            call.cancel()
            await asyncio.wait([writer])

    async def _write(self, call: _Call) -> None:
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._may_write or (self._finishing and not self._queue))
                    if not self._queue:
                        break
                    # Counted before the write: the answer may come before the write call returns.
                    message = self._queue[self._sent].message
                    self._sent += 1
                await call.write(message)
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call is over, and the reading side is told why

    async def _read_one(self, call: _Call) -> bool:
        """Take one answer off the wire; False when the connection is finished in good order."""
        async with self._changed:
            # Nothing is read while nothing is due, so that a quiet source does not look like a silent platform.
            await self._changed.wait_for(lambda: bool(self._queue) or self._finishing)
            closing = not self._queue
        limit_s = self._policy.close_timeout_s if closing else self._policy.answer_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                answer = await call.read()
        except TimeoutError as error:
            if closing:
                return False
            raise LostConnection(f"no answer for {limit_s} s") from error
        except grpc.aio.AioRpcError as error:
            if closing:
                return False  # everything was answered, which is all that counts
            raise classify("StreamMeasurement", error) from error
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise
            if closing:
                return False
            raise LostConnection("cancelled by the platform") from None
        if not isinstance(answer, measurement_pb2.MeasurementResult):
            if closing:
                return False
            raise LostConnection("the platform ended the stream before it had answered every frame")
        await self._accept(answer)
        return True

    async def _accept(self, answer: measurement_pb2.MeasurementResult) -> None:
        async with self._changed:
            if self._sent == 0:
                raise ProtocolViolated(f"session {self.session_id}: an answer came without a frame to answer")
            if answer.session_id != self.session_id:
                raise ProtocolViolated(f"session {self.session_id}: an answer for session {answer.session_id!r} came")
            head = self._queue.popleft()
            self._sent -= 1
            self._answered += 1
            self._probing = False
            if not head.answer.done():  # its waiter may have been cancelled
                head.answer.set_result(answer)
            self._changed.notify_all()
