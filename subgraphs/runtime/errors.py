"""The one place where a domain error becomes a status of a transport (gRPC, GraphQL, HTTP), and back.

Source: gRPC rich errors (`google.rpc.Status` with `ErrorInfo`), RFC 9457 (`application/problem+json`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
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

ERROR_DOMAIN = "manpasik"
BUG_MESSAGE = "Something went wrong on our side. It has been logged; please try again later."
STATUS_DETAILS = "grpc-status-details-bin"


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


def to_grpc(error: AppError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Status code, message and trailing metadata (`google.rpc.Status` with its details) for an error."""
    code = BY_KIND[error.kind].grpc
    details = [_packed(ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=dict(error.details)))]
    if field := error.details.get("field"):
        violation = BadRequest.FieldViolation(field=field, description=error.message)
        details.append(_packed(BadRequest(field_violations=[violation])))
    if retry_after_s := error.details.get("retry_after_s"):
        duration = Duration()
        duration.FromMilliseconds(int(float(retry_after_s) * 1000))
        details.append(_packed(RetryInfo(retry_delay=duration)))
    number: int = code.value[0]
    status = Status(code=number, message=error.message, details=details)
    return code, error.message, ((STATUS_DETAILS, status.SerializeToString()),)


def from_grpc(error: grpc.aio.AioRpcError) -> AppError:
    """The error that the callee raised, as our own class of its kind; the callee's reason is kept.

    A status without our details (a proxy's, a bug's) becomes `Unavailable`, or its plain kind.
    """
    kind = _KIND_OF_STATUS.get(error.code(), ErrorKind.UNAVAILABLE)
    message, reason, details = error.details() or error.code().name, "", {}
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS and isinstance(value, bytes):
            status = Status.FromString(value)
            info = ErrorInfo()
            for packed in status.details:
                if packed.Unpack(info) and info.domain == ERROR_DOMAIN:
                    reason, details = info.reason, dict(info.metadata)
    if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        message = "A service that this needs has failed."
    plain = _CLASS_OF[kind]
    remote: type[AppError] = type(plain.__name__, (plain,), {"reason": reason}) if reason else plain
    return remote(message, **details)


def to_graphql(error: AppError) -> dict[str, object]:
    """The `extensions` of a GraphQL error."""
    extensions: dict[str, object] = {"code": BY_KIND[error.kind].code, "reason": error.reason}
    if error.details:
        extensions["details"] = dict(error.details)
    return extensions


def to_problem(error: AppError) -> tuple[int, dict[str, object]]:
    """HTTP status and problem details."""
    row = BY_KIND[error.kind]
    problem: dict[str, object] = {
        "type": f"urn:manpasik:problem:{error.reason}",
        "title": row.title,
        "status": row.http,
        "detail": error.message,
        **error.details,
    }
    return row.http, problem
