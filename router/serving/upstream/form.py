"""A request to a subgraph with files among its variables.

Source: GraphQL multipart request specification (jaydenseric/graphql-multipart-request-spec).
"""

import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

import aiohttp
import orjson
from starlette.datastructures import UploadFile

from router.execution.errors import SubgraphFailure
from router.execution.files import Placed
from router.serving.connection import HttpAnswer, Unreachable

_CHUNK = 128 * 1024
_MEDIA_TYPE = re.compile(r"[\x20-\x7e]+")
_LINE_OF_HEADER = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


async def post_form(
    session: aiohttp.ClientSession,
    url: str,
    form: "SubgraphForm",
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    max_bytes: int,
) -> HttpAnswer:
    """The answer to a form.

    Raises:
        TimeoutError: it did not end in time.
        Unreachable: there is no whole answer.
        SubgraphFailure: it is too large.
    """
    sent = {
        **headers,
        "content-type": form.content_type,
        "content-length": str(form.content_length),
        "accept": "application/graphql-response+json, application/json",
        "accept-encoding": "identity",
    }
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    body = bytearray()
    try:
        async with session.post(
            url, data=form.chunks(), headers=sent, timeout=timeout, allow_redirects=False
        ) as response:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise SubgraphFailure("its answer is too large.", code="SUBGRAPH_MALFORMED_RESPONSE")
            return HttpAnswer(response.status, bytes(body))
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise Unreachable("it did not take the files, or closed the connection without a whole answer.") from error


class SubgraphForm:
    """A request to a subgraph with the files that it needs, as one multipart body of known length."""

    def __init__(self, body: bytes, placed: Sequence[Placed]) -> None:
        boundary = f"router-{secrets.token_hex(16)}"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        paths: dict[int, list[str]] = {}
        files: dict[int, UploadFile] = {}
        for each in placed:
            files[id(each.file)] = each.file
            paths.setdefault(id(each.file), []).append(each.path)
        self._files = list(files.values())
        mapping = {str(number): paths[id(file)] for number, file in enumerate(self._files)}
        start = f"--{boundary}\r\ncontent-disposition: form-data; name="
        first = f'{start}"operations"\r\n\r\n'.encode() + body
        first += f'\r\n{start}"map"\r\n\r\n'.encode() + orjson.dumps(mapping)
        self._before = [f"\r\n{start}{_of_file(n, file)}\r\n\r\n".encode() for n, file in enumerate(self._files)]
        self._before[0] = first + self._before[0]
        self._end = f"\r\n--{boundary}--\r\n".encode()
        self.content_length = sum(map(len, self._before)) + sum(file.size or 0 for file in self._files) + len(self._end)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, a piece of a file at a time. Several may be read from one file at once."""
        for before, file in zip(self._before, self._files, strict=True):
            yield before
            position = 0
            while position < (file.size or 0):
                piece = _read_at(file, position)
                if not piece:
                    raise OSError("a temporary file is shorter than it was")
                position += len(piece)
                yield piece
        yield self._end


def _read_at(file: UploadFile, position: int) -> bytes:
    # Without giving way in between, as another request may read the same file. It was written a moment ago and comes from
    # memory, so a thread would cost more than it saves.
    file.file.seek(position)
    return file.file.read(_CHUNK)


def _of_file(number: int, file: UploadFile) -> str:
    name = (file.filename or "").translate(_LINE_OF_HEADER)
    content_type = file.headers.get("content-type", "application/octet-stream")
    if not _MEDIA_TYPE.fullmatch(content_type):
        content_type = "application/octet-stream"
    return f'"{number}"; filename="{name}"\r\ncontent-type: {content_type}'
