"""The rules of fields: each function answers the value as it is stored, or says which field is wrong and why."""

import re
import unicodedata
from collections.abc import Mapping

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
_PHONE = re.compile(r"\+?[0-9]{8,15}", re.ASCII)
_PHONE_FILLERS = re.compile(r"[ ().-]")
_UNWANTED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, what turns the direction of text, halves of surrogate pairs, and characters that are not assigned."""
_JOINERS = "\u200c\u200d"  # of many scripts, and within emoji


def user_id(value: str) -> str:
    """The id of a person as other services mint it."""
    if not 0 < len(value) <= MAX_USER_ID or not value.isprintable():
        raise InvalidNotification("user_id", f"must have 1 to {MAX_USER_ID} printable characters")
    return value


def content(*, title: str, body: str, data: Mapping[str, str], action_url: str) -> Content:
    """What a notification says.

    Raises:
        InvalidNotification: the first field that breaks its rule.
    """
    stripped = title.strip()
    if not 0 < len(stripped) <= MAX_TITLE or not is_text(stripped):
        raise InvalidNotification("title", f"must have 1 to {MAX_TITLE} printable characters, on one line")
    text = body.replace("\r\n", "\n").strip()
    if len(text) > MAX_BODY or not is_text(text, breaks="\n\t"):
        raise InvalidNotification("body", f"must have at most {MAX_BODY} printable characters")
    if len(data) > MAX_ENTRIES or not all(_is_entry(name, value) for name, value in data.items()):
        raise InvalidNotification(
            "data",
            f"must have at most {MAX_ENTRIES} entries, names of 1 to {MAX_KEY} and values of up to {MAX_VALUE} characters",
        )
    return Content(title=stripped, body=text, data=dict(data), action_url=action_link(action_url))


def action_link(value: str) -> str:
    """A link into the app, or nothing."""
    if value and (len(value) > MAX_URL or not _LINK.fullmatch(value)):
        raise InvalidNotification(
            "action_url", f"must be a path, a manpasik:// or an https:// link of at most {MAX_URL} characters"
        )
    return value


def _is_entry(name: str, value: str) -> bool:
    fits = 0 < len(name) <= MAX_KEY and len(value) <= MAX_VALUE
    return fits and name.isprintable() and is_text(value, breaks="\n\t")


def is_text(value: str, *, breaks: str = "") -> bool:
    """Whether all of it can be shown; `breaks` are control characters that are taken as well."""
    return all(_is_shown(character) or character in breaks for character in value)


def tidy(value: str, *, at_most: int) -> str:
    """Somebody else's words as they may stand in a message: on one line, without what cannot be shown, shortened."""
    shown = "".join(character if _is_shown(character) else " " for character in value[: 2 * at_most])
    return shortened(" ".join(shown.split()), at_most=at_most)


def shortened(text: str, *, at_most: int) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    return text if len(text) <= at_most else f"{text[: at_most - 1].rstrip()}…"


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in _UNWANTED or character in _JOINERS


def push_token(value: str) -> str:
    """A token as a push service gives it to an app."""
    if not _TOKEN.fullmatch(value):
        raise InvalidNotification("token", f"must have 8 to {MAX_TOKEN} visible ASCII characters")
    return value


def phone(value: str) -> str:
    """A number without its spaces and dashes; best in E.164 form."""
    bare = _PHONE_FILLERS.sub("", value[:100])
    if not _PHONE.fullmatch(bare):
        raise InvalidNotification("phone", 'must be a phone number such as "+821012345678"')
    return bare
