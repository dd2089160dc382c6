"""What can go wrong with calibrations."""

from domain.errors import InvalidInput, NotFound, WrongState


class CalibrationNotFound(NotFound):
    """No calibration is in force for the reader and cartridge type."""

    reason = "CALIBRATION_NOT_FOUND"


class CalibrationInvalid(InvalidInput):
    """Values that no calibration can have."""

    reason = "CALIBRATION_INVALID"


class CalibrationFitPoor(WrongState):
    """The reference points do not lie close enough to a line; the message names the figures."""

    reason = "CALIBRATION_FIT_POOR"


class CalibrationUnitOutdated(WrongState):
    """The calibration in force is in another unit than the type is now."""

    reason = "CALIBRATION_UNIT_OUTDATED"
