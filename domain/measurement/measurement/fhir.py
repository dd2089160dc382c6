"""Results as HL7 FHIR R4 resources: an Observation for each session, in a Bundle of type `collection`.

Codes: LOINC for what was measured, UCUM for the unit, the v3 ObservationInterpretation code system for H, L, HH, LL and
N. A session that was unverified or uncalibrated claims no LOINC code, has the status `preliminary` and carries a tag
that says so: its number is not known to be the quantity that the code would name.

A result outside the measuring range has the limit as its value, with a comparator. An invalid one has no value but the
reason for that (`error`: the source system failed), says in a note which electrodes failed, and has the status
`cancelled`: the measurement was not completed. Neither value, interpretation nor reference range is given for it.

Source: https://hl7.org/fhir/R4/observation.html, https://hl7.org/fhir/R4/bundle.html.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from domain.ids import new_id
from domain.measurement.measurement.conclusion import Doubt
from domain.measurement.measurement.effective_time import TimeBasis
from domain.measurement.measurement.interpretation import interpretation
from domain.measurement.measurement.models import UNKNOWN_TYPE, Result, ResultTimes, Session
from domain.measurement.measurement.quality import ResultStatus
from domain.quantities import number, ranges
from domain.units import fits

Json = dict[str, Any]

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
INTERPRETATIONS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
QUALITY_TAGS = "urn:manpasik:fhir:measurement-quality"
ABSENT_REASONS = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
ABSENT_EXTENSION = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
CONFIDENCE = "urn:manpasik:fhir:measurement-confidence"
USER_IDS = "urn:manpasik:user"
DEVICE_IDS = "urn:manpasik:device"
CARTRIDGE_UIDS = "urn:manpasik:cartridge"
CARTRIDGE_TYPES = "urn:manpasik:cartridge-type"

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_DOUBT_TEXT = {
    Doubt.ELECTRODES_FAILED: "too many electrodes failed",
    Doubt.ELECTRODES_DISAGREE: "the electrodes disagree",
    Doubt.SURROUNDINGS: "temperature or humidity were outside the operating conditions",
    Doubt.INTERFERENCE: "an interference reached all electrodes, or they do not fit their calibration",
    Doubt.FRAMES_DISAGREE: "the signal changed during the measurement",
    Doubt.IMPLAUSIBLE: "no sample gives such a signal",
    Doubt.CUT_SHORT: "the measurement broke off",
}
_INTERPRETATION_TEXT = {"LL": "Critical low", "L": "Low", "N": "Normal", "H": "High", "HH": "Critical high"}


def bundle(sessions: Sequence[Session], *, at: datetime) -> Json:
    """A Bundle of the sessions' Observations, in their order; every session must have a result."""
    found: Json = {
        "resourceType": "Bundle",
        "id": new_id(),
        "type": "collection",
        "timestamp": _instant(at),
    }
    if sessions:  # FHIR has no empty lists
        found["entry"] = [{"fullUrl": f"urn:uuid:{s.id}", "resource": observation(s)} for s in sessions]
    return found


def observation(session: Session) -> Json:
    """One session with a result.

    Raises:
        ValueError: the session has no result.
    """
    result = session.result
    if result is None or result.times is None:
        raise ValueError(f"session {session.id} has no result")
    found: Json = {
        "resourceType": "Observation",
        "id": session.id,
        "status": _status(session, result),
        "category": [{"coding": [_coding(CATEGORIES, "laboratory", "Laboratory")]}],
        "code": _code(session),
        "subject": _reference("Patient", USER_IDS, session.user_id),
        **_effective(result.times),
        "issued": _instant(result.times.issued_at),
        "device": {
            "type": "Device",
            "identifier": {"system": DEVICE_IDS, "value": session.device_id},
            "display": f"ManPaSik reader {session.device_id}",
        },
        **_value(result),
        "extension": [{"url": CONFIDENCE, "valueDecimal": result.confidence}],
    }
    if session.cartridge_uid:
        found["identifier"] = [{"system": CARTRIDGE_UIDS, "value": f"{session.cartridge_uid}/{session.id}"}]
    if tags := _tags(session):
        found["meta"] = {"tag": tags}
    if session.is_judged and result.value is not None:
        if reading := interpretation(session, result):
            found["interpretation"] = [{"coding": [_coding(INTERPRETATIONS, reading, _INTERPRETATION_TEXT[reading])]}]
        if limits := _reference_range(session, result):
            found["referenceRange"] = [limits]
    return found


