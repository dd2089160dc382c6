"""What one GraphQL request to a subgraph may bring and ask for, whoever sends it."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import pytest
import strawberry
from joserfc import jwt
from joserfc.jwk import ECKey

from domain.catalog import Group
from domain.principal import ACCESS_TOKEN_AUDIENCE, Principal, PrincipalKind, Role
from subgraphs.runtime import graphql, http_server
from subgraphs.runtime.auth import Authenticator, issuers_of
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.documents import KEPT_CHARACTERS, Documents
from subgraphs.runtime.faces import GroupFaces
from subgraphs.runtime.graphql import GraphQLContext, build_schema, list_size
from subgraphs.runtime.http_guard import ANONYMOUS_BODY_BYTES, BODY_BYTES, OperationGuard
from subgraphs.runtime.http_server import subgraph_app
from subgraphs.runtime.settings import Settings
from subgraphs.runtime.slots import SlotLimits
from tests.support.patience import PATIENCE_S
from tests.support.trust import service_tokens
from tests.unit.runtime.conftest import Serve

_KEY = ECKey.generate_key("P-256", {"kid": "k1"})
_seen: list[object] = []


@strawberry.input(name="Image")
class _Image:
    content_base64: str


@strawberry.federation.type(name="Thing", keys=["id"])
class _Thing:
    id: strawberry.ID

    @classmethod
    async def resolve_reference(cls, id: strawberry.ID) -> "_Thing":
        return cls(id=id)


@strawberry.type
class Edge:
    node: "_Node"


@strawberry.type
class _Connection:
    edges: list[Edge]


@strawberry.federation.type(name="Node", keys=["id"])
class _Node:
    id: strawberry.ID

    @strawberry.field(description="A page.", directives=[list_size("first", sized_fields=["edges"])])  # type: ignore[untyped-decorator]  # its directives have no types
    async def nodes(self, first: int = 20) -> _Connection:
        return _page(first)

    @strawberry.field(description="Its parts.", directives=[list_size(assumed=40)])  # type: ignore[untyped-decorator]  # its directives have no types
    async def parts(self) -> list["_Node"]:
        return []

    @classmethod
    async def resolve_reference(cls, id: strawberry.ID) -> "_Node":
        return cls(id=id)


def _page(first: int) -> _Connection:
    _seen.append(first)
    return _Connection(edges=[Edge(node=_Node(id=strawberry.ID(str(number)))) for number in range(first)])


@strawberry.type
class _Query:
    @strawberry.field(description="A page.", directives=[list_size("first", sized_fields=["edges"])])  # type: ignore[untyped-decorator]  # its directives have no types
    async def nodes(self, first: int = 20) -> _Connection:
        return _page(first)

    @strawberry.field
    def whole(self, number: int = 0) -> int:
        _seen.append(number)
        return number

    @strawberry.field
    def text(self, value: str = "", values: list[str] | None = None, number: float = 0) -> int:
        _seen.append((value, values, number))
        return len(value) + len(values or [])

    @strawberry.field
    def thing(self) -> _Thing:
        return _Thing(id=strawberry.ID("1"))


@strawberry.type
class _Mutation:
    @strawberry.mutation
    def reset(self, email: str) -> bool:
        _seen.append(email)
        return True

    @strawberry.mutation
    def upload(self, input: _Image) -> int:
        return len(input.content_base64)


@strawberry.type
class _Subscription:
    @strawberry.subscription
    async def ticks(self) -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()


class _Keys:
    async def keys(self) -> list[dict[str, Any]]:
        return [dict(_KEY.as_dict(private=False))]


def _headers(role: Role = Role.USER) -> dict[str, str]:
    now = int(time.time())
    claims = {
        "iss": "manpasik-auth",
        "sub": "u1",
        "aud": ACCESS_TOKEN_AUDIENCE,
        "sid": "s1",
        "iat": now,
        "exp": now + 60,
        "role": role.value,
    }
    return {"authorization": f"Bearer {jwt.encode({'alg': 'ES256', 'kid': 'k1'}, claims, _KEY)}"}


def _app() -> Any:
    def context_of(request: RequestContext) -> GraphQLContext:
        return GraphQLContext(request=request)

    faces = GroupFaces(
        group=Group.HARDWARE,
        services=(),
        schema=build_schema(_Query, _Mutation, _Subscription, types=[_Thing]),
        graphql_context=context_of,
    )
    issuers = issuers_of(Settings.load({}).tokens, _Keys())
    return subgraph_app(
        (faces,), authenticator=Authenticator(issuers, services=service_tokens(), devices=None), checks={}
    )


@pytest.fixture
async def url(serve: Serve) -> str:
    _seen.clear()
    return await serve(_app()) + "/graphql"


async def _asked(
    http: aiohttp.ClientSession, url: str, query: str, *, headers: dict[str, str] | None = None, **variables: object
) -> Any:
    body = io.BytesIO(json.dumps({"query": query, "variables": variables}).encode())
    named = {"content-type": "application/json", **(headers or {})}
    async with http.post(url, data=body, headers=named) as answer:
        return answer.status, await answer.json()


def _code(answer: Any) -> str:
    _, body = answer
    code: str = body["errors"][0]["extensions"]["code"]
    return code


_TEXT = "query($v: String, $l: [String!], $n: Float) { text(value: $v, values: $l, number: $n) }"


async def test_a_request_within_all_bounds_is_served(url: str, http: aiohttp.ClientSession) -> None:
    _, body = await _asked(http, url, _TEXT, headers=_headers(), v="x" * 16_384, l=["y"] * 2_048, n=1e300)
    assert body == {"data": {"text": 16_384 + 2_048}}


@pytest.mark.parametrize(
    "variables",
    [
        {"v": "x" * 16_385},
        {"l": ["x" * 16_385]},
        {"l": ["x"] * 2_049},
        {"unused": {"a": ["x" * 16_385]}},
        {"unused": [[[[[[[[[[[[[]]]]]]]]]]]]]},
        {"unused": {"x" * 300: 1}},
        {f"v{number}": 1 for number in range(201)},
    ],
)
async def test_variables_out_of_bounds_are_refused_unread(
    url: str, http: aiohttp.ClientSession, variables: dict[str, Any]
) -> None:
    answer = await _asked(http, url, _TEXT, headers=_headers(), **variables)
    assert _code(answer) == "BAD_USER_INPUT"
    assert _seen == []


@pytest.mark.parametrize(
    "query",
    [
        '{ text(value: "' + "x" * 16_385 + '") }',
        '{ text(value: """' + "x" * 16_385 + '""") }',
        "{ text(values: [" + '"x",' * 2_049 + "]) }",
        "{ text(number: 1e400) }",
        "{ text(number: 1" + "0" * 5_000 + ") }",
        "{ text(number: -0.0" + "0" * 5_000 + ") }",
    ],
    ids=["text", "block", "list", "infinite", "digits", "fraction"],
)
async def test_literals_out_of_bounds_are_refused_unread(url: str, http: aiohttp.ClientSession, query: str) -> None:
    assert _code(await _asked(http, url, query, headers=_headers())) == "BAD_USER_INPUT"
    assert _seen == []


async def test_a_literal_that_its_type_cannot_read_is_the_callers_fault(url: str, http: aiohttp.ClientSession) -> None:
    _, answer = await _asked(http, url, "{ whole(number: " + "9" * 5_000 + ") }", headers=_headers())
    assert {error["extensions"]["code"] for error in answer["errors"]} <= {
        "BAD_USER_INPUT",
        "GRAPHQL_VALIDATION_FAILED",
    }
    assert _seen == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "{ text(value: $v) }", "variables": {"v": ' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
        b'{"query": "{ text }", "variables": {"v": 1e999}}',
        b'{"query": "{ text }", "variables": {"v": NaN}}',
        b'{"query": "{ text }", "variables": {"v": "\\ud800"}}',
        b'{"query": "{ text }", "variables": {"v": ' + b"1" * 5_000 + b"}}",
    ],
    ids=["nesting", "infinite", "nan", "half a character", "digits"],
)
async def test_json_that_no_client_writes_is_no_bug(url: str, http: aiohttp.ClientSession, body: bytes) -> None:
    async with http.post(url, data=body, headers={"content-type": "application/json"}) as answer:
        assert answer.status == 400 or "INTERNAL" not in await answer.text()


@pytest.mark.parametrize(
    ("is_signed_in", "most"), [(False, ANONYMOUS_BODY_BYTES), (True, BODY_BYTES)], ids=["anonymous", "person"]
)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_has_a_limit_by_who_sends_it(
    url: str, http: aiohttp.ClientSession, most: int, *, is_signed_in: bool, is_chunked: bool
) -> None:
    headers = _headers() if is_signed_in else {}
    for size, status in ((most, 200), (most + 1, 413)):
        head = b'{"query": "{ thing { id } }"'
        body = head + b" " * (size - len(head) - 1) + b"}"

        async def pieces(body: bytes = body) -> AsyncIterator[bytes]:
            for start in range(0, len(body), 50_000):
                yield body[start : start + 50_000]

        data = pieces() if is_chunked else io.BytesIO(body)
        try:
            async with http.post(url, data=data, headers=headers | {"content-type": "application/json"}) as answer:
                assert answer.status == status
        except aiohttp.ClientConnectionError:
            assert status == 413  # the server has answered and closed while the client still wrote


async def test_a_firmware_image_is_taken_from_who_may_publish_one(url: str, http: aiohttp.ClientSession) -> None:
    query = "mutation($i: Image!) { upload(input: $i) }"
    image = {"contentBase64": "A" * 12_000_000}
    status, body = await _asked(http, url, query, headers=_headers(Role.TECHNICIAN), i=image)
    assert (status, body) == (200, {"data": {"upload": 12_000_000}})
    small = {"contentBase64": "A" * 20_000}
    assert _code(await _asked(http, url, query, headers=_headers(), i=small)) == "BAD_USER_INPUT"


async def test_a_compressed_body_is_not_taken(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(
        url, data=b"x", headers={"content-encoding": "gzip", "content-type": "application/json"}
    ) as answer:
        assert answer.status == 415


@pytest.mark.parametrize(
    ("query", "is_signed_in"),
    [
        ("mutation { " + " ".join(f'a{n}: reset(email: "a")' for n in range(4)) + " }", False),
        (
            "mutation { ...F } fragment F on Mutation { "
            + " ".join(f'a{n}: reset(email: "a")' for n in range(4))
            + " }",
            False,
        ),
        ("mutation { " + " ".join(f'a{n}: reset(email: "a")' for n in range(21)) + " }", True),
        ("{ " + " ".join(f"a{n}: text" for n in range(31)) + " }", False),
        ("{ " + "... { text } " * 31 + "}", False),
        ("{ " + " ".join(f"a{n}: text" for n in range(201)) + " }", True),
        ("{ " + " ".join(f"a{n}: text" for n in range(4)) + " }", False),
        ("{ ... { " + " ".join(f"a{n}: text" for n in range(21)) + " } }", True),
        ("{ " + " ".join(f"a{n}: __schema {{ types {{ name }} }}" for n in range(4)) + " }", True),
    ],
    ids=[
        *("mutations", "in a fragment", "of a person", "queries", "in inline fragments", "queries of a person"),
        *("one field", "one field of a person", "introspection"),
    ],
)
async def test_one_request_does_not_carry_many(
    url: str, http: aiohttp.ClientSession, query: str, *, is_signed_in: bool
) -> None:
    headers = _headers() if is_signed_in else {}
    assert _code(await _asked(http, url, query, headers=headers)) == "OPERATION_TOO_LARGE"
    assert _seen == []


_TOO_LARGE = {
    "same fields": "{ " + "text " * 1_000 + "}",
    "same fields within": "{ " + "thing { id } " * 1_000 + "}",
    "same fields by fragments": "{ "
    + " ".join(f"...F{n}" for n in range(150))
    + " } "
    + " ".join(f"fragment F{n} on Query {{ a: text a: text a: text thing {{ id }} }}" for n in range(150)),
    "a circle": "{ ...F } fragment F on Query { text ...G } fragment G on Query { ...F }",
    "a chain": "{ ...F0 } "
    + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(100))
    + " fragment F100 on Query { text }",
    "a bomb": "{ ...F0 } "
    + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(50))
    + " fragment F50 on Query { text }",
    "operations": " ".join(f"query q{n} {{ text }}" for n in range(300)),
    "levels": "{ thing " * 500 + "}" * 500,
    "lists": "{ text(values: " + "[" * 500 + "]" * 500 + ") }",
    "objects": "{ text(value: " + "{a: " * 500 + "1" + "}" * 500 + ") }",
    "characters": "# " + "x" * 300_000 + "\n{ text }",
    "after a text": '{ text(value: "{ \\" }") a: text(value: """ " } """) ' + "... { thing " * 300 + "}" * 600 + "}",
}


