"""Reading `supergraph.yaml`, with schemas in files, in place, and asked of a running subgraph."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from router.composition.config import SupergraphConfigError, load_subgraphs, read_config

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A subgraph on a free port, answering every POST with the handler; yields its url."""
    app = web.Application()
    app.router.add_post("/graphql", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/graphql"
    finally:
        await runner.cleanup()


def written(folder: Path, text: str) -> Path:
    path = folder / "supergraph.yaml"
    path.write_text(text, encoding="utf-8")
    return path


async def test_schemas_come_from_files_beside_the_config_and_from_the_config_itself(tmp_path: Path) -> None:
    (tmp_path / "a.graphql").write_text("type Query { a: Int }", encoding="utf-8")
    path = written(
        tmp_path,
        """
        federation_version: =2.9.0
        subgraphs:
          a: { routing_url: "http://a/graphql", schema: { file: ./a.graphql } }
          b: { routing_url: "http://b/graphql", schema: { sdl: "type Query { b: Int }" } }
        """,
    )
    a, b = await load_subgraphs(path)
    assert (a.name, a.url, a.sdl) == ("a", "http://a/graphql", "type Query { a: Int }")
    assert (b.name, b.url, b.sdl) == ("b", "http://b/graphql", "type Query { b: Int }")


async def test_a_running_subgraph_is_asked_for_its_sdl(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((body["query"], request.headers.get("x-token")))
        return web.json_response({"data": {"_service": {"sdl": "type Query { a: Int }"}}})

    async with serving(answer) as url:
        path = written(
            tmp_path,
            f"subgraphs: {{a: {{schema: {{subgraph_url: '{url}', introspection_headers: {{x-token: secret}}}}}}}}",
        )
        (subgraph,) = await load_subgraphs(path)
    assert subgraph.sdl == "type Query { a: Int }"
    assert subgraph.url == url, "the address it was read from serves where no routing_url is given"
    assert "_service" in seen[0][0]
    assert seen[0][1] == "secret"


async def test_a_subgraph_that_answers_html_is_named(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>", content_type="text/html")

    async with serving(answer) as url:
        path = written(tmp_path, f"subgraphs: {{reviews: {{schema: {{subgraph_url: '{url}'}}}}}}")
        with pytest.raises(SupergraphConfigError, match=r'subgraph "reviews" at .* answered HTTP 502 with text/html'):
            await load_subgraphs(path)


async def test_a_subgraph_that_does_not_answer_in_time_is_named(tmp_path: Path) -> None:
    told = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await told.wait()
        return web.Response()

    async with serving(answer) as url:
        path = written(tmp_path, f"subgraphs: {{reviews: {{schema: {{subgraph_url: '{url}'}}}}}}")
        with pytest.raises(SupergraphConfigError, match=r'subgraph "reviews" at .* did not answer in time'):
            await load_subgraphs(path, timeout_s=0.2)
        told.set()


async def test_an_answer_without_an_sdl_is_told_with_its_status(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"data": {"_service": None}})

    async with serving(answer) as url:
        path = written(tmp_path, f"subgraphs: {{reviews: {{schema: {{subgraph_url: '{url}'}}}}}}")
        with pytest.raises(SupergraphConfigError, match=r"gave no SDL: HTTP 200 without `data\._service\.sdl`"):
            await load_subgraphs(path)


async def test_a_subgraph_without_federation_support_is_named(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"errors": [{"message": "Cannot query field '_service'"}]})

    async with serving(answer) as url:
        path = written(tmp_path, f"subgraphs: {{reviews: {{schema: {{subgraph_url: '{url}'}}}}}}")
        with pytest.raises(SupergraphConfigError, match="Cannot query field '_service'"):
            await load_subgraphs(path)


async def test_a_missing_schema_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "subgraphs: {a: {schema: {file: ./nowhere.graphql}}}")
    with pytest.raises(SupergraphConfigError, match=r"subgraphs\.a\.schema\.file"):
        await load_subgraphs(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subgraphs: {}", "`subgraphs` must list at least one subgraph"),
        ("- nothing", "`subgraphs` must list at least one subgraph"),
        ("subgraphs: {a: {}}", r"subgraphs\.a\.schema: missing"),
        ("subgraphs: {a: {schema: {}}}", r"subgraphs\.a\.schema: needs one of"),
        ("subgraphs: {a: {schema: {file: 3}}}", r"subgraphs\.a\.schema\.file: must be a string"),
        ("subgraphs: {a: {routing_url: 3, schema: {file: x}}}", r"subgraphs\.a\.routing_url: must be a string"),
        ("subgraphs: {a: [", "not YAML"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SupergraphConfigError, match=message):
        read_config(written(tmp_path, text))
