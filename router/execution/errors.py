"""What the client is told when a subgraph fails: where in its own answer, and which subgraph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.execution.values import ClientPath
from router.supergraph.model import SubgraphName

REDACTED_MESSAGE = "The service could not answer."
INTERNAL_CODES = frozenset(
    {
        *("INTERNAL_SERVER_ERROR", "DOWNSTREAM_SERVICE_ERROR", "SUBGRAPH_HTTP_ERROR"),
        # About the operation that the router made, which is not the client's.
        *("GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "OPERATION_RESOLUTION_FAILURE"),
    }
)


@dataclass(frozen=True, slots=True)
class AnswerError:
    """One entry of `errors`.

    extensions: as the subgraph sent them, with `code` and `serviceName` filled in. internal: whether the message tells of
    the connection to a subgraph, whatever the code.
    """

    message: str
    path: ClientPath | None
    subgraph: SubgraphName | None
    extensions: Mapping[str, Any]
    internal: bool = False

    def formatted(self, *, redact: bool) -> dict[str, Any]:
        """The entry as sent; redacted: nothing that describes the inside, unless the code marks it as meant for clients."""
        entry: dict[str, Any] = {"message": self.message}
        if self.path is not None:
            entry["path"] = list(self.path)
        extensions = dict(self.extensions)
        if self.subgraph is not None:
            extensions.setdefault("serviceName", self.subgraph)
        if redact and self.subgraph is not None:
            code = extensions.get("code", "INTERNAL_SERVER_ERROR")
            hidden = self.internal or code in INTERNAL_CODES
            if hidden:
                entry["message"] = REDACTED_MESSAGE
            extensions = {name: extensions[name] for name in ("reason",) if name in extensions and not hidden}
            extensions["code"] = code
        entry["extensions"] = extensions
        return entry


class SubgraphFailure(Exception):
    """A request to a subgraph that brought no GraphQL answer.

    code: `SUBGRAPH_TIMEOUT`, `SERVICE_UNAVAILABLE`, `SUBGRAPH_HTTP_ERROR` or `SUBGRAPH_MALFORMED_RESPONSE`.
    """

    def __init__(self, message: str, *, code: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status


def of_subgraph(error: object, subgraph: SubgraphName, path: ClientPath | None) -> AnswerError:
    """A subgraph's own error entry, whatever its shape, at the client's path."""
    entry: Mapping[str, Any] = error if isinstance(error, dict) else {"message": str(error)}
    extensions = entry.get("extensions")
    extensions = dict(extensions) if isinstance(extensions, dict) else {}
    if not isinstance(extensions.get("code"), str):
        extensions["code"] = "DOWNSTREAM_SERVICE_ERROR"
    return AnswerError(str(entry.get("message") or "The subgraph reported an error."), path, subgraph, extensions)


def of_failure(failure: SubgraphFailure, subgraph: SubgraphName, path: ClientPath | None) -> AnswerError:
    extensions: dict[str, Any] = {"code": failure.code}
    if failure.status is not None:
        extensions["http"] = {"status": failure.status}
    return AnswerError(f"Subgraph '{subgraph}': {failure.message}", path, subgraph, extensions, internal=True)


def path_of(error: object) -> Sequence[str | int] | None:
    path = error.get("path") if isinstance(error, dict) else None
    return path if isinstance(path, list) else None
