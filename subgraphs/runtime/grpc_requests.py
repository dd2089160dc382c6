"""Reading of gRPC requests: whoever calls is known before a message is read, and a message is measured before it is parsed.

gRPC hands a handler of single requests the parsed message, so that a stranger's message would be decompressed, parsed and validated
before anybody asked who sends it. Every method is therefore registered as one that takes a stream of raw bytes; on the
wire there is no difference. gRPC applies its own limit (`grpc.max_receive_message_length`) to the decompressed size.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from domain.errors import InvalidInput, LimitExceeded, TimedOut
from domain.principal import Principal, PrincipalKind
from subgraphs.runtime.bounds import check_message

PUBLIC_MESSAGE_BYTES = 64 * 1024
"""Of a message to a method that needs no credential, after decompression, whoever sends it."""

MESSAGE_BYTES = 1024 * 1024
"""Of any other message, unless the servicer says that it needs more."""

MESSAGE_WITHIN_S = 20.0
"""How long the message of a single request, or the first of a stream, may take to arrive."""

STREAM_IDLE_S = 900.0
"""How long a stream may go without a message of its caller; readers send a heartbeat every half minute."""


class MessageTooLarge(LimitExceeded):
    """A message has more bytes, after decompression, than the method takes."""

    reason = "MESSAGE_TOO_LARGE"


class MessageMalformed(InvalidInput):
    """The bytes are no message of the method's type."""

    reason = "MESSAGE_MALFORMED"


class MessageMissing(InvalidInput):
    """The call ended without its message."""

    reason = "MESSAGE_MISSING"


class MessageLate(TimedOut):
    """The caller opened a call and did not send its message in time."""

    reason = "MESSAGE_LATE"


@dataclass(frozen=True, slots=True)
class Requests:
    """How the requests of one method are read.

    Args:
        parse: bytes to message; raises DecodeError.
        most_bytes: of a message, after decompression.
    """

    parse: Callable[[bytes], Any]
    most_bytes: int
    within_s: float = MESSAGE_WITHIN_S
    idle_s: float = STREAM_IDLE_S

    def one_of(self, raw: bytes, *, most_bytes: int | None = None) -> Any:
        """The message in these bytes, within all bounds.

        Raises:
            MessageTooLarge, MessageMalformed, InvalidInput: it is not.
        """
        most = self.most_bytes if most_bytes is None else min(most_bytes, self.most_bytes)
        if len(raw) > most:
            raise MessageTooLarge(f"The message has {len(raw)} bytes; at most {most} are taken here.", limit=most)
        try:
            message = self.parse(raw)
        except DecodeError as error:
            text = "The message cannot be read: it is not of the type that the method takes."
            raise MessageMalformed(text) from error
        check_message(message)
        return message

    async def single(self, incoming: AsyncIterator[bytes], principal: Principal) -> Any:
        """The message of a call that has one.

        Raises:
            MessageLate, MessageMissing, MessageTooLarge, MessageMalformed, InvalidInput: there is none to work with.
        """
        raw = await self._next(aiter(incoming), self.within_s)
        if raw is None:
            raise MessageMissing("The call has no message.")
        return self.one_of(raw, most_bytes=_most_of(principal))

    async def stream(self, incoming: AsyncIterator[bytes], principal: Principal) -> AsyncIterator[Any]:
        """The messages of a stream, each of them within all bounds.

        Raises:
            MessageLate: the next one does not come.
            MessageTooLarge, MessageMalformed, InvalidInput: a message cannot be taken.
        """
        most, iterator, within_s = _most_of(principal), aiter(incoming), self.within_s
        while (raw := await self._next(iterator, within_s)) is not None:
            yield self.one_of(raw, most_bytes=most)
            within_s = self.idle_s

    @staticmethod
    async def _next(incoming: AsyncIterator[bytes], within_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(within_s):
                return await anext(incoming, None)
        except TimeoutError as error:
            raise MessageLate(f"No message came within {within_s:g} s.") from error


def _most_of(principal: Principal) -> int | None:
    return PUBLIC_MESSAGE_BYTES if principal.kind is PrincipalKind.ANONYMOUS else None
