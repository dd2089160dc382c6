"""Texts and numbers that people bring, checked before anything else sees them."""

import re
from urllib.parse import urlsplit

from domain import validation
from domain.commerce.shop.errors import ShopFieldInvalid
from domain.ids import UserId

MAX_QUANTITY = 99
MAX_CART_PIECES = 200
MAX_PRICE_KRW = 10_000_000
"""200 pieces at this price are still within int32, so a total on the wire never overflows."""

MAX_STOCK = 1_000_000
MAX_ADDRESS_LENGTH = 500
_MAX_URL_LENGTH = 500
_MAX_PATTERN = 64
_KEY = re.compile(r"[!-~]{1,64}\Z")
_USER = re.compile(r"[!-~]{1,64}\Z")
_METHOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")
_PRODUCT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")


def user_id(value: UserId) -> UserId:
    """Raises: ShopFieldInvalid: no person has such an id."""
    return UserId(_require(_USER, value, field="user_id", rule="1 to 64 ASCII characters without spaces"))


def quantity(value: int) -> int:
    """Raises: ShopFieldInvalid: not within 1 to 99."""
    return within(value, 1, MAX_QUANTITY, field="quantity")


def price_krw(value: int) -> int:
    """Raises: ShopFieldInvalid: not within 1 to 10,000,000 won."""
    return within(value, 1, MAX_PRICE_KRW, field="price_krw")


def within(value: int, low: int, high: int, *, field: str) -> int:
    """Raises: ShopFieldInvalid: it lies outside."""
    if not low <= value <= high:
        raise ShopFieldInvalid(f"{field} is {value}; it must be between {low} and {high}.", field=field)
    return value


def line(value: str, *, field: str, longest: int, shortest: int = 1) -> str:
    """One line of text, normalised and without space around it.

    Raises:
        ShopFieldInvalid: too short, too long, or with characters that cannot be printed.
    """
    return validation.line(value, field=field, longest=longest, shortest=shortest, error=_invalid)


def address(value: str, *, needed: bool) -> str:
    """Where to send something: lines of text.

    Raises:
        ShopFieldInvalid: empty although it is needed, longer than 500 characters, or not printable.
    """
    written = validation.paragraphs(value, field="shipping_address", longest=MAX_ADDRESS_LENGTH, error=_invalid)
    text = "\n".join(part for line_ in written.split("\n") if (part := line_.strip()))
    if needed and not text:
        raise ShopFieldInvalid("shipping_address is empty; say where to send the order.", field="shipping_address")
    return text


def payment_method(value: str) -> str:
    """A provider's name of a way to pay; `card` when none is given.

    Raises:
        ShopFieldInvalid: not 1 to 32 letters, digits and . _ -
    """
    return _require(_METHOD, value or "card", field="payment_method", rule="1 to 32 letters, digits and . _ -")


def idempotency_key(value: str) -> str:
    """Raises: ShopFieldInvalid: not 1 to 64 printable ASCII characters without spaces."""
    return _require(_KEY, value, field="idempotency_key", rule="1 to 64 ASCII characters without spaces")


def product_id(value: str) -> str:
    """Raises: ShopFieldInvalid: not 1 to 64 lower-case letters, digits and hyphens."""
    return _require(_PRODUCT_ID, value, field="product_id", rule="1 to 64 lower-case letters, digits and hyphens")


def image_url(value: str) -> str:
    """An https address, or empty.

    Raises:
        ShopFieldInvalid: something else.
    """
    if value and not _is_https(value):
        raise ShopFieldInvalid("image_url must be an https address of at most 500 characters.", field="image_url")
    return value


def _invalid(field: str, rule: str) -> ShopFieldInvalid:
    return ShopFieldInvalid(f"{field} {rule}.", field=field)


def _is_https(value: str) -> bool:
    if len(value) > _MAX_URL_LENGTH or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


def _require(pattern: re.Pattern[str], value: str, *, field: str, rule: str) -> str:
    if len(value) > _MAX_PATTERN or not pattern.match(value):
        raise ShopFieldInvalid(f"{field} is {value[:64]!r}; it must have {rule}.", field=field)
    return value
