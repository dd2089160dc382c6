"""Database sessions of a command's own, apart from its caller's."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession


class Sessions(Protocol):
    """Where sessions come from, for commands that ask a provider, hash a password, or wait.

    No connection and no lock is held meanwhile: what is read before that is read in a session of its own, and what is
    written down after it, in another one.
    """

    def read(self) -> AbstractAsyncContextManager[AsyncSession]: ...

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Commits when it is left without an error."""
        ...
