"""What can go wrong between a reader and the platform."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from devices.errors import DeviceError


class ClientError(DeviceError):
    """Base of the client's errors."""


class PlatformUnreachable(ClientError):
    """The platform did not answer in time, over as many tries as were allowed. Trying later may work."""

    def __init__(self, call: str, *, tried_for_s: float, last: str) -> None:
        super().__init__(f"{call}: no answer within {tried_for_s:.1f} s (last: {last})")
        self.call = call
        self.last = last


class PlatformFailing(PlatformUnreachable):
    """The platform answered, and said each time that something was wrong on its side.

    That is never about the frames: they are kept, and sent again later. It may be about this one session, so a store
    with several tries the others before it waits.
    """


class CallRejected(ClientError):
    """The platform answered with a final status. Repeating the same call will not help.

    ``reason`` is the platform's stable name of the error, empty when it gave none.
    """

    def __init__(self, call: str, *, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(f"{call}: {code.name}{f' ({reason})' if reason else ''}: {message}")
        self.call = call
        self.code = code
        self.reason = reason
        self.message = message

    @classmethod
    def of(cls, call: str, error: grpc.aio.AioRpcError) -> "CallRejected":
        return cls(call, code=error.code(), reason=_reason(error), message=error.details() or "")


class ProtocolViolated(ClientError):
    """The platform broke the wire contract, e.g. answered a frame that was not sent."""


class SessionClosed(ClientError):
    """The session was ended or closed on this side."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id} is closed")
        self.session_id = session_id


class FrameOutOfOrder(ClientError):
    """A frame is not later than the one before it. Session and time name a frame, so times may not repeat."""

    def __init__(self, *, timestamp_us: int, after_us: int) -> None:
        super().__init__(f"frame at {timestamp_us} us must be later than {after_us} us, the frame before it")
        self.timestamp_us = timestamp_us
        self.after_us = after_us


class NotRegistered(ClientError):
    """The reader has no credential yet."""

    def __init__(self) -> None:
        super().__init__("the reader has no credential: register it first")


class ServiceNotConfigured(ClientError):
    """No address was given for a service that a call needs."""

    def __init__(self, service: str) -> None:
        super().__init__(f"no address is configured for the {service} service")
        self.service = service


class CredentialUnreadable(ClientError):
    """The stored credential cannot be read."""


class OutboxFull(ClientError):
    """The store has no room for the frame; nothing of it was written."""

    def __init__(self, *, limit_bytes: int, used_bytes: int, needed_bytes: int) -> None:
        super().__init__(f"outbox holds {used_bytes} of {limit_bytes} bytes, no room for {needed_bytes} more")
        self.limit_bytes = limit_bytes
        self.used_bytes = used_bytes
        self.needed_bytes = needed_bytes


class OutboxUnusable(ClientError):
    """The store's file is in use by another process, damaged, or of another format."""


def _reason(error: grpc.aio.AioRpcError) -> str:
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what is read of a call
    except ValueError:  # details that contradict the status: the status is what counts
        return ""
    if status is None:
        return ""
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")
