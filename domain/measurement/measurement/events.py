"""What measurement tells the others."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from domain.events import DomainEvent

Comparator = Literal["", "<", ">"]
TimeBasis = Literal["reader", "unknown"]


class MeasurementCompleted(DomainEvent):
    """A session has ended with a result. Carries the health value itself, because analysis and coaching need it.

    Args:
        primary_value: in `unit` (UCUM), rounded to `decimal_places`; of an uncalibrated session the corrected signal in
            arbitrary units.
        comparator: `<` or `>` where the result lies below or above the measuring range; `primary_value` is then the limit.
        confidence: 0 to 1.
        measured_at: when the value was true, by the reader's clock; with the basis `unknown` when it came in, which was later.
        issued_at: when the result became known.
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
    comparator: Comparator = ""
    decimal_places: int = 4
    unit: str
    confidence: float
    verified: bool
    calibrated: bool
    frame_count: int
    reference_low: float | None
    reference_high: float | None
    measured_at: datetime
    issued_at: datetime | None = None
    time_basis: TimeBasis = "reader"

    @property
    def key(self) -> str:
        # The person, not the session: whoever follows a person's results must get them in order.
        return self.user_id


class FailedElectrodes(BaseModel):
    """Electrodes with the same fault: dead, reversed, saturated, stuck or outlier; their numbers count from 1."""

    model_config = ConfigDict(frozen=True)

    fault: str
    numbers: list[int]


class MeasurementInvalid(DomainEvent):
    """A session has ended, and its signals cannot be trusted: there is no value, and the person should measure again.

    Args:
        electrode_count: how many electrodes there are, failed or not.
        reasons: why, of electrodes_failed, electrodes_disagree, surroundings, interference, frames_disagree, implausible, cut_short.
    """

    topic = "measurement.invalid"
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
    reasons: list[str]
    failed_electrodes: list[FailedElectrodes]
    electrode_count: int
    verified: bool
    calibrated: bool
    frame_count: int
    measured_at: datetime
    issued_at: datetime | None = None
    time_basis: TimeBasis = "reader"

    @property
    def key(self) -> str:
        return self.user_id


class HealthAlertTriggered(DomainEvent):
    """A verified, calibrated result lies outside the critical limits of its cartridge type.

    Args:
        value, comparator, decimal_places: as of `MeasurementCompleted`.
    """

    topic = "health_alert.triggered"
    source = "measurement"
    carries_health_data = True

    alert_id: str
    user_id: str
    session_id: str
    kind: Literal["critical_low", "critical_high"]
    type_name_en: str
    type_name_ko: str
    loinc_code: str = ""
    value: float
    comparator: Comparator = ""
    decimal_places: int | None = None
    limit: float
    unit: str
    confidence: float
    measured_at: datetime
    issued_at: datetime | None = None
    time_basis: TimeBasis = "reader"

    @property
    def key(self) -> str:
        return self.user_id
