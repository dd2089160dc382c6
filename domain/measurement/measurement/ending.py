"""The end of a session: its frames are examined, its result is fixed, and what follows from it is told.

A result (also one below or above the measuring range) is told as `measurement.completed`; outside the critical limits of a
session that is judged, `health_alert.triggered` follows. An invalid result is told as `measurement.invalid` alone: it is no
measurement, so nobody must count with it, and it raises no alert.
"""

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.ids import new_id
from domain.measurement.measurement import chain
from domain.measurement.measurement.conclusion import Examination
from domain.measurement.measurement.correction import differential
from domain.measurement.measurement.effective_time import FrameTimes
from domain.measurement.measurement.events import (
    FailedElectrodes,
    HealthAlertTriggered,
    MeasurementCompleted,
    MeasurementInvalid,
)
from domain.measurement.measurement.fingerprint import Fingerprints, fingerprints, mean_direction
from domain.measurement.measurement.frame_values import Calibrations, examine_stored
from domain.measurement.measurement.frames import StoredFrame, open_frame
from domain.measurement.measurement.models import (
    FINGERPRINT_DIMENSION,
    Coefficients,
    EndReason,
    Result,
    ResultTimes,
    Session,
    SessionRow,
    SessionStatus,
    coefficients_of,
    range_of,
)
from domain.measurement.measurement.ports import FingerprintIndex
from domain.measurement.measurement.quality import MeasuringRange
from domain.measurement.measurement.repository import FrameRepository
from domain.measurement.measurement.sealed_result import seal_result, session_of
from domain.messaging import Outbox
from domain.sealing import Sealer


class SessionEnding:
    """Ends sessions whose rows are locked."""

    def __init__(self, clock: Clock, sealer: Sealer, index: FingerprintIndex) -> None:
        self._clock = clock
        self._sealer = sealer
        self._index = index

    async def finish(self, session: AsyncSession, row: SessionRow, reason: EndReason) -> None:
        """Fix the result of a locked session. No frame can be added any more: its writer checks the status.

        Raises:
            SealBroken: a stored frame does not open.
        """
        within, coefficients = range_of(row), coefficients_of(row)
        examination = Examination(within, coefficients.gains)
        times = FrameTimes()
        direction = np.zeros(FINGERPRINT_DIMENSION)
        head, channels = chain.genesis(row.id), 0
        async for rows in FrameRepository(session).stream(row.id):
            frames = [open_frame(self._sealer, frame.session_id, frame.sequence, frame.sealed) for frame in rows]
            examined = examine_stored(frames, _calibrations(frames, coefficients, within))
            examination.add(examined, np.array([frame.raw for frame in frames]))
            for frame in frames:
                times.add(measured_at_us=frame.measured_at_us, received_at_us=frame.received_at_us)
            direction += _directions(frames).sum(axis=0)
            head, channels = rows[-1].chain_hash, frames[-1].raw.size
        now = self._clock.now()
        row.ended_at = row.issued_at = now
        row.end_reason = reason.value
        row.frame_count = examination.frame_count
        row.chain_head = head
        row.status = (SessionStatus.COMPLETED if examination.frame_count else SessionStatus.EMPTY).value
        if not examination.frame_count:
            await session.flush()
            return
        if reason is EndReason.IDLE:
            row.ended_at = times.last_arrival
        effective = times.effective()
        row.effective_at, row.time_basis = effective.at, effective.basis.value
        row.sealed_result = seal_result(self._sealer, row, examination.conclude(was_ended=reason is not EndReason.IDLE))
        await session.flush()
        fingerprint = mean_direction(direction)
        if fingerprint.any():
            await self._index.add(
                session, session_id=row.id, user_id=row.user_id, channels=channels, fingerprint=fingerprint
            )
        await self._tell(session, session_of(self._sealer, row))

    async def _tell(self, session: AsyncSession, ended: Session) -> None:
        result = ended.result
        if result is None or result.times is None:
            return
        times = result.times
        outbox = Outbox(session, sealer=self._sealer)
        if result.value is None:
            await outbox.add(_invalid(ended, result, times))
            return
        await outbox.add(_completed(ended, result, result.value, times))
        if alert := critical_alert(ended, result, times):
            await outbox.add(alert)


