"""Files among the variables of an operation."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.datastructures import UploadFile

from router.supergraph.model import SubgraphName


@dataclass(frozen=True, slots=True)
class Placed:
    """A file, and where in its operation's variables it stands: `variables.input.files.0`."""

    path: str
    file: UploadFile


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files of one operation. variables: the client's, null where a file stands; placed: by variable."""

    variables: Mapping[str, Any]
    placed: Mapping[str, tuple[Placed, ...]]


class FilePoster(Protocol):
    """How a subgraph is asked when files are among the variables."""

    def of(self, variables: Iterable[str]) -> Sequence[Placed]:
        """The files that a request with these variables needs; perhaps none."""

    async def post(
        self, subgraph: SubgraphName, body: bytes, files: Sequence[Placed], headers: Mapping[str, str]
    ) -> bytes:
        """The body of the answer.

        Raises:
            SubgraphFailure: there is none, or none that could be GraphQL.
        """


@dataclass(frozen=True, slots=True)
class FilesOf:
    """The `FilePoster` of one operation. send: the transport's."""

    uploads: Uploads
    send: Callable[[SubgraphName, bytes, Sequence[Placed], Mapping[str, str]], Awaitable[bytes]]

    def of(self, variables: Iterable[str]) -> Sequence[Placed]:
        return [placed for name in variables for placed in self.uploads.placed.get(name, ())]

    async def post(
        self, subgraph: SubgraphName, body: bytes, files: Sequence[Placed], headers: Mapping[str, str]
    ) -> bytes:
        return await self.send(subgraph, body, files, headers)
