"""A group's GraphQL subgraph: its schema, the context of a request, and errors as clients should see them."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any, cast

import strawberry
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, SchemaExtension, ValidationCache
from strawberry.federation import Schema
from strawberry.federation.schema import FederationAny
from strawberry.federation.schema_directives import Authenticated, Cost, ListSize, RequiresScopes
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext
from strawberry.types.execution import PreExecutionError

from domain.errors import ErrorKind
from domain.principal import Principal, Scope
from subgraphs.runtime.context import RequestContext, current
from subgraphs.runtime.errors import BUG_MESSAGE, as_app_error, to_graphql
from subgraphs.runtime.graphql_bounds import LiteralRule, OperationBounds
from subgraphs.runtime.query_limits import MAX_TOKENS, SizeRule
from subgraphs.runtime.representations import RepresentationInvalid, checked
from subgraphs.runtime.slots import STREAMS, Slots, TooManyOpen

_log = structlog.get_logger("graphql")

_CACHED_OPERATIONS = 1000  # the router sends the same few over and over

AUTHENTICATED = Authenticated()
"""Marks what needs a signed-in caller; the router refuses it before it fetches anything."""


def requires_scopes(*scopes: Scope) -> RequiresScopes:
    """Marks what needs a token with all of these scopes."""
    return RequiresScopes(scopes=[[scope.value for scope in scopes]])


def cost(weight: int) -> Cost:
    """What a field costs beside 1 for an object and 0 for a scalar, for the router's limits."""
    return Cost(weight=weight)


def list_size(*slicing_arguments: str, assumed: int | None = None, sized_fields: Iterable[str] = ()) -> ListSize:
    """How long a list is: as long as an argument says, or as assumed."""
    return ListSize(
        assumed_size=assumed,
        slicing_arguments=list(slicing_arguments) or None,
        sized_fields=list(sized_fields) or None,
        require_one_slicing_argument=False,
    )


@dataclass(kw_only=True)
class GraphQLContext:
    """The context of one GraphQL request; each group adds its services and loaders.

    Strawberry sets `response` by itself when it serves over HTTP.
    """

    request: RequestContext
    response: object = None

    @property
    def principal(self) -> Principal:
        return self.request.principal


class _ErrorMapping(SchemaExtension):
    """Gives every error its code, and hides what is a bug behind a fixed text."""

    def on_operation(self) -> Iterator[None]:
        """Maps the errors of a query or mutation once it has run."""
        yield
        _map_errors(self.execution_context.result)

    def on_stream_result(self, result: object) -> Iterator[None]:
        """Maps the errors of each result of a subscription before it is sent."""
        _map_errors(result)
        yield


def _map_errors(result: object) -> None:
    errors: list[GraphQLError] | None = getattr(result, "errors", None)
    if errors:
        result.errors = [mapped(error) for error in errors]  # type: ignore[attr-defined]  # several result types


def _cause_of(error: GraphQLError) -> Exception | None:
    """What a resolver raised, below all that GraphQL has wrapped around it."""
    cause: Exception | None = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    return cause


def mapped(error: GraphQLError) -> GraphQLError:
    """The error as a client should see it. Source: `domain.errors` kinds; the table of transports."""
    cause = _cause_of(error)
    known = as_app_error(cause) if cause is not None else None
    if known is not None:
        message, extensions = known.message, to_graphql(known)
    elif cause is None or isinstance(cause, GraphQLError):
        message, extensions = error.message, _extensions_of_wrong_query(error)
    else:
        message, extensions = BUG_MESSAGE, {"code": "INTERNAL_SERVER_ERROR"}
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        original_error=error.original_error,
        extensions=extensions,
    )


def _extensions_of_wrong_query(error: GraphQLError) -> dict[str, object]:
    code = "GRAPHQL_PARSE_FAILED" if isinstance(error, GraphQLSyntaxError) else "GRAPHQL_VALIDATION_FAILED"
    return {"code": code, **(error.extensions or {})}


class SubgraphSchema(Schema):
    """A federation schema that logs bugs whole and refusals briefly, and counts open subscriptions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open = Slots(STREAMS, what="subscriptions")

    async def stream(self, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """The results of an operation over a transport of many results."""
        results: Any = await super().stream(*args, **options)
        return self._counted(results)

    def entities_resolver(self, info: strawberry.Info, representations: list[FederationAny]) -> list[FederationAny]:
        """Answer i belongs to representation i; one that cannot be resolved has an error of its own."""
        answers: list[Any] = []
        for representation in representations:
            try:
                answers += super().entities_resolver(info, [cast("Any", checked(representation, self._resolver_of))])
            except RepresentationInvalid as error:
                answers.append(error)
        return answers

    def _resolver_of(self, name: str) -> Callable[..., Any] | None:
        known = self.schema_converter.type_map.get(name)
        resolver: Callable[..., Any] | None = getattr(
            getattr(known and known.definition, "origin", None), "resolve_reference", None
        )
        return resolver

    async def _counted(self, results: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        context = current()
        with ExitStack() as stack:
            try:
                stack.enter_context(self._open.hold(context.principal, context.peer))
            except TooManyOpen as error:
                await results.aclose()
                refusal = GraphQLError(error.message, extensions=to_graphql(error))
                yield PreExecutionError(data=None, errors=[refusal])
                return
            async with aclosing(results):
                async for result in results:
                    yield result

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:  # noqa: ARG002
        """Log the errors of one operation."""
        for error in errors:
            cause = _cause_of(error)
            known = as_app_error(cause) if cause is not None else None
            if known is not None and known is not cause and known.kind is not ErrorKind.INVALID_INPUT:
                _log.warning("field failed beneath us", reason=known.reason, path=error.path, error=repr(cause))
            elif known is not None:
                _log.info("field refused", reason=known.reason, path=error.path)
            elif cause is not None and not isinstance(cause, GraphQLError):
                _log.error("field failed", path=error.path, exc_info=cause)
            else:  # here already: an extension does not see the result of a query that cannot be parsed
                error.extensions = _extensions_of_wrong_query(error)


def build_schema(
    query: type,
    mutation: type | None = None,
    subscription: type | None = None,
    *,
    types: Iterable[type] = (),
) -> SubgraphSchema:
    """A group's federation schema (v2.11) with the platform's error mapping."""
    return SubgraphSchema(
        query=query,
        mutation=mutation,
        subscription=subscription,
        types=types,
        extensions=[
            _ErrorMapping,
            OperationBounds,
            lambda: MaxTokensLimiter(MAX_TOKENS),
            lambda: AddValidationRules([SizeRule, LiteralRule]),
            lambda: ParserCache(_CACHED_OPERATIONS),
            lambda: ValidationCache(_CACHED_OPERATIONS),
        ],
        config=StrawberryConfig(auto_camel_case=True),
        federation_version="2.11",
    )


Info = strawberry.Info
