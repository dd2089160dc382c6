"""What is known of the request in hand: who asks, under which id and trace, in which language."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from domain.ids import new_id
from domain.principal import ANONYMOUS, Principal

Locale = Literal["ko", "en"]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request, call, stream or event.

    Args:
        request_id: given by the caller (`x-request-id`) or minted here; also the correlation id of its events.
        traceparent: W3C trace context of the caller, empty when there is none.
        deadline_s: seconds that the caller still waits, if it says so.
        peer: network address of the caller, for rate limits and logs.
    """

    principal: Principal = ANONYMOUS
    request_id: str = ""
    locale: Locale = "en"
    traceparent: str = ""
    deadline_s: float | None = None
    peer: str = ""


OUTSIDE = RequestContext()
"""The context outside of any request."""

_current: ContextVar[RequestContext] = ContextVar("request_context", default=OUTSIDE)


def current() -> RequestContext:
    """The context of the request in hand; an anonymous one outside of any request."""
    return _current.get()


def enter(context: RequestContext) -> None:
    """Make this the context of the running task (each request has a task of its own)."""
    _current.set(context)


def locale_of(accept_language: str) -> Locale:
    """Korean when the caller prefers it over English (RFC 9110, `Accept-Language`), else English."""
    weights = {"ko": 0.0, "en": 0.0}
    for item in accept_language.lower().split(","):
        tag, _, quality = item.strip().partition(";q=")
        language = tag.split("-")[0]
        if language in weights:
            try:
                weights[language] = max(weights[language], float(quality or 1))
            except ValueError:
                continue
    return "ko" if weights["ko"] > weights["en"] else "en"


def request_id_of(given: str) -> str:
    """The caller's request id when it is fit to be logged (short, printable), else a fresh one."""
    return given if 0 < len(given) <= 128 and given.isprintable() else new_id()