@pytest.mark.parametrize("document", _TOO_LARGE.values(), ids=_TOO_LARGE)
@pytest.mark.parametrize("is_signed_in", [False, True])
async def test_a_document_that_would_take_long_to_validate_is_not_validated(
    url: str, http: aiohttp.ClientSession, document: str, *, is_signed_in: bool
) -> None:
    headers = _headers() if is_signed_in else {}
    if len(document) > ANONYMOUS_BODY_BYTES and not is_signed_in:
        return
    assert _code(await _asked(http, url, document, headers=headers)) == "OPERATION_TOO_LARGE"
    socket = await http.ws_connect(url, protocols=["graphql-transport-ws"], headers=headers)
    await socket.send_json({"type": "connection_init"})
    await socket.receive_json(timeout=PATIENCE_S)
    await socket.send_json({"type": "subscribe", "id": "1", "payload": {"query": document}})
    answer = await socket.receive_json(timeout=PATIENCE_S)
    assert (answer["type"], answer["payload"][0]["extensions"]["code"]) == ("error", "OPERATION_TOO_LARGE")


_COSTLY = {
    "literals": (
        "{ " + " ".join(f"a{n}: nodes(first: 1000) {{ edges {{ node {{ id }} }} }}" for n in range(19)) + " }",
        {},
    ),
    "variables": ("query($n: Int) { nodes(first: $n) { edges { node { id } } } }", {"n": 20_000}),
    "defaults": ("query($n: Int = 20000) { nodes(first: $n) { edges { node { id } } } }", {}),
    "nested": (
        "{ nodes(first: 100) { edges { node { nodes(first: 100) { edges { node { nodes { edges { node { id } } } } } } } } } }",
        {},
    ),
    "aliases within": (
        "{ nodes(first: 50) { edges { node { "
        + " ".join(f"a{n}: nodes(first: 50) {{ edges {{ node {{ id }} }} }}" for n in range(20))
        + " } } } }",
        {},
    ),
    "assumed": ("{ nodes(first: 100) { edges { node { parts { parts { id } } } } } }", {}),
    "by fragments": (
        """{ nodes(first: 100) { edges { ...E } } } fragment E on Edge { node { ...N } }
        fragment N on Node { nodes(first: 100) { edges { node { parts { id } } } } }""",
        {},
    ),
    "entities": (
        "query($r: [_Any!]!) { _entities(representations: $r) { ... on Node { nodes(first: 100) { edges { node { id } } } } } }",
        {"r": [{"__typename": "Node", "id": str(number)} for number in range(200)]},
    ),
}


