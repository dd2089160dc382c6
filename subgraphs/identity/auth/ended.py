"""The sign-ins that ended, for every process that takes access tokens."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from domain.errors import InvalidInput
from domain.identity.auth.repository import SignInRepository
from domain.validation import MAX_ID, short_enough
from subgraphs.runtime.database import Database
from subgraphs.runtime.revocation import PAGE, EndedSignIn, EndedSignIns

_LONGEST_TIME = 40


class DatabaseEndedSignIns:
    """Ended sign-ins from the group's own tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(self, at: datetime, sign_in_id: str) -> Sequence[EndedSignIn]:
        """As `EndedSignIns.after`."""
        async with self._database.read() as session:
            rows = await SignInRepository(session).ended_after(at, sign_in_id, limit=PAGE)
        return [EndedSignIn(ended_id, ended_at) for ended_id, ended_at in rows]


def ended_endpoint(source: EndedSignIns) -> Callable[[Request], Awaitable[Response]]:
    """Ids of ended sign-ins and when they ended, `?after=<ISO 8601>&id=<last id>`. An id opens nothing and names nobody."""

    async def ended(request: Request) -> Response:
        found = await source.after(
            _time_of(request), short_enough(request.query_params.get("id", ""), MAX_ID, field="id")
        )
        rows = [[row.id, row.at.isoformat()] for row in found]
        return JSONResponse({"ended": rows}, headers={"cache-control": "no-store"})

    return ended


def _time_of(request: Request) -> datetime:
    given = request.query_params.get("after", "")
    try:
        at = datetime.fromisoformat(given[:_LONGEST_TIME])
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidInput("after is no time with a zone, such as 2026-12-01T00:00:00+00:00.", field="after")
    return at
