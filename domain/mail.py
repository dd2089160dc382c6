"""A mail to one person, and what may become of it; how it is sent is the outside's (`subgraphs/runtime/mail.py`)."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mail:
    """A plain text.

    Args:
        message_id: the local part of its Message-ID (RFC 5322), equal when the same mail is sent again; empty makes one up.
    """

    to: str
    subject: str
    text: str
    message_id: str = ""


class MailNotSent(Exception):
    """The mail server did not take it now; later it may."""


class MailRefused(Exception):
    """The mail server will never take it, for example because there is no such mailbox."""


class Mailer(Protocol):
    @property
    def is_configured(self) -> bool: ...

    async def send(self, mail: Mail) -> None:
        """Raises: MailNotSent: it may work later. MailRefused: it never will."""
        ...
