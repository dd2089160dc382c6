"""Files from clients to the subgraphs whose variables they are, over real sockets."""

import asyncio
import contextlib
import io
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from router.serving.app import create_app
from router.serving.settings import Limits, RouterSettings, SubgraphSettings, UploadSettings
from tests.federation.serve import Served, serve

SUPERGRAPH = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.3") {
  query: Query
  mutation: Mutation
}
enum join__Graph { ONE @join__graph(name: "one", url: "") TWO @join__graph(name: "two", url: "") }
scalar Upload @join__type(graph: ONE) @join__type(graph: TWO)
input Album @join__type(graph: ONE) { title: String cover: Upload photos: [Upload!] }
type Query @join__type(graph: ONE) @join__type(graph: TWO) { size(file: Upload): Int @join__field(graph: ONE) }
type Mutation @join__type(graph: ONE) @join__type(graph: TWO) {
  store(file: Upload!, note: String): Int @join__field(graph: ONE)
  publish(album: Album!): Int @join__field(graph: ONE)
  scan(file: Upload!): Int @join__field(graph: TWO)
  plain(note: String): Int @join__field(graph: TWO)
}
"""


@dataclass
class Got:
    """What a subgraph was sent. files: (name, content type, content) by the map's keys; None: plain JSON."""

    operations: Any
    map: Mapping[str, list[str]] | None = None
    files: dict[str, tuple[str | None, str, bytes]] = field(default_factory=dict)

    def at(self, path: str) -> bytes:
        """The content of the file that stands at a path."""
        [name] = [name for name, paths in (self.map or {}).items() if path in paths]
        return self.files[name][2]