def _effective(times: ResultTimes) -> Json:
    """The time at which the value was true; a time that is not known is absent, with the reason."""
    if times.basis is TimeBasis.UNKNOWN:
        return {"_effectiveDateTime": {"extension": [{"url": ABSENT_EXTENSION, "valueCode": "unknown"}]}}
    return {"effectiveDateTime": _instant(times.effective_at)}


def _status(session: Session, result: Result) -> str:
    if result.status is ResultStatus.INVALID:
        return "cancelled"
    return "final" if session.is_judged else "preliminary"


def _value(result: Result) -> Json:
    if result.value is None:
        absent = {"coding": [_coding(ABSENT_REASONS, "error", "Error")], "text": _why_invalid(result)}
        found: Json = {"dataAbsentReason": absent}
        if result.failed:
            found["note"] = [{"text": _failed_electrodes(result)}]
        return found
    quantity = _quantity(result.value, result.unit, result.decimal_places)
    return {"valueQuantity": quantity | ({"comparator": result.comparator} if result.comparator else {})}


def _why_invalid(result: Result) -> str:
    why = "; ".join(_DOUBT_TEXT[doubt] for doubt in result.doubts)
    return f"The signals cannot be trusted: {why}." if why else "The signals cannot be trusted."


def _failed_electrodes(result: Result) -> str:
    kinds = "; ".join(f"{fault.name.lower()} {ranges(numbers)}" for fault, numbers in result.failed.items())
    return f"Failed electrodes, of {result.electrodes}: {kinds}."


def _code(session: Session) -> Json:
    own = _coding(CARTRIDGE_TYPES, f"{session.category_code}-{session.type_index}", session.type_name_en)
    if not session.verified or session.type_name_en == UNKNOWN_TYPE:
        return {"text": "Unverified measurement"}
    if session.loinc_code and session.is_judged and fits(session.loinc_code, session.unit):
        return {"coding": [_coding(LOINC, session.loinc_code, None), own], "text": session.type_name_en}
    return {"coding": [own], "text": session.type_name_en}


def _tags(session: Session) -> list[Json]:
    tags = []
    if not session.verified:
        tags.append(_coding(QUALITY_TAGS, "unverified", "Reader or cartridge not known to the platform"))
    if not session.calibrated:
        tags.append(_coding(QUALITY_TAGS, "uncalibrated", "Signal without calibration, in arbitrary units"))
    if session.verified and session.calibrated and not session.within.is_known:
        tags.append(_coding(QUALITY_TAGS, "range-unknown", "No measuring range is known for this cartridge type"))
    return tags


def _reference_range(session: Session, result: Result) -> Json:
    limits: Json = {}
    if session.reference_low is not None:
        limits["low"] = _quantity(session.reference_low, result.unit, result.decimal_places)
    if session.reference_high is not None:
        limits["high"] = _quantity(session.reference_high, result.unit, result.decimal_places)
    return limits


def _reference(kind: str, system: str, identifier: str) -> Json:
    found: Json = {"type": kind, "identifier": {"system": system, "value": identifier}}
    if _FHIR_ID.fullmatch(identifier):
        found["reference"] = f"{kind}/{identifier}"
    return found


def _quantity(value: float, unit: str, decimal_places: int) -> Json:
    found: Json = {"value": number(value, decimal_places)}
    if unit:
        found |= {"unit": unit, "system": UCUM, "code": unit}
    return found


def _coding(system: str, code: str, display: str | None) -> Json:
    return {"system": system, "code": code} | ({"display": display} if display else {})


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
