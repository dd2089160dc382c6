"""The HTTP client against servers that are right, slow, wrong or hostile, on both event loops."""

import asyncio
import contextlib
import datetime
import gzip
import inspect
import ipaddress
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from router.serving import client
from router.serving.client import OutgoingHeaders, Peer, address_of, encode_headers
from router.serving.connection import MAX_HEAD_BYTES, HttpAnswer, MalformedAnswer, Unreachable
from tests.support.patience import PATIENCE_S

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
NOT_ALL_READ = 40_000_000


def on_both_loops(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Runs a test on uvloop, which serves, and on asyncio's own loop: they differ in how connections end."""

    def run(*, new_loop: Callable[[], asyncio.AbstractEventLoop], **fixtures: object) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**fixtures))

    wanted = inspect.signature(test).parameters.values()
    loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in wanted]
    run.__signature__ = inspect.Signature([loop, *keywords])  # type: ignore[attr-defined]  # what pytest reads
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(run)


@dataclass
class Conversation:
    """One connection as the server sees it. number: of the connection, from 0."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "Server"

    async def request(self) -> bytes | None:
        """The body of the next request; None: the client has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        self.server.heads.append(head)
        self.server.bodies.append(body)
        return body

    async def send(self, *parts: bytes) -> None:
        """Each part by itself, so that the client cannot rely on getting an answer in one piece."""
        for part in parts:
            self.writer.write(part)
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()
            await asyncio.sleep(0.002)


Script = Callable[[Conversation], Awaitable[None]]


@dataclass
class Server:
    port: int = 0
    connections: int = 0
    open: int = 0
    most_open: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def until_none_is_open(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.open:  # noqa: ASYNC110  asyncio tells nobody
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    state = Server()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(state.connections, reader, writer, state)
        state.connections += 1
        state.open += 1
        state.most_open = max(state.most_open, state.open)
        try:
            await script(conversation)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            state.open -= 1
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    async with server:
        yield state


def peer_of(server: Server, *, connections: int = 10, timeout_s: float = 5.0, max_bytes: int = 1_000_000) -> Peer:
    address = address_of(f"http://127.0.0.1:{server.port}/graphql?a=1")
    return Peer(address, connections=connections, timeout_s=timeout_s, max_bytes=max_bytes)


@contextlib.asynccontextmanager
async def asking(
    script: Script, *, connections: int = 10, timeout_s: float = 5.0, max_bytes: int = 1_000_000
) -> AsyncIterator[tuple[Server, Peer]]:
    async with serving(script) as server:
        peer = peer_of(server, connections=connections, timeout_s=timeout_s, max_bytes=max_bytes)
        try:
            yield server, peer
        finally:
            await peer.close()


def always(*parts: bytes) -> Script:
    """Answers every request with these parts."""

    async def script(conversation: Conversation) -> None:
        while await conversation.request() is not None:
            await conversation.send(*parts)

    return script


def once(*parts: bytes) -> Script:
    """Answers one request, then closes the connection."""

    async def script(conversation: Conversation) -> None:
        if await conversation.request() is not None:
            await conversation.send(*parts)

    return script


@on_both_loops
async def test_a_request_has_the_head_that_http_asks_for_and_its_body() -> None:
    async with asking(always(OK)) as (server, peer):
        headers = OutgoingHeaders({"authorization": "Bearer é", "x-request-id": "1"})
        assert await peer.post(b'{"query":"{a}"}', headers.encoded, repeatable=True) == HttpAnswer(200, b"{}")
        lines = server.heads[0].split(b"\r\n")
        assert lines[0] == b"POST /graphql?a=1 HTTP/1.1"
        assert lines[1] == b"host: 127.0.0.1:%d" % server.port
        assert "authorization: Bearer é".encode("latin-1") in lines
        assert {b"content-type: application/json", b"x-request-id: 1", b"content-length: 15"} <= set(lines)
        assert server.bodies == [b'{"query":"{a}"}']


@on_both_loops
async def test_connections_are_kept_and_used_again() -> None:
    async with asking(always(OK)) as (server, peer):
        for _ in range(5):
            await peer.post(b"{}", repeatable=True)
        assert (server.connections, len(server.bodies)) == (1, 5)


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ((OK,), b"{}"),
        (tuple(bytes([byte]) for byte in OK), b"{}"),
        (
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b'3\r\n{"a\r\n', b'4;x=y\r\n":1}\r\n0\r\n\r\n'),
            b'{"a":1}',
        ),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-trailer: 1\r\n\r\n",), b"{}"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), b"{}"),
        ((b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK,), b"{}"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), b""),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",), b""),
        ((b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}",), b"{}"),
    ],
)
@on_both_loops
async def test_an_answer_is_read_however_it_is_framed_and_cut(parts: tuple[bytes, ...], body: bytes) -> None:
    async with asking(always(*parts)) as (server, peer):
        for _ in range(2):
            assert (await peer.post(b"{}", repeatable=False)).body == body
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
@on_both_loops
async def test_a_connection_that_the_server_ends_is_not_used_again(answer: bytes) -> None:
    async with asking(once(answer)) as (server, peer):
        for _ in range(3):
            assert (await peer.post(b"{}", repeatable=False)).body == b"{}"
        assert server.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"",
    ],
)
@on_both_loops
async def test_an_answer_that_is_cut_off_is_none(answer: bytes) -> None:
    async with asking(once(answer)) as (server, peer):
        with pytest.raises(Unreachable):
            await peer.post(b"{}", repeatable=True)
        assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEAD_BYTES + 1),
    ],
)
@on_both_loops
async def test_what_is_not_http_is_told_and_its_connection_closed(answer: bytes) -> None:
    async with asking(always(answer)) as (server, peer):
        for _ in range(2):
            with pytest.raises(MalformedAnswer):
                await peer.post(b"{}", repeatable=True)
        assert server.connections == 2


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
@on_both_loops
async def test_a_compressed_answer_is_decompressed(compress: Callable[[bytes], bytes]) -> None:
    packed = compress(b'{"data":null}')
    coding = b"gzip" if compress is gzip.compress else b"deflate"
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding, len(packed))
    async with asking(always(head + packed)) as (_, peer):
        assert (await peer.post(b"{}", repeatable=True)).body == b'{"data":null}'


