"""Who is asking, and the interface of whoever finds out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identity:
    """forward: headers for the subgraphs, beside those that are forwarded for everyone.

    subject: who it is, as far as the credentials say. expires_at: until when they hold, in seconds of the epoch.
    """

    authenticated: bool = False
    scopes: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    forward: Mapping[str, str] = field(default_factory=dict)
    subject: str | None = None
    expires_at: float | None = None


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
