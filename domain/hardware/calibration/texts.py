"""The state of a calibration as a sentence, in Korean and English."""

from typing import Literal

from domain.hardware.calibration.models import CalibrationStatus, StatusReport

_LOT_CHANGED = {
    "en": "The cartridges are of a new lot: check the device with reference solutions.",
    "ko": "카트리지 로트가 바뀌었습니다. 기준 용액으로 기기를 점검하세요.",
}
_MESSAGES = {
    CalibrationStatus.VALID: {
        "en": "Calibrated; valid for {days} more days.",
        "ko": "보정이 유효합니다. {days}일 남았습니다.",
    },
    CalibrationStatus.EXPIRING: {
        "en": "The calibration ends in {days} days: calibrate soon.",
        "ko": "보정이 {days}일 후 만료됩니다. 곧 다시 보정하세요.",
    },
    CalibrationStatus.EXPIRED: {
        "en": "The calibration has expired: calibrate before you measure.",
        "ko": "보정이 만료되었습니다. 측정하기 전에 보정하세요.",
    },
    CalibrationStatus.NEEDED: {
        "en": "This device has never been calibrated for this cartridge type.",
        "ko": "이 카트리지 종류에 대해 기기를 보정한 적이 없습니다.",
    },
}


def status_message(report: StatusReport, locale: Literal["ko", "en"]) -> str:
    """The report as one sentence for the reader's owner."""
    if report.status is CalibrationStatus.NEEDED and report.lot_changed:
        return _LOT_CHANGED[locale]
    return _MESSAGES[report.status][locale].format(days=report.days_until_expiry)