@pytest.mark.parametrize(("query", "variables"), _COSTLY.values(), ids=_COSTLY)
async def test_an_operation_that_asks_for_too_many_objects_is_not_begun(
    url: str, http: aiohttp.ClientSession, query: str, variables: dict[str, Any]
) -> None:
    assert _code(await _asked(http, url, query, headers=_headers(), **variables)) == "OPERATION_TOO_COSTLY"
    assert _seen == []


async def test_representations_cost_what_is_asked_of_their_type(url: str, http: aiohttp.ClientSession) -> None:
    query = """query($r: [_Any!]!) { _entities(representations: $r) {
      ... on Thing { id } ... on Node { nodes(first: 100) { edges { node { id } } } } } }"""
    things = [{"__typename": "Thing", "id": "1"} for _ in range(1_000)]
    _, body = await _asked(http, url, query, headers=_headers(), r=[*things, {"__typename": "Node", "id": "1"}])
    assert "errors" not in body
    assert len(body["data"]["_entities"]) == 1_001


async def test_who_is_not_signed_in_may_ask_for_less(url: str, http: aiohttp.ClientSession) -> None:
    query = "query($n: Int!) { nodes(first: $n) { edges { node { id } } } }"
    assert "errors" not in (await _asked(http, url, query, n=1_000))[1]
    assert _code(await _asked(http, url, query, n=2_000)) == "OPERATION_TOO_COSTLY"
    assert "errors" not in (await _asked(http, url, query, headers=_headers(), n=2_000))[1]
    assert _seen == [1_000, 2_000]


