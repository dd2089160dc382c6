"""What happened to calibrations."""

from datetime import datetime
from typing import ClassVar

from domain.events import DomainEvent
from domain.hardware.calibration.models import Calibration


class CalibrationCompleted(DomainEvent):
    """A reader was calibrated for a cartridge type; what the values mean stands in `models`."""

    topic: ClassVar[str] = "calibration.completed"
    source: ClassVar[str] = "calibration"

    calibration_id: str
    device_id: str
    cartridge_category: int
    cartridge_type_index: int
    kind: str
    alpha: float
    channel_offsets: list[float]
    channel_gains: list[float]
    temp_coefficient: float
    humidity_coefficient: float
    accuracy_score: float
    calibrated_at: datetime
    expires_at: datetime

    @property
    def key(self) -> str:
        return self.device_id

    @classmethod
    def of(cls, calibration: Calibration) -> "CalibrationCompleted":
        return cls(
            calibration_id=calibration.calibration_id,
            device_id=calibration.device_id,
            cartridge_category=calibration.category,
            cartridge_type_index=calibration.type_index,
            kind=str(calibration.kind),
            alpha=calibration.alpha,
            channel_offsets=calibration.channel_offsets,
            channel_gains=calibration.channel_gains,
            temp_coefficient=calibration.temp_coefficient,
            humidity_coefficient=calibration.humidity_coefficient,
            accuracy_score=calibration.accuracy_score,
            calibrated_at=calibration.calibrated_at,
            expires_at=calibration.expires_at,
        )