@contextlib.asynccontextmanager
async def storing(**settings: Any) -> AsyncIterator[tuple[Served, dict[str, list[Got]]]]:
    got: dict[str, list[Got]] = {"one": [], "two": []}

    async def take(request: web.Request) -> web.Response:
        if request.content_type == "application/json":
            received = Got(await request.json())
        else:
            assert request.content_length is not None
            names: list[str] = []
            parts: dict[str, tuple[str | None, str, bytes]] = {}
            async for part in await request.multipart():
                assert isinstance(part, aiohttp.BodyPartReader)
                assert part.name is not None
                names.append(part.name)
                kind = part.headers.get("content-type", "")
                parts[part.name] = (part.filename, kind, bytes(await part.read()))
            assert names[:2] == ["operations", "map"]
            operations, mapping = (orjson.loads(parts.pop(name)[2]) for name in ("operations", "map"))
            received = Got(operations, mapping, parts)
        got[request.match_info["name"]].append(received)
        fields = ("store", "scan", "plain", "publish", "size", "a", "b")
        return web.json_response({"data": dict.fromkeys(fields, 1)})

    app = web.Application(client_max_size=10**9)
    app.router.add_post("/{name}", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    subgraphs = {name: SubgraphSettings(url=f"{url}/{name}") for name in got}
    try:
        async with serve(create_app(SUPERGRAPH, RouterSettings(subgraphs=subgraphs, **settings))) as router:
            yield router, got
    finally:
        await runner.cleanup()


def form(operations: Any, mapping: Any, **files: bytes) -> aiohttp.FormData:
    """As the specification lays it out; text is taken as it is, everything else as JSON."""
    data = aiohttp.FormData(quote_fields=False)
    for name, value in (("operations", operations), ("map", mapping)):
        if value is not None:
            data.add_field(name, value if isinstance(value, str) else orjson.dumps(value).decode())
    for name, content in files.items():
        data.add_field(name[1:], io.BytesIO(content), filename=f'{name} "사진".png', content_type="image/png")
    return data


STORE = {"query": "mutation($f: Upload!) { store(file: $f) }", "variables": {"f": None}}


async def post(router: Served, data: aiohttp.FormData, **headers: str) -> tuple[int, Any]:
    accept = {"accept": "application/graphql-response+json"}
    response = await router.post("/graphql", data=data, headers={**accept, **headers})
    return response.status, await response.json(content_type=None)


async def test_a_file_reaches_its_subgraph_whole_with_its_name_and_type() -> None:
    content = bytes(range(256)) * 3000 + b"\r\n--router-\r\n"
    async with storing() as (router, got):
        status, answer = await post(router, form(STORE, {"0": ["variables.f"]}, _0=content))
    assert (status, answer) == (200, {"data": {"store": 1}})
    [sent] = got["one"]
    assert sent.operations["variables"] == {"f": None}
    assert sent.map == {"0": ["variables.f"]}
    assert sent.files["0"] == ("_0 %22사진%22.png", "image/png", content)  # as browsers write it


async def test_each_subgraph_gets_the_files_of_its_own_variables_only() -> None:
    query = """mutation($f: Upload!, $g: Upload!, $n: String) {
      a: store(file: $f, note: $n) scan(file: $g) b: store(file: $f) plain(note: $n)
    }"""
    operations = {"query": query, "variables": {"f": None, "g": None, "n": "hello"}}
    async with storing() as (router, got):
        status, answer = await post(
            router, form(operations, {"x": ["variables.f"], "y": ["variables.g"]}, _x=b"F", _y=b"G")
        )
    assert (status, set(answer["data"])) == (200, {"a", "b", "scan", "plain"})
    assert [each.at("variables.f") for each in got["one"]] == [b"F", b"F"]
    assert all(len(each.files) == 1 for each in got["one"])
    scanned, plain = got["two"]
    assert scanned.at("variables.g") == b"G"
    assert (plain.map, plain.operations["variables"]) == (None, {"n": "hello"})


async def test_files_within_inputs_and_lists_keep_their_places() -> None:
    query = "mutation($a: Album!, $f: Upload!) { publish(album: $a) scan(file: $f) }"
    variables = {"a": {"title": "t", "cover": None, "photos": [None, None]}, "f": None}
    mapping = {"1": ["variables.a.photos.0"], "2": ["variables.a.photos.1"], "3": ["variables.a.cover", "variables.f"]}
    async with storing() as (router, got):
        status, answer = await post(
            router, form({"query": query, "variables": variables}, mapping, _1=b"one", _2=b"two", _3=b"both")
        )
    assert (status, answer) == (200, {"data": {"publish": 1, "scan": 1}})
    [published] = got["one"]
    assert published.operations["variables"] == {"a": variables["a"]}
    assert published.at("variables.a.photos.0") == b"one"
    assert published.at("variables.a.photos.1") == b"two"
    assert published.at("variables.a.cover") == b"both"
    assert got["two"][0].at("variables.f") == b"both"


async def test_one_file_may_be_read_for_several_requests_at_once() -> None:
    content = bytes(range(251)) * 8000
    query = "query($f: Upload) { a: size(file: $f) }"
    batch = [{"query": query, "variables": {"f": None}}] * 4
    mapping = {"0": [f"{n}.variables.f" for n in range(4)]}
    uploads = UploadSettings(max_memory_bytes=1000)
    async with storing(batching=True, uploads=uploads) as (router, got):
        status, answers = await post(router, form(batch, mapping, _0=content))
    assert (status, answers) == (200, [{"data": {"a": 1}}] * 4)
    assert [each.at("variables.f") == content for each in got["one"]] == [True] * 4


@pytest.mark.parametrize(
    ("operations", "mapping", "message"),
    [
        (None, {"0": ["variables.f"]}, "`operations`"),
        (STORE, None, "`map`"),
        ("{", {"0": ["variables.f"]}, "`operations` is not valid JSON"),
        (STORE, "[", "`map` is not valid JSON"),
        (STORE, [], "`map` must be an object"),
        (STORE, {"0": "variables.f"}, "list of paths"),
        (STORE, {"0": [1]}, "list of paths"),
        (STORE, {"9": ["variables.f"]}, "does not hold"),
        (STORE, {"map": ["variables.f"]}, "does not hold"),
        (STORE, {"0": ["variables.g"]}, "holds no null"),
        (STORE, {"0": ["variables"]}, "holds no null"),
        (STORE, {"0": ["query"]}, "holds no null"),
        (STORE, {"0": ["variables.f.0"]}, "holds no null"),
        (STORE, {"0": ["0.variables.f"]}, "holds no null"),
        (STORE, {"0": ["variables.f", "variables.f"]}, "holds no null"),
        ({**STORE, "variables": {"f": "text"}}, {"0": ["variables.f"]}, "holds no null"),
        ({**STORE, "variables": {"f": [None]}}, {"0": ["variables.f.1"]}, "holds no null"),
        ({**STORE, "variables": {"f": [None]}}, {"0": ["variables.f.-1"]}, "holds no null"),
        ({**STORE, "variables": {"f": [None]}}, {"0": ["variables.f.²"]}, "holds no null"),
        ([STORE], {"0": ["1.variables.f"]}, "holds no null"),
        ([STORE], {"0": ["variables.f"]}, "holds no null"),
        ([STORE], {"0": ["0.variables.f"]}, "Batches are not served"),
        ("[" * 5000, {}, "not valid JSON"),
        ('"text"', {}, "JSON object"),
        (
            {"query": "mutation($f: String) { plain(note: $f) }", "variables": {"f": None}},
            {"0": ["variables.f"]},
            "String",
        ),
        (STORE, {}, "non-null type"),
    ],
)
async def test_a_wrong_form_is_told_what_is_wrong(operations: Any, mapping: Any, message: str) -> None:
    async with storing() as (router, got):
        status, answer = await post(router, form(operations, mapping, _0=b"x"))
    assert status == 400
    assert message in answer["errors"][0]["message"]
    assert got == {"one": [], "two": []}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\ncontent-disp", "multipart/form-data; boundary=x"),
        (b"no boundary at all", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\nno name\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"\xff" * 1000, 'multipart/form-data; boundary="\xff"'),
    ],
)
async def test_what_is_no_form_is_refused(body: bytes, content_type: str) -> None:
    async with storing() as (router, _):
        response = await router.post("/graphql", data=body, headers={"content-type": content_type})
        assert response.status == 400
        assert (await response.json(content_type=None))["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({"max_files": 1}, {"_0": b"x", "_1": b"y"}),
        ({"max_file_bytes": 100}, {"_0": b"x" * 101}),
        ({"max_file_bytes": 100}, {"_0": b"x" * 50_000}),
        ({"max_total_bytes": 100}, {"_0": b"x" * 3_000}),
    ],
)
async def test_too_many_or_too_large_files_are_refused(settings: dict[str, int], files: dict[str, bytes]) -> None:
    limits = Limits(max_body_bytes=1_500)
    async with storing(uploads=UploadSettings(**settings), limits=limits) as (router, got):
        status, answer = await post(router, form(STORE, {"0": ["variables.f"]}, **files))
        assert (status, answer["errors"][0]["extensions"]["code"]) == (413, "REQUEST_TOO_LARGE")
        assert got == {"one": [], "two": []}
        status, _ = await post(router, form(STORE, {"0": ["variables.f"]}, _0=b"x"))
        assert status == 200