def critical_alert(ended: Session, result: Result, times: ResultTimes) -> HealthAlertTriggered | None:
    """The alert of a result outside the critical limits; None for a session that is not judged, and for an invalid result.

    Below range counts as critical where the limit of the range itself is not above the critical limit, above range alike.
    """
    if not ended.is_judged or result.value is None:
        return None
    low, high = ended.critical_low, ended.critical_high
    if low is not None and (result.value < low or (result.comparator == "<" and result.value <= low)):
        limit, is_low = low, True
    elif high is not None and (result.value > high or (result.comparator == ">" and result.value >= high)):
        limit, is_low = high, False
    else:
        return None
    return HealthAlertTriggered(
        alert_id=new_id(),
        user_id=ended.user_id,
        session_id=ended.id,
        kind="critical_low" if is_low else "critical_high",
        type_name_en=ended.type_name_en,
        type_name_ko=ended.type_name_ko,
        loinc_code=ended.loinc_code,
        value=result.value,
        comparator=result.comparator,
        decimal_places=result.decimal_places,
        limit=limit,
        unit=result.unit,
        confidence=result.confidence,
        measured_at=times.effective_at,
        issued_at=times.issued_at,
        time_basis=times.basis.value,
    )


def _completed(ended: Session, result: Result, value: float, times: ResultTimes) -> MeasurementCompleted:
    return MeasurementCompleted(
        session_id=ended.id,
        user_id=ended.user_id,
        device_id=ended.device_id,
        cartridge_uid=ended.cartridge_uid,
        category_code=ended.category_code,
        type_index=ended.type_index,
        type_name_en=ended.type_name_en,
        type_name_ko=ended.type_name_ko,
        loinc_code=ended.loinc_code,
        primary_value=value,
        comparator=result.comparator,
        decimal_places=result.decimal_places,
        unit=result.unit,
        confidence=result.confidence,
        verified=ended.verified,
        calibrated=ended.calibrated,
        frame_count=ended.frame_count,
        reference_low=ended.reference_low,
        reference_high=ended.reference_high,
        measured_at=times.effective_at,
        issued_at=times.issued_at,
        time_basis=times.basis.value,
    )


def _invalid(ended: Session, result: Result, times: ResultTimes) -> MeasurementInvalid:
    return MeasurementInvalid(
        session_id=ended.id,
        user_id=ended.user_id,
        device_id=ended.device_id,
        cartridge_uid=ended.cartridge_uid,
        category_code=ended.category_code,
        type_index=ended.type_index,
        type_name_en=ended.type_name_en,
        type_name_ko=ended.type_name_ko,
        reasons=[doubt.value for doubt in result.doubts],
        failed_electrodes=[
            FailedElectrodes(fault=fault.name.lower(), numbers=list(numbers))
            for fault, numbers in result.failed.items()
        ],
        electrode_count=result.electrodes,
        verified=ended.verified,
        calibrated=ended.calibrated,
        frame_count=ended.frame_count,
        measured_at=times.effective_at,
        issued_at=times.issued_at,
        time_basis=times.basis.value,
    )


def _calibrations(frames: list[StoredFrame], by: Coefficients, within: MeasuringRange) -> Calibrations:
    shape = (len(frames), frames[0].raw.size)
    return Calibrations(
        alpha=np.array([frame.alpha for frame in frames]),
        gains=np.broadcast_to(by.gains, shape),
        offsets=np.broadcast_to(by.offsets, shape),
        within=[within] * len(frames),
    )


def _directions(frames: list[StoredFrame]) -> Fingerprints:
    """Fingerprints of frames of one session, shape (frames, FINGERPRINT_DIMENSION)."""
    raw = np.array([frame.raw for frame in frames])
    background = np.array([[frame.s_ref, frame.alpha] for frame in frames])
    corrected = differential(raw, background[:, :1], background[:, 1:])
    return fingerprints(corrected, FINGERPRINT_DIMENSION)
