"""The one decision whether an error is an outage: something beneath us is away or too slow, and our work is not wrong.

Servicers, resolvers, consumers, the relay and the start all ask here, so that no two of them can answer differently. An
outage has many faces, because a connection can be lost at any moment:

- while it is made: refused, reset, in the middle of a start or a stop of the server (SQLSTATE class 57), too many of them;
- in an operation: the driver names the server's last words as the cause of its own error;
- between two operations: the driver has read the server's last words and not yet the end of the connection; its next
  operation then fails within the driver itself (`InternalClientError`), and only its words say so;
- after it: the driver refuses to use a closed connection, with the class it also has for wrong use (`InterfaceError`);
- in what cleans up after any of these, whose error then hides the first one (`__context__`).

SQLAlchemy wraps the driver's errors, but not those of a connection in the making nor those of a raw connection.
"""

import errno
import re
import socket
import ssl

import asyncpg
import grpc
import grpc.aio
from redis.exceptions import ClusterDownError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from domain.errors import TimedOut, Unavailable

_SLOW = (
    TimeoutError,
    PoolTimeoutError,
    RedisTimeoutError,
    asyncpg.QueryCanceledError,  # a limit on the time of statements, or an operator
)
_AWAY = (
    ConnectionError,
    socket.gaierror,
    ssl.SSLError,
    RedisConnectionError,
    ReadOnlyError,  # what was the primary until just now
    ClusterDownError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,  # disk, memory, connections
    asyncpg.PostgresIOError,
)
ERRORS_BENEATH = (
    OSError,
    ExceptionGroup,
    RedisError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    SQLAlchemyError,
    grpc.aio.AioRpcError,
)
"""The classes that hold every outage, and bugs too: for frameworks that choose what handles an error by its class."""

_UNREACHABLE = frozenset(
    {errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EADDRNOTAVAIL}
)
_SEVERAL_ADDRESSES = "Multiple exceptions: "  # of a host with several addresses, asyncio tells the errors as one text
_CLOSED = re.compile(r"connection is closed")
# State 2 is "discard everything until the server is ready again"; one that is going never is. Other numbers are our bugs:
# somebody uses a connection that is in use.
_BROKEN_OFF = re.compile(r"another operation \(2\) is in progress|protocol is in the \"failed\" state|^not connected$")
_INVALIDATED = "8s2b"  # SQLAlchemy's code of "the transaction's connection is lost"; others are about wrong use
_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_CHAIN = 8  # how deep causes are looked for: they may form a circle


def outage_of(error: BaseException) -> Unavailable | TimedOut | None:
    """What an outage amounts to for a caller; None when the error is none, which makes it a refusal or a bug."""
    if isinstance(error, BaseExceptionGroup):
        found = [outage_of(member) for member in error.exceptions]
        return found[0] if all(found) else None
    if _is_slow(error):
        return TimedOut("Something that this needs is too slow at the moment; try again soon.")
    if _is_away(error, _CHAIN):
        return Unavailable("Something that this needs does not answer at the moment; try again soon.")
    return None


def is_outage(error: BaseException) -> bool:
    """Whether an error says that something cannot be reached or is going away, rather than that the work is wrong."""
    return outage_of(error) is not None


def is_gone(error: grpc.aio.AioRpcError) -> bool:
    """Whether a status says that the callee is away or stops: a server that stops ends the calls in hand as CANCELLED.

    A call that this side cancels raises `asyncio.CancelledError` instead.
    """
    return error.code() in _GONE


def driver_error_of(error: BaseException) -> BaseException:
    """What the database's driver has raised, below what SQLAlchemy has wrapped around it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _is_slow(error: BaseException) -> bool:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    return isinstance(driver_error_of(error), _SLOW)


def _is_away(error: BaseException, depth: int) -> bool:
    if isinstance(error, grpc.aio.AioRpcError):
        return is_gone(error)
    if isinstance(error, PendingRollbackError):
        return error.code == _INVALIDATED
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    error = driver_error_of(error)
    if isinstance(error, _AWAY):
        return True
    if isinstance(error, asyncpg.InternalClientError):
        return bool(_BROKEN_OFF.search(str(error)))
    if isinstance(error, asyncpg.InterfaceError):
        if _CLOSED.search(str(error)):
            return True
        before = error.__cause__ or error.__context__
        return before is not None and depth > 0 and _is_away(before, depth - 1)
    if isinstance(error, OSError):
        return error.errno in _UNREACHABLE or (error.errno is None and str(error).startswith(_SEVERAL_ADDRESSES))
    return False
