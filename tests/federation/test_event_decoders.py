"""Bytes of event streams, cut anywhere, give the same events."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.execution.errors import SubgraphFailure
from router.serving.upstream.http import Decoder, Ended
from router.serving.upstream.multipart import MultipartForm
from router.serving.upstream.sse import ServerSentDecoder

EVENTS: Sequence[Any] = [{"data": {"n": n, "text": "가\r\n--graphql: \u2028" * n}} for n in range(3)]


def _sse(line_end: bytes) -> bytes:
    """Events over one and over several lines, among comments and fields that mean nothing here."""
    blocks = [b"\xef\xbb\xbf:hello", b"", b": ping", b"id: 4", b"retry:10", b""]
    for event in EVENTS:
        blocks += [b"event: next", b"data:" + orjson.dumps(event), b""]
    for event in EVENTS:
        pretty = orjson.dumps(event, option=orjson.OPT_INDENT_2).split(b"\n")
        blocks += [*(b"data: " + line for line in pretty), b"event:next", b": in between", b""]
    return line_end.join([*blocks, b"event: complete", b"data", b"", b"data: {}", b"", b""])


def _multipart(line_end: bytes) -> bytes:
    parts = [b"{}", b'{"payload": null}']
    parts += [orjson.dumps({"payload": event}) for event in EVENTS]
    parts += [orjson.dumps(event, option=orjson.OPT_INDENT_2) for event in EVENTS]
    head = line_end + b"content-type: application/json" + line_end * 2
    body = b"".join(line_end + b"--graphql" + head + part for part in parts)
    return b"preamble" + body + line_end + b"--graphql--" + line_end


def _decoded(decoder: Decoder, chunks: Sequence[bytes]) -> list[Any]:
    events: list[Any] = []
    for chunk in chunks:
        try:
            events.extend(decoder.feed(chunk))
        except Ended:
            return [*events, "ended"]
    return events


def _pieces(decoder: Decoder, content: bytes, cuts: list[int]) -> list[Any]:
    edges = sorted({0, len(content), *(cut % len(content) for cut in cuts)})
    return _decoded(decoder, [content[a:b] for a, b in itertools.pairwise(edges)])


def _single_events(decoder: Decoder, content: bytes) -> list[Any]:
    return _decoded(decoder, [content[position : position + 1] for position in range(len(content))])


@given(st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 10_000), max_size=40))
def test_server_sent_events_may_be_cut_anywhere(line_end: bytes, cuts: list[int]) -> None:
    # One event is written over several lines, whose line ends are the stream's.
    assert _pieces(ServerSentDecoder(10_000), _sse(line_end), cuts) == [*EVENTS, *EVENTS, "ended"]


@given(st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(0, 10_000), max_size=40))
def test_multipart_events_may_be_cut_anywhere(line_end: bytes, cuts: list[int]) -> None:
    decoder = MultipartForm().decoder('multipart/mixed; boundary="graphql"; subscriptionSpec=1.0', 10_000)
    assert _pieces(decoder, _multipart(line_end), cuts) == [*EVENTS, *EVENTS, "ended"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_both_forms_can_come_byte_by_byte(line_end: bytes) -> None:
    assert _single_events(ServerSentDecoder(10_000), _sse(line_end)) == [*EVENTS, *EVENTS, "ended"]
    decoder = MultipartForm().decoder("multipart/mixed;boundary=graphql", 10_000)
    assert _single_events(decoder, _multipart(line_end)) == [*EVENTS, *EVENTS, "ended"]


def test_a_part_is_an_event_as_soon_as_its_delimiter_is_there() -> None:
    decoder = MultipartForm().decoder("multipart/mixed;boundary=graphql", 10_000)
    body = b'--graphql\r\ncontent-type: application/json\r\n\r\n{"payload": {"data": 1}}\r\n--graphql'
    assert list(decoder.feed(body)) == [{"data": 1}]


def test_errors_beside_the_payload_are_told_and_end_the_stream() -> None:
    body = b'---\r\n\r\n{"payload": {"data": 1}, "errors": [{"message": "over"}]}\r\n-----\r\n'
    decoder = MultipartForm().decoder("multipart/mixed;boundary=-", 10_000)
    assert _decoded(decoder, [body]) == [{"data": 1}, {"errors": [{"message": "over"}]}, "ended"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ServerSentDecoder(1000),
        lambda: MultipartForm().decoder("multipart/mixed;boundary=graphql", 1000),
    ],
    ids=["sse", "multipart"],
)
def test_what_never_ends_is_not_kept(make: Callable[[], Decoder]) -> None:
    decoder = make()
    with pytest.raises(SubgraphFailure, match="too large"):
        for _ in range(100):
            list(decoder.feed(b"data: " + b"x" * 50))
    short_lines = make()
    with pytest.raises(SubgraphFailure, match="too large"):
        for _ in range(100):
            list(short_lines.feed(b"data: x" + b"y" * 20 + b"\n"))


def test_heartbeats_without_end_take_no_memory() -> None:
    decoder = ServerSentDecoder(100)
    assert [event for _ in range(1000) for event in decoder.feed(b": still here\n\n")] == []
    parts = MultipartForm().decoder("multipart/mixed;boundary=graphql", 100)
    assert [event for _ in range(1000) for event in parts.feed(b"\r\n--graphql\r\n\r\n{}")] == []


@pytest.mark.parametrize("content", [b"data: {\n\n", b"event: next\ndata:\n\n"])
def test_an_event_that_is_not_json_is_a_failure(content: bytes) -> None:
    with pytest.raises(SubgraphFailure, match="not JSON"):
        list(ServerSentDecoder(1000).feed(content))


@pytest.mark.parametrize("part", [b"\r\n\r\n[]", b"\r\n\r\nnope", b"\r\nno-body: 1"])
def test_a_part_that_is_no_event_is_a_failure(part: bytes) -> None:
    with pytest.raises(SubgraphFailure):
        list(MultipartForm().decoder("multipart/mixed;boundary=a", 1000).feed(b"--a" + part + b"\r\n--a"))
