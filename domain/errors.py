"""One hierarchy of errors that callers may see; each transport maps `kind` in one place of its own.

`reason` is stable and machine readable (`CARTRIDGE_EXPIRED`), `message` is safe to show, and `details` hold the values
that were wrong, as strings. Whatever is not an `AppError` is a bug: it is logged whole and shown as a fixed text.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class ErrorKind(StrEnum):
    """What a caller can do about an error; decides the status of every transport."""

    INVALID_INPUT = "invalid_input"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    CONFLICT = "conflict"  # lost a race: the same call may succeed when it is made again
    WRONG_STATE = "wrong_state"
    LIMIT_EXCEEDED = "limit_exceeded"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"


class AppError(Exception):
    """An error that a caller may see.

    Args:
        message: what was wrong, with which value, and what to do; free of secrets and of health data.
        details: the values in question by name, sent along for machines.
    """

    kind: ClassVar[ErrorKind]
    reason: ClassVar[str]

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, str] = {name: str(value) for name, value in details.items() if value is not None}


class InvalidInput(AppError):
    """A value that can never be right. Subclasses name the rule that it breaks."""

    kind = ErrorKind.INVALID_INPUT
    reason = "INVALID_INPUT"


class Unauthenticated(AppError):
    """Nobody we know: no credential, or one that does not hold."""

    kind = ErrorKind.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class Forbidden(AppError):
    """Somebody we know, who may not do this."""

    kind = ErrorKind.FORBIDDEN
    reason = "FORBIDDEN"


class NotFound(AppError):
    """Nothing with that id (or nothing that the caller may know of)."""

    kind = ErrorKind.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExists(AppError):
    """Something with that id or natural key is there already."""

    kind = ErrorKind.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class Conflict(AppError):
    """Somebody else was faster; calling again may succeed."""

    kind = ErrorKind.CONFLICT
    reason = "CONFLICT"


class WrongState(AppError):
    """The thing is in a state that does not allow this; calling again does not help."""

    kind = ErrorKind.WRONG_STATE
    reason = "WRONG_STATE"


class LimitExceeded(AppError):
    """More than is allowed in this time.

    `retry_after_s`, where known, is among the details: seconds until the next attempt can succeed.
    """

    kind = ErrorKind.LIMIT_EXCEEDED
    reason = "LIMIT_EXCEEDED"


class Unavailable(AppError):
    """Something that we depend on does not answer."""

    kind = ErrorKind.UNAVAILABLE
    reason = "UNAVAILABLE"


class TimedOut(AppError):
    """Something that we depend on was too slow."""

    kind = ErrorKind.TIMEOUT
    reason = "TIMEOUT"
