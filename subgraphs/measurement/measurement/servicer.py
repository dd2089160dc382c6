"""MeasurementService over gRPC."""

# ruff: noqa: ARG002, N802 - gRPC's generated base class names methods and arguments

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import grpc.aio
import numpy as np
import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from manpasik.v1 import measurement_pb2, measurement_pb2_grpc

from domain.errors import InvalidInput
from domain.measurement.measurement.correction import REFERENCE_HUMIDITY_PCT, REFERENCE_TEMP_C
from domain.measurement.measurement.errors import SessionChanged
from domain.measurement.measurement.frame_values import Answer
from domain.measurement.measurement.frames import Reading
from domain.measurement.measurement.ingest import UNTIMED, FrameWriter, LiveSession
from domain.measurement.measurement.models import Session, SessionFilter
from domain.measurement.measurement.service import MeasurementService
from domain.measurement.measurement.start import SessionStarter, StartRequest
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database

FULL_NAME = "manpasik.v1.MeasurementService"

_Context = grpc.aio.ServicerContext[Any, Any]


class MeasurementServicer(measurement_pb2_grpc.MeasurementServiceServicer):
    def __init__(
        self, starter: SessionStarter, service: MeasurementService, writer: FrameWriter, database: Database
    ) -> None:
        self._starter = starter
        self._service = service
        self._writer = writer
        self._database = database

    async def StartSession(
        self, request: measurement_pb2.StartSessionRequest, context: _Context
    ) -> measurement_pb2.StartSessionResponse:
        started = await self._starter.start(
            current().principal,
            StartRequest(
                device_id=request.device_id,
                cartridge_uid=request.cartridge_id,
                user_id=request.user_id,
                category_code=request.cartridge_category,
                type_index=request.cartridge_type_index,
                key=_idempotency_key(context),
            ),
        )
        return measurement_pb2.StartSessionResponse(session_id=started.id, started_at=_timestamp(started.started_at))

    async def StreamMeasurement(
        self, request_iterator: AsyncIterable[measurement_pb2.MeasurementData], context: _Context
    ) -> AsyncIterator[measurement_pb2.MeasurementResult]:
        frames = aiter(request_iterator)
        first = await anext(frames, None)
        if first is None:
            return
        async with self._database.transaction() as session:
            state = await self._service.open_stream(session, current().principal, first.session_id)
        live = self._writer.open(state)
        reading = asyncio.create_task(self._take_in(first, frames, live))
        try:
            while answers := await live.answers():
                for answer in answers:
                    yield encode_answer(live, answer)
        finally:
            reading.cancel()
            self._writer.close(live)

    async def _take_in(
        self,
        first: measurement_pb2.MeasurementData,
        frames: AsyncIterator[measurement_pb2.MeasurementData],
        live: LiveSession,
    ) -> None:
        """Queue the frames of a stream, no faster than they are written; the end of it, or an error, goes to `live`."""
        submit, named = self._writer.submit, first.session_id
        try:
            submit(live, decode_frame(first))
            async for message in frames:
                if message.session_id != named:
                    raise SessionChanged
                await live.room()
                submit(live, decode_frame(message))
        except Exception as error:  # noqa: BLE001 - a task of its own: the stream raises it after the answers before it
            live.finish(error)
        else:
            live.finish()

    async def EndSession(
        self, request: measurement_pb2.EndSessionRequest, context: _Context
    ) -> measurement_pb2.EndSessionResponse:
        async with self._database.transaction() as session:
            ended = await self._service.end(session, current().principal, request.session_id)
        return measurement_pb2.EndSessionResponse(
            session_id=ended.id, total_measurements=ended.frame_count, ended_at=_timestamp(ended.ended_at)
        )

    async def GetMeasurementHistory(
        self, request: measurement_pb2.GetHistoryRequest, context: _Context
    ) -> measurement_pb2.GetHistoryResponse:
        wanted = SessionFilter(
            since=_moment(request.start_time, "start_time") if request.HasField("start_time") else None,
            until=_moment(request.end_time, "end_time") if request.HasField("end_time") else None,
        )
        async with self._database.transaction() as session:  # not `read`: the look at the results is logged
            found, total = await self._service.history(
                session,
                current().principal,
                user_id=request.user_id,
                wanted=wanted,
                limit=request.limit,
                offset=request.offset,
            )
        return measurement_pb2.GetHistoryResponse(
            measurements=[summary for session in found if (summary := _summary(session)) is not None],
            total_count=total,
        )

    async def ExportSingleMeasurement(
        self, request: measurement_pb2.ExportSingleMeasurementRequest, context: _Context
    ) -> measurement_pb2.ExportFHIRResponse:
        async with self._database.transaction() as session:
            bundle = await self._service.export_one(session, current().principal, request.session_id)
        return _export(bundle)

    async def ExportToFHIRObservations(
        self, request: measurement_pb2.ExportToFHIRObservationsRequest, context: _Context
    ) -> measurement_pb2.ExportFHIRResponse:
        async with self._database.transaction() as session:
            bundle = await self._service.export_range(
                session,
                current().principal,
                user_id=request.user_id,
                from_date=request.from_date,
                to_date=request.to_date,
            )
        return _export(bundle)


