"""Results as HL7 FHIR R4 resources: an Observation for each session, in a Bundle of type `collection`.

Codes: LOINC for what was measured, UCUM for the unit, the v3 ObservationInterpretation code system for H, L, HH, LL and
N. A session that was unverified or uncalibrated claims no LOINC code, has the status `preliminary` and carries a tag
that says so: its number is not known to be the quantity that the code would name.

Source: https://hl7.org/fhir/R4/observation.html, https://hl7.org/fhir/R4/bundle.html.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from domain.ids import new_id
from domain.measurement.measurement.models import UNKNOWN_TYPE, Result, Session

Json = dict[str, Any]

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
INTERPRETATIONS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
QUALITY_TAGS = "urn:manpasik:fhir:measurement-quality"
CONFIDENCE = "urn:manpasik:fhir:measurement-confidence"
USER_IDS = "urn:manpasik:user"
DEVICE_IDS = "urn:manpasik:device"
CARTRIDGE_UIDS = "urn:manpasik:cartridge"
CARTRIDGE_TYPES = "urn:manpasik:cartridge-type"

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
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
    if result is None or session.ended_at is None:
        raise ValueError(f"session {session.id} has no result")
    found: Json = {
        "resourceType": "Observation",
        "id": session.id,
        "status": "final" if _is_final(session) else "preliminary",
        "category": [{"coding": [_coding(CATEGORIES, "laboratory", "Laboratory")]}],
        "code": _code(session),
        "subject": _reference("Patient", USER_IDS, session.user_id),
        "effectiveDateTime": _instant(session.ended_at),
        "issued": _instant(session.ended_at),
        "device": {
            "type": "Device",
            "identifier": {"system": DEVICE_IDS, "value": session.device_id},
            "display": f"ManPaSik reader {session.device_id}",
        },
        "valueQuantity": _quantity(result.value, result.unit),
        "extension": [{"url": CONFIDENCE, "valueDecimal": round(result.confidence, 4)}],
    }
    if session.cartridge_uid:
        found["identifier"] = [{"system": CARTRIDGE_UIDS, "value": f"{session.cartridge_uid}/{session.id}"}]
    if tags := _tags(session):
        found["meta"] = {"tag": tags}
    if _is_final(session):
        if reading := interpretation(session, result):
            found["interpretation"] = [{"coding": [_coding(INTERPRETATIONS, reading, _INTERPRETATION_TEXT[reading])]}]
        if limits := _reference_range(session, result):
            found["referenceRange"] = [limits]
    return found


def interpretation(session: Session, result: Result) -> str | None:
    """LL, L, N, H or HH by the limits of the cartridge type; None when it has none. Limits themselves are normal."""
    value = result.value
    if session.critical_low is not None and value < session.critical_low:
        return "LL"
    if session.critical_high is not None and value > session.critical_high:
        return "HH"
    if session.reference_low is not None and value < session.reference_low:
        return "L"
    if session.reference_high is not None and value > session.reference_high:
        return "H"
    return "N" if session.reference_low is not None or session.reference_high is not None else None


def _is_final(session: Session) -> bool:
    return session.verified and session.calibrated


def _code(session: Session) -> Json:
    own = _coding(CARTRIDGE_TYPES, f"{session.category_code}-{session.type_index}", session.type_name_en)
    if not session.verified or session.type_name_en == UNKNOWN_TYPE:
        return {"text": "Unverified measurement"}
    if session.loinc_code and _is_final(session):
        return {"coding": [_coding(LOINC, session.loinc_code, None), own], "text": session.type_name_en}
    return {"coding": [own], "text": session.type_name_en}


def _tags(session: Session) -> list[Json]:
    tags = []
    if not session.verified:
        tags.append(_coding(QUALITY_TAGS, "unverified", "Reader or cartridge not known to the platform"))
    if not session.calibrated:
        tags.append(_coding(QUALITY_TAGS, "uncalibrated", "Signal without calibration, in arbitrary units"))
    return tags


def _reference_range(session: Session, result: Result) -> Json:
    limits: Json = {}
    if session.reference_low is not None:
        limits["low"] = _quantity(session.reference_low, result.unit)
    if session.reference_high is not None:
        limits["high"] = _quantity(session.reference_high, result.unit)
    return limits


def _reference(kind: str, system: str, identifier: str) -> Json:
    found: Json = {"type": kind, "identifier": {"system": system, "value": identifier}}
    if _FHIR_ID.fullmatch(identifier):
        found["reference"] = f"{kind}/{identifier}"
    return found


def _quantity(value: float, unit: str) -> Json:
    found: Json = {"value": value}
    if unit:
        found |= {"unit": unit, "system": UCUM, "code": unit}
    return found


def _coding(system: str, code: str, display: str | None) -> Json:
    return {"system": system, "code": code} | ({"display": display} if display else {})


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
