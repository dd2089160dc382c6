"""GraphQL over HTTP: requests read, answers written, status codes chosen.

Source: GraphQL over HTTP specification (graphql.github.io/graphql-over-http), with `application/json` for older clients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope, Send

from router.errors import ClientError
from router.execution.errors import AnswerError
from router.serving.engine import GraphQLRequest, RequestError

GRAPHQL_RESPONSE = "application/graphql-response+json"
JSON = "application/json"
PREFLIGHT_HEADERS = ("graphql-preflight", "apollo-require-preflight", "x-apollo-operation-name")
"""Any of them, with whatever value, keeps a browser from sending a request of another site without asking."""


class MethodNotAllowed(ClientError):
    """allow: what may be used instead."""

    def __init__(self, message: str, *, allow: bytes) -> None:
        super().__init__(message, code="METHOD_NOT_ALLOWED", status=405)
        self.allow = allow


@dataclass(slots=True)
class Reply:
    """A whole response, as an ASGI application. body: sent as it is."""

    body: bytes
    media_type: str = JSON
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [
            (b"content-type", self.media_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


# -- requests ----------------------------------------------------------------------------------------------------------


def headers_of(scope: Scope) -> dict[str, str]:
    """The client's headers; its address is appended to `x-forwarded-for`, as every proxy does (RFC 7239, section 7.4).

    A header that came several times has all its values (RFC 9110, section 5.3), so that none is seen without the others.
    """
    raw = scope["headers"]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(headers) < len(raw):
        headers = _joined(raw)
    if client := scope.get("client"):
        before = headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = f"{before}, {client[0]}" if before else client[0]
    return headers


def _joined(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {name: ("; " if name == "cookie" else ", ").join(several) for name, several in values.items()}


def negotiate(accept: str) -> str:
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


async def read_body(headers: Mapping[str, str], receive: Receive, max_bytes: int) -> bytes:
    """Raises:
    ClientError: the body is too large (413), or the client went away before its end.
    """
    too_large = f"The body is larger than {max_bytes} bytes."
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise ClientError(too_large, code="REQUEST_TOO_LARGE", status=413)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientError("The body is not complete.", code="BAD_REQUEST")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise ClientError(too_large, code="REQUEST_TOO_LARGE", status=413)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def decode_body(headers: Mapping[str, str], body: bytes) -> Any:
    """Raises:
    ClientError: it is not JSON, by its type or coding (415) or by its content (400).
    """
    content_type = headers.get("content-type", "")
    if content_type != JSON:
        _check_content_type(content_type)
    if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise ClientError("Send the body uncompressed.", code="UNSUPPORTED_MEDIA_TYPE", status=415)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ClientError(f"The body is not valid JSON: {error}.", code="BAD_REQUEST") from error


def _check_content_type(content_type: str) -> None:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = {value.strip('" ') for name, _, value in (p.partition("=") for p in parameters) if name == "charset"}
    if media_type not in (JSON, "application/graphql+json") or not charsets <= {"utf-8", "utf8", "us-ascii"}:
        raise ClientError(f"Send the request as {JSON}, in UTF-8.", code="UNSUPPORTED_MEDIA_TYPE", status=415)


def check_cross_site(headers: Mapping[str, str], allowed_origins: Sequence[str]) -> None:
    """Refuses a request that a page of another site made a browser send without asking us first.

    Browsers ask before they send a JSON body or a header of their own, and are answered as `cors` says. What has neither
    comes with the user's cookies from anywhere; browsers tell then that another site is behind it.

    Source: Fetch Metadata Request Headers (W3C), `Sec-Fetch-Site`; Fetch standard, "CORS-preflight fetch".
    Raises:
        ClientError: it comes from another site (403).
    """
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin") or "*" in allowed_origins:
        return
    if headers.get("origin") not in allowed_origins:
        check_preflighted(headers)


def check_preflighted(headers: Mapping[str, str]) -> None:
    """Refuses a request that has no header of those that browsers ask for before they send it.

    Raises:
        ClientError: it is missing (403).
    """
    if not any(name in headers for name in PREFLIGHT_HEADERS):
        message = f"Such a request needs one of the headers {', '.join(PREFLIGHT_HEADERS)}, with any value."
        raise ClientError(message, code="CSRF_PREVENTED", status=403)


def parameters_of(query_string: bytes) -> dict[str, str]:
    """The parameters of a URL.

    Raises:
        ClientError: one comes twice, or is not UTF-8 (400).
    """
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise ClientError("The URL's parameters cannot be read.", code="BAD_REQUEST") from error
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise ClientError("A parameter of the URL comes twice.", code="BAD_REQUEST")
    return parameters


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


# -- answers -----------------------------------------------------------------------------------------------------------

_ABOUT_HTTP = frozenset({401, 405, 406, 413, 414, 415, 429, 503})
_ABOUT_THE_DOCUMENT = frozenset({"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT"})


def refuse(error: ClientError, media_type: str) -> Reply:
    """A request error: no `data`. Older clients get 200 for a document that does not validate, as they expect."""
    status = error.status
    if media_type == JSON and status not in _ABOUT_HTTP and error.code in _ABOUT_THE_DOCUMENT:
        status = 200
    headers: list[tuple[bytes, bytes]] = []
    if status == 405:
        headers.append((b"allow", error.allow if isinstance(error, MethodNotAllowed) else b"POST"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return Reply(orjson.dumps({"errors": error_entries(error)}), media_type, status, headers)


def payload(data: Any, errors: Sequence[AnswerError], *, redact: bool) -> dict[str, Any]:
    if not errors:
        return {"data": data}
    return {"data": data, "errors": [error.formatted(redact=redact) for error in errors]}
