"""GraphQL documents of a subgraph, parsed and validated once, within limits, and beside the event loop where that takes long.

The router sends the same few documents over and over; a stranger sends large ones that nobody sends again. What is kept is therefore
limited by its size and not only by its number: a parsed document takes some five hundred times the memory of its text.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from graphql import DocumentNode, GraphQLError, GraphQLSchema, GraphQLSyntaxError, parse, validate

from domain.errors import LimitExceeded
from domain.principal import Principal, PrincipalKind
from subgraphs.runtime.errors import as_app_error
from subgraphs.runtime.operation_cost import Amount, costs_of
from subgraphs.runtime.query_limits import MAX_ERRORS, MAX_TOKENS, nesting_problem, size_problem

MAX_ANONYMOUS_CHARACTERS = 16 * 1024
MAX_CHARACTERS = 256 * 1024
KEPT_CHARACTERS = 400_000
"""Of all texts whose documents are kept."""

_KEPT_LONGEST = 16 * 1024
_QUICK_CHARACTERS = 1_000
"""A document of so many is parsed and validated in some milliseconds."""

_MAX_WAITING = 32


class DocumentsBusy(LimitExceeded):
    """Too many large documents wait to be validated."""

    reason = "DOCUMENTS_BUSY"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document with what each of its operations costs, or the errors for which it cannot be executed."""

    document: DocumentNode | None
    errors: Sequence[GraphQLError] = ()
    costs: Mapping[str, Amount] = field(default_factory=dict)


class Documents:
    """The documents of one schema.

    Args:
        validated: the rules of validation, by the schema.
    """

    def __init__(self, schema: GraphQLSchema, rules: Sequence[type]) -> None:
        self._schema = schema
        self._rules = rules
        self._kept: OrderedDict[str, Prepared] = OrderedDict()
        self._characters = 0
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="documents")
        self._waiting = 0

    async def prepare(self, source: str, principal: Principal) -> Prepared:
        """The document of a text.

        Raises:
            DocumentsBusy: too many large ones wait already.
        """
        most = MAX_ANONYMOUS_CHARACTERS if principal.kind is PrincipalKind.ANONYMOUS else MAX_CHARACTERS
        if len(source) > most:
            return _too_large(f"The document has {len(source)} characters; at most {most} are taken.")
        kept = self._kept.get(source)
        if kept is not None:
            self._kept.move_to_end(source)
            return kept
        prepare = partial(_prepared, source, self._schema, self._rules)
        prepared = prepare() if len(source) <= _QUICK_CHARACTERS else await self._beside(prepare)
        self._keep(source, prepared)
        return prepared

    async def _beside(self, work: Callable[[], Prepared]) -> Prepared:
        if self._waiting >= _MAX_WAITING:
            raise DocumentsBusy("Too many large operations wait to be read; try again in a second.", retry_after_s=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _keep(self, source: str, prepared: Prepared) -> None:
        if len(source) > _KEPT_LONGEST or source in self._kept:
            return
        self._kept[source] = prepared
        self._characters += len(source)
        while self._characters > KEPT_CHARACTERS:
            dropped, _ = self._kept.popitem(last=False)
            self._characters -= len(dropped)


def _prepared(source: str, schema: GraphQLSchema, rules: Sequence[type]) -> Prepared:
    if problem := nesting_problem(source):
        return _too_large(problem)
    try:
        document = parse(source, max_tokens=MAX_TOKENS)
    except GraphQLSyntaxError as error:
        return Prepared(None, (error,))
    except RecursionError:
        return _too_large("The document is nested too deep.")
    if problem := size_problem(document):
        return _too_large(problem)
    try:
        errors = validate(schema, document, rules, max_errors=MAX_ERRORS)
    except RecursionError:
        return _too_large("The document is nested too deep.")
    if errors:
        return Prepared(document, tuple(_of_the_document(error) for error in errors))
    return Prepared(document, costs=costs_of(schema, document))


def _of_the_document(error: GraphQLError) -> GraphQLError:
    """A fault of the document: a type that raises while it reads a literal, as `int` does on 5,000 digits, is no bug of ours."""
    if error.original_error is None or as_app_error(error.original_error) is not None:
        return error
    return GraphQLError(error.message, nodes=error.nodes, extensions=error.extensions)


def _too_large(message: str) -> Prepared:
    return Prepared(None, (GraphQLError(message, extensions={"code": "OPERATION_TOO_LARGE"}),))
