"""What breaks: the process is killed, the broker forgets, the database goes away. Nothing answered is lost or done twice."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import grpc.aio
import numpy as np
import pytest
from manpasik.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    cartridge_pb2,
    device_pb2,
    measurement_pb2,
    measurement_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)

from devices.client.platform import Platform as ReaderSide
from devices.client.reader import Session
from devices.frame import RawFrame
from domain.measurement.measurement.aggregate import aggregate
from tests.e2e.fragile import Fragile
from tests.support.events import EventTap
from tests.support.patience import PATIENCE_S
from tests.support.platform import PASSWORD, Platform
from tests.support.readers import Person, Reader, calibrate, new_reader, sign_up, status_of, technician

pytestmark = [pytest.mark.xdist_group("e2e-failures"), pytest.mark.timeout(300)]

_log = logging.getLogger(__name__)

FRAMES = 60
PACE_S = 0.05
READERS = 12


@dataclass(slots=True)
class Streaming:
    """A session on its way: what was sent, and what was answered."""

    reader: Reader
    session: Session
    sent_us: list[int] = field(default_factory=list)
    answers: list[measurement_pb2.MeasurementResult] = field(default_factory=list)
    answered_us: list[int] = field(default_factory=list)

    @property
    def session_id(self) -> str:
        return self.session.session_id

    async def stream(self, glucose_mg_dl: float, *, frames: int = FRAMES, pace_s: float = PACE_S) -> None:
        async for frame, answer in self.session.send_all(self._paced(glucose_mg_dl, frames, pace_s)):
            self.answered_us.append(frame.timestamp_us)
            self.answers.append(answer)
        await self.session.finish()

    async def _paced(self, glucose_mg_dl: float, frames: int, pace_s: float) -> AsyncIterator[RawFrame]:
        for frame in self.reader.frames(glucose_mg_dl, frames):
            self.sent_us.append(frame.timestamp_us)
            yield frame
            await asyncio.sleep(pace_s)

    @property
    def expected_value(self) -> float:
        """The result that the answers amount to."""
        values = np.array([answer.primary_value for answer in self.answers])
        return aggregate(values, np.array([answer.confidence for answer in self.answers])).value


async def open_sessions(side: ReaderSide, platform: Platform, person: Person, count: int) -> list[Streaming]:
    token = await technician(platform)
    readers = await asyncio.gather(*(new_reader(side, person, token) for _ in range(count)))
    ids = await asyncio.gather(*(reader.client.start_session(reader.plan) for reader in readers))
    return [
        Streaming(reader, reader.client.resume(session_id)) for reader, session_id in zip(readers, ids, strict=True)
    ]


async def until(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what it looks at has no event
            await asyncio.sleep(0.01)


async def more_answers(streams: Sequence[Streaming], count: int) -> None:
    """Wait until so many more frames have been answered."""
    goal = sum(len(stream.answers) for stream in streams) + count
    await until(lambda: sum(len(stream.answers) for stream in streams) >= goal)


SESSIONS = """query Sessions($ids: Int!) { me { measurementSessions(first: $ids) { totalCount edges { node {
    id status frameCount verified calibrated chainVerified result { value unit } } } } } }"""


async def check_sessions(fragile: Fragile, person: Person, streams: Sequence[Streaming]) -> None:
    """Every frame is there once, in order, with its chain, and the result is that of the answers."""
    stored = await fragile.stored_us([stream.session_id for stream in streams])
    answer = await fragile.platform.graphql(SESSIONS, {"ids": 50}, token=person.token)
    assert "errors" not in answer, answer
    found = {edge["node"]["id"]: edge["node"] for edge in answer["data"]["me"]["measurementSessions"]["edges"]}
    assert set(found) == {stream.session_id for stream in streams}
    for stream in streams:
        assert stored[stream.session_id] == stream.sent_us == stream.answered_us
        session = found[stream.session_id]
        assert session["status"] == "COMPLETED"
        assert session["frameCount"] == len(stream.sent_us)
        assert session["chainVerified"] is True
        assert session["verified"]
        assert session["calibrated"]
        assert session["result"]["unit"] == "mg/dL"
        assert session["result"]["value"] == pytest.approx(stream.expected_value, abs=1)
    async with fragile.platform.channel("measurement") as channel:
        history = await measurement_pb2_grpc.MeasurementServiceStub(channel).GetMeasurementHistory(
            measurement_pb2.GetHistoryRequest(user_id=person.user_id, limit=50), metadata=person.metadata, timeout=20
        )
    assert {entry.session_id: entry.primary_value for entry in history.measurements} == {
        stream.session_id: pytest.approx(stream.expected_value, abs=1) for stream in streams
    }


async def test_killing_the_services_in_the_middle_of_many_streams_loses_and_repeats_nothing(fragile: Fragile) -> None:
    platform = fragile.platform
    person = await sign_up(platform)
    async with (
        platform.reader_side() as side,
        EventTap(fragile.broker.address, "measurement.completed", reader=platform.event_reader()) as tap,
    ):
        streams = await open_sessions(side, platform, person, READERS)
        work = [asyncio.create_task(stream.stream(90.0 + 10 * number)) for number, stream in enumerate(streams)]
        for _ in range(2):  # the second time on resumed streams
            await more_answers(streams, READERS * FRAMES // 6)
            await platform.kill_services()
            answered = {stream.session_id: list(stream.answered_us) for stream in streams}
            stored = await fragile.stored_us(list(answered))
            for session_id, times_us in answered.items():
                assert times_us == stored[session_id][: len(times_us)], "an answered frame is not in the database"
            await platform.start_services()
        await asyncio.gather(*work)
        assert any(stream.session.connections >= 3 for stream in streams)
        assert all(stream.session.connections >= 2 for stream in streams)

        ending = [asyncio.create_task(stream.reader.client.end_session(stream.session_id)) for stream in streams]
        await until(lambda: any(task.done() for task in ending))
        await platform.kill_services()
        await platform.start_services()
        for stream, ended in zip(streams, await asyncio.gather(*ending), strict=True):
            assert ended.total_measurements == FRAMES
            again = await stream.reader.client.end_session(stream.session_id)
            assert again == ended

        await check_sessions(fragile, person, streams)
        await tap.until(lambda: len(tap.payloads(user_id=person.user_id)) >= READERS)
        await asyncio.sleep(1.5)  # a relay that published twice would have done so by now
        told = [payload["session_id"] for payload in tap.payloads(user_id=person.user_id)]
        assert sorted(told) == sorted(stream.session_id for stream in streams)
        _log.info("%d deliveries of %d events", sum(tap.deliveries.values()), len(tap.events))


async def test_a_broker_that_comes_back_empty_is_told_everything_again_and_nothing_takes_effect_twice(
    fragile: Fragile,
) -> None:
    platform, broker = fragile.platform, fragile.broker
    person = await sign_up(platform)
    token = await technician(platform)
    async with platform.reader_side() as side:
        before = await open_sessions(side, platform, person, 2)
        await asyncio.gather(*(stream.stream(100.0, frames=5, pace_s=0) for stream in before))
        await asyncio.gather(*(stream.reader.client.end_session(stream.session_id) for stream in before))
        async with EventTap(broker.address, "measurement.completed", reader=platform.event_reader()) as tap:
            await tap.until(lambda: len(tap.payloads(user_id=person.user_id)) == len(before))
            known_before = set(tap.events)

        await broker.stop()
        stopped = time.monotonic()
        during = await open_sessions(side, platform, person, 3)
        await asyncio.gather(*(stream.stream(120.0, frames=5, pace_s=0) for stream in during))
        await asyncio.gather(*(stream.reader.client.end_session(stream.session_id) for stream in during))
        for stream in during:  # an event with an effect: the reader learns when it was calibrated last
            await calibrate(side, token, stream.reader.device_id, stream.reader.model)
        await asyncio.sleep(max(0.0, 9.0 - (time.monotonic() - stopped)))  # longer than the retries (1 + 2 + 4 s)
        await broker.start()
        back = time.monotonic()

        sessions = {stream.session_id for stream in (*before, *during)}
        async with EventTap(broker.address, "measurement.completed", reader=platform.event_reader()) as tap:
            await tap.until(
                lambda: {payload["session_id"] for payload in tap.payloads(user_id=person.user_id)} == sessions,
                within_s=60,
            )
            _log.info("events were there %.1f s after the broker", time.monotonic() - back)
            assert known_before <= set(tap.events), "what the broker had forgotten was not told again"
            assert len(tap.payloads(user_id=person.user_id)) == len(sessions)

        async def calibrations_took_effect() -> dict[str, Any]:
            answer = await platform.graphql(
                "{ me { devices(first: 50) { edges { node { id lastCalibratedAt } } } } }", token=person.token
            )
            edges = answer["data"]["me"]["devices"]["edges"]
            return {edge["node"]["id"]: edge["node"]["lastCalibratedAt"] for edge in edges}

        async with asyncio.timeout(PATIENCE_S):
            while not all((await calibrations_took_effect()).values()):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.2)
        _log.info("their effects were there %.1f s after the broker", time.monotonic() - back)

        # Everything that was ever published has come again; each event has one row in each consumer's inbox, and the
        # effects counted by the process are those of distinct events.
        after = await open_sessions(side, platform, person, 1)
        await after[0].stream(110.0, frames=5, pace_s=0)
        await after[0].reader.client.end_session(after[0].session_id)
        published = await fragile.rows(
            "hardware", "SELECT count(*) AS n FROM outbox WHERE topic = 'calibration.completed'"
        )
        await _until_all_consumed(fragile, "device", published[0]["n"])
        rows = await fragile.rows(
            "hardware",
            "SELECT count(*) AS n, count(DISTINCT event_id) AS d FROM inbox WHERE consumer = 'device'",
        )
        assert rows[0]["n"] == rows[0]["d"] == published[0]["n"]
        assert (await fragile.rows("hardware", "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL"))[0][
            "n"
        ] == 0
    await check_sessions(fragile, person, [*before, *during, *after])


async def _until_all_consumed(fragile: Fragile, consumer: str, expected: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            rows = await fragile.rows("hardware", "SELECT count(*) AS n FROM inbox WHERE consumer = $1", consumer)
            if rows[0]["n"] >= expected:
                return
            await asyncio.sleep(0.2)


async def test_readers_outlive_a_database_that_is_away_and_callers_are_told_so(fragile: Fragile) -> None:
    platform = fragile.platform
    person = await sign_up(platform)
    async with platform.reader_side() as side:
        streams = await open_sessions(side, platform, person, READERS)
        work = [asyncio.create_task(stream.stream(100.0 + number)) for number, stream in enumerate(streams)]
        await more_answers(streams, READERS * FRAMES // 4)
        await fragile.postgres.stop()
        stopped = time.monotonic()
        answered = {stream.session_id: list(stream.answered_us) for stream in streams}
        while time.monotonic() - stopped < 10:
            await _check_refusals(side, platform, person, streams[0])
            await asyncio.sleep(2)
        failed = [task.exception() for task in work if task.done() and task.exception()]
        assert not failed, "a reader has given up"
        going_on = [stream for stream, task in zip(streams, work, strict=True) if not task.done()]
        assert going_on, "the outage came too late to meet anybody"
        await fragile.postgres.start()
        back = time.monotonic()
        stored = await fragile.stored_us(list(answered))
        for session_id, times_us in answered.items():
            assert times_us == stored[session_id][: len(times_us)], "an answered frame is not in the database"
        counts = [len(stream.answers) for stream in going_on]
        await until(lambda: all(len(s.answers) > count for s, count in zip(going_on, counts, strict=True)))
        _log.info("all streams went on %.1f s after the database", time.monotonic() - back)
        await asyncio.gather(*work)
        ended = await asyncio.gather(*(s.reader.client.end_session(s.session_id) for s in streams))
        assert [answer.total_measurements for answer in ended] == [FRAMES] * READERS
        async with EventTap(fragile.broker.address, "measurement.completed", reader=platform.event_reader()) as tap:
            await tap.until(lambda: len(tap.payloads(user_id=person.user_id)) == READERS)
    await check_sessions(fragile, person, streams)
    assert (await platform.get(platform.plan.subgraph_port, "/ready")).status == 200


async def _check_refusals(side: ReaderSide, platform: Platform, person: Person, stream: Streaming) -> None:
    """Each call that needs the database says that it cannot be served now."""
    device, cartridge = stream.reader.device_id, stream.reader.cartridge_uid
    async with platform.channel("auth") as auth_channel, platform.channel("user") as user_channel:
        auth, users = auth_pb2_grpc.AuthServiceStub(auth_channel), user_pb2_grpc.UserServiceStub(user_channel)
        known: Mapping[str, Any] = {"metadata": person.metadata, "timeout": 20}
        calls: Mapping[str, Awaitable[object]] = {
            "Login": auth.Login(auth_pb2.LoginRequest(email=person.email, password=PASSWORD), timeout=20),
            "Register": auth.Register(auth_pb2.RegisterRequest(email="new@e2e.example", password=PASSWORD), timeout=20),
            "GetProfile": users.GetProfile(user_pb2.GetProfileRequest(user_id=person.user_id), **known),
            "ListDevices": side.devices.ListDevices(device_pb2.ListDevicesRequest(user_id=person.user_id), **known),
            "GetRemainingUses": side.cartridges.GetRemainingUses(
                cartridge_pb2.GetRemainingUsesRequest(cartridge_uid=cartridge), **known
            ),
            "StartSession": side.measurements.StartSession(
                measurement_pb2.StartSessionRequest(device_id=device, cartridge_id=cartridge), **known
            ),
            "EndSession": side.measurements.EndSession(
                measurement_pb2.EndSessionRequest(session_id=stream.session_id), **known
            ),
            "GetMeasurementHistory": side.measurements.GetMeasurementHistory(
                measurement_pb2.GetHistoryRequest(user_id=person.user_id), **known
            ),
        }
        answers = await asyncio.gather(*calls.values(), return_exceptions=True)
    for name, answer in zip(calls, answers, strict=True):
        assert isinstance(answer, grpc.aio.AioRpcError), f"{name} answered {answer}"
        assert answer.code() is grpc.StatusCode.UNAVAILABLE, f"{name}: {status_of(answer)}"
    told = await platform.graphql("{ me { id displayName devices(first: 1) { totalCount } } }", token=person.token)
    assert {error["extensions"]["code"] for error in told["errors"]} == {"SERVICE_UNAVAILABLE"}, told
    assert (await platform.get(platform.plan.subgraph_port, "/ready")).status == 503
    assert (await platform.get(platform.plan.subgraph_port, "/health")).status == 200


async def test_whenever_sessions_of_the_database_end_nobody_is_told_of_a_bug(fragile: Fragile) -> None:
    """Sessions end at random moments, as they do when a server fails over, while streams and calls of all kinds run."""
    platform = fragile.platform
    person, bystander = await sign_up(platform), await sign_up(platform, "bystander")
    logged_before = fragile.bugs_logged()
    async with platform.reader_side() as side:
        reader = await new_reader(side, bystander, await technician(platform), uses=10_000)
        streams = await open_sessions(side, platform, person, 4)
        work = [asyncio.create_task(stream.stream(100.0 + number, frames=150)) for number, stream in enumerate(streams)]
        ending = asyncio.create_task(_end_sessions_at_random(fragile, for_s=7.0))
        answers: Counter[str] = Counter()
        asking = [
            asyncio.create_task(_ask_until(ending, ask, answers))
            for ask in (*_questions(side, platform, bystander, reader), *_graph_questions(platform, person))
        ]
        await asyncio.gather(*asking)
        _log.info("sessions ended: %d, answers: %s", await ending, dict(answers))
        assert set(answers) <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "SERVICE_UNAVAILABLE", "TIMEOUT"}
        assert answers["OK"]
        assert answers["UNAVAILABLE"] + answers["SERVICE_UNAVAILABLE"]
        await asyncio.gather(*work)
        assert any(stream.session.connections > 1 for stream in streams)
        ended = await asyncio.gather(*(s.reader.client.end_session(s.session_id) for s in streams))
        assert [answer.total_measurements for answer in ended] == [150] * len(streams)
    await check_sessions(fragile, person, streams)
    assert fragile.bugs_logged() == logged_before


async def _end_sessions_at_random(fragile: Fragile, *, for_s: float) -> int:
    """How many sessions were ended; now and then all of them at once."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(fragile.postgres.address.dsn())
    ended = 0
    until = time.monotonic() + for_s
    try:
        while time.monotonic() < until:
            await asyncio.sleep(random.random() * 0.4)
            ended += await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE datname LIKE $1 AND pid <> pg_backend_pid() ORDER BY random() LIMIT $2) AS chosen",
                f"{fragile.platform.plan.external['DB_NAME']}_%",
                random.choice([1, 2, 5, 100]),
            )
    finally:
        await connection.close()
    return ended


