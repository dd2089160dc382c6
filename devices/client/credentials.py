"""How a reader and its owner prove who they are, and where a reader keeps its secret."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import orjson

from devices.client.errors import CredentialUnreadable

Metadata = tuple[tuple[str, str], ...]
AccessToken = Callable[[], Awaitable[str]]
"""Gives a person's current access token; asked before every call, so it may refresh an expired one."""


def fixed_token(token: str) -> AccessToken:
    """A token that is never refreshed, for short work."""

    async def give() -> str:
        return token

    return give


async def bearer_metadata(token: AccessToken) -> Metadata:
    """gRPC metadata of a call in the name of a person."""
    return (("authorization", f"Bearer {await token()}"),)


@dataclass(frozen=True, slots=True)
class DeviceCredential:
    """What the platform gave the reader at registration. The secret is not printed."""

    device_id: str
    secret: str = field(repr=False)

    async def metadata(self) -> Metadata:
        """gRPC metadata of a call in the name of the reader."""
        return (("authorization", f"Device {self.device_id}:{self.secret}"),)


class CredentialStore(Protocol):
    """Keeps one reader's credential over a restart."""

    def load(self) -> DeviceCredential | None: ...

    def save(self, credential: DeviceCredential) -> None: ...


@dataclass(frozen=True, slots=True)
class FileCredentialStore:
    """A JSON file that only its owner can read; replaced as a whole, so a crash leaves the old or the new one."""

    path: Path

    def load(self) -> DeviceCredential | None:
        """The stored credential, None before the first.

        Raises:
            CredentialUnreadable: the file is not what `save` writes.
        """
        try:
            stored = orjson.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError) as error:
            raise CredentialUnreadable(f"credential file {self.path}: {error}") from error
        match stored:
            case {"device_id": str(device_id), "secret": str(secret)}:
                return DeviceCredential(device_id, secret)
            case _:
                raise CredentialUnreadable(f"credential file {self.path}: device_id and secret are expected")

    def save(self, credential: DeviceCredential) -> None:
        """Store durably, replacing an earlier credential."""
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        # Created with its final mode: a chmod afterwards would leave a moment in which others can read it.
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps({"device_id": credential.device_id, "secret": credential.secret}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
