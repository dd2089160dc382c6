"""What measurement tells the others."""

from datetime import datetime
from typing import Literal

from domain.events import DomainEvent


class MeasurementCompleted(DomainEvent):
    """A session has ended with a result. Carries the health value itself, because analysis and coaching need it.

    Args:
        primary_value: in `unit` (UCUM); of an uncalibrated session the corrected signal in arbitrary units.
        confidence: 0 to 1.
        verified: whether reader and cartridge were known to the platform.
    """

    topic = "measurement.completed"
    source = "measurement"
    carries_health_data = True

    session_id: str
    user_id: str
    device_id: str
    cartridge_uid: str
    category_code: int
    type_index: int
    type_name_en: str
    type_name_ko: str
    loinc_code: str
    primary_value: float
    unit: str
    confidence: float
    verified: bool
    calibrated: bool
    frame_count: int
    reference_low: float | None
    reference_high: float | None
    measured_at: datetime

    @property
    def key(self) -> str:
        # The person, not the session: whoever follows a person's results must get them in order.
        return self.user_id


class HealthAlertTriggered(DomainEvent):
    """A verified, calibrated result lies outside the critical limits of its cartridge type."""

    topic = "health_alert.triggered"
    source = "measurement"
    carries_health_data = True

    alert_id: str
    user_id: str
    session_id: str
    kind: Literal["critical_low", "critical_high"]
    type_name_en: str
    type_name_ko: str
    value: float
    limit: float
    unit: str
    confidence: float
    measured_at: datetime

    @property
    def key(self) -> str:
        return self.user_id