async def test_brackets_in_texts_and_comments_do_not_nest(url: str, http: aiohttp.ClientSession) -> None:
    query = "# " + "(" * 500 + '\n{ text(value: "' + "[" * 500 + '") b: text(value: """' + "{" * 500 + '""") }'
    _, body = await _asked(http, url, query, headers=_headers())
    assert body == {"data": {"text": 500, "b": 500}}


async def test_what_is_kept_of_documents_has_a_limit() -> None:
    kept = Documents(build_schema(_Query)._schema, ())
    principal = Principal(PrincipalKind.USER, "u1")
    first = await kept.prepare("{ text }", principal)
    assert await kept.prepare("{ text }", principal) is first
    for number in range(60):
        await kept.prepare("{ text } # " + f"{number:05}" * 2_000, principal)
    assert await kept.prepare("{ text }", principal) is not first
    assert sum(map(len, kept._kept)) <= KEPT_CHARACTERS


async def test_an_error_does_not_repeat_megabytes(url: str, http: aiohttp.ClientSession) -> None:
    query = "{ text(number: {" + " ".join(f"a{n}: 1" for n in range(2_000)) + "}) }"
    _, body = await _asked(http, url, query, headers=_headers())
    assert len(json.dumps(body)) < 2_000


async def test_entities_are_counted_over_all_aliases(url: str, http: aiohttp.ClientSession) -> None:
    query = "query($r: [_Any!]!) { " + " ".join(
        f"a{n}: _entities(representations: $r) {{ ... on Thing {{ id }} }}" for n in range(11)
    )
    things = [{"__typename": "Thing", "id": str(number)} for number in range(1_000)]
    assert _code(await _asked(http, url, query + " }", headers=_headers(), r=things)) == "OPERATION_TOO_LARGE"
    _, body = await _asked(http, url, query + " }", headers=_headers(), r=things[:900])
    assert len(body["data"]["a10"]) == 900


