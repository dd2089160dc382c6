"""What the device service needs from the outside and from the group's other services."""

from datetime import timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.ids import UserId


class Allowances(Protocol):
    """Limits of people's plans."""

    async def max_devices(self, user_id: UserId) -> int | None:
        """How many readers a person's plan allows; None while it is unknown."""
        ...


class ClaimAttempts(Protocol):
    """Counts refused registrations of an account, in all processes together."""

    async def check(self, user_id: UserId) -> None:
        """Raises: TooManyClaims: so many were refused that no further one is looked at now."""
        ...

    async def refused(self, user_id: UserId) -> None:
        """Count one."""
        ...


class FieldCalibrations(Protocol):
    """The calibrations that owners have made."""

    async def forget(self, session: AsyncSession, device_id: str) -> None:
        """Remove what earlier owners have fitted: it must not bend what the next one measures."""
        ...


class FirmwareStore(Protocol):
    """Where firmware images lie."""

    async def put(self, key: str, content: bytes) -> None:
        """Store an image under its key; storing the same again changes nothing."""
        ...

    async def signed_url(self, key: str, expires_in: timedelta) -> str:
        """An address from which anyone can fetch the image with GET until it expires."""
        ...
