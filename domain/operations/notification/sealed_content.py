"""The content of notifications as it lies in the database: one sealed JSON value, which opens for its own row only."""

from dataclasses import asdict

from pydantic import TypeAdapter

from domain.operations.notification.models import Content, Message, Notification
from domain.sealing import Sealer

_CONTENT = TypeAdapter(Content)


def seal_content(sealer: Sealer, notification_id: str, content: Content) -> bytes:
    """The content, sealed for a notification."""
    return sealer.seal_json(asdict(content), context=_context(notification_id))


def open_message(sealer: Sealer, row: Notification) -> Message:
    """The message of a row.

    Raises:
        SealBroken: its content was sealed for another row, with another key, or was changed.
    """
    opened = sealer.open_json(row.content, context=_context(row.notification_id))
    return Message(row, _CONTENT.validate_python(opened))


def _context(notification_id: str) -> str:
    return f"notifications.content:{notification_id}"