@pytest.mark.parametrize(
    "representation",
    [
        "x",
        [],
        {},
        {"id": "1"},
        {"__typename": None, "id": "1"},
        {"__typename": ["Thing"], "id": "1"},
        {"__typename": "Query"},
        {"__typename": "String", "id": "1"},
        {"__typename": "Image", "contentBase64": "x"},
        {"__typename": "Unknown", "id": "1"},
        {"__typename": "x" * 10_000, "id": "1"},
        {"__typename": "Thing"},
        {"__typename": "Thing", "info": 1},
        {"__typename": "Thing", "cls": 1, "id": None},
        {"__typename": "Thing", "id": {"a": 1}},
        {"__typename": "Thing", "id": ["1"]},
        {"__typename": "Thing", "id": True},
        {"__typename": "Thing", "id": 1.5},
        {"__typename": "Thing", "id": "x" * 300},
    ],
)
async def test_a_representation_that_cannot_be_resolved_is_the_callers_fault(
    url: str, http: aiohttp.ClientSession, representation: object
) -> None:
    query = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Thing { id } } }"
    good = {"__typename": "Thing", "id": "1"}
    _, body = await _asked(http, url, query, headers=_headers(), r=[good, representation, good])
    assert "INTERNAL" not in json.dumps(body)
    assert body["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert body["data"]["_entities"] == [{"id": "1"}, None, {"id": "1"}]


async def test_a_representation_may_say_more_than_is_needed(url: str, http: aiohttp.ClientSession) -> None:
    query = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Thing { id } } }"
    given = {"__typename": "Thing", "id": 7, "info": "x", "other": [1]}
    _, body = await _asked(http, url, query, headers=_headers(), r=[given])
    assert body == {"data": {"_entities": [{"id": "7"}]}}


