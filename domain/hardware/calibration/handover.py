"""What happens to calibrations when a reader gets another owner."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.calibration.repository import CalibrationRepository


class FieldCalibrationsOfOwners:
    """The port `FieldCalibrations` of the device service.

    What an earlier owner has fitted would bend what the next one measures, and its reference values are the earlier
    owner's health data. What the factory has measured stays, and is in force again. Results keep the numbers that they
    were made with.
    """

    async def forget(self, session: AsyncSession, device_id: str) -> None:
        """Remove the field calibrations of a reader."""
        await CalibrationRepository(session).remove_field(device_id)