def _idempotency_key(context: _Context) -> str:
    """What the caller names a start by, in the metadata `idempotency-key`; empty when it does not."""
    return next((str(value) for name, value in context.invocation_metadata() or () if name == "idempotency-key"), "")


def decode_frame(message: measurement_pb2.MeasurementData) -> Reading:
    """A frame as the domain takes it; surroundings that were not sent are the reference conditions."""
    temp_c, humidity_pct, pressure_kpa = REFERENCE_TEMP_C, REFERENCE_HUMIDITY_PCT, 0.0
    if message.HasField("env_meta"):
        surroundings = message.env_meta
        temp_c, humidity_pct = surroundings.temp_c, surroundings.humidity_pct
        pressure_kpa = surroundings.pressure_kpa
    measured_at_us = UNTIMED
    if message.HasField("timestamp"):
        moment = message.timestamp
        measured_at_us = moment.seconds * 1_000_000 + moment.nanos // 1000
    differential = message.differential
    return Reading(
        measured_at_us=measured_at_us,
        raw=np.array(message.raw_channels, dtype=np.float64),
        s_det=differential.s_det,
        s_ref=differential.s_ref,
        reader_alpha=differential.alpha,
        temp_c=temp_c,
        humidity_pct=humidity_pct,
        pressure_kpa=pressure_kpa,
        env=1.0,
    )


_FINGERPRINT_TAG = bytes([measurement_pb2.MeasurementResult.FINGERPRINT_VECTOR_FIELD_NUMBER << 3 | 2])


def encode_answer(live: LiveSession, answer: Answer) -> measurement_pb2.MeasurementResult:
    """The message for an answer.

    The fingerprint goes in as the wire has it (a packed field of little-endian floats): the message parses that in 2
    microseconds, where adding 896 numbers one by one takes 30.
    """
    message = measurement_pb2.MeasurementResult(
        session_id=live.session_id,
        primary_value=answer.primary_value,
        unit=live.unit,
        confidence=answer.confidence,
        processed_at=Timestamp(
            seconds=answer.received_at_us // 1_000_000, nanos=answer.received_at_us % 1_000_000 * 1000
        ),
    )
    fingerprint = answer.fingerprint
    message.MergeFromString(_FINGERPRINT_TAG + _varint(len(fingerprint)) + fingerprint)
    return message


def _varint(number: int) -> bytes:
    """Base-128 varint of a number that is not negative. Source: Protocol Buffers encoding."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _summary(session: Session) -> measurement_pb2.MeasurementSummary | None:
    if session.result is None or session.result.times is None:
        return None
    return measurement_pb2.MeasurementSummary(
        session_id=session.id,
        cartridge_type=session.type_name_en,
        primary_value=float("nan") if session.result.value is None else session.result.value,
        unit=session.result.unit,
        measured_at=_timestamp(session.result.times.effective_at),
    )


def _export(bundle: Mapping[str, Any]) -> measurement_pb2.ExportFHIRResponse:
    return measurement_pb2.ExportFHIRResponse(
        fhir_bundle_json=orjson.dumps(bundle).decode(), resource_count=len(bundle.get("entry", ()))
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _moment(timestamp: Timestamp, field: str) -> datetime:
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{field} is not a time that exists.", field=field) from error