async def _socket(http: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    socket = await http.ws_connect(url, protocols=["graphql-transport-ws"], headers=_headers())
    await socket.send_json({"type": "connection_init"})
    assert (await socket.receive_json(timeout=PATIENCE_S))["type"] == "connection_ack"
    return socket


async def test_one_account_has_a_share_of_the_subscriptions(
    serve: Serve, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphql, "STREAMS", SlotLimits(account=2, reader=2, network=2, total=100))
    socket = await _socket(http, await serve(_app()) + "/graphql")
    answers: dict[str, Any] = {}
    for name in ("1", "2", "3"):
        await socket.send_json({"type": "subscribe", "id": name, "payload": {"query": "subscription { ticks }"}})
        answer = await socket.receive_json(timeout=PATIENCE_S)
        answers[answer["id"]] = answer
    assert [answers[name]["type"] for name in ("1", "2", "3")] == ["next", "next", "error"]
    assert answers["3"]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
    await socket.send_json({"type": "complete", "id": "1"})
    async with asyncio.timeout(PATIENCE_S):
        while True:  # the end of the first is not confirmed
            await socket.send_json({"type": "subscribe", "id": "4", "payload": {"query": "subscription { ticks }"}})
            if (await socket.receive_json(timeout=PATIENCE_S))["type"] == "next":
                break


async def test_one_account_has_a_share_of_the_sockets(
    serve: Serve, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS", SlotLimits(account=1, reader=1, network=1, total=100))
    url = await serve(_app()) + "/graphql"
    first = await _socket(http, url)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await _socket(http, url)
    await first.close()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await _socket(http, url)
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.01)
            else:
                break


async def test_a_socket_without_an_operation_is_closed(
    serve: Serve, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "OperationGuard", partial(OperationGuard, idle_s=0.3))
    url = await serve(_app()) + "/graphql"
    silent, used = await _socket(http, url), await _socket(http, url)
    await used.send_json({"type": "subscribe", "id": "1", "payload": {"query": "subscription { ticks }"}})
    assert (await used.receive_json(timeout=PATIENCE_S))["type"] == "next"
    pinging = asyncio.create_task(_ping(silent))
    async with asyncio.timeout(PATIENCE_S):
        while (message := await silent.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
    pinging.cancel()
    assert (message.type, silent.close_code) == (aiohttp.WSMsgType.CLOSE, 4408)
    assert not used.closed
    await used.send_json({"type": "ping"})
    assert (await used.receive_json(timeout=PATIENCE_S))["type"] == "pong"
    await used.send_json({"type": "complete", "id": "1"})
    assert (await used.receive(timeout=PATIENCE_S)).type is aiohttp.WSMsgType.CLOSE
    assert used.close_code == 4408


async def _ping(socket: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(ConnectionError):
        while True:
            await socket.send_json({"type": "ping"})
            await asyncio.sleep(0.05)


async def test_a_message_over_a_socket_has_bounds(url: str, http: aiohttp.ClientSession) -> None:
    socket = await _socket(http, url)
    payload = {"query": "query($v: String) { text(value: $v) }", "variables": {"v": "x" * 20_000}}
    await socket.send_json({"type": "subscribe", "id": "1", "payload": payload})
    answer = await socket.receive_json(timeout=PATIENCE_S)
    assert json.dumps(answer).count("x") < 1_000
    assert answer["type"] == "error" or "errors" in answer["payload"]
    await socket.send_str("x" * 1_100_000)
    closed = await socket.receive(timeout=PATIENCE_S)
    assert closed.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
