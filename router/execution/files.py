"""Files among the variables of an operation."""

from collections.abc import Iterable, Mapping, Sequence
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

    def of(self, variables: Iterable[str]) -> tuple[Placed, ...]:
        """The files that a request with these variables needs; perhaps none."""
        return tuple(placed for name in variables for placed in self.placed.get(name, ()))


class FilePoster(Protocol):
    """How a subgraph is asked when files are among the variables."""

    @property
    def uploads(self) -> Uploads: ...

    async def post(
        self, subgraph: SubgraphName, body: bytes, files: Sequence[Placed], headers: Mapping[str, str]
    ) -> bytes:
        """The body of the answer.

        Raises:
            SubgraphFailure: there is none, or none that could be GraphQL.
        """
