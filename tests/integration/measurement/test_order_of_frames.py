"""Frames are stored in the order in which they were sent, at whatever moment of a batch the database goes away."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import asyncpg
import numpy as np
import pytest

from domain.measurement.measurement.errors import FrameInvalid, FramesNotStored
from domain.measurement.measurement.ingest import FrameWriter, LiveSession
from domain.measurement.measurement.models import FINGERPRINT_DIMENSION
from domain.measurement.measurement.service import MeasurementService
from subgraphs.measurement.measurement.adapters.frame_store import PostgresFrameStore
from subgraphs.measurement.measurement.adapters.pgvector_index import PgVectorIndex
from subgraphs.measurement.measurement.servicer import decode_frame
from tests.integration.measurement.conftest import BASE_US, Measurement, frame, user

_METHODS = {"lock": "fetch", "copy": "copy_records_to_table", "commit": "execute"}
MOMENTS = [
    pytest.param(step, after, id=f"{'after' if after else 'before'}-{step}")
    for step in ("lock", "copy", "commit")
    for after in (False, True)
]


@dataclass
class Ingest:
    """The writer of frames without the transport, so that a test decides what happens between two of its steps."""

    measurement: Measurement
    writer: FrameWriter
    service: MeasurementService

    @asynccontextmanager
    async def stream(self, session_id: str, **changes: Any) -> AsyncIterator[LiveSession]:
        """A stream of the session; `changes` differ from the state that it starts from."""
        async with self.measurement.database.transaction() as session:
            state = await self.service.open_stream(session, user(), session_id)
        live = self.writer.open(replace(state, **changes))
        try:
            yield live
        finally:
            self.writer.close(live)

    def submit(self, live: LiveSession, *numbers: int, **changes: Any) -> None:
        for number in numbers:
            self.writer.submit(live, decode_frame(frame(live.session_id, number, level=100 + number, **changes)))

    async def stored(self, session_id: str) -> list[tuple[int, int]]:
        """Sequence and number of the stored frames, in the order of their sequence."""
        rows = await self.measurement.fetch(
            "SELECT sequence, (extract(epoch FROM measured_at) * 1000000)::bigint AS us FROM measurement_frames"
            " WHERE session_id = $1 ORDER BY sequence, us",
            session_id,
        )
        return [(row["sequence"], (row["us"] - BASE_US) // 1_000_000) for row in rows]

    async def written_until_now(self) -> None:
        """Wait until the writer has written what was queued before: a frame of another session comes after it."""
        async with self.stream(await self.measurement.start()) as other:
            self.submit(other, 0)
            assert len(await other.answers()) == 1


@pytest.fixture
async def ingest(measurement: Measurement) -> AsyncIterator[Ingest]:
    writer = FrameWriter(
        PostgresFrameStore(measurement.database),
        measurement.sealer,
        measurement.clock,
        dimension=FINGERPRINT_DIMENSION,
    )
    service = MeasurementService(
        measurement.clock, measurement.sealer, PgVectorIndex(), idle_timeout=timedelta(minutes=5)
    )
    yield Ingest(measurement, writer, service)
    await writer.stop()


async def answered(live: LiveSession, count: int) -> None:
    got = 0
    while got < count:
        got += len(await live.answers())


def end_the_session(monkeypatch: pytest.MonkeyPatch, measurement: Measurement, step: str, *, after: bool) -> list[None]:
    """The next time that a batch comes to this step its session of the database ends; it is noted in what is returned."""
    name = _METHODS[step]
    whole: Callable[..., Awaitable[Any]] = getattr(asyncpg.Connection, name)
    ended: list[None] = []

    async def broken_off(connection: "asyncpg.Connection[Any]", query: str, *rest: Any, **options: Any) -> Any:
        meant = not ended and {"lock": "SKIP LOCKED" in query, "copy": True, "commit": query == "COMMIT;"}[step]
        if not meant:
            return await whole(connection, query, *rest, **options)
        ended.append(None)
        result = await whole(connection, query, *rest, **options) if after else None
        operator = await measurement.database.listen_connection()
        try:
            await operator.execute("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
        finally:
            await operator.close()
        if after and step == "commit":  # committed, and the answer is lost
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return result if after else await whole(connection, query, *rest, **options)

    monkeypatch.setattr(asyncpg.Connection, name, broken_off)
    return ended


@pytest.mark.parametrize(("step", "after"), MOMENTS)
async def test_a_stream_that_lost_a_batch_stores_nothing_that_comes_after_it(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """A reader has more frames on the way than those of the batch that is lost: they come in before the stream has ended."""
    session_id = await ingest.measurement.start()
    async with ingest.stream(session_id) as live:
        ingest.submit(live, 0, 1, 2)
        await answered(live, 3)
        ended = end_the_session(monkeypatch, ingest.measurement, step, after=after)
        ingest.submit(live, 3, 4)
        with pytest.raises(FramesNotStored):
            await live.answers()
        assert ended
        with suppress(FramesNotStored):
            ingest.submit(live, 5)
        await ingest.written_until_now()
        arrived = 5 if (step, after) == ("commit", True) else 3
        assert await ingest.stored(session_id) == [(number + 1, number) for number in range(arrived)]
    async with ingest.stream(session_id) as again:
        ingest.submit(again, 3, 4, 5)
        await answered(again, 3)
    assert await ingest.stored(session_id) == [(number + 1, number) for number in range(6)]
    async with ingest.measurement.database.read() as session:
        report = await ingest.service.verify_chain(session, user(), session_id)
    assert report.holds
    assert report.frames == 6


async def test_a_frame_that_can_never_be_stored_ends_its_stream_although_the_session_was_locked(
    ingest: Ingest,
) -> None:
    """A batch that meets a locked session is tried again as a whole: with the frame that must be refused, and those behind it."""
    session_id = await ingest.measurement.start()
    gains = replace((await _coefficients(ingest, session_id)), gains=np.full(1, 1e308))
    async with ingest.stream(session_id, coefficients=gains) as live:
        async with ingest.measurement.database.raw() as connection, connection.transaction():
            await connection.execute("SELECT 1 FROM measurement_sessions WHERE id = $1 FOR UPDATE", session_id)
            ingest.writer.submit(live, decode_frame(frame(session_id, 0, level=1e-3, s_ref=0)))
            ingest.submit(live, 1, 2)
            await ingest.written_until_now()
        await answered(live, 1)
        with pytest.raises(FrameInvalid):
            await live.answers()
    assert await ingest.stored(session_id) == [(1, 0)]


async def test_a_frame_that_can_never_be_stored_ends_its_stream_when_it_comes_first(ingest: Ingest) -> None:
    session_id = await ingest.measurement.start()
    gains = replace((await _coefficients(ingest, session_id)), gains=np.full(1, 1e308))
    async with ingest.stream(session_id, coefficients=gains) as live:
        ingest.submit(live, 0)
        with pytest.raises(FrameInvalid):
            await live.answers()
    assert await ingest.stored(session_id) == []


async def _coefficients(ingest: Ingest, session_id: str) -> Any:
    async with ingest.stream(session_id) as live:
        return live.coefficients
