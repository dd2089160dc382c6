"""Answers in parts, in the two forms that clients read.

The *current* form names each deferred fragment at each object once, as `pending`, and refers to it by its id; no field
comes twice. In the form of August 2022 every part says its path and label, and holds all that its fragment asks for.

Source: GraphQL incremental delivery (graphql/graphql-spec#1110) and "Incremental Delivery over HTTP" (graphql-over-http
rfcs/IncrementalDelivery.md), Apollo's incremental specification v0.1 and v0.2 (specs.apollo.dev/incremental).
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import orjson

from router.execution.deferred import Delivery, Record, Update
from router.execution.errors import AnswerError
from router.execution.run import Response
from router.serving.http import payload


class PartsForm(Enum):
    """What an answer in parts looks like."""

    CURRENT = "current"
    AUGUST_2022 = "August 2022"


_FORMS: Mapping[tuple[str, str], PartsForm] = {
    ("incrementalspec", "v0.2"): PartsForm.CURRENT,
    ("incrementalspec", "v0.1"): PartsForm.AUGUST_2022,
    ("deferspec", "20220824"): PartsForm.AUGUST_2022,
}


class MultipartParts:
    """`multipart/mixed`. Every part ends with the next one's delimiter, so that it can be read before there is a next one.

    parameter: of the media type, as the client named it; "" if it named none.
    """

    only_subscriptions = True
    start = b"\r\n---"
    heartbeat = b""
    end = b"--\r\n"

    def __init__(self, form: PartsForm, parameter: str = "") -> None:
        self.form = form
        self.content_type = 'multipart/mixed;boundary="-"' + (f";{parameter}" if parameter else "")

    def answer(self, content: Mapping[str, Any]) -> bytes:
        return b"\r\ncontent-type: application/json; charset=utf-8\r\n\r\n" + orjson.dumps(content) + b"\r\n---"

    def failure(self, errors: list[dict[str, Any]]) -> bytes:
        return self.answer({"errors": errors, "hasNext": False})


def multipart_parts(accept: str) -> MultipartParts | None:
    """The parts that an `accept` header asks for: the first kind that is known; None: the answer has to be one piece."""
    for media_type, parameters in _ranges(accept):
        if media_type != "multipart/mixed":
            continue
        named = {name: value for name, value in parameters.items() if name.endswith("spec")}
        if not named:
            return MultipartParts(PartsForm.CURRENT)
        for name, value in named.items():
            if (form := _FORMS.get((name, value))) is not None:
                spelled = {"deferspec": "deferSpec", "incrementalspec": "incrementalSpec"}[name]
                return MultipartParts(form, f"{spelled}={value}")
    return None


def stream_parts(accept: str) -> PartsForm:
    """The form of parts in a stream of answers: server-sent events or a WebSocket, whose client may name one as well."""
    for _, parameters in _ranges(accept):
        for pair in parameters.items():
            if pair in _FORMS:
                return _FORMS[pair]
    return PartsForm.CURRENT


def _ranges(accept: str) -> Iterable[tuple[str, dict[str, str]]]:
    for part in accept.lower().split(","):
        media_type, *pieces = (piece.strip() for piece in part.split(";"))
        parameters = {}
        for piece in pieces:
            name, _, value = piece.partition("=")
            parameters[name.strip()] = value.strip().strip('"')
        if parameters.get("q") not in ("0", "0.0", "0.00", "0.000"):
            yield media_type, parameters


async def parts(
    response: Response, delivery: Delivery | None, form: PartsForm, *, redact: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """The primary answer, then the others as they are there. Closing the generator cancels the requests under way."""
    first = payload(response.data, response.errors, redact=redact)
    if delivery is None or not delivery.pending:
        yield first if form is PartsForm.CURRENT else {**first, "hasNext": False}
        return
    if form is PartsForm.CURRENT:
        first["pending"] = _pending(delivery.pending)
    yield {**first, "hasNext": True}
    async for update in delivery.updates():
        if form is PartsForm.CURRENT:
            yield _current(update, redact=redact)
        else:
            yield _august_2022(delivery, update, redact=redact)


def tells_errors(part: Mapping[str, Any]) -> bool:
    """Whether a part, of either form, tells of errors."""
    entries = (*part.get("incremental", ()), *part.get("completed", ()))
    return "errors" in part or any("errors" in entry for entry in entries)


def _current(update: Update, *, redact: bool) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if update.pending:
        content["pending"] = _pending(update.pending)
    incremental = []
    for each in update.delivered:
        entry: dict[str, Any] = {"id": str(each.record.number), "data": each.data}
        if sub_path := each.path[len(each.record.path) :]:
            entry["subPath"] = list(sub_path)
        incremental.append(_with_errors(entry, each.errors, redact=redact))
    if incremental:
        content["incremental"] = incremental
    content["completed"] = [
        _with_errors({"id": str(each.record.number)}, each.errors, redact=redact) for each in update.completed
    ]
    content["hasNext"] = update.has_next
    return content


def _august_2022(delivery: Delivery, update: Update, *, redact: bool) -> dict[str, Any]:
    incremental = []
    for each in update.completed:
        data, errors = delivery.whole(each)
        entry = {**_labelled(each.record), "data": data}
        incremental.append(_with_errors(entry, errors, redact=redact))
    return {"incremental": incremental, "hasNext": update.has_next}


def _pending(records: Iterable[Record]) -> list[dict[str, Any]]:
    return [{"id": str(record.number), **_labelled(record)} for record in records]


def _labelled(record: Record) -> dict[str, Any]:
    labelled: dict[str, Any] = {"path": list(record.path)}
    if record.label is not None:
        labelled["label"] = record.label
    return labelled


def _with_errors(entry: dict[str, Any], errors: Sequence[AnswerError], *, redact: bool) -> dict[str, Any]:
    if errors:
        entry["errors"] = [error.formatted(redact=redact) for error in errors]
    return entry
