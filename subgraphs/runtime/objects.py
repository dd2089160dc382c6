"""The object store: local files, or S3 and MinIO, with addresses that are signed and end by themselves."""

import hashlib
import hmac
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

import obstore
from obstore.store import LocalStore, S3Store
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from domain.errors import Forbidden, InvalidInput, NotFound
from domain.sealing import derive_key
from subgraphs.runtime.settings import Settings

_LONGEST_KEY = 512
_EXPIRY = re.compile(r"[0-9]{1,12}", re.ASCII)


class ObjectNotFound(NotFound):
    """No object has this key."""

    reason = "OBJECT_NOT_FOUND"


class AddressRefused(Forbidden):
    """The signed address was changed, or its time is over."""

    reason = "ADDRESS_REFUSED"


class ObjectKeyInvalid(InvalidInput):
    """The text cannot name an object."""

    reason = "OBJECT_KEY_INVALID"


def checked_key(key: str) -> str:
    """The key, when it is a plain relative path: no empty, `.` or `..` parts, no control characters.

    Raises:
        ObjectKeyInvalid: it is not.
    """
    parts = key.split("/")
    if (
        len(key) > _LONGEST_KEY
        or not key.isprintable()
        or "\\" in key
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ObjectKeyInvalid("An object's key is a relative path such as firmware/1.2.0.bin.", field="key")
    return key


class ObjectStore(Protocol):
    """Bytes under keys such as `firmware/1.2.0.bin`."""

    async def put(self, key: str, content: bytes) -> str:
        """Store the content and answer its SHA-256 in hexadecimal digits."""
        ...

    async def get(self, key: str) -> bytes:
        """Raises: ObjectNotFound."""
        ...

    async def signed_url(self, key: str, *, expires_in: timedelta) -> str:
        """An address from which anybody can download the object until it expires."""
        ...

    def routes(self) -> list[BaseRoute]:
        """HTTP routes that the host serves for the store (none where the store serves itself)."""
        ...


class LocalObjects:
    """Files below one folder; the host serves the addresses that this signs (HMAC-SHA256 over key and expiry)."""

    def __init__(self, directory: Path, *, secret: str, public_url: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._store = LocalStore(directory)
        self._key = derive_key(secret, purpose="object addresses")
        self._public_url = public_url.rstrip("/")

    async def put(self, key: str, content: bytes) -> str:
        await obstore.put_async(self._store, checked_key(key), content)
        return hashlib.sha256(content).hexdigest()

    async def get(self, key: str) -> bytes:
        try:
            result = await obstore.get_async(self._store, checked_key(key))
        except FileNotFoundError as error:
            raise ObjectNotFound(f"There is no object {key}.", key=key) from error
        return bytes(await result.bytes_async())

    async def signed_url(self, key: str, *, expires_in: timedelta) -> str:
        expires = int(time.time() + expires_in.total_seconds())
        checked_key(key)
        query = urlencode({"expires": expires, "signature": self._signature(key, expires)})
        return f"{self._public_url}/objects/{quote(key)}?{query}"

    def routes(self) -> list[BaseRoute]:
        return [Route("/objects/{key:path}", self._download, methods=["GET"])]

    def _signature(self, key: str, expires: int) -> str:
        return hmac.new(self._key, f"{key}\n{expires}".encode(), hashlib.sha256).hexdigest()

    async def _download(self, request: Request) -> Response:
        key = request.path_params["key"]
        expires = request.query_params.get("expires", "")
        given = request.query_params.get("signature", "")
        if not _EXPIRY.fullmatch(expires) or not self._signed(key, int(expires), given):
            raise AddressRefused("The signature of this address does not hold.")
        if int(expires) < time.time():
            raise AddressRefused("This address has expired; ask for a new one.")
        return Response(
            await self.get(key), media_type="application/octet-stream", headers={"x-content-type-options": "nosniff"}
        )

    def _signed(self, key: str, expires: int, given: str) -> bool:
        # As bytes: comparing texts fails on those that are not ASCII.
        return hmac.compare_digest(self._signature(key, expires).encode(), given.encode(errors="replace"))


class S3Objects:
    """A bucket of S3 or MinIO, which serves presigned addresses itself."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    async def put(self, key: str, content: bytes) -> str:
        await obstore.put_async(self._store, checked_key(key), content)
        return hashlib.sha256(content).hexdigest()

    async def get(self, key: str) -> bytes:
        try:
            result = await obstore.get_async(self._store, checked_key(key))
        except FileNotFoundError as error:
            raise ObjectNotFound(f"There is no object {key}.", key=key) from error
        return bytes(await result.bytes_async())

    async def signed_url(self, key: str, *, expires_in: timedelta) -> str:
        return await obstore.sign_async(self._store, "GET", checked_key(key), expires_in)

    def routes(self) -> list[BaseRoute]:
        return []


def object_store(settings: Settings) -> ObjectStore:
    """The store that the settings choose: `OBJECTS_DIR` when it is set, else S3."""
    objects = settings.objects
    if objects.directory:
        return LocalObjects(
            Path(objects.directory), secret=settings.master_secret, public_url=settings.service.public_url
        )
    return S3Objects(
        S3Store(
            objects.bucket,
            endpoint=objects.endpoint_url,
            region=objects.region,
            access_key_id=objects.access_key.get_secret_value(),
            secret_access_key=objects.secret_key.get_secret_value(),
            virtual_hosted_style_request=False,
            client_options={"allow_http": objects.endpoint_url.startswith("http://")},
        )
    )
