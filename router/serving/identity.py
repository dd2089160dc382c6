"""Who is asking, and the interface of whoever finds out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class LoginSession(Protocol):
    """The sign-in that credentials belong to. It may end before they expire."""

    def on_end(self, call: Callable[[], None]) -> Callable[[], None]:
        """Calls once when the session ends, at once if it has ended; the answer forgets the call."""


class LoginSessions(Protocol):
    """What knows which sign-ins have ended."""

    @property
    def is_current(self) -> bool:
        """Whether it has heard of ended sessions lately; `/ready` tells."""

    async def of(self, claims: Mapping[str, Any]) -> LoginSession | None:
        """The session of a verified token; None for a token that names none.

        Raises:
            ClientError: it has ended (401), or nothing is known of sessions yet (503).
        """


@dataclass(frozen=True, slots=True)
class Identity:
    """forward: headers for the subgraphs, beside those that are forwarded for everyone.

    subject: who it is, as far as the credentials say. expires_at: until when they hold, in seconds of the epoch.
    session: the sign-in that they belong to; None: one that nothing is known of.
    """

    authenticated: bool = False
    scopes: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    forward: Mapping[str, str] = field(default_factory=dict)
    subject: str | None = None
    expires_at: float | None = None
    session: LoginSession | None = None


ANONYMOUS = Identity()


class Authenticator(Protocol):
    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """Who sent these headers (names in lower case); without credentials, `ANONYMOUS`.

        Raises:
            ClientError: the credentials are not valid; 401, `UNAUTHENTICATED`.
        """


class NoAuthenticator:
    """Everyone is anonymous; subgraphs still see the headers that are forwarded."""

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        del headers
        return ANONYMOUS
