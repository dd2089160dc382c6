"""The router over HTTP: methods, media types, status codes, bad input, limits, reload."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from router.serving.app import create_app
from router.serving.http import headers_of
from router.serving.service import RouterService
from router.serving.settings import CorsSettings, Limits, RouterSettings
from tests.federation.serve import Served, serve
from tests.federation.shop import SHOP
from tests.support.patience import PATIENCE_S

SETTINGS = RouterSettings(
    limits=Limits(
        max_depth=12, max_aliases=20, max_tokens=600, max_body_bytes=20_000, max_root_fields=30, max_fields=500
    ),
    cors=CorsSettings(allow_origins=("https://app.example",)),
)


@pytest.fixture
async def router() -> AsyncIterator[Served]:
    async with serve(create_app(SHOP, SETTINGS)) as served:
        yield served


async def test_a_get_request_is_answered_in_the_media_type_asked_for(router: Served) -> None:
    for accept, expected in [
        ("application/graphql-response+json", "application/graphql-response+json"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
    ]:
        response = await router.get("/graphql", params={"query": "{__typename}"}, headers={"accept": accept})
        assert (response.status, response.content_type) == (200, expected)
        assert await response.json() == {"data": {"__typename": "Query"}}


async def test_an_unacceptable_media_type_is_406(router: Served) -> None:
    response = await router.get("/graphql", params={"query": "{__typename}"}, headers={"accept": "image/png"})
    assert response.status == 406


async def test_a_mutation_by_get_is_405(router: Served) -> None:
    response = await router.get("/graphql", params={"query": 'mutation { rename(name: "x") { upc } }'})
    assert (response.status, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "BAD_REQUEST"),
        (b"\xff\xfe", 400, "BAD_REQUEST"),
        (b'"text"', 400, "BAD_REQUEST"),
        (b"{}", 400, "BAD_REQUEST"),
        (b'{"query": 1}', 400, "BAD_REQUEST"),
        (b'{"query": "{__typename}", "variables": []}', 400, "BAD_REQUEST"),
        (b'[{"query": "{__typename}"}]', 400, "BATCHING_NOT_SUPPORTED"),
        (b'{"query": "{ products {"}', 400, "GRAPHQL_PARSE_FAILED"),
        (b'{"query": "{ nope }"}', 400, "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query": "query A { __typename } query B { __typename }"}', 400, "OPERATION_RESOLUTION_FAILURE"),
        (b'{"query": "{ __typename }", "operationName": "B"}', 400, "OPERATION_RESOLUTION_FAILURE"),
        (b'{"query": "query($u: ID!) { product(upc: $u) { upc } }", "variables": {"u": {}}}', 400, "BAD_USER_INPUT"),
        (b'{"query": "query($u: ID!) { product(upc: $u) { upc } }"}', 400, "BAD_USER_INPUT"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(router: Served, body: bytes, status: int, code: str) -> None:
    headers = {"content-type": "application/json", "accept": "application/graphql-response+json"}
    response = await router.post("/graphql", data=body, headers=headers)
    content = await response.json(content_type=None)
    assert (response.status, content["errors"][0]["extensions"]["code"]) == (status, code)
    assert "data" not in content


async def test_older_clients_get_200_for_a_document_that_does_not_validate(router: Served) -> None:
    response = await router.post("/graphql", json={"query": "{ nope }"}, headers={"accept": "application/json"})
    assert response.status == 200


async def test_a_body_that_is_not_json_is_415(router: Served) -> None:
    response = await router.post("/graphql", data=b"query={a}", headers={"content-type": "text/plain"})
    assert response.status == 415


_NESTED = "me { friends { " * 8 + "name" + " } }" * 8


@pytest.mark.parametrize(
    ("query", "what"),
    [
        (f"{{ {_NESTED.replace('me {', 'friends {').replace('friends {', 'me {', 1)} }}", "deeper"),
        ("{ " + " ".join(f"a{n}: __typename" for n in range(25)) + " }", "aliases"),
        ("{ " + "__typename " * 40 + "}", "root fields"),
        ("{ " + "a " * 700 + "}", "tokens"),
        ("{" + "a{" * 5000 + "}" * 5001, "nested"),
        (
            "{ me { ...F0 } } "
            + " ".join(f"fragment F{n} on User {{ ...F{n + 1} ...F{n + 1} }}" for n in range(20))
            + " fragment F20 on User { name }",
            "fields",
        ),
        ("{ me { ...A } } fragment A on User { ...B } fragment B on User { ...A }", "itself"),
    ],
)
async def test_a_hostile_operation_is_refused_quickly(router: Served, query: str, what: str) -> None:
    response = await router.post(
        "/graphql", json={"query": query}, headers={"accept": "application/graphql-response+json"}
    )
    content = await response.json(content_type=None)
    assert response.status == 400
    assert what in content["errors"][0]["message"]


async def test_a_huge_body_is_413(router: Served) -> None:
    response = await router.post("/graphql", json={"query": "{__typename}", "variables": {"x": "y" * 30_000}})
    assert response.status == 413


async def test_an_operation_that_would_ask_subgraphs_too_often_is_refused_before_it_runs() -> None:
    async with serve(create_app(SHOP, RouterSettings(limits=Limits(max_fetches=2)))) as limited:
        few = await limited.post("/graphql", json={"query": "{ topProduct { name } me { name } }"})
        many = await limited.post(
            "/graphql", json={"query": "{ topProduct { name inStock owner { name } } me { name } }"}
        )
        assert (await few.json())["data"] == {"topProduct": None, "me": None}
        refused = (await many.json())["errors"][0]
        assert refused["extensions"]["code"] == "OPERATION_TOO_LARGE"
        assert "at most 2" in refused["message"]


async def test_health_ready_metrics_and_explorer_are_served(router: Served) -> None:
    assert (await router.get("/health")).status == 200
    assert (await router.get("/ready")).status == 200
    await router.post("/graphql", json={"query": "{__typename}"})
    assert 'router_requests_total{result="ok"}' in await (await router.get("/metrics")).text()
    page = await (await router.get("/graphql", headers={"accept": "text/html"})).text()
    assert "<title>GraphQL explorer" in page
    assert "http://" not in page
    assert "https://" not in page


async def test_browsers_of_allowed_origins_may_ask(router: Served) -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    response = await router.session.options(f"{router.url}/graphql", headers=headers)
    assert response.headers["access-control-allow-origin"] == "https://app.example"


async def test_a_reload_serves_the_new_schema_and_a_broken_one_changes_nothing(router: Served) -> None:
    service: RouterService = router.app.state.router
    renamed = SHOP.replace("topProduct", "bestProduct")

    await service.reload(renamed)
    with pytest.raises(Exception, match="not valid SDL"):
        await service.reload("type {")

    response = await router.post("/graphql", json={"query": '{ __type(name: "Query") { fields { name } } }'})
    names = [f["name"] for f in (await response.json())["data"]["__type"]["fields"]]
    assert "bestProduct" in names
    assert "topProduct" not in names


async def test_an_unreachable_subgraph_is_an_error_in_the_answer(router: Served) -> None:
    response = await router.post("/graphql", json={"query": "{ me { name } }"})
    content = await response.json()
    assert response.status == 200
    assert content["data"] == {"me": None}
    assert content["errors"][0]["extensions"]["code"] == "SERVICE_UNAVAILABLE"


async def test_introspection_can_be_switched_off() -> None:
    async with serve(create_app(SHOP, RouterSettings(introspection=False))) as closed:
        response = await closed.post("/graphql", json={"query": "{ __schema { queryType { name } } }"})
        assert (await response.json())["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


async def test_trusted_documents_are_served_by_id_and_nothing_else_where_they_are_required(tmp_path: Path) -> None:
    listed = tmp_path / "documents.json"
    listed.write_text('{"abc": "{ __typename }"}', encoding="utf-8")
    settings = RouterSettings(trusted_documents=listed, require_trusted_documents=True)
    async with serve(create_app(SHOP, settings)) as trusting:
        by_id = await trusting.post("/graphql", json={"documentId": "abc"})
        by_hash = await trusting.post("/graphql", json={"extensions": {"persistedQuery": {"sha256Hash": "abc"}}})
        unknown = await trusting.post("/graphql", json={"documentId": "abd"})
        free = await trusting.post("/graphql", json={"query": "{ __typename }"})
        assert await by_id.json() == await by_hash.json() == {"data": {"__typename": "Query"}}
        assert (await unknown.json())["errors"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
        assert (await free.json())["errors"][0]["extensions"]["code"] == "PERSISTED_QUERY_REQUIRED"


async def test_batches_are_answered_in_order_where_they_are_allowed() -> None:
    async with serve(create_app(SHOP, RouterSettings(batching=True))) as batching:
        response = await batching.post("/graphql", json=[{"query": "{__typename}"}, {"query": "{ nope }"}])
        first, second = await response.json()
        assert first == {"data": {"__typename": "Query"}}
        assert second["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


async def test_a_client_that_goes_away_is_not_worked_for(router: Served) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with router.session.post(f"{router.url}/graphql", data=_endless(), timeout=aiohttp.ClientTimeout(0.2)):
            pass
    assert (await router.get("/health")).status == 200


async def _endless() -> AsyncIterator[bytes]:
    yield b'{"query":'
    raise aiohttp.ClientError("gone")


# -- the edges of HTTP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_told_which_there_are(router: Served, method: str) -> None:
    response = await router.session.request(method, f"{router.url}/graphql", params={"query": "{__typename}"})
    assert (response.status, response.headers["allow"]) == (405, "GET, POST, OPTIONS")


async def test_options_names_the_methods(router: Served) -> None:
    response = await router.session.options(f"{router.url}/graphql")
    assert (response.status, response.headers["allow"]) == (204, "GET, POST, OPTIONS")


@pytest.mark.parametrize(
    "query_string",
    [
        "query={__typename}&query={__typename}",
        "query={__typename}&variables={}&variables={}",
        "query=%7B__typename%7D%ff",
        "query={__typename}&variables={",
        "query={__typename}&variables=[]",
        "query=",
        "&".join(f"a{n}=" for n in range(200)),
    ],
)
async def test_a_url_that_can_be_read_in_two_ways_or_none_is_refused(router: Served, query_string: str) -> None:
    response = await router.session.get(URL(f"{router.url}/graphql?{query_string}", encoded=True))
    assert response.status == 400
    assert (await response.json())["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": 'APPLICATION/JSON;charset="UTF-8"'}, 200),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json, text/plain"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-encoding": "identity"}, 200),
    ],
)
async def test_a_body_is_read_only_as_what_it_says_it_is(router: Served, headers: dict[str, str], status: int) -> None:
    response = await router.session.post(
        f"{router.url}/graphql", data=b'{"query":"{__typename}"}', headers=headers, skip_auto_headers=["content-type"]
    )
    assert response.status == status


async def test_a_body_without_a_type_is_415(router: Served) -> None:
    answer = await _raw(router, b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", until_closed=False)
    assert answer.startswith(b"HTTP/1.1 415")


async def test_a_huge_body_of_unknown_length_is_413(router: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    response = await router.post("/graphql", data=chunks(), headers={"content-type": "application/json"})
    assert response.status == 413


async def test_answers_of_a_url_depend_on_what_is_accepted_and_say_so(router: Served) -> None:
    response = await router.get("/graphql", params={"query": "{__typename}"})
    assert "accept" in response.headers["vary"].split(", ")
    assert int(response.headers["content-length"]) == len(await response.read())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "https://app.example"}, 200),
        ({"sec-fetch-site": "cross-site", "apollo-require-preflight": "true"}, 200),
        ({"sec-fetch-site": "cross-site", "graphql-preflight": ""}, 200),
    ],
)
async def test_a_page_of_another_site_cannot_make_a_browser_ask(
    router: Served, headers: dict[str, str], status: int
) -> None:
    response = await router.get("/graphql", params={"query": "{__typename}"}, headers=headers)
    assert response.status == status
    if status == 403:
        assert (await response.json())["errors"][0]["extensions"]["code"] == "CSRF_PREVENTED"


def test_a_header_that_comes_several_times_has_all_its_values() -> None:
    raw = [(b"x-forwarded-for", b"1.1.1.1"), (b"accept", b"a/b"), (b"x-forwarded-for", b"2.2.2.2"), (b"cookie", b"a=1")]
    headers = headers_of({"type": "http", "headers": [*raw, (b"cookie", b"b=2")], "client": ("3.3.3.3", 1)})
    assert headers == {"x-forwarded-for": "1.1.1.1, 2.2.2.2, 3.3.3.3", "accept": "a/b", "cookie": "a=1; b=2"}


async def test_a_head_and_its_body_are_sent_in_one_piece(router: Served) -> None:
    answer = await _raw(router, _REQUEST, until_closed=False)
    assert answer.endswith(b'\r\n\r\n{"data":{"__typename":"Query"}}')


async def test_requests_sent_ahead_are_answered_in_order_and_the_last_closes_the_connection(router: Served) -> None:
    last = _REQUEST.replace(b"host: x", b"host: x\r\nconnection: close").replace(b"__typename", b"b: __typename")
    answer = await _raw(router, _REQUEST * 3 + last.replace(b"length: 24", b"length: 27"))
    bodies = [part.split(b"\r\n\r\n")[1] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b'{"data":{"__typename":"Query"}}'] * 3 + [b'{"data":{"b":"Query"}}']


async def test_what_is_not_http_is_refused_and_the_connection_closed(router: Served) -> None:
    assert (await _raw(router, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")


_REQUEST = (
    b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 24\r\n\r\n"
    b'{"query":"{__typename}"}'
)


async def _raw(router: Served, request: bytes, *, until_closed: bool = True) -> bytes:
    """What is answered on a connection of its own: all of it, or what comes first."""
    url = URL(router.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request)
        if not until_closed:
            return await asyncio.wait_for(reader.read(65_536), PATIENCE_S)
        return await asyncio.wait_for(reader.read(), PATIENCE_S)
    finally:
        writer.close()