@pytest.mark.parametrize(
    ("coding", "body"), [(b"gzip", b"{}"), (b"br", b"{}"), (b"gzip", gzip.compress(b"{}", mtime=0)[:-9])]
)
@on_both_loops
async def test_a_body_that_is_not_what_its_coding_says_is_refused(coding: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding, len(body))
    async with asking(always(head + body)) as (_, peer):
        with pytest.raises(MalformedAnswer, match="compressed"):
            await peer.post(b"{}", repeatable=True)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"content-length: 20000\r\n", b""),
        (b"transfer-encoding: chunked\r\n", b"4e20\r\n" + b" " * 20_000 + b"\r\n0\r\n\r\n"),
        (b"connection: close\r\n", b" " * 20_000),
        (b"content-encoding: gzip\r\ncontent-length: 56\r\n", gzip.compress(b" " * 30_000, mtime=0).ljust(56)[:56]),
    ],
)
@on_both_loops
async def test_an_answer_larger_than_allowed_is_refused(head: bytes, body: bytes) -> None:
    async with asking(once(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body), max_bytes=10_000) as (_, peer):
        with pytest.raises(MalformedAnswer, match="too large"):
            await peer.post(b"{}", repeatable=True)


@on_both_loops
async def test_bytes_after_an_answer_never_answer_the_next_request() -> None:
    forged = b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n"forged"'
    for parts in [(OK + forged,), (OK, forged), (OK + b"garbage",)]:
        async with asking(always(*parts)) as (server, peer):
            for _ in range(3):
                assert (await peer.post(b"{}", repeatable=True)).body == b"{}"
                await server.until_none_is_open()
            assert server.connections == 3


@on_both_loops
async def test_an_answer_before_the_end_of_the_request_is_taken_and_its_connection_closed() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        await conversation.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        await asyncio.sleep(0.2)

    async with asking(script) as (server, peer):
        for expected in (1, 2):
            assert (await peer.post(b" " * NOT_ALL_READ, repeatable=True)).status == 413
            assert server.connections == expected


# -- connections that end ----------------------------------------------------------------------------------------------


def _closes_when_used_again(second: bytes = b"") -> Script:
    """Answers the first request of each connection; at the second it sends `second` and closes."""

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(OK)
        if await conversation.request() is not None:
            await conversation.send(second)

    return script


@on_both_loops
async def test_a_query_that_met_a_stale_connection_is_sent_once_more_on_a_new_one() -> None:
    async with asking(_closes_when_used_again()) as (server, peer):
        assert (await peer.post(b"1", repeatable=True)).body == b"{}"
        assert (await peer.post(b"2", repeatable=True)).body == b"{}"
        assert server.bodies == [b"1", b"2", b"2"]
        assert server.connections == 2


