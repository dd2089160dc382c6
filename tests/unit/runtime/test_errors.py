"""The table of transports, row by row, and the way of an error from one service to the next."""

from typing import cast

import asyncpg
import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

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
from subgraphs.runtime.errors import STATUS_DETAILS, as_app_error, from_grpc, to_graphql, to_grpc, to_problem

ROWS: list[tuple[type[AppError], str, str, int]] = [
    (InvalidInput, "INVALID_ARGUMENT", "BAD_USER_INPUT", 400),
    (Unauthenticated, "UNAUTHENTICATED", "UNAUTHENTICATED", 401),
    (Forbidden, "PERMISSION_DENIED", "FORBIDDEN", 403),
    (NotFound, "NOT_FOUND", "NOT_FOUND", 404),
    (AlreadyExists, "ALREADY_EXISTS", "CONFLICT", 409),
    (Conflict, "ABORTED", "CONFLICT", 409),
    (WrongState, "FAILED_PRECONDITION", "FAILED_PRECONDITION", 409),
    (LimitExceeded, "RESOURCE_EXHAUSTED", "RATE_LIMITED", 429),
    (Unavailable, "UNAVAILABLE", "SERVICE_UNAVAILABLE", 503),
    (TimedOut, "DEADLINE_EXCEEDED", "TIMEOUT", 504),
]


def _sent(error: AppError) -> grpc.aio.AioRpcError:
    code, message, trailing = to_grpc(error)
    return _rpc_error(code, message, *trailing)


def _rpc_error(code: grpc.StatusCode, message: str, *trailing: tuple[str, bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=message)


def test_the_table_has_every_kind() -> None:
    assert {row[0].kind for row in ROWS} == set(ErrorKind)


@pytest.mark.parametrize(("cls", "grpc_code", "code", "http"), ROWS)
def test_each_kind_has_its_row_in_every_transport(cls: type[AppError], grpc_code: str, code: str, http: int) -> None:
    special = cast("type[AppError]", type("Special", (cls,), {"reason": "VERY_SPECIAL"}))
    error = special("It is special.", device_id="d1", nothing=None)
    assert to_grpc(error)[0].name == grpc_code
    assert to_graphql(error) == {"code": code, "reason": "VERY_SPECIAL", "details": {"device_id": "d1"}}
    status, problem = to_problem(error)
    assert status == problem["status"] == http
    assert problem["type"] == "urn:manpasik:problem:VERY_SPECIAL"
    assert (problem["detail"], problem["device_id"]) == ("It is special.", "d1")


@pytest.mark.parametrize("cls", [row[0] for row in ROWS])
def test_an_error_keeps_kind_reason_message_and_details_on_its_way_to_a_caller(cls: type[AppError]) -> None:
    special = cast("type[AppError]", type("Special", (cls,), {"reason": "VERY_SPECIAL"}))
    received = from_grpc(_sent(special("만료되었습니다.", device_id="d1", message_id=7)))
    assert isinstance(received, cls)
    assert (received.reason, received.message, received.details) == (
        "VERY_SPECIAL",
        "만료되었습니다.",
        {"device_id": "d1", "message_id": "7"},
    )
    assert from_grpc(_sent(received)).reason == "VERY_SPECIAL"  # and on to the caller's caller


@given(message=st.text(max_size=3000), details=st.dictionaries(st.text("abc", max_size=9), st.text(max_size=3000)))
def test_any_error_fits_into_trailing_metadata(message: str, details: dict[str, str]) -> None:
    error = NotFound(message)
    error.details = details
    _, told, trailing = to_grpc(error)
    percent_encoded = 3 * len(told.encode())
    base64_encoded = sum(len(value) * 4 // 3 + 4 for _, value in trailing)
    assert percent_encoded + base64_encoded < 8192
    received = from_grpc(_sent(error))
    assert isinstance(received, NotFound)
    assert received.reason == "NOT_FOUND"


def test_a_callee_may_name_a_detail_like_a_parameter_of_ours() -> None:
    error = NotFound("Gone.")
    error.details = {"message": "x", "self": "y"}
    assert from_grpc(_sent(error)).details == {"message": "x", "self": "y"}


def test_fields_and_pauses_travel_in_the_forms_that_google_defines() -> None:
    status = Status.FromString(to_grpc(InvalidInput("Bad.", field="email", retry_after_s=1.5))[2][0][1])
    info, violations, retry = ErrorInfo(), BadRequest(), RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(violations)
    assert status.details[2].Unpack(retry)
    assert info.reason == "INVALID_INPUT"
    assert violations.field_violations[0].field == "email"
    assert retry.retry_delay.ToMilliseconds() == 1500


@pytest.mark.parametrize("retry_after_s", ["soon", "nan", "inf", "-1", "1e300"])
def test_a_pause_that_is_no_time_is_left_out(retry_after_s: str) -> None:
    status = Status.FromString(to_grpc(LimitExceeded("Too many.", retry_after_s=retry_after_s))[2][0][1])
    assert not any(packed.Is(RetryInfo.DESCRIPTOR) for packed in status.details)


def test_a_detail_does_not_replace_a_standard_member_of_a_problem() -> None:
    _, problem = to_problem(WrongState("It is closed.", status="closed", type="session", title="x", detail="y"))
    assert problem["status"] == 409
    assert problem["type"] == "urn:manpasik:problem:WRONG_STATE"
    assert problem["detail"] == "It is closed."


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN"])
def test_a_bug_of_a_callee_is_told_without_its_words(code: str) -> None:
    received = from_grpc(_rpc_error(grpc.StatusCode[code], "Traceback: password=hunter2"))
    assert isinstance(received, Unavailable)
    assert "hunter2" not in received.message


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_FOUND", ErrorKind.NOT_FOUND),
        ("UNIMPLEMENTED", ErrorKind.UNAVAILABLE),
        ("CANCELLED", ErrorKind.UNAVAILABLE),
    ],
)
def test_a_status_without_our_details_is_its_plain_kind(code: str, kind: ErrorKind) -> None:
    assert from_grpc(_rpc_error(grpc.StatusCode[code], "no")).kind is kind


