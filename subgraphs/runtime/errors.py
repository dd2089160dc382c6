"""The one place where a domain error becomes a status of a transport (gRPC, GraphQL, HTTP), and back.

Source: gRPC rich errors (`google.rpc.Status` with `ErrorInfo`), RFC 9457 (`application/problem+json`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import asyncpg
import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from domain.errors import (
    AlreadyExists,
    AppError,
    Conflict,
    ErrorKind,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    NotFound,
    TimedOut,
    Unauthenticated,
    Unavailable,
    WrongState,
)
from subgraphs.runtime.outages import driver_error_of, outage_of

ERROR_DOMAIN = "manpasik"
BUG_MESSAGE = "Something went wrong on our side. It has been logged; please try again later."
STATUS_DETAILS = "grpc-status-details-bin"

_MOST_MESSAGE_BYTES = 800  # at worst three times that, once percent-encoded
_MOST_DETAIL_BYTES = 240
_MOST_DETAILS = 8
_LONGEST_RETRY_S = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class TransportRow:
    """How one kind of error looks in each transport."""

    grpc: grpc.StatusCode
    code: str
    http: int
    title: str


BY_KIND: Mapping[ErrorKind, TransportRow] = {
    ErrorKind.INVALID_INPUT: TransportRow(grpc.StatusCode.INVALID_ARGUMENT, "BAD_USER_INPUT", 400, "Invalid input"),
    ErrorKind.UNAUTHENTICATED: TransportRow(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", 401, "Not signed in"),
    ErrorKind.FORBIDDEN: TransportRow(grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", 403, "Not allowed"),
    ErrorKind.NOT_FOUND: TransportRow(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", 404, "Not found"),
    ErrorKind.ALREADY_EXISTS: TransportRow(grpc.StatusCode.ALREADY_EXISTS, "CONFLICT", 409, "Already exists"),
    ErrorKind.CONFLICT: TransportRow(grpc.StatusCode.ABORTED, "CONFLICT", 409, "Lost a race, try again"),
    ErrorKind.WRONG_STATE: TransportRow(grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION", 409, "Wrong state"),
    ErrorKind.LIMIT_EXCEEDED: TransportRow(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", 429, "Over a limit"),
    ErrorKind.UNAVAILABLE: TransportRow(grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", 503, "Unavailable"),
    ErrorKind.TIMEOUT: TransportRow(grpc.StatusCode.DEADLINE_EXCEEDED, "TIMEOUT", 504, "Too slow"),
}

_CLASS_OF: Mapping[ErrorKind, type[AppError]] = {
    cls.kind: cls
    for cls in (
        InvalidInput,
        Unauthenticated,
        Forbidden,
        NotFound,
        AlreadyExists,
        Conflict,
        WrongState,
        LimitExceeded,
        Unavailable,
        TimedOut,
    )
}
_KIND_OF_STATUS = {row.grpc: kind for kind, row in BY_KIND.items()}


def _packed(message: ErrorInfo | BadRequest | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _shortened(text: str, most_bytes: int) -> str:
    encoded = text.encode(errors="replace")  # JSON lets lone surrogates through
    if len(encoded) <= most_bytes:
        return encoded.decode()
    return encoded[: most_bytes - 3].decode(errors="ignore") + "…"


def to_grpc(error: AppError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Status code, message and trailing metadata (`google.rpc.Status` with its details) for an error.

    Long texts are shortened: a client gives up on trailing metadata above 8 KiB, and would lose the kind with it.
    """
    code = BY_KIND[error.kind].grpc
    message = _shortened(error.message, _MOST_MESSAGE_BYTES)
    told = {name: _shortened(value, _MOST_DETAIL_BYTES) for name, value in list(error.details.items())[:_MOST_DETAILS]}
    details = [_packed(ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=told))]
    if field := told.get("field"):
        violation = BadRequest.FieldViolation(field=field, description=message)
        details.append(_packed(BadRequest(field_violations=[violation])))
    if (retry_after_s := _seconds(told.get("retry_after_s", ""))) is not None:
        duration = Duration()
        duration.FromMilliseconds(int(retry_after_s * 1000))
        details.append(_packed(RetryInfo(retry_delay=duration)))
    number: int = code.value[0]
    status = Status(code=number, message=message, details=details)
    return code, message, ((STATUS_DETAILS, status.SerializeToString()),)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < _LONGEST_RETRY_S else None


