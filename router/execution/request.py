"""One request to a subgraph: by whom it is sent, what it carries, and what an answer must look like."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import orjson

from router.execution.errors import AnswerError, SubgraphFailure
from router.execution.files import FilePoster
from router.execution.values import Json, Object
from router.planning.fetch_graph import Path
from router.planning.plan import BatchFetchNode, FetchNode
from router.supergraph.model import SubgraphName

MALFORMED = "SUBGRAPH_MALFORMED_RESPONSE"


class Transport(Protocol):
    """How a subgraph is asked."""

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The body of the answer.

        Raises:
            SubgraphFailure: there is none, or none that could be GraphQL.
        """


@dataclass(slots=True)
class Run:
    """One request on its way through the plan.

    files: sends what has files among its variables; None: there are none.
    fetches: how many subgraph requests were sent.
    under_way: the paths at which a request that was sent is to complete objects.
    found: the objects found at paths of the answer, until it gets new ones.
    """

    transport: Transport
    variables: Mapping[str, Any]
    headers: Mapping[str, str]
    files: FilePoster | None = None
    answer: Object = field(default_factory=dict)
    errors: list[AnswerError] = field(default_factory=list)
    fetches: int = 0
    under_way: list[frozenset[Path]] = field(default_factory=list)
    found: dict[Path, list[Object]] = field(default_factory=dict)


Step = Callable[[Run], Coroutine[Any, Any, None]]
"""A part of a compiled plan."""

Send = Callable[[Run, Mapping[str, Json] | None], Awaitable["Answer"]]
"""Sends one node's request, with its own variables (representations) by name; raises SubgraphFailure."""


class Answer(NamedTuple):
    """A subgraph's answer. errors: its entries as they came; one is made up when there is neither data nor an error."""

    data: Object | None
    errors: list[Json]


def sender(node: FetchNode | BatchFetchNode) -> Send:
    """The request of this node; the operation's text is encoded once."""
    head = b'{"query":' + orjson.dumps(node.operation)
    names = node.variables
    subgraph = node.subgraph

    async def send(run: Run, representations: Mapping[str, Json] | None) -> Answer:
        variables: dict[str, Any] = {name: run.variables[name] for name in names if name in run.variables}
        if representations is not None:
            variables.update(representations)
        try:
            body = head + (b',"variables":' + orjson.dumps(variables) + b"}" if variables else b"}")
        except TypeError as error:  # orjson writes 254 levels
            raise SubgraphFailure(f"the variables cannot be sent: {error}.", code="BAD_USER_INPUT") from error
        run.fetches += 1
        if run.files is not None and (files := run.files.of(names)):
            raw = await run.files.post(subgraph, body, files, run.headers)
        else:
            raw = await run.transport.post(subgraph, body, run.headers)
        try:
            return read_answer(orjson.loads(raw))
        except orjson.JSONDecodeError as error:
            raise SubgraphFailure("the answer is not JSON.", code=MALFORMED) from error

    return send


def read_answer(content: Json) -> Answer:
    """The answer in a decoded body (or in the event of a subscription), of whatever shape that is."""
    if not isinstance(content, dict):
        return Answer(None, [_malformed("The subgraph's answer is no GraphQL response.")])
    data = content.get("data")
    data = data if isinstance(data, dict) else None
    errors = content.get("errors")
    if isinstance(errors, list) and errors:
        return Answer(data, errors)
    return Answer(data, [] if data is not None else [_malformed("The subgraph answered without data.")])


def _malformed(message: str) -> Json:
    return {"message": message, "extensions": {"code": MALFORMED}}
