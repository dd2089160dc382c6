"""What the device service needs from the outside."""

from datetime import timedelta
from typing import Protocol


class FirmwareStore(Protocol):
    """Where firmware images lie."""

    async def put(self, key: str, content: bytes) -> None:
        """Store an image under its key; storing the same again changes nothing."""
        ...

    async def signed_url(self, key: str, expires_in: timedelta) -> str:
        """An address from which anyone can fetch the image with GET until it expires."""
        ...
