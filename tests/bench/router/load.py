"""The clients: connections that each ask the next thing as soon as the last one is answered, and check every answer."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

_REMEMBERED = 4  # spellings of one right answer


class Question:
    """One operation, and whether what came back answers it."""

    def __init__(self, url: str, operation: str, data: Mapping[str, Any]) -> None:
        address = urlsplit(url)
        body = orjson.dumps({"query": operation})
        head = (
            f"POST {address.path} HTTP/1.1\r\nhost: {address.netloc}\r\naccept: application/json\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self._data = data
        self._right: list[bytes] = []

    def is_answered_by(self, body: bytes) -> bool:
        """Whether it is the right data and no errors; the order of keys is free.

        Comparing bytes with an answer found right before is cheap enough to check every answer.
        """
        if body in self._right:
            return True
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return False
        is_right = isinstance(answer, dict) and answer.get("data") == self._data and not answer.get("errors")
        if is_right and len(self._right) < _REMEMBERED:
            self._right.append(body)
        return is_right


@dataclass(slots=True)
class Tally:
    """What the clients saw.

    wrong: answered 200, but not with the expected answer; failed: anything else.
    latencies_s: of right answers, without the first of each connection: all ask that at the same moment, and then wait
    for one another as they never do again.
    """

    latencies_s: list[float] = field(default_factory=list)
    right: int = 0
    wrong: int = 0
    failed: int = 0
    sample: bytes = b""

    @property
    def asked(self) -> int:
        return self.right + self.wrong + self.failed


class Client(asyncio.Protocol):
    """One connection. `done` is set when there is nothing left to ask or the connection is lost."""

    def __init__(self, questions: Iterator[Question], tally: Tally) -> None:
        self._questions = questions
        self._tally = tally
        self._received: list[bytes] = []
        self._missing = 0
        self._question: Question | None = None
        self._asked_at = 0.0
        self._is_first = True
        self.done = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        if len(data) < self._missing:
            self._missing -= len(data)
            return
        response = b"".join(self._received) if len(self._received) > 1 else data
        head_end = response.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        head = response[:head_end].lower()
        if (at := head.find(b"\r\ncontent-length:")) >= 0:
            length = int(head[at + 17 : head.index(b"\r\n", at + 17)])
            self._missing = head_end + length - len(response)
            if self._missing > 0:
                self._received = [response]
                return
            body = response[head_end:]
        else:
            if not response.endswith(b"0\r\n\r\n"):
                return
            body = _unchunked(response, head_end)
        self._answered(head.startswith(b"http/1.1 200"), body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._question is not None:
            self._tally.failed += 1
        self.done.set()

    def _answered(self, is_ok: bool, body: bytes) -> None:
        question, tally = self._question, self._tally
        if question is None:
            return
        elapsed = time.perf_counter() - self._asked_at
        if is_ok and question.is_answered_by(body):
            tally.right += 1
            if not self._is_first:
                tally.latencies_s.append(elapsed)
        else:
            tally.wrong += is_ok
            tally.failed += not is_ok
            tally.sample = tally.sample or body[:2000]
        self._is_first = False
        self._ask()

    def _ask(self) -> None:
        self._received, self._missing = [], 0
        self._question = question = next(self._questions, None)
        if question is None:
            self._transport.close()
            return
        self._asked_at = time.perf_counter()
        self._transport.write(question.request)


def _unchunked(response: bytes, start: int) -> bytes:
    body: list[bytes] = []
    while True:
        line_end = response.index(b"\r\n", start)
        size = int(response[start:line_end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(body)
        body.append(response[line_end + 2 : line_end + 2 + size])
        start = line_end + 2 + size + 2


async def ask(host: str, port: int, questions: Iterator[Question], *, connections: int, tally: Tally) -> None:
    """Ask all questions over so many connections, each one question at a time.

    Raises:
        OSError: the server does not accept connections.
    """
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(questions, tally), host, port))[1] for _ in range(connections)
    ]
    for client in clients:
        await client.done.wait()


def until(seconds: float, question: Question, *, at_least: int = 0, at_most_s: float = 0.0) -> Iterator[Question]:
    """The same question for some seconds from the first on, and on until it was asked `at_least` so often.

    Args:
        at_most_s: ends it even when it was not.
    """
    began = time.perf_counter()
    for asked in itertools.count():
        elapsed = time.perf_counter() - began
        if elapsed >= seconds and (asked >= at_least or elapsed >= at_most_s):
            return
        yield question