async def test_an_endless_form_is_cut_off_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    spooled = tempfile.SpooledTemporaryFile

    def remembered(*arguments: Any, **options: Any) -> Any:
        opened.append(spooled(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", remembered)

    async def endless() -> AsyncIterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="0"; filename="a"\r\n\r\n'
        for _ in range(100_000):
            yield b"x" * 1000
            await asyncio.sleep(0)

    uploads = UploadSettings(max_total_bytes=200_000, max_file_bytes=10**9)
    async with storing(uploads=uploads, limits=Limits(max_body_bytes=1000)) as (router, _):
        headers = {"content-type": "multipart/form-data; boundary=x"}
        with contextlib.suppress(aiohttp.ClientError):  # the answer comes before the end of the question
            response = await router.post("/graphql", data=endless(), headers=headers)
            assert response.status == 413
        await post(router, form(STORE, {"0": ["variables.f"]}, _0=b"x"))
    assert len(opened) == 2
    assert all(file.closed for file in opened)


@pytest.mark.parametrize("name", ["origin", "cookie", "sec-fetch-site"])
async def test_a_form_that_a_page_may_have_sent_needs_a_header_that_pages_cannot_send(name: str) -> None:
    async with storing() as (router, got):
        data = form(STORE, {"0": ["variables.f"]}, _0=b"x")
        status, answer = await post(router, data, **{name: "cross-site"})
        assert (status, answer["errors"][0]["extensions"]["code"]) == (403, "CSRF_PREVENTED")
        assert got["one"] == []
        data = form(STORE, {"0": ["variables.f"]}, _0=b"x")
        status, _ = await post(router, data, **{name: "cross-site", "apollo-require-preflight": "1"})
        assert status == 200


async def test_uploads_can_be_switched_off() -> None:
    async with storing(uploads=UploadSettings(enabled=False)) as (router, _):
        status, answer = await post(router, form(STORE, {"0": ["variables.f"]}, _0=b"x"))
        assert (status, answer["errors"][0]["extensions"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_subgraph_that_does_not_take_the_file_is_told_of() -> None:
    async with storing() as (router, _):
        service = router.app.state.router
        service.transport._urls["one"] = "http://127.0.0.1:9/"
        status, answer = await post(router, form(STORE, {"0": ["variables.f"]}, _0=b"x" * 300_000))
    assert (status, answer["data"]) == (200, {"store": None})
    assert answer["errors"][0]["extensions"] == {"code": "SERVICE_UNAVAILABLE", "serviceName": "one"}
