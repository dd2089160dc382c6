"""Trusted documents: operations that clients send by id, from a file that the release of the clients writes."""

from collections.abc import Mapping
from pathlib import Path

import orjson

from router.errors import ClientError, InvalidSettings


class TrustedDocuments:
    """Document texts by id. An id is what the client sends: by convention the SHA-256 of the text, in hex.

    Raises:
        InvalidSettings: the file is not a JSON object of strings.
    """

    def __init__(self, path: Path | None, *, required: bool) -> None:
        self._required = required
        self._texts: Mapping[str, str] = {} if path is None else _read(path)
        if required and path is None:
            raise InvalidSettings("require_trusted_documents needs trusted_documents, the file that lists them.")

    def text(self, query: str | None, document_id: str | None) -> str | None:
        """The document to run: the one of that id, or what was sent (None: nothing was).

        Raises:
            ClientError: the id is not known, or only trusted documents are served.
        """
        if document_id is not None and (self._texts or query is None):
            text = self._texts.get(document_id.removeprefix("sha256:"))
            if text is not None:
                return text
            if query is None:
                raise ClientError("No document has this id.", code="PERSISTED_QUERY_NOT_FOUND")
        if self._required:
            raise ClientError("Only trusted documents are served here.", code="PERSISTED_QUERY_REQUIRED")
        return query


def _read(path: Path) -> Mapping[str, str]:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidSettings(f"trusted_documents: {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise InvalidSettings(f"trusted_documents: {path} must map ids to document texts.")
    return {str(name).removeprefix("sha256:"): text for name, text in content.items()}
