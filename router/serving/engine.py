"""One generation of the router: a supergraph, everything derived from it, and the path of a request through it.

parse -> limits -> validate, once for a document; then access -> normalize -> plan -> compile, once for each of its variants
(what its `@skip`, `@include` and `@defer` come to, and what the caller may not see); then run. A reload builds a new engine and
swaps it in; requests under way keep the one they started with.
"""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    execute_sync,
    get_operation_ast,
)

from router.errors import ClientError
from router.execution.deferred import Delivery
from router.execution.errors import AnswerError
from router.execution.files import FilePoster, Uploads
from router.execution.run import CompiledPlan, Response, Run, Transport
from router.planning.operation import Operation, condition_variables, has_defer, normalize, without_defer
from router.planning.plan import QueryPlan, fetches
from router.planning.planner import Planner
from router.serving.access import Refusal, denied, guarded, without
from router.serving.cache import Cache
from router.serving.cost import Amount, Pricing, evaluate
from router.serving.identity import Identity
from router.serving.labels import OverrideLabels
from router.serving.limits import Breadth, breadth_of, check_breadth, check_size, parse_limited, within_the_stack
from router.serving.settings import RouterSettings
from router.serving.validation.validator import Validator
from router.serving.variables import Variables
from router.supergraph.model import Supergraph
from router.supergraph.read import read_supergraph

APART_FROM = 1_000
"""From how many characters on a document is prepared in a worker thread; shorter ones take a few milliseconds."""
_IN_PARTS = "@defer"
"""Beside the names of variables: no variable can have this name."""
_SUGGESTION = re.compile(r" Did you mean .*\?$", re.DOTALL)
_PLANNERS = 16
"""For so many combinations of active labels, what the planner has found out about the supergraph is kept."""
_WORKERS = 2
"""New operations that are prepared at the same time. They share one core, so more would only slow down everyone."""


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """query: "" when only the id of a trusted document was sent. in_parts: whether the client takes deferred parts.

    uploads: the files among the variables. spending: what the operations of its batch may ask for together.
    """

    query: str
    operation_name: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    document_id: str | None = None
    in_parts: bool = False
    uploads: Uploads | None = None
    spending: "Spending | None" = None


class Spending:
    """What the operations of one batch have asked for so far, and may together."""

    def __init__(self) -> None:
        self.cost = 0
        self.root_fields = 0


@dataclass(frozen=True, slots=True)
class Normalized:
    """An operation in normal form.

    coordinates: what it uses that not everyone may; labels: what may decide its plan; cost: 0 where it has no limit.
    """

    operation: Operation
    coordinates: tuple[str, ...]
    labels: tuple[str, ...]
    breadth: Breadth
    cost: Amount


