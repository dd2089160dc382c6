"""The rules of fields: each function answers the value as it is stored, or says which field is wrong and why."""

import re
from collections.abc import Mapping

from domain import validation
from domain.operations.notification.errors import InvalidNotification
from domain.operations.notification.models import Content

MAX_TITLE = 200
MAX_BODY = 4000
MAX_ENTRIES = 32
MAX_KEY = 64
MAX_VALUE = 1000
MAX_URL = 500
MAX_TOKEN = 4096
MAX_USER_ID = 64

_LINK = re.compile(r"(/(?!/)|https://|manpasik://)[!-~]*", re.ASCII)
_TOKEN = re.compile(r"[!-~]{8,4096}", re.ASCII)


def user_id(value: str) -> str:
    """The id of a person as other services mint it."""
    return validation.identifier(value, field="user_id", longest=MAX_USER_ID, error=InvalidNotification)


def content(*, title: str, body: str, data: Mapping[str, str], action_url: str) -> Content:
    """What a notification says.

    Raises:
        InvalidNotification: the first field that breaks its rule.
    """
    named = validation.line(title, field="title", longest=MAX_TITLE, error=InvalidNotification)
    text = validation.paragraphs(body, field="body", longest=MAX_BODY, error=InvalidNotification)
    if len(data) > MAX_ENTRIES or not all(_is_entry(name, value) for name, value in data.items()):
        raise InvalidNotification(
            "data",
            f"must have at most {MAX_ENTRIES} entries, names of 1 to {MAX_KEY} and values of up to {MAX_VALUE} characters",
        )
    return Content(title=named, body=text, data=dict(data), action_url=action_link(action_url))


def action_link(value: str) -> str:
    """A link into the app, or nothing."""
    if value and (len(value) > MAX_URL or not _LINK.fullmatch(value)):
        raise InvalidNotification(
            "action_url", f"must be a path, a manpasik:// or an https:// link of at most {MAX_URL} characters"
        )
    return value


def _is_entry(name: str, value: str) -> bool:
    fits = 0 < len(name) <= MAX_KEY and len(value) <= MAX_VALUE
    return fits and name.isprintable() and validation.is_text(value, breaks="\n\t")


def tidy(value: str, *, at_most: int) -> str:
    """Somebody else's words as they may stand in a message: on one line, without what cannot be shown, shortened."""
    shown = "".join(character if validation.is_shown(character) else " " for character in value[: 2 * at_most])
    return shortened(" ".join(shown.split()), at_most=at_most)


def shortened(text: str, *, at_most: int) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    return text if len(text) <= at_most else f"{text[: at_most - 1].rstrip()}…"


def push_token(value: str) -> str:
    """A token as a push service gives it to an app."""
    if len(value) > MAX_TOKEN or not _TOKEN.fullmatch(value):
        raise InvalidNotification("token", f"must have 8 to {MAX_TOKEN} visible ASCII characters")
    return value


def phone(value: str) -> str:
    """A number without its spaces and dashes; best in E.164 form."""
    return validation.phone(value, field="phone", error=InvalidNotification)