Ask = Callable[[], Awaitable[str]]


async def _ask_until(done: "asyncio.Task[int]", ask: Ask, answers: Counter[str]) -> None:
    while not done.done():
        answers[await ask()] += 1
        await asyncio.sleep(random.random() * 0.02)


def _questions(side: ReaderSide, platform: Platform, person: Person, reader: Reader) -> Iterator[Ask]:
    """Calls over gRPC that need the database, and those of other services that need another one's."""
    known: Mapping[str, Any] = {"metadata": person.metadata, "timeout": 20, "wait_for_ready": True}
    device, cartridge = reader.device_id, reader.cartridge_uid
    calls: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: side.devices.ListDevices(device_pb2.ListDevicesRequest(user_id=person.user_id), **known),
        lambda: side.cartridges.GetRemainingUses(
            cartridge_pb2.GetRemainingUsesRequest(cartridge_uid=cartridge), **known
        ),
        lambda: side.measurements.GetMeasurementHistory(
            measurement_pb2.GetHistoryRequest(user_id=person.user_id), **known
        ),
        lambda: side.measurements.StartSession(
            measurement_pb2.StartSessionRequest(device_id=device, cartridge_id=cartridge), **known
        ),
    )

    def asking(call: Callable[[], Awaitable[object]]) -> Ask:
        async def ask() -> str:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        return ask

    async def sign_in_and_look() -> str:
        async with platform.channel("auth") as auth_channel, platform.channel("user") as user_channel:
            try:
                await auth_pb2_grpc.AuthServiceStub(auth_channel).Login(
                    auth_pb2.LoginRequest(email=person.email, password=PASSWORD), timeout=20
                )
                await user_pb2_grpc.UserServiceStub(user_channel).GetProfile(
                    user_pb2.GetProfileRequest(user_id=person.user_id), metadata=person.metadata, timeout=20
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
        return "OK"

    yield from (asking(call) for call in calls)
    yield sign_in_and_look


def _graph_questions(platform: Platform, person: Person) -> Iterator[Ask]:
    queries = (
        "{ me { id displayName devices(first: 2) { edges { node { id serialNumber } } } } }",
        "{ me { measurementSessions(first: 2) { edges { node { id chainVerified device { id } result { value } } } } } }",
    )

    def asking(query: str) -> Ask:
        async def ask() -> str:
            answer = await platform.graphql(query, token=person.token)
            codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
            return min(codes, key=lambda code: code != "INTERNAL_SERVER_ERROR") if codes else "OK"

        return ask

    yield from map(asking, queries)
