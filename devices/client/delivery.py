"""From the outbox to the platform, in the order in which the sessions were recorded."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import grpc
import structlog

from devices.client.errors import CallRejected, ClientError, PlatformFailing, PlatformUnreachable
from devices.client.outbox import OutboxState, OutboxStore, StoredSession
from devices.client.reader import ReaderClient, SessionPlan
from devices.client.retry import Backoff
from devices.frame import RawFrame

_log = structlog.get_logger(__name__)

# Statuses that are about the session itself. Others (UNAUTHENTICATED, RESOURCE_EXHAUSTED, ...) are about the reader
# or the platform, and would turn away every session after this one too.
_ABOUT_THE_SESSION = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
_STORE_PROGRESS_EVERY = 32


async def deliver_ready(client: ReaderClient, store: OutboxStore) -> int:
    """Deliver all ready sessions, oldest first; gives the number delivered. Run by one task at a time.

    A session that the platform refuses for good is kept as rejected, and the next one follows. One at which the platform
    fails stays ready, and the next one follows too: a bug that one session meets must not hold up all others.

    Raises:
        PlatformFailing: the platform failed at some sessions; those stay ready.
        PlatformUnreachable: the platform went away; what is left stays ready.
        CallRejected: the platform refuses this reader as a whole.
    """
    delivered = 0
    failing: PlatformFailing | None = None
    for session in await store.sessions(OutboxState.READY):
        try:
            await _deliver(client, store, session)
        except CallRejected as refusal:
            if refusal.code not in _ABOUT_THE_SESSION:
                raise
            _log.warning("stored_session_rejected", key=session.key, cause=str(refusal))
            await store.rejected(session, str(refusal))
        except PlatformFailing as failure:
            _log.warning("stored_session_failed", key=session.key, cause=str(failure))
            failing = failure
        else:
            delivered += 1
    if failing is not None:
        raise failing
    return delivered


async def keep_delivering(
    client: ReaderClient, store: OutboxStore, *, poll_s: float = 60.0, backoff: Backoff | None = None
) -> None:
    """Deliver whatever becomes ready, until cancelled; after a failure it tries again with growing pauses."""
    pauses = backoff or Backoff(initial_s=1.0, max_s=60.0)
    failures = 0
    while True:
        try:
            await deliver_ready(client, store)
        except ClientError as error:
            wait_s = pauses.wait_s(failures)
            failures += 1
            _log.info("outbox_delivery_paused", cause=str(error), retry_in_s=wait_s)
            await asyncio.sleep(wait_s)
        else:
            failures = 0
            await store.wait(poll_s)


async def measure_or_store(
    client: ReaderClient, store: OutboxStore, plan: SessionPlan, frames: Sequence[RawFrame]
) -> bool:
    """Send a session, or keep it for later when the platform is out of reach; True when it was sent now.

    A session that breaks in the middle is stored with the frames that were not answered.

    Raises:
        CallRejected: the platform refuses the session for good.
        OutboxFull: it can neither be sent nor stored.
    """
    key = str(uuid.uuid4())
    try:
        session_id = await client.start_session(plan, key=key)
    except PlatformUnreachable:
        async with store.record(plan, key=key) as recording:
            for frame in frames:
                await recording.add(frame)
        return False
    session = client.resume(session_id)
    answered = 0
    try:
        async for _ in session.send_all(_each(frames)):
            answered += 1
        await session.finish()
        await client.end_session(session_id)
    except PlatformUnreachable:
        answered_us = frames[answered - 1].timestamp_us if answered else -1
        await store.adopt(plan, session_id, frames[answered:], answered_us=answered_us)
        return False
    finally:
        await session.close()
    return True


async def _deliver(client: ReaderClient, store: OutboxStore, session: StoredSession) -> None:
    platform_id = session.platform_id
    if not platform_id:
        platform_id = await client.start_session(session.plan, key=session.key)
        await store.opened(session, platform_id)
    frames = await store.frames(session)
    stream = client.resume(platform_id, after_us=session.answered_us)
    try:
        answered = 0
        async for frame, _ in stream.send_all(_each(frames)):
            answered += 1
            # The last one in any case: frames left over after the end would be sent to a session that has ended.
            if answered % _STORE_PROGRESS_EVERY == 0 or answered == len(frames):
                await store.answered(session, frame.timestamp_us)
        await stream.finish()
    finally:
        await stream.close()
    await client.end_session(platform_id)
    await store.delivered(session)


async def _each(frames: Sequence[RawFrame]) -> AsyncIterator[RawFrame]:
    for frame in frames:
        yield frame
