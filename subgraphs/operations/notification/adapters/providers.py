"""What the HTTP providers have in common: when they may be asked again."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)
MAX_ANSWER_BYTES = 65_536
_LONGEST_PAUSE_S = 86_400.0


def is_temporary(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in (408, 425, 429) or status >= 500


def retry_after_s(header: str, now: datetime) -> float:
    """Seconds that a `Retry-After` asks to wait, a number or a date (RFC 9110, section 10.2.3); 0 without a usable one."""
    if header.isascii() and header.isdigit():
        return min(float(header), _LONGEST_PAUSE_S)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), _LONGEST_PAUSE_S)


async def answer_of(response: aiohttp.ClientResponse) -> bytes:
    """The body, or its beginning where it is absurdly long."""
    return await response.content.read(MAX_ANSWER_BYTES)
