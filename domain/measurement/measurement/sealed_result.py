"""The result of a session as it is sealed in its row, and opened again with the session.

`value` and `spread` are sealed before rounding. A result that was sealed before there were statuses is judged when it is
opened, by the measuring range that its session has.
"""

import math
from collections.abc import Mapping, Sequence

from domain.measurement.measurement.conclusion import Conclusion, Doubt
from domain.measurement.measurement.effective_time import TimeBasis
from domain.measurement.measurement.electrodes import Fault
from domain.measurement.measurement.models import (
    EndReason,
    Result,
    ResultTimes,
    Session,
    SessionRow,
    SessionStatus,
    range_of,
)
from domain.measurement.measurement.quality import INVALID, ResultStatus, report
from domain.quantities import rounded
from domain.sealing import SealBroken, Sealer

CONFIDENCE_PLACES = 2


def seal_result(sealer: Sealer, row: SessionRow, found: Conclusion) -> bytes:
    """The bytes for `SessionRow.sealed_result`."""
    content = {
        "value": found.value,
        "confidence": found.confidence,
        "spread": found.spread,
        "status": found.status.value,
        "failed": {fault.name.lower(): list(numbers) for fault, numbers in found.failed.items()},
        "electrodes": found.electrodes,
        "doubts": [doubt.value for doubt in found.doubts],
    }
    return sealer.seal_json(content, context=_context(row.id))


def open_result(sealer: Sealer, row: SessionRow) -> Result | None:
    """The result of a session; None while it has none.

    Raises:
        SealBroken: the bytes do not open, or what they hold is no result.
    """
    if row.sealed_result is None:
        return None
    match sealer.open_json(row.sealed_result, context=_context(row.id)):
        case {"value": float(value), "confidence": float(trust), "spread": float(spread), **rest}:
            pass
        case _:
            raise SealBroken(f"the sealed result of session {row.id} has an unknown form")
    within = range_of(row)
    shown = report(value, trust, within) if math.isfinite(value) else INVALID
    if rest.get("status", shown.status.value) == ResultStatus.INVALID:
        shown = INVALID
    is_valid = shown.status is ResultStatus.VALID
    return Result(
        status=shown.status,
        value=shown.value,
        comparator=shown.comparator,
        confidence=rounded(trust, CONFIDENCE_PLACES),
        spread=rounded(spread, min(within.decimal_places + 1, 6)) if is_valid else None,
        unit=row.unit,
        decimal_places=within.decimal_places,
        times=times_of(row),
        failed=_failed(rest.get("failed")),
        electrodes=count if isinstance(count := rest.get("electrodes"), int) else 0,
        doubts=_doubts(rest.get("doubts")) if shown.status is ResultStatus.INVALID else (),
    )


def session_of(sealer: Sealer, row: SessionRow, *, counted: int = 0) -> Session:
    """A session as callers see it.

    Args:
        counted: the frames so far, of a session that has not ended.
    """
    return Session(
        id=row.id,
        user_id=row.user_id,
        device_id=row.device_id,
        cartridge_uid=row.cartridge_uid,
        category_code=row.category_code,
        type_index=row.type_index,
        verified=row.verified,
        calibrated=row.calibrated,
        cartridge_known=row.cartridge_known,
        type_name_en=row.type_name_en,
        type_name_ko=row.type_name_ko,
        unit=row.unit,
        loinc_code=row.loinc_code,
        reference_low=row.reference_low,
        reference_high=row.reference_high,
        critical_low=row.critical_low,
        critical_high=row.critical_high,
        within=range_of(row),
        status=SessionStatus(row.status),
        started_at=row.started_at,
        ended_at=row.ended_at,
        end_reason=EndReason(row.end_reason) if row.end_reason else None,
        frame_count=counted if row.frame_count is None else row.frame_count,
        recalibrated_at=row.recalibrated_at,
        result=open_result(sealer, row),
    )


def times_of(row: SessionRow) -> ResultTimes | None:
    """The times of a session's result; None while it has none."""
    if row.ended_at is None:
        return None
    return ResultTimes(
        effective_at=row.effective_at or row.ended_at,
        basis=TimeBasis(row.time_basis) if row.time_basis else TimeBasis.UNKNOWN,
        issued_at=row.issued_at or row.ended_at,
    )


def _failed(stored: object) -> Mapping[Fault, Sequence[int]]:
    if not isinstance(stored, Mapping):
        return {}
    return {Fault[str(name).upper()]: tuple(map(int, numbers)) for name, numbers in stored.items()}


def _doubts(stored: object) -> Sequence[Doubt]:
    return tuple(Doubt(name) for name in stored) if isinstance(stored, Sequence) else ()


def _context(session_id: str) -> str:
    return f"measurement_sessions.result:{session_id}"