@on_both_loops
async def test_a_mutation_that_met_a_stale_connection_is_not_sent_again() -> None:
    async with asking(_closes_when_used_again()) as (server, peer):
        await peer.post(b"1", repeatable=True)
        with pytest.raises(Unreachable):
            await peer.post(b"2", repeatable=False)
        assert server.bodies == [b"1", b"2"]


@on_both_loops
async def test_a_request_that_was_partly_answered_is_not_sent_again() -> None:
    async with asking(_closes_when_used_again(b"HTTP/1.1 2")) as (server, peer):
        await peer.post(b"1", repeatable=True)
        with pytest.raises(Unreachable):
            await peer.post(b"2", repeatable=True)
        assert server.bodies == [b"1", b"2"]


@on_both_loops
async def test_a_query_is_sent_at_most_twice() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.request()
        if conversation.number == 0:
            await conversation.send(OK)
            await conversation.request()

    async with asking(script) as (server, peer):
        await peer.post(b"1", repeatable=True)
        with pytest.raises(Unreachable):
            await peer.post(b"2", repeatable=True)
        assert server.bodies == [b"1", b"2", b"2"]


@on_both_loops
async def test_a_connection_closed_while_idle_is_not_used() -> None:
    async with asking(once(OK)) as (server, peer):
        await peer.post(b"1", repeatable=False)
        async with asyncio.timeout(PATIENCE_S):
            while peer._connections:  # noqa: ASYNC110  the client's own view of it
                await asyncio.sleep(0.001)
        await peer.post(b"2", repeatable=False)
        assert server.bodies == [b"1", b"2"]


@on_both_loops
async def test_a_mutation_does_not_use_a_connection_that_has_been_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "IDLE_FOR_MUTATIONS_S", 0.02)
    async with asking(always(OK), connections=1) as (server, peer):
        await peer.post(b"1", repeatable=True)
        await asyncio.sleep(0.05)
        await peer.post(b"2", repeatable=True)
        assert server.connections == 1
        await asyncio.sleep(0.05)
        await peer.post(b"3", repeatable=False)
        assert server.connections == 2


@on_both_loops
async def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "IDLE_S", 0.05)
    async with asking(always(OK)) as (server, peer):
        await asyncio.gather(*(peer.post(b"1", repeatable=True) for _ in range(3)))
        assert server.connections == 3
        await server.until_none_is_open()


@on_both_loops
async def test_the_servers_word_on_how_long_it_keeps_connections_is_heeded() -> None:
    answer = OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=0, max=5\r\n\r\n")
    async with asking(always(answer)) as (server, peer):
        await peer.post(b"1", repeatable=True)
        await peer.post(b"2", repeatable=True)
        assert server.connections == 2


@on_both_loops
async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with serving(always(OK)) as server:
        pass
    with pytest.raises(Unreachable):
        await peer_of(server).post(b"{}", repeatable=True)


