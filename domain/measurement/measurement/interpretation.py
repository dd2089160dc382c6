"""What a result means by the limits of its cartridge type, as codes of HL7 v3 ObservationInterpretation.

A limit itself is normal. A result below or above the measuring range stands for every value beyond the limit of that
range, so it is told low, high or critical only where that holds for all of them.

Source: https://terminology.hl7.org/CodeSystem-v3-ObservationInterpretation.html (LL, L, N, H, HH).
"""

from domain.measurement.measurement.models import Result, Session


def interpretation(session: Session, result: Result) -> str | None:
    """LL, L, N, H or HH; None without limits, for an invalid result, and for a session that is not judged."""
    value = result.value
    if value is None or not session.is_judged:
        return None
    low, high = (session.reference_low, session.critical_low), (session.reference_high, session.critical_high)
    match result.comparator:
        case "<":
            return _below(value, low, has_high=session.reference_high is not None)
        case ">":
            return _above(value, high, has_low=session.reference_low is not None)
    if session.critical_low is not None and value < session.critical_low:
        return "LL"
    if session.critical_high is not None and value > session.critical_high:
        return "HH"
    if session.reference_low is not None and value < session.reference_low:
        return "L"
    if session.reference_high is not None and value > session.reference_high:
        return "H"
    return "N" if session.reference_low is not None or session.reference_high is not None else None


def _below(limit: float, low: tuple[float | None, float | None], *, has_high: bool) -> str | None:
    """Of every value below a limit. `low`: reference and critical."""
    reference, critical = low
    if critical is not None and limit <= critical:
        return "LL"
    if reference is not None:
        return "L" if limit <= reference else None
    return "N" if has_high else None


def _above(limit: float, high: tuple[float | None, float | None], *, has_low: bool) -> str | None:
    """Of every value above a limit. `high`: reference and critical."""
    reference, critical = high
    if critical is not None and limit >= critical:
        return "HH"
    if reference is not None:
        return "H" if limit >= reference else None
    return "N" if has_low else None
