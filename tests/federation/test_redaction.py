"""With `redact_errors` and without introspection no error tells of the inside: on every path on which a client reads errors."""

import re
from typing import Any

import aiohttp
import orjson
import pytest

from router.serving.app import create_app
from router.serving.settings import RouterSettings, SubgraphSettings, SubgraphSubscriptions
from tests.federation.serve import Served, serve
from tests.federation.test_cost import HEAD
from tests.federation.test_subscriptions import connected
from tests.support.patience import PATIENCE_S

SDL = (
    HEAD.replace('name: "a"', 'name: "secret-ledger"').replace("mutation: Mutation", "subscription: Subscription")
    + """
enum Colour @join__type(graph: A) { CRIMSON SCARLET }
input Filter @join__type(graph: A) { colour: Colour hiddenWord: String }
type Thing @join__type(graph: A, key: "id") { id: ID! title(shortened: Boolean): String }
type Query @join__type(graph: A) { things(colour: Colour, filter: Filter): [Thing] thing(wanted: Filter): Thing }
type Subscription @join__type(graph: A) { thingChanged: Thing }
"""
)
_INSIDE = re.compile(r"ledger|127\.0\.0\.1|localhost|[a-z]Error\b|refused|Did you mean|[Ss]ubgraph '|Traceback")
SSE = "text/event-stream"
MULTIPART = 'multipart/mixed;subscriptionSpec="1.0", application/json'


def _app() -> Any:
    # Nothing listens on this port: it is one that nobody may bind.
    events = SubgraphSubscriptions(protocol="sse")
    settings = RouterSettings(
        redact_errors=True,
        introspection=False,
        batching=True,
        subgraphs={"secret-ledger": SubgraphSettings(url="http://127.0.0.1:1/", subscriptions=events)},
    )
    return create_app(SDL, settings)


def _clean(text: str) -> None:
    assert "errors" in text
    assert not _INSIDE.search(text), text


DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("{ things { id } }", {}),
    ("{ thingz { id } }", {}),  # a field
    ("{ things { titel } }", {}),
    ("{ things { title(shortend: true) } }", {}),  # an argument
    ("{ things(colour: CRIMSONE) { id } }", {}),  # an enum value
    ('{ things(filter: {hiddenWrd: "a"}) { id } }', {}),  # an input field
    ("query($c: Colur) { things(colour: $c) { id } }", {}),  # a type
    ("query($c: Colour) { things(colour: $c) { id } }", {"c": "CRIMSOM"}),  # in variables
    ("query($f: Filter) { things(filter: $f) { id } }", {"f": {"hiddenWrd": "a"}}),
    ("query($f: Filter) { things(filter: $f) { id } }", {"f": {"colour": "SCARLETT"}}),
    ("query($f: Filter) { things(filter: $g) { id } }", {}),
    ("{ ...F } fragment F on Thingg { id }", {}),
    ("{ things { id @inclde(if: true) } }", {}),
    ("{ things @inclde(if: true) { id } }", {}),
    ("{ things }", {}),  # a selection is missing
    ("{ __schema { types { name } } }", {}),
    ("subscription { thingChanged { id } }", {}),
    ("subscription { thingChangd { id } }", {}),
]


@pytest.mark.parametrize("accept", ["application/json", SSE, MULTIPART, "multipart/mixed;deferSpec=20220824"])
async def test_no_answer_tells_of_the_inside(accept: str) -> None:
    async with serve(_app()) as router:
        for query, variables in DOCUMENTS:
            content = {"query": query, "variables": variables}
            response = await router.post("/graphql", json=content, headers={"accept": accept})
            _clean(await response.text())
            url = {"query": query, "variables": orjson.dumps(variables).decode()}
            _clean(await (await router.get("/graphql", params=url, headers={"accept": accept})).text())


async def test_no_answer_of_a_batch_tells_of_the_inside() -> None:
    async with serve(_app()) as router:
        for start in (0, 9):
            batch = [{"query": q, "variables": v} for q, v in DOCUMENTS[start : start + 9]]
            _clean(await (await router.post("/graphql", json=batch)).text())


async def test_no_message_on_a_websocket_tells_of_the_inside() -> None:
    async with serve(_app()) as router, connected(router) as socket:
        for number, (query, variables) in enumerate(DOCUMENTS):
            payload = {"query": query, "variables": variables}
            await socket.send_json({"id": f"n{number}", "type": "subscribe", "payload": payload})
            text = await socket.receive_str(timeout=PATIENCE_S)
            _clean(text.replace('"type":"error"', '"type":"errors"'))
            if '"type":"next"' in text:
                assert orjson.loads(await socket.receive_str(timeout=PATIENCE_S))["type"] == "complete"


async def _upload(router: Served, query: str, variables: dict[str, Any]) -> str:
    form = aiohttp.FormData()
    form.add_field("operations", orjson.dumps({"query": query, "variables": variables}).decode())
    form.add_field("map", "{}")
    response = await router.post("/graphql", data=form, headers={"apollo-require-preflight": "1"})
    return await response.text()


async def test_no_answer_to_an_upload_or_to_an_unknown_document_tells_of_the_inside() -> None:
    async with serve(_app()) as router:
        for query, variables in DOCUMENTS:
            _clean(await _upload(router, query, variables))
        _clean(await (await router.post("/graphql", json={"documentId": "sha256:no"})).text())
