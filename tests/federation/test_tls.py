"""TLS of the router's connections to its subgraphs and of its listener, with an authority made here."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from router.errors import InvalidSettings
from router.serving.app import create_app
from router.serving.settings import ListenerTls, RouterSettings, SubgraphSettings, SubgraphTls
from router.serving.tls import reload_when_changed, server_context
from tests.federation.serve import serve
from tests.federation.shop import SHOP
from tests.support.certificates import Authority, Pair
from tests.support.patience import PATIENCE_S

TOP = {"data": {"topProduct": {"name": "Table"}}}


@contextlib.asynccontextmanager
async def catalog(shown: Pair, clients: Path | None = None) -> AsyncIterator[int]:
    """A subgraph that speaks TLS; clients: the authority whose certificates it asks for."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(TOP)

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = server_context(ListenerTls(certificate=shown.cert, key=shown.key, client_ca=clients))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def asked(port: int, tls: SubgraphTls, host: str = "localhost") -> bool:
    """Whether the router has the subgraph's answer."""
    urls = {"catalog": SubgraphSettings(url=f"https://{host}:{port}/")}
    async with serve(create_app(SHOP, RouterSettings(subgraphs=urls, subgraph_tls=tls))) as router:
        response = await router.post("/graphql", json={"query": "{ topProduct { name } }"})
        content = await response.json()
    if content == TOP:
        return True
    assert content["errors"][0]["extensions"]["code"] == "SERVICE_UNAVAILABLE"
    return False


async def test_a_subgraph_is_proven_by_its_authority_and_its_name(tmp_path: Path) -> None:
    known, other = Authority(tmp_path), Authority(tmp_path, "another authority")
    async with catalog(known.issue("localhost")) as port:
        assert await asked(port, SubgraphTls(ca=known.file))
        assert not await asked(port, SubgraphTls(ca=other.file))
        assert not await asked(port, SubgraphTls())
        assert not await asked(port, SubgraphTls(ca=known.file), host="127.0.0.1")


async def test_a_subgraph_that_asks_for_a_certificate_gets_the_routers(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ca, own = authority.file, authority.issue("router", file="router")
    async with catalog(authority.issue("localhost"), clients=ca) as port:
        assert await asked(port, SubgraphTls(ca=ca, certificate=own.cert, key=own.key))
        assert not await asked(port, SubgraphTls(ca=ca))


async def _handshake(port: int, ca: Path) -> str:
    """The serial number that the listener shows."""
    context = ssl.create_default_context(cafile=ca)
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    shown = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return str(shown)


async def test_the_listener_shows_a_new_certificate_from_the_next_handshake_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("localhost")
    tls = ListenerTls(certificate=pair.cert, key=pair.key)
    context = server_context(tls)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    watch = asyncio.create_task(reload_when_changed(context, tls, interval_s=0.01))
    async with asyncio.timeout(PATIENCE_S), server:
        first = await _handshake(port, authority.file)
        authority.issue("localhost")
        while await _handshake(port, authority.file) == first:  # noqa: ASYNC110  what the listener shows is tried
            await asyncio.sleep(0.01)
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    watch.cancel()


@pytest.mark.parametrize("settings", [{"ca": "/nowhere/ca.pem"}, {"certificate": "/nowhere/cert.pem"}])
def test_a_file_that_is_not_there_is_named_at_the_start(settings: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match="/nowhere/"):
        create_app(SHOP, RouterSettings(subgraph_tls=SubgraphTls.model_validate(settings)))
