"""Server-sent events, as a subgraph sends them.

Source: WHATWG HTML, "Server-sent events" (9.2.6, interpreting an event stream); graphql-sse PROTOCOL.md
(enisdenjo/graphql-sse), "Distinct connections mode".
"""

import re
from collections.abc import Iterator
from typing import Any

from router.serving.upstream.http import Ended, decode_event, too_large

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class ServerSentForm:
    accept = "text/event-stream"
    media_type = "text/event-stream"

    def decoder(self, content_type: str, max_bytes: int) -> "ServerSentDecoder":
        del content_type  # always UTF-8
        return ServerSentDecoder(max_bytes)


class ServerSentDecoder:
    """`next` events carry one GraphQL response each, `complete` ends the stream; comments and other events are passed over."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._event = b""
        self._first = True
        self._after_return = False

    def feed(self, chunk: bytes) -> Iterator[Any]:
        if self._after_return and chunk[:1] == b"\n":  # the second half of a line end that was cut in two
            chunk = chunk[1:]
        self._after_return = chunk[-1:] == b"\r" if chunk else False
        start = 0
        for end in _LINE_END.finditer(chunk):
            self._extend(chunk[start : end.start()])
            start = end.end()
            line = bytes(self._line)
            self._line.clear()
            if self._first:
                self._first = False
                line = line.removeprefix(_BOM)
            if line:
                self._field(line)
            else:
                yield from self._dispatch()
        self._extend(chunk[start:])

    def _extend(self, piece: bytes) -> None:
        self._line += piece
        if self._size + len(self._line) > self._max_bytes:
            raise too_large()

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(line)
        elif name == b"event":
            self._event = value

    def _dispatch(self) -> Iterator[Any]:
        event, data = self._event, self._data
        self._event, self._data, self._size = b"", [], 0
        if event == b"complete":
            raise Ended
        if event in (b"next", b"", b"message") and data:
            yield decode_event(b"\n".join(data))
