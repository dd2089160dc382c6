"""Requests and subgraphs that mean harm, over real sockets, while other people go on asking."""

import asyncio
import contextlib
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from router.serving.app import create_app
from router.serving.settings import Limits, RouterSettings, SubgraphSettings
from tests.federation.serve import Served, serve
from tests.federation.shop import SHOP
from tests.support.patience import PATIENCE_S

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ACCEPT = {"accept": "application/graphql-response+json"}
SLOWEST_S = 10.0
"""Longer, nobody waits for the others: a bound for busy machines, on which everything takes its time."""
HEALTHY = {"data": {"topProduct": {"name": "Healthy"}}}


async def _person(_: web.Request) -> web.StreamResponse:
    return web.json_response({"data": {"me": {"__typename": "User", "name": "Ada"}, "__typename": "Query"}})


@contextlib.asynccontextmanager
async def shop(people: Handler = _person, timeout_s: float = PATIENCE_S, **limits: Any) -> AsyncIterator[Served]:
    """The shop, with a healthy catalog and the given people, for whom the router waits that long."""

    async def catalog(_: web.Request) -> web.StreamResponse:
        return web.json_response(HEALTHY)

    app = web.Application()
    app.router.add_post("/people", people)
    app.router.add_post("/catalog", catalog)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = RouterSettings(
        subgraphs={
            "people": SubgraphSettings(url=f"{url}/people", timeout_s=timeout_s),
            "catalog": SubgraphSettings(url=f"{url}/catalog"),
        },
        limits=Limits(**{"max_subgraph_response_bytes": 100_000, **limits}),
    )
    try:
        async with serve(create_app(SHOP, settings)) as router:
            yield router
    finally:
        await runner.cleanup()