@dataclass(frozen=True, slots=True)
class Variant:
    """A plan that can be run. refusals: what its callers may not see, not in the plan."""

    compiled: CompiledPlan
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A parsed and validated operation. conditions: variables that decide about `@skip`, `@include` and `@defer`."""

    document: DocumentNode
    operation: OperationDefinitionNode
    conditions: tuple[str, ...]
    has_defer: bool
    variables: Variables
    is_large: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """An operation ready to run.

    variables: the client's, checked; refusals: what the caller may not see, not in the plan; files: sends those that are
    among the variables, where null stands for them.
    """

    compiled: CompiledPlan
    document: Document
    variables: Mapping[str, Any]
    refusals: tuple[Refusal, ...]
    files: FilePoster | None = None

    @property
    def kind(self) -> OperationType:
        return self.document.operation.operation


class RequestError(ClientError):
    """A request that fails validation: several messages, each with its place in the document."""

    def __init__(self, errors: tuple[Mapping[str, Any], ...], *, code: str) -> None:
        super().__init__(str(errors[0]["message"]), code=code)
        self.errors = errors


class Engine:
    """Serves operations over one supergraph.

    apart_from: how long, in characters, a document is that is prepared in a worker thread.
    Raises:
        InvalidSupergraph: the SDL is no supergraph.
    """

    def __init__(self, supergraph_sdl: str, settings: RouterSettings, *, apart_from: int = APART_FROM) -> None:
        self.supergraph: Supergraph = read_supergraph(supergraph_sdl)
        self.settings = settings
        self._labels = OverrideLabels(self.supergraph, settings)
        self._planner_for = lru_cache(_PLANNERS)(partial(Planner, self.supergraph))
        self._validator = Validator(self.supergraph.api_schema, introspection=settings.introspection)
        limits = settings.limits
        self._pricing = Pricing(self.supergraph, default_list_size=limits.default_list_size)
        self._has_costs = limits.max_cost is not None or limits.anonymous.max_cost is not None
        self._workers = ThreadPoolExecutor(_WORKERS, "planning")
        self._apart_from = apart_from
        self.documents: Cache[Document] = Cache(settings.plan_cache_size, self._workers)
        self._normalized: Cache[Normalized] = Cache(settings.plan_cache_size, self._workers)
        self._variants: Cache[Variant] = Cache(settings.plan_cache_size, self._workers)

    def close(self) -> None:
        """Starts no further work; what is being prepared is given up when the process ends."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    # -- preparing -------------------------------------------------------------------------------------------------

    async def prepare(
        self, request: GraphQLRequest, identity: Identity, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Prepared:
        """The operation, checked and planned. Awaits nothing if it is known. headers: may choose override labels.

        Raises:
            ClientError: the request is at fault.
            PlanningError: the supergraph is.
        """
        key = (request.query, request.operation_name)
        document = self.documents.known(key) or await self.documents.get(
            key, lambda: self._read(request), apart=self._is_large(request.query)
        )
        variables = self._check_variables(document, request.variables)
        decided = tuple([(name, bool(variables.get(name))) for name in document.conditions])
        if document.has_defer and (request.in_parts or document.operation.operation is OperationType.SUBSCRIPTION):
            decided = (*decided, (_IN_PARTS, True))
        asked = (document, decided)
        normalized = self._normalized.known(asked) or await self._normalized.get(
            asked, lambda: self._normalize(document, dict(decided)), apart=document.is_large
        )
        self._check_demand(normalized, variables, identity, request.spending)
        coordinates, labels = normalized.coordinates, frozenset[str]()
        refused = denied(self.supergraph, coordinates, identity) if coordinates else frozenset()
        if normalized.labels:
            labels = self._labels.active(normalized.labels, headers, identity)
        allowed = (document, decided, refused, bool(refused) and identity.authenticated, labels)
        variant = self._variants.known(allowed) or await self._variants.get(
            allowed, lambda: self._compile(normalized.operation, refused, identity, labels), apart=document.is_large
        )
        return Prepared(variant.compiled, document, request.variables, variant.refusals)

    def _is_large(self, query: str) -> bool:
        return len(query) >= self._apart_from

    @within_the_stack()
    def _read(self, request: GraphQLRequest) -> Document:
        document = parse_limited(request.query, self.settings.limits)
        operation = get_operation_ast(document, request.operation_name)
        if operation is None:
            if request.operation_name is None:
                raise ClientError(
                    "The document holds several operations; name one.", code="OPERATION_RESOLUTION_FAILURE"
                )
            raise ClientError(
                f"The document holds no operation named {request.operation_name!r}.",
                code="OPERATION_RESOLUTION_FAILURE",
            )
        check_size(document, operation, self.settings.limits)
        errors = self._validator.errors(document)
        if errors:
            raise RequestError(self._told(errors), code="GRAPHQL_VALIDATION_FAILED")
        if operation.operation.value not in self.supergraph.root_types:
            raise ClientError(f"This API has no {operation.operation.value}s.", code="OPERATION_RESOLUTION_FAILURE")
        return Document(
            document,
            operation,
            condition_variables(document),
            has_defer(document),
            Variables(
                self.supergraph.api_schema,
                operation.variable_definitions or (),
                hide_suggestions=not self.settings.introspection,
            ),
            self._is_large(request.query),
        )

    def _told(self, errors: Sequence[GraphQLError]) -> tuple[Mapping[str, Any], ...]:
        """The errors as sent; without introspection none suggests anything, be it only how to go on with the client's own words."""
        told = [{key: value for key, value in e.formatted.items() if key in ("message", "locations")} for e in errors]
        if not self.settings.introspection:
            told = [{**entry, "message": _SUGGESTION.sub("", str(entry["message"]))} for entry in told]
        return tuple(told)

    def _check_variables(self, document: Document, given: Mapping[str, Any]) -> Mapping[str, Any]:
        read = document.variables.read(given)
        if isinstance(read, list):
            raise RequestError(self._told(read), code="BAD_USER_INPUT")
        return read

    @within_the_stack()
    def _check_demand(
        self, normalized: Normalized, variables: Mapping[str, Any], identity: Identity, spending: Spending | None
    ) -> None:
        """Raises:
        ClientError: the operation asks for more than this caller may (`OPERATION_TOO_LARGE`, `OPERATION_TOO_COSTLY`).
        """
        limits = self.settings.limits
        breadth, cost = normalized.breadth, evaluate(normalized.cost, variables)
        if spending is not None:
            spending.root_fields += breadth.root_fields
            spending.cost += cost
            breadth, cost = replace(breadth, root_fields=spending.root_fields), spending.cost
        check_breadth(breadth, limits.max_root_fields, limits.max_repeats)
        _check_cost(cost, limits.max_cost)
        if not identity.authenticated:
            check_breadth(breadth, limits.anonymous.max_root_fields, limits.anonymous.max_repeats)
            _check_cost(cost, limits.anonymous.max_cost)

    @within_the_stack()
    def _normalize(self, document: Document, decided: Mapping[str, bool]) -> Normalized:
        operation = normalize(
            self.supergraph,
            document.document,
            document.operation,
            variables=decided,
            max_fields=self.settings.limits.max_fields,
            defer=_IN_PARTS in decided,
        )
        return Normalized(
            operation,
            guarded(self.supergraph, operation),
            self._labels.touched_by(operation),
            breadth_of(operation),
            self._pricing.formula(operation, document.document) if self._has_costs else 0,
        )

    @within_the_stack()
    def _compile(
        self, operation: Operation, refused: frozenset[str], identity: Identity, labels: frozenset[str]
    ) -> Variant:
        allowed = operation
        refusals: tuple[Refusal, ...] = ()
        if refused:
            selection, refusals = without(self.supergraph, operation, refused, identity)
            allowed = replace(operation, selection=selection)
        planned = self._planner_for(labels).plan(allowed)
        self._check_fetches(planned.plan)
        # The projection knows the refused fields too: they are null in the answer, not absent.
        return Variant(CompiledPlan(self.supergraph, operation, planned), refusals)

    def _check_fetches(self, plan: QueryPlan) -> None:
        most = self.settings.limits.max_fetches
        if most is not None and (needed := sum(1 for _ in fetches(plan.node))) > most:
            message = f"The operation needs {needed} requests to subgraphs; at most {most} are served."
            raise ClientError(message, code="OPERATION_TOO_LARGE")

    # -- running ---------------------------------------------------------------------------------------------------

    async def run(
        self, prepared: Prepared, transport: Transport, headers: Mapping[str, str], answer: dict[str, Any] | None = None
    ) -> Response:
        """The answer of a prepared operation; `answer`: what a subscription's event brought already."""
        run = self.start(prepared, transport, headers)
        if answer is not None:
            run.answer = answer
        response = await prepared.compiled.run(run)
        return self._with_introspection(prepared, response)

    async def begin(
        self, prepared: Prepared, transport: Transport, headers: Mapping[str, str]
    ) -> tuple[Response, Delivery | None]:
        """As `run`, with what is deferred in parts that follow."""
        response, delivery = await prepared.compiled.begin(self.start(prepared, transport, headers))
        return self._with_introspection(prepared, response), delivery

    def start(self, prepared: Prepared, transport: Transport, headers: Mapping[str, str]) -> Run:
        run = Run(transport, prepared.variables, headers, prepared.files)
        run.errors.extend(
            AnswerError(
                "Unauthorized field or type.",
                refusal.path,
                None,
                {"code": refusal.code, "coordinate": refusal.coordinate},
            )
            for refusal in prepared.refusals
        )
        return run

    def _with_introspection(self, prepared: Prepared, response: Response) -> Response:
        """Adds `__schema` and `__type`, which the router answers from the API schema."""
        fields = prepared.compiled.operation.introspection
        if not fields or response.data is None:
            return response
        operation = prepared.document.operation
        only = OperationDefinitionNode(
            operation=operation.operation,
            name=operation.name,
            variable_definitions=operation.variable_definitions,
            selection_set=SelectionSetNode(selections=tuple(fields)),
            directives=(),
        )
        others = tuple(d for d in prepared.document.document.definitions if not isinstance(d, OperationDefinitionNode))
        document = DocumentNode(definitions=(only, *others))
        result = execute_sync(
            self.supergraph.api_schema,
            without_defer(document) if prepared.document.has_defer else document,
            variable_values=dict(prepared.variables),
        )
        errors = tuple(
            AnswerError(e.message, None, None, {"code": "INTERNAL_SERVER_ERROR"}) for e in result.errors or ()
        )
        return Response({**response.data, **(result.data or {})}, (*response.errors, *errors))


def _check_cost(cost: int, most: int | None) -> None:
    if most is not None and cost > most:
        message = f"The operation may cost {cost}; at most {most} is served."
        raise ClientError(message, code="OPERATION_TOO_COSTLY")
