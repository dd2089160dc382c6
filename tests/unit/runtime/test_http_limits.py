"""What a peer of an HTTP server may send, how long it may take, and how many of them there may be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from subgraphs.runtime.http_protocol import Connections, HttpLimits
from subgraphs.runtime.proxies import TrustedProxies
from subgraphs.runtime.serving import HttpServer
from tests.support.patience import PATIENCE_S

_LONG = 600.0
LIMITS = HttpLimits(head_bytes=4096, head_fields=20, head_s=_LONG, body_s=_LONG, write_s=_LONG)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


async def _answer(request: Request) -> Response:
    body = await request.body()
    return PlainTextResponse(f"read {len(body)}")


async def _large(_: Request) -> Response:
    return Response(b"x" * 32 * 1024 * 1024)


async def _socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.receive()


_APP = Starlette(
    routes=[
        Route("/", _answer, methods=["GET", "POST"]),
        Route("/large", _large),
        WebSocketRoute("/socket", _socket),
    ]
)


@asynccontextmanager
async def _serving(
    limits: HttpLimits = LIMITS, *, proxies: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Connections, Callable[[], Awaitable[Any]]]]:
    connections = Connections(limits, proxies=TrustedProxies([ip_network(network) for network in proxies]))
    server = HttpServer(_APP, "127.0.0.1", 0, connections=connections)
    await server.start()
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writers.append(writer)
        return reader, writer

    try:
        yield connections, connect
    finally:
        for writer in writers:
            writer.close()
        await server.stop(0)


async def _exchange(connect: Callable[[], Awaitable[Any]], *pieces: bytes) -> bytes:
    """What the server answers until it closes the connection."""
    reader, writer = await connect()
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(_read(reader), PATIENCE_S)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    try:
        while piece := await reader.read(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - a count, which tells nobody of its changes
            await asyncio.sleep(0.01)


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.mark.parametrize(
    "pieces",
    [
        [GET, b"a: " + b"x" * 5000 + b"\r\n\r\n"],
        [b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"],
        [GET, *[b"a: " + b"x" * 400 + b"\r\n"] * 11, b"\r\n"],
        [GET, *[b"a: b\r\n"] * 20, b"\r\n"],
        [GET, b"a: ", *[b"x" * 4096] * 40],
        [b"GET /", *[b"x" * 4096] * 40],
        [GET, *[b"b" * 4096] * 40],
    ],
    ids=[
        "one field",
        "target",
        "many bytes",
        "many fields",
        "field without end",
        "target without end",
        "name without end",
    ],
)
async def test_a_head_that_is_too_large_is_answered_431(pieces: list[bytes]) -> None:
    async with _serving() as (_, connect):
        assert _status(await _exchange(connect, *pieces)) in (431, 0)  # 0: it was reset while it still wrote
        assert _status(await _exchange(connect, GET + b"connection: close\r\n\r\n")) == 200


async def test_fields_in_the_trailer_count() -> None:
    async with _serving() as (_, connect):
        chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
        assert _status(await _exchange(connect, chunked, *[b"a: b\r\n"] * 30)) in (431, 0)


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([], 0),
        ([b"\r\n"], 408),
        ([b"GET"], 408),
        ([GET], 408),
        ([GET + b"\r\n", b"GET / HT"], 200),
    ],
    ids=["nothing", "an empty line", "a method", "half a head", "half a second head"],
)
async def test_a_head_that_does_not_end_is_not_waited_for(pieces: list[bytes], status: int) -> None:
    async with _serving(replace(LIMITS, head_s=0.2)) as (connections, connect):
        answer = await _exchange(connect, *pieces)
        assert _status(answer) == status
        await _until(lambda: connections.total == 0)


@pytest.mark.parametrize(
    "head",
    [b"content-length: 100\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"],
    ids=["length", "chunks"],
)
async def test_a_body_that_does_not_end_is_not_waited_for(head: bytes) -> None:
    async with _serving(replace(LIMITS, body_s=0.2)) as (_, connect):
        assert _status(await _exchange(connect, b"POST / HTTP/1.1\r\nhost: x\r\n" + head)) == 408


async def test_pieces_that_come_one_by_one_get_no_more_time() -> None:
    async with _serving(replace(LIMITS, head_s=0.3)) as (_, connect):
        reader, writer = await connect()

        writer.write(b"GET /")

        async def drip() -> None:
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        try:
            assert _status(await asyncio.wait_for(_read(reader), PATIENCE_S)) in (408, 0)
        finally:
            dripping.cancel()


async def test_a_peer_that_takes_no_answer_is_dropped() -> None:
    async with _serving(replace(LIMITS, write_s=0.2)) as (connections, connect):
        _, writer = await connect()
        writer.transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        await _until(lambda: connections.total == 1)
        await _until(lambda: connections.total == 0)


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with _serving(replace(LIMITS, head_bytes=200)) as (_, connect):
        reader, writer = await connect()
        post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000
        for _ in range(3):
            writer.write(post)
            answer = await asyncio.wait_for(reader.readuntil(b"read 1000"), PATIENCE_S)
            assert _status(answer) == 200
        writer.write(post + post)  # pipelined
        assert (await asyncio.wait_for(reader.readuntil(b"read 1000"), PATIENCE_S)).startswith(b"HTTP/1.1 200")
        assert b"200" in await asyncio.wait_for(reader.readuntil(b"read 1000"), PATIENCE_S)


async def test_a_network_has_a_share_of_the_connections() -> None:
    async with _serving(replace(LIMITS, network=2)) as (connections, connect):
        first, second, third = await connect(), await connect(), await connect()
        assert await asyncio.wait_for(_read(third[0]), PATIENCE_S) == b""
        assert connections.total == 2
        first[1].close()
        second[1].close()
        await _until(lambda: connections.total == 0)
        assert _status(await _exchange(connect, GET + b"connection: close\r\n\r\n")) == 200


async def test_proxies_of_ours_carry_the_requests_of_many() -> None:
    async with _serving(replace(LIMITS, network=2), proxies=("127.0.0.0/8",)) as (_, connect):
        for _ in range(5):
            await connect()
        assert _status(await _exchange(connect, GET + b"connection: close\r\n\r\n")) == 200


async def test_connections_that_say_nothing_make_room_for_those_that_do() -> None:
    async with _serving(replace(LIMITS, total=3)) as (connections, connect):
        served = await connect()
        served[1].write(GET + b"\r\n")
        await asyncio.wait_for(served[0].readuntil(b"read 0"), PATIENCE_S)
        silent = [await connect() for _ in range(10)]
        served[1].write(GET + b"\r\n")
        await asyncio.wait_for(served[0].readuntil(b"read 0"), PATIENCE_S)
        assert _status(await _exchange(connect, GET + b"connection: close\r\n\r\n")) == 200
        assert connections.total <= 3
        assert await asyncio.wait_for(_read(silent[0][0]), PATIENCE_S) == b""


async def test_a_websocket_is_counted_until_its_end() -> None:
    async with _serving(replace(LIMITS, network=1)) as (connections, connect):
        reader, writer = await connect()
        upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        writer.write(
            b"GET /socket HTTP/1.1\r\nhost: x\r\n" + upgrade + b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert _status(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)) == 101
        assert connections.total == 1
        writer.close()
        await _until(lambda: connections.total == 0)