# -- time --------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_a_request_has_one_time_limit_from_the_queue_to_the_last_byte() -> None:
    async def silent(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(OK[:-1])
        await asyncio.sleep(1)

    async with asking(silent, connections=1, timeout_s=0.5) as (server, peer):
        results = await asyncio.gather(*(peer.post(b"{}", repeatable=True) for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [TimeoutError] * 5
        # The second may get the connection in the moment between the first one's end and its own.
        assert len(server.bodies) < 3, "the time in the queue does not count"


@on_both_loops
async def test_after_a_timeout_the_late_answer_goes_to_nobody() -> None:
    late = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        while (body := await conversation.request()) is not None:
            if body == b"slow":
                await late.wait()
            await conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async with asking(script, connections=1, timeout_s=1.0) as (_, peer):
        with pytest.raises(TimeoutError):
            await peer.post(b"slow", repeatable=True)
        assert (await peer.post(b"fast", repeatable=True)).body == b"fast"
        late.set()
        assert (await peer.post(b"more", repeatable=True)).body == b"more"


@on_both_loops
async def test_a_cancelled_request_closes_its_connection_and_frees_its_place() -> None:
    closed = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        if await conversation.request() == b"slow":
            assert await conversation.request() is None
            closed.set()
        else:
            await conversation.send(OK)

    async with asking(script, connections=1) as (server, peer):
        task = asyncio.create_task(peer.post(b"slow", repeatable=True))
        while not server.bodies:  # noqa: ASYNC110  the server has no event for it
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), PATIENCE_S)
        assert (await peer.post(b"next", repeatable=True)).body == b"{}"


# -- the queue ---------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_no_more_connections_than_allowed_and_those_who_wait_go_in_order() -> None:
    async def script(conversation: Conversation) -> None:
        while await conversation.request() is not None:
            await conversation.send(OK)

    async with asking(script, connections=2) as (server, peer):
        bodies = [b"%d" % number for number in range(20)]
        await asyncio.gather(*(peer.post(body, repeatable=True) for body in bodies))
        assert server.most_open == 2
        assert sorted(map(int, server.bodies[:2])) == [0, 1]
        for position, body in enumerate(server.bodies):
            assert abs(int(body) - position) <= 1


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"nonsense"])
@on_both_loops
async def test_places_are_neither_lost_nor_multiplied_however_requests_end(answer: bytes) -> None:
    """Waves of requests, some cancelled at every stage; afterwards as many as allowed can still run at once."""

    async def script(conversation: Conversation) -> None:
        while await conversation.request() is not None:
            await asyncio.sleep(0.003)
            await conversation.send(answer)

    async with asking(script, connections=3, timeout_s=2) as (server, peer):
        for delay_ms in range(12):
            tasks = [asyncio.create_task(peer.post(b"{}", repeatable=True)) for _ in range(9)]
            await asyncio.sleep(delay_ms / 1000)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert len(peer._connections) <= 3
        results = await asyncio.gather(*(peer.post(b"{}", repeatable=True) for _ in range(6)), return_exceptions=True)
        assert not any(isinstance(result, TimeoutError) for result in results)
        await asyncio.sleep(0)
        assert peer._taken == len(peer._connections)
        assert len(server.bodies) >= 6


@on_both_loops
async def test_a_retired_peer_still_answers_but_keeps_nothing() -> None:
    async with asking(always(OK)) as (server, peer):
        await peer.post(b"1", repeatable=True)
        peer.retire()
        assert (await peer.post(b"2", repeatable=True)).body == b"{}"
        await server.until_none_is_open()
        assert server.connections == 2


# -- addresses and headers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://a", "a", "/"),
        ("http://a:80/g", "a", "/g"),
        ("https://a/g?x=1#part", "a", "/g?x=1"),
        ("https://a:8443/", "a:8443", "/"),
        ("http://[::1]:4001/g", "[::1]:4001", "/g"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, authority: str, target: str) -> None:
    address = address_of(url)
    assert (address.authority, address.target) == (authority, target)


@pytest.mark.parametrize(
    "url",
    ["", "a", "ftp://a", "http://", "http://u:p@a/", "http://a/b c", "http://a/\r\nx: y", "http://a:x/", "http://a/é"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whoever raises it, urlsplit or the client
        address_of(url)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\rb", "a\0b"])
def test_a_header_cannot_smuggle_another(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        encode_headers({"x-request-id": value})


# -- TLS ---------------------------------------------------------------------------------------------------------------


def _certificate(folder: Path, *names: x509.GeneralName) -> tuple[Path, ssl.SSLContext]:
    """The file of a certificate that signs itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return file, context


async def _post_securely(tls: ssl.SSLContext) -> HttpAnswer:
    async with serving(always(OK), tls) as server:
        address = address_of(f"https://127.0.0.1:{server.port}/")
        peer = Peer(address, connections=2, timeout_s=5, max_bytes=1000)
        try:
            await peer.post(b"{}", repeatable=True)
            return await peer.post(b"{}", repeatable=True)
        finally:
            await peer.close()
            await asyncio.sleep(0.02)


@on_both_loops
async def test_https_works_with_a_certificate_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tls = _certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    monkeypatch.setattr(client, "_tls", lambda: ssl.create_default_context(cafile=str(file)))
    assert (await _post_securely(tls)).body == b"{}"


@on_both_loops
async def test_https_refuses_a_certificate_of_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tls = _certificate(tmp_path, x509.DNSName("elsewhere.example"))
    monkeypatch.setattr(client, "_tls", lambda: ssl.create_default_context(cafile=str(file)))
    with pytest.raises(Unreachable, match="SSLCertVerificationError"):
        await _post_securely(tls)


@on_both_loops
async def test_https_refuses_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    _, tls = _certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    with pytest.raises(Unreachable, match="SSLCertVerificationError"):
        await _post_securely(tls)
