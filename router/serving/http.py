"""GraphQL over HTTP: requests read, answers written, status codes chosen.

Source: GraphQL over HTTP specification (graphql.github.io/graphql-over-http), with `application/json` for older clients.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from router.errors import ClientError
from router.execution.errors import AnswerError
from router.serving.engine import GraphQLRequest, RequestError

GRAPHQL_RESPONSE = "application/graphql-response+json"
JSON = "application/json"


def negotiate(accept: str | None) -> str:
    """The media type to answer in.

    Raises:
        ClientError: the client accepts neither (406).
    """
    if not accept or accept == JSON:
        return JSON
    ranges = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if GRAPHQL_RESPONSE in ranges:
        return GRAPHQL_RESPONSE
    if ranges & {JSON, "*/*", "application/*", "text/html", "text/event-stream", "multipart/mixed"}:
        return JSON
    raise ClientError(f"Accept {GRAPHQL_RESPONSE} or {JSON}.", code="NOT_ACCEPTABLE", status=406)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Raises:
    ClientError: the body is too large (413).
    """
    too_large = ClientError(f"The body is larger than {max_bytes} bytes.", code="REQUEST_TOO_LARGE", status=413)
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def decode_body(content_type: str, body: bytes) -> Any:
    """Raises:
    ClientError: it is not JSON, by its type (415) or by its content (400).
    """
    if content_type.split(";", maxsplit=1)[0].strip().lower() not in (JSON, "application/graphql+json"):
        raise ClientError(f"Send the request as {JSON}.", code="UNSUPPORTED_MEDIA_TYPE", status=415)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ClientError(f"The body is not valid JSON: {error}.", code="BAD_REQUEST") from error


def request_from(content: Any) -> GraphQLRequest:
    """Raises:
    ClientError: a member is missing or of the wrong type (400).
    """
    if not isinstance(content, dict):
        raise ClientError("The request must be a JSON object with a `query`.")
    query = content.get("query")
    name = content.get("operationName")
    variables = content.get("variables")
    extensions = content.get("extensions")
    document_id = _document_id(content)
    if (document_id is None or query is not None) and (not isinstance(query, str) or not query.strip()):
        raise ClientError("`query` must be a non-empty string.")
    if name is not None and not isinstance(name, str):
        raise ClientError("`operationName` must be a string.")
    if variables is not None and not isinstance(variables, dict):
        raise ClientError("`variables` must be an object.")
    if extensions is not None and not isinstance(extensions, dict):
        raise ClientError("`extensions` must be an object.")
    return GraphQLRequest(query or "", name or None, variables or {}, document_id)


def _document_id(content: Mapping[str, Any]) -> str | None:
    """The id of a trusted document: `documentId`, or the hash that the automatic persisted query extension has."""
    document_id = content.get("documentId")
    if document_id is None and isinstance(extensions := content.get("extensions"), dict):
        persisted = extensions.get("persistedQuery")
        document_id = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    if document_id is not None and not isinstance(document_id, str):
        raise ClientError("The document id must be a string.")
    return document_id


def request_from_url(parameters: Mapping[str, str]) -> GraphQLRequest:
    """A GET request; `variables` and `extensions` are JSON in the URL.

    Raises:
        ClientError: as for `request_from`.
    """
    content: dict[str, Any] = {
        "query": parameters.get("query"),
        "operationName": parameters.get("operationName"),
        "documentId": parameters.get("documentId"),
    }
    for name in ("variables", "extensions"):
        if text := parameters.get(name):
            try:
                content[name] = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise ClientError(f"`{name}` is not valid JSON: {error}.") from error
    return request_from(content)


def error_entries(error: ClientError) -> list[dict[str, Any]]:
    if isinstance(error, RequestError):
        return [{**entry, "extensions": {"code": error.code}} for entry in error.errors]
    return [{"message": error.message, "extensions": {"code": error.code}}]


_ABOUT_HTTP = frozenset({401, 405, 406, 413, 415, 429, 503})
_ABOUT_THE_DOCUMENT = frozenset({"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT"})


def refuse(error: ClientError, media_type: str) -> Response:
    """A request error: no `data`. Older clients get 200 for a document that does not validate, as they expect."""
    status = error.status
    if media_type == JSON and status not in _ABOUT_HTTP and error.code in _ABOUT_THE_DOCUMENT:
        status = 200
    headers = {"allow": "POST"} if status == 405 else None
    if status == 401:
        headers = {"www-authenticate": "Bearer"}
    return Response(orjson.dumps({"errors": error_entries(error)}), status, headers, media_type)


def payload(data: Any, errors: Sequence[AnswerError], *, redact: bool) -> dict[str, Any]:
    if not errors:
        return {"data": data}
    return {"data": data, "errors": [error.formatted(redact=redact) for error in errors]}


def headers_of(scope: Scope) -> dict[str, str]:
    """The client's headers; its address is appended to `x-forwarded-for`, as every proxy does (RFC 7239, section 7.4)."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    if client := scope.get("client"):
        before = headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = f"{before}, {client[0]}" if before else client[0]
    return headers
