"""Requests that no client library sends, over raw sockets: the head of a request has limits, and half of one does not stay."""

import asyncio

import pytest

from router.serving import server
from router.serving.app import create_app
from router.serving.settings import RouterSettings
from tests.federation.serve import serve
from tests.federation.shop import SHOP
from tests.support.patience import PATIENCE_S

_START = b"GET /health HTTP/1.1\r\nhost: a\r\n"


async def answered(*pieces: bytes) -> bytes:
    """All that the router says before it closes the connection."""
    async with serve(create_app(SHOP, RouterSettings())) as router, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(router.url.rpartition(":")[2]))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return await reader.read()
        finally:
            writer.close()
            assert (await router.get("/health")).status == 200


@pytest.mark.parametrize(
    "pieces",
    [
        (_START, *(b"x: y\r\n" for _ in range(server.MAX_HEAD_FIELDS)), b"\r\n"),
        (_START, b"x: " + b"y" * server.MAX_HEAD_BYTES, b"\r\n\r\n"),
        (b"GET /health?" + b"y" * server.MAX_HEAD_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n",),
    ],
)
async def test_a_head_that_is_too_large_is_refused(pieces: tuple[bytes, ...]) -> None:
    assert (await answered(*pieces)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "piece",
    [
        _START,
        b"POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        b"POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
async def test_half_of_a_request_does_not_stay(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    monkeypatch.setattr(server, "BODY_S", 0.2)
    assert (await answered(piece)).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_says_nothing_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    assert await answered() == b""
