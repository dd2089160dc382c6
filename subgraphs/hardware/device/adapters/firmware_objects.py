"""Firmware images in the platform's object store."""

from datetime import timedelta

from subgraphs.runtime.objects import ObjectStore


class FirmwareObjects:
    """The port `FirmwareStore` on an object store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def put(self, key: str, content: bytes) -> None:
        """Store an image under its key."""
        await self._objects.put(key, content)

    async def signed_url(self, key: str, expires_in: timedelta) -> str:
        """An address from which anyone can fetch the image until it expires."""
        return await self._objects.signed_url(key, expires_in=expires_in)
