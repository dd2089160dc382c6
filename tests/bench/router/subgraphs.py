"""The four subgraphs in one process, one port each, made to cost as little as they can.

    python -m tests.bench.router.subgraphs [--port N] [--supergraph FILE]

A subgraph answers from data that never change, so the bytes it answered to a request body are remembered: answering
that body again is one look-up. What is new is executed by graphql-core, so that any operation of any router is
answered, and answered correctly. `GET /count` on any of the ports tells the requests since the start, by subgraph.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop
from graphql import GraphQLError, GraphQLResolveInfo, GraphQLSchema, build_schema, execute_sync, parse

from tests.bench.router.world import ROOTS, SUBGRAPH_SDL, WORLD, Object, resolve, shipping_estimate, supergraph_sdl

_REMEMBERED = 50_000  # answers of all subgraphs together

_OBJECTS: Mapping[str, Mapping[str, Object]] = {
    "User": {user["id"]: user for user in WORLD.users},
    "Product": {product["upc"]: product for product in WORLD.products},
    "Review": {review["id"]: review for review in WORLD.reviews},
}
_KEYS = {"User": "id", "Product": "upc", "Review": "id"}
_ENTITIES = {"accounts": "User", "inventory": "Product", "products": "Product", "reviews": "Review | User | Product"}


class Subgraph:
    """One subgraph: GraphQL request bodies in, response bodies out."""

    def __init__(self, name: str) -> None:
        self.name = name
        query = "extend type Query" if "type Query" in SUBGRAPH_SDL[name] else "type Query"
        self._schema: GraphQLSchema = build_schema(
            f"""{SUBGRAPH_SDL[name]}
            scalar _Any
            union _Entity = {_ENTITIES[name]}
            type _Service {{ sdl: String }}
            {query} {{ _entities(representations: [_Any!]!): [_Entity]! _service: _Service! }}
            """,
            assume_valid_sdl=True,
        )
        self._roots: Mapping[str, Any] = {
            **ROOTS,
            "_entities": lambda _, arguments: [self._entity(told) for told in arguments["representations"]],
            "_service": {"sdl": SUBGRAPH_SDL[name]},
        }

    def answer(self, body: bytes) -> bytes:
        """The response to a request body; errors are told in it."""
        try:
            request = orjson.loads(body)
            result = execute_sync(
                self._schema,
                parse(request["query"], no_location=True),
                root_value=self._roots,
                variable_values=request.get("variables"),
                operation_name=request.get("operationName"),
                field_resolver=resolve,
                type_resolver=_type_of,
            )
        except (ValueError, KeyError, TypeError, AttributeError, GraphQLError) as error:
            return orjson.dumps({"errors": [{"message": f"{self.name} cannot read the request: {error!r}"}]})
        return orjson.dumps(result.formatted)

    def _entity(self, representation: Mapping[str, Any]) -> Object | None:
        """What a representation names. `inventory` knows of price and weight what it is told, and nothing else."""
        typename = representation["__typename"]
        found = _OBJECTS[typename].get(representation[_KEYS[typename]])
        if found is None or self.name != "inventory":
            return found
        told = {name: representation[name] for name in ("price", "weight") if name in representation}
        known = {name: found[name] for name in ("__typename", "upc", "inStock")}
        return {**known, **told, "shippingEstimate": lambda product, _: shipping_estimate(product)}


def _type_of(value: Any, _: GraphQLResolveInfo[Any], __: object) -> str:
    typename: str = value["__typename"]
    return typename


@dataclass(slots=True)
class Answers:
    """What every subgraph answered so far, as whole HTTP responses, and how often each was asked."""

    subgraphs: Mapping[str, Subgraph]
    known: dict[tuple[str, bytes], bytes]
    asked: Counter[str]

    def response(self, name: str, body: bytes) -> bytes:
        """The HTTP response of a subgraph to a request body."""
        self.asked[name] += 1
        response = self.known.get((name, body))
        if response is None:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            response = self.known[name, body] = _http(self.subgraphs[name].answer(body))
        return response

    def count(self) -> bytes:
        """The HTTP response that tells how often each subgraph was asked."""
        return _http(orjson.dumps({name: self.asked[name] for name in self.subgraphs}))


def _http(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection to one subgraph, kept open for as long as the client likes.

    Reads just what HTTP clients send to a GraphQL server: a head with a length, or a body in chunks. A parser that
    calls back for every header would cost more than all the rest.
    """

    def __init__(self, name: str, answers: Answers) -> None:
        self._name = name
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        while received:
            head_end = received.find(b"\r\n\r\n") + 4
            if head_end < 4:
                break
            head = received[:head_end].lower()
            if (at := head.find(b"\r\ncontent-length:")) >= 0:
                end = head_end + int(head[at + 17 : head.index(b"\r\n", at + 17)])
                if len(received) < end:
                    break
                body, received = received[head_end:end], received[end:]
            elif b"\r\ntransfer-encoding:" in head:
                chunks = _unchunked(received, head_end)
                if chunks is None:
                    break
                body, received = chunks
            else:
                body, received = b"", received[head_end:]
            is_count = head.startswith(b"get /count")
            self._transport.write(
                self._answers.count() if is_count else self._answers.response(self._name, body),
            )
        self._received = received


def _unchunked(received: bytes, start: int) -> tuple[bytes, bytes] | None:
    """The body that starts there in chunks, and what follows it; None: it is not there as a whole yet."""
    body: list[bytes] = []
    while (line_end := received.find(b"\r\n", start)) >= 0:
        size = int(received[start:line_end].partition(b";")[0], 16)
        start = line_end + 2
        if len(received) < start + size + 2:
            return None
        if size == 0:
            return b"".join(body), received[start + 2 :]
        body.append(received[start : start + size])
        start += size + 2
    return None


async def serve(port: int = 0) -> tuple[list[asyncio.Server], dict[str, str]]:
    """Start all four in the running loop, at `port` and those after it (0: any that are free).

    Returns:
        The servers, and the URL of each subgraph by name.
    """
    answers = Answers({name: Subgraph(name) for name in SUBGRAPH_SDL}, {}, Counter())
    loop = asyncio.get_running_loop()
    servers, urls = [], {}
    for number, name in enumerate(SUBGRAPH_SDL):

        def connect(name: str = name) -> Connection:
            return Connection(name, answers)

        server = await loop.create_server(connect, "127.0.0.1", port + number if port else 0, backlog=512)
        servers.append(server)
        urls[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/graphql"
    return servers, urls


async def _run(port: int, supergraph: Path | None) -> None:
    servers, urls = await serve(port)
    if supergraph is not None:
        await asyncio.to_thread(supergraph.write_text, supergraph_sdl(urls), encoding="utf-8")
    print(orjson.dumps(urls).decode(), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.router.subgraphs", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the first of the four; 0: any that are free")
    parser.add_argument("--supergraph", type=Path, help="where to write the supergraph of what was started")
    options = parser.parse_args()
    uvloop.run(_run(options.port, options.supergraph))


if __name__ == "__main__":
    main()