def test_details_of_another_domain_or_of_none_are_ignored() -> None:
    foreign = AnyMessage()
    foreign.Pack(ErrorInfo(reason="THEIRS", domain="googleapis.com"))
    for junk in (b"\xff\xff\xff", b"", Status(code=5, details=[foreign]).SerializeToString()):
        received = from_grpc(_rpc_error(grpc.StatusCode.NOT_FOUND, "no", (STATUS_DETAILS, junk)))
        assert (type(received), received.reason) == (NotFound, "NOT_FOUND")


def _from_driver(cause: BaseException) -> Exception:
    wrapped = Exception("driver")
    wrapped.__cause__ = cause
    if sqlstate := getattr(cause, "sqlstate", None):
        wrapped.sqlstate = sqlstate  # type: ignore[attr-defined]  # as SQLAlchemy's asyncpg adapter does
    return wrapped


def _refused_by_the_driver(cause: Exception) -> Exception:
    refused = asyncpg.DataError("invalid input for query argument $1")
    refused.__cause__ = cause
    return refused


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ConnectionRefusedError(), ErrorKind.UNAVAILABLE),
        (RedisConnectionError(), ErrorKind.UNAVAILABLE),
        (asyncpg.CannotConnectNowError("starting up"), ErrorKind.UNAVAILABLE),
        (asyncpg.TooManyConnectionsError("full"), ErrorKind.UNAVAILABLE),
        (DBAPIError("s", {}, _from_driver(asyncpg.AdminShutdownError("bye"))), ErrorKind.UNAVAILABLE),
        (DBAPIError("s", {}, _from_driver(asyncpg.DeadlockDetectedError("x"))), ErrorKind.CONFLICT),
        (DBAPIError("s", {}, _from_driver(asyncpg.SerializationError("x"))), ErrorKind.CONFLICT),
        (DBAPIError("s", {}, _from_driver(asyncpg.CharacterNotInRepertoireError("0x00"))), ErrorKind.INVALID_INPUT),
        (DBAPIError("s", {}, _from_driver(_refused_by_the_driver(OverflowError()))), ErrorKind.INVALID_INPUT),
        (PoolTimeoutError(), ErrorKind.TIMEOUT),
        (TimeoutError(), ErrorKind.TIMEOUT),
        (NotFound("x"), ErrorKind.NOT_FOUND),
    ],
)
def test_outages_beneath_us_are_no_bugs(raised: Exception, kind: ErrorKind) -> None:
    known = as_app_error(raised)
    assert known is not None
    assert known.kind is kind


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("x"),
        FileNotFoundError("x"),
        IntegrityError("s", {}, _from_driver(asyncpg.UniqueViolationError("x"))),
        DBAPIError("s", {}, _from_driver(asyncpg.UndefinedColumnError("x"))),
        DBAPIError("s", {}, _from_driver(_refused_by_the_driver(TypeError("expected str, got int")))),
    ],
)
def test_bugs_are_no_outages(raised: Exception) -> None:
    assert as_app_error(raised) is None
