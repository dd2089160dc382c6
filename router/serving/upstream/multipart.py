"""Events as the parts of a multipart response.

A reader that goes line by line, as the usual ones do, holds each event back until the line after its delimiter has ended,
which many servers write only with the next event. This one takes an event as soon as its delimiter is there.

Source: Apollo, "Multipart HTTP protocol for GraphQL subscriptions"; RFC 2046, section 5.1.1 for the delimiters.
"""

import re
from collections.abc import Iterator
from email.message import Message
from typing import Any

from router.execution.errors import SubgraphFailure
from router.serving.upstream.http import Ended, decode_event, too_large

_END_OF_HEAD = re.compile(rb"(?:\A|\r?\n)\r?\n")


class MultipartForm:
    accept = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0, application/json'
    media_type = "multipart/mixed"

    def decoder(self, content_type: str, max_bytes: int) -> "MultipartDecoder":
        header = Message()
        header["content-type"] = content_type
        boundary = header.get_param("boundary")
        return MultipartDecoder(boundary if isinstance(boundary, str) and boundary else "-", max_bytes)


class MultipartDecoder:
    """Each part is `{"payload": response}`, a heartbeat `{}`, or `{"payload": null, "errors": [...]}`, which is the last."""

    def __init__(self, boundary: str, max_bytes: int) -> None:
        # The line end before the dashes belongs to the delimiter; a bare line feed is taken as well.
        self._delimiter = b"\n--" + boundary.encode("latin-1", "replace")
        self._max_bytes = max_bytes
        self._buffer = bytearray(b"\r\n")
        self._searched = 0
        self._in_preamble = True

    def feed(self, chunk: bytes) -> Iterator[Any]:
        self._buffer += chunk
        while (at := self._buffer.find(self._delimiter, self._searched)) >= 0:
            part = bytes(self._buffer[:at]).removesuffix(b"\r")
            del self._buffer[: at + len(self._delimiter)]
            self._searched = 0
            if self._in_preamble:
                self._in_preamble = False
            else:
                yield from self._events(part)
        if not self._in_preamble and self._buffer[:2] == b"--":
            raise Ended
        if len(self._buffer) > self._max_bytes:
            raise too_large()
        self._searched = max(0, len(self._buffer) - len(self._delimiter) + 1)

    def _events(self, part: bytes) -> Iterator[Any]:
        if part[:2] == b"--":
            raise Ended
        # What follows the boundary on its line is padding.
        _, _, part = part.partition(b"\n")
        head = _END_OF_HEAD.search(part)
        if head is None:
            raise SubgraphFailure("a part of its event stream has no body.", code="SUBGRAPH_MALFORMED_RESPONSE")
        content = decode_event(part[head.end() :])
        if not isinstance(content, dict):
            raise SubgraphFailure("its event stream is not GraphQL.", code="SUBGRAPH_MALFORMED_RESPONSE")
        if "data" in content:  # some servers leave the wrapper out
            yield content
            return
        if content.get("payload") is not None:
            yield content["payload"]
        if errors := content.get("errors"):
            yield {"errors": errors if isinstance(errors, list) else [errors]}
            raise Ended
