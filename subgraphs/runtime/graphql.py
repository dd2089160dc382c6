"""A group's GraphQL subgraph: its schema, the context of a request, and errors as clients should see them."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import ExitStack, aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import strawberry
import structlog
from graphql import GraphQLError, GraphQLSyntaxError, specified_rules
from strawberry.extensions import SchemaExtension
from strawberry.federation import Schema
from strawberry.federation.schema import FederationAny
from strawberry.federation.schema_directives import Authenticated, Cost, ListSize, RequiresScopes
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule
from strawberry.types import ExecutionContext
from strawberry.types.execution import PreExecutionError

from domain.errors import ErrorKind
from domain.principal import Principal, Scope
from subgraphs.runtime.context import RequestContext, current
from subgraphs.runtime.documents import Documents, DocumentsBusy, Prepared
from subgraphs.runtime.errors import BUG_MESSAGE, as_app_error, to_graphql
from subgraphs.runtime.graphql_bounds import LiteralRule, OperationBounds, check_cost
from subgraphs.runtime.representations import RepresentationInvalid, checked
from subgraphs.runtime.slots import STREAMS, Slots, TooManyOpen

_log = structlog.get_logger("graphql")

_MAX_MESSAGE = 500  # characters: GraphQL repeats whole literals, and our errors ids of any length

_prepared: ContextVar[Prepared | None] = ContextVar("prepared_document", default=None)

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
        message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…",
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


class _PreparedDocument(SchemaExtension):
    """Has Strawberry execute the document that was prepared for it."""

    def on_parse(self) -> Iterator[None]:
        """Nothing is parsed again."""
        prepared = _prepared.get()
        if prepared is not None:
            self.execution_context.graphql_document = prepared.document
        yield

    def on_validate(self) -> Iterator[None]:
        """Nothing is validated again."""
        if _prepared.get() is not None:
            self.execution_context.pre_execution_errors = []
        yield


class _CostLimit(SchemaExtension):
    """Refuses an operation that asks for too many objects, before it is executed."""

    def on_execute(self) -> Iterator[None]:
        """Computes the cost with the values of the variables."""
        prepared, context = _prepared.get(), self.execution_context
        if prepared is not None:
            costs = prepared.costs
            amount = costs.get(context.operation_name or "", next(iter(costs.values()), 0))
            check_cost(amount, context.variables or {}, current().principal)
        yield


class SubgraphSchema(Schema):
    """A federation schema that logs bugs whole and refusals briefly, and counts open subscriptions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open = Slots(STREAMS, what="subscriptions")
        rules = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule, LiteralRule)
        self._documents = Documents(self._schema, rules)

    async def execute(self, query: str | None, *args: Any, **options: Any) -> Any:
        """The result of an operation."""
        refusal = await self._prepare(query)
        return refusal or await super().execute(query, *args, **options)

    async def stream(self, query: str | None, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """The results of an operation over a transport of many results."""
        refusal = await self._prepare(query)
        if refusal is not None:
            return _only(refusal)
        results: Any = await super().stream(query, *args, **options)
        return self._counted(results)

    async def _prepare(self, query: str | None) -> PreExecutionError | None:
        """Prepare the document for what follows in this task; answers why it is refused, if it is."""
        if not query:
            return None
        try:
            prepared = await self._documents.prepare(query, current().principal)
        except DocumentsBusy as error:
            prepared = Prepared(None, (GraphQLError(error.message, extensions=to_graphql(error)),))
        if prepared.errors:
            errors = [mapped(error) for error in prepared.errors]
            self.process_errors(errors)
            return PreExecutionError(data=None, errors=errors)
        _prepared.set(prepared)
        return None

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


async def _only(result: PreExecutionError) -> AsyncGenerator[Any, None]:
    yield result


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
            _CostLimit,
            _PreparedDocument,
        ],
        config=StrawberryConfig(auto_camel_case=True),
        federation_version="2.11",
    )


Info = strawberry.Info
