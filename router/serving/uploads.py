"""Requests that come as multipart forms, with files among their variables.

Each file goes to a temporary file of its own, in memory only while it is small, and from there to the subgraphs that need
it (`upstream/form.py`).

Source: GraphQL multipart request specification (jaydenseric/graphql-multipart-request-spec).
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from router.errors import ClientError
from router.execution.files import Placed, Uploads
from router.serving.engine import GraphQLRequest
from router.serving.http import check_preflighted, request_from
from router.serving.settings import Limits, UploadSettings

MULTIPART = "multipart/form-data"
_OF_BROWSERS = ("origin", "referer", "sec-fetch-site", "cookie")


@dataclass(frozen=True, slots=True)
class Form:
    """operation: what the form asks for, one or a batch."""

    operation: GraphQLRequest | list[GraphQLRequest]
    files: Sequence[UploadFile]

    async def close(self) -> None:
        """Deletes what was kept of the files."""
        await _close(self.files)


def is_form(content_type: str) -> bool:
    return content_type[: len(MULTIPART)].lower() == MULTIPART


async def read_form(headers: Mapping[str, str], receive: Receive, limits: Limits, settings: UploadSettings) -> Form:
    """The operations of a multipart request with their files.

    Raises:
        ClientError: uploads are not served (415), another site may have sent it (403), something is too large (413), or
            the form is wrong (400).
    """
    if not settings.enabled:
        raise ClientError("Uploads are not served here.", code="UNSUPPORTED_MEDIA_TYPE", status=415)
    # Any page may make a browser send a form; who is no browser has no visitor to be misused.
    if any(name in headers for name in _OF_BROWSERS):
        check_preflighted(headers)
    largest = limits.max_body_bytes + settings.max_total_bytes
    parser = _FormParser(
        Headers(headers),
        _limited(headers, receive, largest),
        max_files=settings.max_files,
        max_fields=8,  # two mean something
        max_part_size=limits.max_body_bytes,
    )
    parser.max_file_bytes = settings.max_file_bytes
    parser.spool_max_size = settings.max_memory_bytes
    try:
        form = await parser.parse()
    except MultiPartException as error:
        too_large = "exceeded" in error.message or "Too many files" in error.message
        raise ClientError(
            f"The multipart form cannot be read: {error.message.rstrip('.')}.",
            code="REQUEST_TOO_LARGE" if too_large else "BAD_REQUEST",
            status=413 if too_large else 400,
        ) from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        if any((file.size or 0) > settings.max_file_bytes for file in files):
            raise ClientError(_too_large(settings.max_file_bytes), code="REQUEST_TOO_LARGE", status=413)
        return Form(_operation(form), files)
    except BaseException:
        await _close(files)
        raise


async def _close(files: Iterable[UploadFile]) -> None:
    for file in files:
        await file.close()


def _too_large(max_bytes: int) -> str:
    return f"A file exceeded {max_bytes} bytes."


class _FormParser(MultiPartParser):
    """Starlette's, which also gives up as soon as a single file is too large."""

    max_file_bytes: int = 0
    _file_bytes = 0

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._file_bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._file_bytes += end - start
        # Whether this part is a file is not said here; text of this size is refused with another message.
        if self._file_bytes > max(self.max_file_bytes, self.max_part_size):
            raise MultiPartException(_too_large(self.max_file_bytes))
        super().on_part_data(data, start, end)


async def _limited(headers: Mapping[str, str], receive: Receive, max_bytes: int) -> AsyncGenerator[bytes, None]:
    too_large = f"The form is larger than {max_bytes} bytes."
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise ClientError(too_large, code="REQUEST_TOO_LARGE", status=413)
    size = 0
    is_whole = False
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientError("The body is not complete.", code="BAD_REQUEST")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise ClientError(too_large, code="REQUEST_TOO_LARGE", status=413)
        yield chunk
        is_whole = not message.get("more_body", False)


def _operation(form: FormData) -> GraphQLRequest | list[GraphQLRequest]:
    """What is asked for, with the files in place of the nulls that the map names."""
    content, untouched, mapping = _json(form, "operations"), _json(form, "operations"), _json(form, "map")
    is_batch = isinstance(content, list)
    operations = content if is_batch else [content]
    placed = _place(form, operations, mapping, is_batch=is_batch)
    requests = [
        replace(request_from(each), uploads=_uploads(before, placed[number]))
        if number in placed
        else request_from(each)
        for number, (each, before) in enumerate(zip(operations, untouched if is_batch else [untouched], strict=True))
    ]
    return requests if is_batch else requests[0]


def _uploads(operation: Mapping[str, Any], placed: Mapping[str, list[Placed]]) -> Uploads:
    return Uploads(operation["variables"], {name: tuple(each) for name, each in placed.items()})


def _place(
    form: FormData, operations: list[Any], mapping: Any, *, is_batch: bool
) -> dict[int, dict[str, list[Placed]]]:
    """Puts the files into the operations; where they are now, by operation and variable."""
    if not isinstance(mapping, dict):
        raise ClientError("`map` must be an object: for each file a list of paths.")
    placed: dict[int, dict[str, list[Placed]]] = {}
    for name, paths in mapping.items():
        file = form.get(name)
        if not isinstance(file, UploadFile):
            raise ClientError(f"`map` names the file {name[:100]!r}, which the form does not hold.")
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise ClientError(f"`map` must hold a list of paths for the file {name[:100]!r}.")
        for path in paths:
            number, steps = _steps(path, is_batch=is_batch)
            if number >= len(operations):
                raise _no_null(path)
            _replace_null(operations[number], steps, path, file)
            placed.setdefault(number, {}).setdefault(steps[1], []).append(Placed(".".join(steps), file))
    return placed


def _json(form: FormData, name: str) -> Any:
    text = form.get(name)
    if not isinstance(text, str):
        raise ClientError(f"The multipart form must hold `{name}`, as text.")
    try:
        return orjson.loads(text.encode())
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        raise ClientError(f"`{name}` is not valid JSON: {error}.") from error


def _steps(path: str, *, is_batch: bool) -> tuple[int, list[str]]:
    """The position in the batch (0: there is none), and `variables`, a variable, and what follows."""
    steps = path.split(".")
    number = 0
    if is_batch:
        if not _is_position(steps[0]):
            raise _no_null(path)
        number = int(steps.pop(0))
    if len(steps) < 2 or steps[0] != "variables":
        raise _no_null(path)
    return number, steps


def _replace_null(operation: Any, steps: list[str], path: str, file: UploadFile) -> None:
    place = operation
    for step in steps[:-1]:
        place = _step(place, step, path)
    if _step(place, steps[-1], path) is not None:
        raise _no_null(path)
    if isinstance(place, list):
        place[int(steps[-1])] = file
    else:
        place[steps[-1]] = file


def _step(place: Any, step: str, path: str) -> Any:
    if isinstance(place, dict) and step in place:
        return place[step]
    if isinstance(place, list) and _is_position(step) and int(step) < len(place):
        return place[int(step)]
    raise _no_null(path)


def _is_position(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) < 10


def _no_null(path: str) -> ClientError:
    return ClientError(f"`map` names {path[:200]!r}, where `operations` holds no null among its variables.")
