"""Operations with `@defer` put anywhere, answers put together from their parts, and subgraphs that wait to be let go."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import orjson
from graphql import (
    ArgumentNode,
    DirectiveNode,
    ExecutionResult,
    ExperimentalIncrementalExecutionResults,
    FieldNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    NameNode,
    SelectionSetNode,
    StringValueNode,
    Visitor,
    experimental_execute_incrementally,
    parse,
    print_ast,
    visit,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.serving.app import create_app
from router.serving.engine import GraphQLRequest
from router.serving.identity import ANONYMOUS, Identity
from router.serving.incremental import PartsForm, parts
from router.serving.settings import RouterSettings, SubgraphSettings
from router.supergraph.model import SubgraphName
from tests.federation.graph import Federation
from tests.federation.serve import Served, serve
from tests.federation.shop import SHOP

Selected = FieldNode | FragmentSpreadNode | InlineFragmentNode


async def ask_in_parts(
    federation: Federation,
    query: str,
    variables: Mapping[str, Any] | None = None,
    *,
    form: PartsForm = PartsForm.CURRENT,
    identity: Identity = ANONYMOUS,
) -> list[dict[str, Any]]:
    """Every part of an answer, as written for a client."""
    request = GraphQLRequest(query, None, variables or {}, in_parts=True)
    prepared = await federation.engine.prepare(request, identity)
    response, delivery = await federation.engine.begin(prepared, federation, {})
    redact = federation.engine.settings.redact_errors
    # Written at once, as on a connection: later parts may not change what was sent.
    return [orjson.loads(orjson.dumps(part)) async for part in parts(response, delivery, form, redact=redact)]


async def monolith_in_parts(federation: Federation, query: str) -> list[dict[str, Any]]:
    """What one server with the whole schema delivers, in the current form."""
    result = experimental_execute_incrementally(
        federation.engine.supergraph.api_schema, parse(query), **federation.as_monolith()
    )
    if not isinstance(result, ExecutionResult | ExperimentalIncrementalExecutionResults):
        result = await result
    if isinstance(result, ExecutionResult):
        return [dict(result.formatted)]
    return [
        dict(result.initial_result.formatted),
        *[dict(part.formatted) async for part in result.subsequent_results],
    ]


# -- putting together --------------------------------------------------------------------------------------------------


def together(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The data of an answer in the current form; fails where the form is not kept."""
    data: dict[str, Any] = deepcopy(answers[0]["data"])
    pending: dict[str, Mapping[str, Any]] = {}
    for position, answer in enumerate(answers):
        for each in answer.get("pending", ()):
            assert each["id"] not in pending, "an id is given once"
            pending[each["id"]] = each
        for each in answer.get("incremental", ()):
            at = value_at(data, [*pending[each["id"]]["path"], *each.get("subPath", ())])
            assert not at.keys() & each["data"].keys(), "a field is delivered once"
            at.update(deepcopy(each["data"]))
        for each in answer.get("completed", ()):
            del pending[each["id"]]
        is_last = position == len(answers) - 1
        assert answer.get("hasNext", False) is not is_last
    assert not pending, "everything announced is completed"
    return data