def told_by_callee(error: grpc.aio.AioRpcError) -> ErrorInfo | None:
    """What a service of ours said about its error; None when the status is a proxy's, gRPC's own, or a bug's."""
    for key, value in error.trailing_metadata() or ():
        if key != STATUS_DETAILS or not isinstance(value, bytes):
            continue
        info = ErrorInfo()
        try:
            for packed in Status.FromString(value).details:
                if packed.Unpack(info) and info.domain == ERROR_DOMAIN:
                    return info
        except DecodeError:
            return None
    return None


@lru_cache(maxsize=1024)
def _remote_class(kind: ErrorKind, reason: str) -> type[AppError]:
    plain = _CLASS_OF[kind]
    return type(plain.__name__, (plain,), {"reason": reason, "__doc__": plain.__doc__})


def from_grpc(error: grpc.aio.AioRpcError) -> AppError:
    """The error that the callee raised, as our own class of its kind; the callee's reason and details are kept.

    A status without our details (a proxy's, a bug's) becomes `Unavailable`, or its plain kind.
    """
    kind = _KIND_OF_STATUS.get(error.code(), ErrorKind.UNAVAILABLE)
    info = told_by_callee(error)
    message = error.details() or error.code().name
    if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        message = "A service that this needs has failed."
    remote = _remote_class(kind, info.reason)(message) if info and info.reason else _CLASS_OF[kind](message)
    if info:
        remote.details = dict(info.metadata)  # not as keywords: a callee may name a detail `message`
    return remote


def as_app_error(error: BaseException) -> AppError | None:
    """The error that a caller may see: itself, or what an outage beneath us amounts to; None for a bug.

    A database or a Redis that is away is `Unavailable`, one that is too slow `TimedOut`; transactions that the
    database broke up (serialization failure, deadlock, SQLSTATE class 40) are a lost race. What cannot be stored as it was
    sent (a text with a NUL, a number beyond its column) is the caller's to change, wherever nobody refused it before.
    """
    if isinstance(error, AppError):
        return error
    driver_error = driver_error_of(error)
    if isinstance(driver_error, asyncpg.TransactionRollbackError):
        return Conflict("Somebody else changed this at the same time; try again.")
    if _cannot_be_stored(driver_error):
        return InvalidInput("A text holds a character, or a number is of a size, that cannot be stored.")
    return outage_of(error)


def _cannot_be_stored(driver_error: BaseException) -> bool:
    """Whether PostgreSQL, or the driver that encodes for it, has refused a value for what it is and not for its type."""
    if isinstance(driver_error, (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)):
        return True
    return isinstance(driver_error, asyncpg.DataError) and isinstance(
        driver_error.__cause__, (OverflowError, UnicodeError)
    )


def to_graphql(error: AppError) -> dict[str, object]:
    """The `extensions` of a GraphQL error."""
    extensions: dict[str, object] = {"code": BY_KIND[error.kind].code, "reason": error.reason}
    if error.details:
        extensions["details"] = dict(error.details)
    return extensions


def to_problem(error: AppError) -> tuple[int, dict[str, object]]:
    """HTTP status and problem details; our own details are extension members beside the standard ones."""
    row = BY_KIND[error.kind]
    problem: dict[str, object] = {
        **error.details,  # first: a detail that is named `status` or `type` must not replace the standard member
        "type": f"urn:manpasik:problem:{error.reason}",
        "title": row.title,
        "status": row.http,
        "detail": error.message,
    }
    return row.http, problem