class Bystander:
    """Someone who asks for something else the whole time. slowest_s: the longest wait for an answer."""

    def __init__(self, router: Served) -> None:
        self._router = router
        self.answers = 0
        self.slowest_s = 0.0
        self._answered = asyncio.Event()

    async def __aenter__(self) -> "Bystander":
        self._asking = asyncio.create_task(self._ask())
        await self.answered()
        return self

    async def answered(self) -> None:
        """Wait for an answer to what is asked from now on or is being asked."""
        self._answered.clear()
        again = asyncio.create_task(self._answered.wait())
        await asyncio.wait({again, self._asking}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        again.cancel()

    async def __aexit__(self, *_: object) -> None:
        await self.answered()  # also after what was done to the router
        self._asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._asking

    async def _ask(self) -> None:
        while True:
            started = time.monotonic()
            response = await self._router.post("/graphql", json={"query": "{ topProduct { name } }"})
            assert (response.status, await response.json()) == (200, HEALTHY)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            self.answers += 1
            self._answered.set()


def _nested(depth: int, inner: str) -> str:
    return "{ me { " + "friends { " * depth + inner + " }" * depth + " } }"


DOCUMENTS = {
    "deep": (_nested(100, "name"), "OPERATION_TOO_LARGE"),
    "deeper": (_nested(3000, "name"), "OPERATION_TOO_LARGE"),
    "wide": ("{ me { " + "name " * 14_000 + "} }", None),
    "wide-objects": ("{ me { " + "friends { name } " * 1_000 + "} }", None),
    "roots": ("{ " + "__typename " * 300 + "}", "OPERATION_TOO_LARGE"),
    "aliases": ("{ me { " + " ".join(f"a{n}: name" for n in range(600)) + " } }", "OPERATION_TOO_LARGE"),
    "tokens": ("{ me { " + "name " * 20_000 + "} }", "OPERATION_TOO_LARGE"),
    "bomb": (
        "{ me { ...F0 } } "
        + " ".join(f"fragment F{n} on User {{ friends {{ ...F{n + 1} }} ...F{n + 1} }}" for n in range(30))
        + " fragment F30 on User { name }",
        "OPERATION_TOO_LARGE",
    ),
    "cycle": ("{ me { ...A } } fragment A on User { friends { ...A } }", "GRAPHQL_VALIDATION_FAILED"),
    "long-cycle": (
        "{ me { ...F0 } } " + " ".join(f"fragment F{n} on User {{ ...F{(n + 1) % 900} }}" for n in range(900)),
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "long-chain": (
        "{ me { ...F0 } } "
        + " ".join(f"fragment F{n} on User {{ ...F{n + 1} }}" for n in range(1500))
        + " fragment F1500 on User { name }",
        None,
    ),
    "unused-cycle": (
        "{ me { name } } fragment A on User { ...B } fragment B on User { ...A }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "directives": ("{ me { name " + "@skip(if: false) " * 2_500 + "} }", "GRAPHQL_VALIDATION_FAILED"),
    "unknown-directives": ("{ me { name " + "@no " * 7_000 + "} }", "GRAPHQL_VALIDATION_FAILED"),
    "unknown-fields": (
        "{ me { " + " ".join(f"nam{n}" for n in range(7_000)) + " } }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "inline-fragments": ("{ me " + "{ ... " * 300 + "{ name }" + " }" * 300 + " }", "GRAPHQL_PARSE_FAILED"),
    "list-literal": ("{ product(upc: " + "[" * 2_000 + "]" * 2_000 + ") { name } }", "GRAPHQL_PARSE_FAILED"),
    "variable-types": ("query($a: " + "[" * 3_000 + "Int" + "]" * 3_000 + ") { me { name } }", "GRAPHQL_PARSE_FAILED"),
    "variables": (
        "query(" + " ".join(f"$v{n}: Int" for n in range(3_000)) + ") { me { name } }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "unterminated": ('{ product(upc: "' + "x" * 100_000, "GRAPHQL_PARSE_FAILED"),
    "block-string": ('{ product(upc: """' + '\\"""' * 50_000, "GRAPHQL_PARSE_FAILED"),
    "null-byte": ("{ me \0 { name } }", "GRAPHQL_PARSE_FAILED"),
    "surrogate": ('{ product(upc: "\\ud800") { name } }', "GRAPHQL_PARSE_FAILED"),
    "schema": ("type Query { a: Int }", "OPERATION_RESOLUTION_FAILURE"),
    "introspection": (
        "{ __schema { types { " + "fields { type { " * 20 + "name" + " } }" * 20 + " } } }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
}


@pytest.mark.parametrize(("query", "code"), DOCUMENTS.values(), ids=DOCUMENTS)
async def test_a_hostile_document_is_answered_clearly_and_harms_nobody(query: str, code: str | None) -> None:
    async with shop() as router, Bystander(router) as bystander:
        response = await router.post("/graphql", json={"query": query}, headers=ACCEPT)
        content = await response.json(content_type=None)
        if code is None:
            assert response.status in (200, 400)
        else:
            assert response.status == 400
            assert {error["extensions"]["code"] for error in content["errors"]} <= {code, "OPERATION_TOO_LARGE"}
            assert len(await response.read()) < 20_000, "errors are told by the thousand"
    assert bystander.answers > 0
    assert bystander.slowest_s < SLOWEST_S


BODIES = {
    "nothing": b"",
    "null": b"null",
    "number": b"1",
    "nan": b'{"query": "{ me { name } }", "variables": {"a": NaN}}',
    "infinity": b'{"query": "{ me { name } }", "variables": {"a": -Infinity}}',
    "surrogate": b'{"query": "{ me { name } }", "variables": {"a": "\\ud800"}}',
    "surrogate-in-query": b'{"query": "{ me { name \\udc00 } }"}',
    "invalid-utf8": b'{"query": "{ me { name } }", "operationName": "\xff\xfe"}',
    "overlong-utf8": b'{"query": "{ me { name } \xc0\xaf }"}',
    "bom": b'\xef\xbb\xbf{"query": "{ me { name } }"}',
    "utf16": '{"query": "{ me { name } }"}'.encode("utf-16"),
    "trailing": b'{"query": "{ me { name } }"} true',
    "two": b'{"query": "{ me { name } }"}{"query": "{ me { name } }"}',
    "deep": b'{"query": "{ me { name } }", "variables": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    "query-list": b'{"query": ["{ me { name } }"]}',
    "query-object": b'{"query": {"a": 1}}',
    "name-object": b'{"query": "{ me { name } }", "operationName": {}}',
    "variables-text": b'{"query": "{ me { name } }", "variables": "{}"}',
    "extensions-list": b'{"query": "{ me { name } }", "extensions": []}',
    "hash-number": b'{"extensions": {"persistedQuery": {"sha256Hash": 1}}}',
    "list-of-null": b"[null]",
    "empty-list": b"[]",
    "empty-query": b'{"query": ""}',
    "spaces": b'{"query": "  \\n "}',
    "comment": b'{"query": "# nothing"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_that_is_no_request_is_400_with_a_code(body: bytes) -> None:
    async with shop() as router:
        headers = {**ACCEPT, "content-type": "application/json"}
        response = await router.post("/graphql", data=body, headers=headers)
        content = await response.json(content_type=None)
        assert response.status == 400
        assert set(content) == {"errors"}
        assert content["errors"][0]["message"]
        assert content["errors"][0]["extensions"]["code"]


TYPED = "query($id: ID!, $n: String) { product(upc: $id) { price(currency: $n) } }"
VARIABLES: dict[str, Any] = {
    "missing": {},
    "null": {"id": None},
    "object": {"id": {"a": 1}},
    "list": {"id": ["a"]},
    "bool": {"id": True},
    "float": {"id": 1.5},
    "number-for-string": {"id": "a", "n": 1},
    "list-for-string": {"id": "a", "n": [["a"]]},
    "huge-list": {"id": list(range(100_000))},
    "deep-list": {"id": orjson.loads(b"[" * 900 + b"]" * 900)},
}


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES)
async def test_variables_of_the_wrong_type_are_bad_user_input(variables: Any) -> None:
    async with shop() as router, Bystander(router) as bystander:
        response = await router.post("/graphql", json={"query": TYPED, "variables": variables}, headers=ACCEPT)
        content = await response.json(content_type=None)
        assert response.status == 400
        assert content["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert len(await response.read()) < 20_000, "the wrong value is told in full"
    assert bystander.answers > 0


async def test_variables_that_no_operation_uses_are_not_sent_on() -> None:
    seen: list[Any] = []

    async def people(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        return await _person(request)

    async with shop(people) as router:
        variables = {"huge": "x" * 500_000, "__proto__": 1}
        response = await router.post("/graphql", json={"query": "{ me { name } }", "variables": variables})
        assert (await response.json())["data"] == {"me": {"name": "Ada"}}
    assert "variables" not in seen[0]


@pytest.mark.parametrize("value", ["1\ud800", "가" * 1000, "\u2028", '"}', "\\"], ids=ascii)
async def test_text_reaches_a_subgraph_as_it_was_sent_or_not_at_all(value: str) -> None:
    seen: list[Any] = []

    async def catalog(request: web.Request) -> web.StreamResponse:
        seen.append((await request.json())["variables"])
        return web.json_response({"data": {"product": {"__typename": "Product", "name": "n"}}})

    app = web.Application()
    app.router.add_post("/", catalog)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    settings = RouterSettings(subgraphs={"catalog": SubgraphSettings(url=url)})
    try:
        async with serve(create_app(SHOP, settings)) as router:
            query = "query($u: ID!) { product(upc: $u) { name } }"
            response = await router.post("/graphql", json={"query": query, "variables": {"u": value}})
    finally:
        await runner.cleanup()
    is_text = not any("\ud800" <= character <= "\udfff" for character in value)
    assert seen == ([{"u": value}] if is_text else [])
    assert response.status == (200 if is_text else 400)


async def _never_ending(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"data": {"me": {"name": "')
    while True:
        await response.write(b"x" * 10_000)


async def _dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def _bomb(_: web.Request) -> web.StreamResponse:
    body = gzip.compress(b'{"data": {"me": {"name": "' + b"x" * 30_000_000 + b'"}}}')
    return web.Response(body=body, headers={"content-type": "application/json", "content-encoding": "gzip"})


async def _cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "1000"})
    await response.prepare(request)
    await response.write(b'{"data": {"me"')
    assert request.transport is not None
    request.transport.close()
    return response


def _answering(text: str, status: int = 200) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, content_type="application/json")

    return answer


SUBGRAPHS: dict[str, tuple[Handler, str]] = {
    "never-ending": (_never_ending, "SUBGRAPH_MALFORMED_RESPONSE"),
    "dripping": (_dripping, "SUBGRAPH_TIMEOUT"),
    "gzip-bomb": (_bomb, "SUBGRAPH_MALFORMED_RESPONSE"),
    "cut-off": (_cut_off, "SERVICE_UNAVAILABLE"),
    "no-content": (_answering("", 204), "SUBGRAPH_MALFORMED_RESPONSE"),
    "empty": (_answering(""), "SUBGRAPH_MALFORMED_RESPONSE"),
    "null": (_answering("null"), "SUBGRAPH_MALFORMED_RESPONSE"),
    "list": (_answering("[]"), "SUBGRAPH_MALFORMED_RESPONSE"),
    "data-list": (_answering('{"data": [1]}'), "SUBGRAPH_MALFORMED_RESPONSE"),
    "data-null": (_answering('{"data": null}'), "SUBGRAPH_MALFORMED_RESPONSE"),
    "nan": (_answering('{"data": {"me": NaN}}'), "SUBGRAPH_MALFORMED_RESPONSE"),
    "deep": (_answering('{"data": ' + "[" * 5000 + "]" * 5000 + "}"), "SUBGRAPH_MALFORMED_RESPONSE"),
    "surrogate": (_answering('{"data": {"me": {"name": "\\ud800"}}}'), "SUBGRAPH_MALFORMED_RESPONSE"),
    "object-for-list": (_answering('{"data": {"me": []}}'), "RESPONSE_VALIDATION_FAILED"),
    "text-for-object": (_answering('{"data": {"me": "Ada"}}'), "RESPONSE_VALIDATION_FAILED"),
    "errors-text": (_answering('{"errors": "no"}'), "SUBGRAPH_MALFORMED_RESPONSE"),
    "errors-of-text": (_answering('{"errors": ["no"]}'), "DOWNSTREAM_SERVICE_ERROR"),
    "errors-of-nothing": (
        _answering('{"errors": [null, 1, {}, {"message": {}, "path": 1}]}'),
        "DOWNSTREAM_SERVICE_ERROR",
    ),
    "bad-gateway": (_answering("bad gateway", 502), "SUBGRAPH_HTTP_ERROR"),
}


@pytest.mark.parametrize(("people", "code"), SUBGRAPHS.values(), ids=SUBGRAPHS)
async def test_a_hostile_subgraph_costs_only_its_own_part(people: Handler, code: str) -> None:
    timeout_s = 1 if code == "SUBGRAPH_TIMEOUT" else PATIENCE_S
    async with shop(people, timeout_s) as router, Bystander(router) as bystander:
        before = bystander.answers
        response = await router.post("/graphql", json={"query": "{ topProduct { name } me { name } }"}, headers=ACCEPT)
        content = await response.json(content_type=None)
        await bystander.answered()
        assert response.status == 200
        assert content["data"] == {"topProduct": {"name": "Healthy"}, "me": None}
        assert content["errors"][0]["extensions"]["code"] == code
        assert bystander.answers > before
    assert bystander.slowest_s < SLOWEST_S


async def test_many_clients_of_a_silent_subgraph_do_not_block_the_others() -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with shop(silent, 1) as router, Bystander(router) as bystander:
        asking = [router.post("/graphql", json={"query": f"{{ me {{ a{n}: name }} }}"}) for n in range(60)]
        responses = await asyncio.gather(*asking)
        codes = {(await response.json())["errors"][0]["extensions"]["code"] for response in responses}
        assert codes == {"SUBGRAPH_TIMEOUT"}
        assert bystander.answers > 0
    assert bystander.slowest_s < SLOWEST_S


async def test_a_get_request_over_server_sent_events_runs_no_mutation() -> None:
    async with shop() as router:
        response = await router.session.get(
            f"{router.url}/graphql",
            params={"query": 'mutation { rename(name: "x") { name } }'},
            headers={"accept": "text/event-stream"},
        )
        text = await response.text()
        assert "METHOD_NOT_ALLOWED" in text
        assert "Healthy" not in text


async def test_a_client_that_sends_half_a_request_holds_up_nobody() -> None:
    async with shop() as router, Bystander(router) as bystander:
        host, port = router.url.removeprefix("http://").split(":")
        writers = []
        for _ in range(50):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            )
            writers.append(writer)
        before = bystander.answers
        await bystander.answered()
        await bystander.answered()
        assert bystander.answers > before
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_errors_are_one_answer_also_when_everything_is_wrong_at_once() -> None:
    async with shop(_answering("<html>", 500)) as router:

        async def one(number: int) -> tuple[int, Any]:
            bodies: list[tuple[Any, int]] = [
                ({"query": "{ topProduct { name } }"}, 200),
                ({"query": "{ me { name } }"}, 200),
                ({"query": "{ nope }"}, 400),
                ({"query": 1}, 400),
            ]
            body, status = bodies[number % len(bodies)]
            response = await router.post("/graphql", json=body, headers=ACCEPT, timeout=aiohttp.ClientTimeout(20))
            assert response.status == status
            return number % len(bodies), await response.json(content_type=None)

        for kind, content in await asyncio.gather(*(one(number) for number in range(80))):
            assert (content == HEALTHY) is (kind == 0)
