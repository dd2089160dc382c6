"""Ids: what the platform mints is a UUIDv7 (ordered by time, RFC 9562); ids that clients bring are kept as they are."""

from typing import NewType

import uuid_utils

UserId = NewType("UserId", str)
DeviceId = NewType("DeviceId", str)
SessionId = NewType("SessionId", str)
CartridgeUid = NewType("CartridgeUid", str)


def new_id() -> str:
    """A fresh UUIDv7 in its canonical text form (36 characters)."""
    return str(uuid_utils.uuid7())
