"""Bytes in GraphQL inputs."""

from base64 import b64decode
from binascii import Error

from domain.errors import InvalidInput, LimitExceeded


class ContentTooLarge(LimitExceeded):
    """More bytes than this field takes."""

    reason = "CONTENT_TOO_LARGE"


def from_base64(text: str, *, field: str, max_bytes: int) -> bytes:
    """The bytes that a base64 text stands for.

    Raises:
        ContentTooLarge: more than `max_bytes`; told before anything is decoded.
        InvalidInput: not base64 (RFC 4648, section 4).
    """
    if len(text) > (max_bytes + 2) // 3 * 4:
        raise ContentTooLarge(f"{field} has more than {max_bytes} bytes.", field=field)
    try:
        return b64decode(text, validate=True)
    except (Error, ValueError) as error:
        raise InvalidInput(f"{field} is not base64.", field=field) from error