def together_as_of_2022(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As `together`, in the form of August 2022."""
    data: dict[str, Any] = deepcopy(answers[0]["data"])
    for position, answer in enumerate(answers):
        for each in answer.get("incremental", ()):
            if each["data"] is not None:
                _merge(value_at(data, each["path"]), each["data"])
        assert answer.get("hasNext", False) is (position < len(answers) - 1)
    return data


def _merge(into: Any, value: Any) -> None:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict | list) and (isinstance(into, list) or into.get(key) is not None):
            _merge(into[key], item)
        else:
            assert isinstance(into, dict) or into[key] == item
            into[key] = item


def value_at(data: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        data = data[step]
    return data


def announced(answers: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str | int, ...], str | None]]:
    """Path and label of all that was pending."""
    found = [(tuple(each["path"]), each.get("label")) for answer in answers for each in answer.get("pending", ())]
    return sorted(found, key=str)


def errors_of(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every error, in whichever part it came."""
    found = list(answers[0].get("errors", ()))
    for answer in answers:
        for each in (*answer.get("incremental", ()), *answer.get("completed", ())):
            found.extend(each.get("errors", ()))
    return found


# -- putting @defer anywhere -------------------------------------------------------------------------------------------


def deferring(query: str, choice: random.Random) -> str:
    """The query with random fragments deferred: those that it has, and new ones around some fields, or around copies."""
    labels = iter(range(10_000))

    def deferred(node: InlineFragmentNode) -> InlineFragmentNode:
        label = ArgumentNode(name=NameNode(value="label"), value=StringValueNode(value=f"d{next(labels)}"))
        return InlineFragmentNode(
            type_condition=node.type_condition,
            selection_set=node.selection_set,
            directives=(DirectiveNode(name=NameNode(value="defer"), arguments=(label,)),),
        )

    def relabelled(node: Selected) -> Selected:
        class Labels(Visitor):
            def enter_directive(self, node: DirectiveNode, *_: object) -> DirectiveNode:
                label = ArgumentNode(name=NameNode(value="label"), value=StringValueNode(value=f"d{next(labels)}"))
                return DirectiveNode(name=node.name, arguments=(label,))

        copied: Selected = visit(node, Labels())
        return copied

    class Deferring(Visitor):
        def leave_selection_set(self, node: SelectionSetNode, *_: object) -> SelectionSetNode:
            items: list[Selected] = [
                deferred(item)
                if isinstance(item, InlineFragmentNode) and not item.directives and choice.random() < 0.3
                else item  # type: ignore[misc]  # the three kinds of selections
                for item in node.selections
            ]
            chosen = [item for item in items if choice.random() < 0.5]
            if chosen and choice.random() < 0.5:
                if choice.random() < 0.3:
                    chosen = [relabelled(item) for item in chosen]
                else:
                    items = [item for item in items if item not in chosen]
                fragment = SelectionSetNode(selections=tuple(chosen))
                items.append(deferred(InlineFragmentNode(selection_set=fragment, type_condition=None, directives=())))
            if choice.random() < 0.2:
                choice.shuffle(items)
            return SelectionSetNode(selections=tuple(items))

    return print_ast(visit(parse(query), Deferring()))


# -- over HTTP ---------------------------------------------------------------------------------------------------------


class Gates:
    """Subgraphs that answer only when they are let go. asked, left: events for requests that came, and that were given up."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._open: dict[str, asyncio.Event] = {}
        self.asked: dict[str, asyncio.Event] = {}
        self.left: dict[str, asyncio.Event] = {}

    def hold(self, subgraph: str) -> None:
        for events in (self._open, self.asked, self.left):
            events[subgraph] = asyncio.Event()

    def let_go(self, subgraph: str) -> None:
        self._open[subgraph].set()

    async def answer(self, request: Request) -> Response:
        name = request.path_params["name"]
        body = await request.body()
        if name in self._open:
            self.asked[name].set()
            gone = asyncio.ensure_future(_disconnected(request))
            held = asyncio.ensure_future(self._open[name].wait())
            await asyncio.wait([gone, held], return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.left[name].set()
            for task in (gone, held):
                task.cancel()
        return Response(await self._federation.post(SubgraphName(name), body, {}), media_type="application/json")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextlib.asynccontextmanager
async def served(federation: Federation, settings: RouterSettings | None = None) -> AsyncIterator[tuple[Served, Gates]]:
    """A router before the federation's subgraphs, all over HTTP."""
    gates = Gates(federation)
    subgraphs = Starlette(routes=[Route("/{name}", gates.answer, methods=["POST"])])
    async with serve(subgraphs) as upstream:
        urls = {name: SubgraphSettings(url=f"{upstream.url}/{name}") for name in federation.engine.supergraph.subgraphs}
        settings = (settings or RouterSettings()).model_copy(update={"subgraphs": urls})
        async with serve(create_app(SHOP, settings)) as router:
            yield router, gates
