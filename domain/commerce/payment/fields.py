"""What the fields of a payment may hold."""

from domain.commerce.payment.errors import PaymentFieldInvalid
from domain.commerce.terms import MAX_AMOUNT_KRW

MAX_ID = 64
MAX_KEY = 200
"""As long as the provider's keys get. Source: Toss Payments core API, `paymentKey`."""
MAX_METHOD = 40
MAX_REASON = 200
"""Source: Toss Payments core API, `cancelReason`."""


def require_text(value: str, *, field: str, most: int, least: int = 0) -> str:
    """The value, if it is printable and of a length within [least, most].

    Raises:
        PaymentFieldInvalid.
    """
    if not least <= len(value) <= most or not value.isprintable():
        raise PaymentFieldInvalid(f"{field} must have {least} to {most} printable characters.", field=field)
    return value


def require_id(value: str, *, field: str, least: int = 0) -> str:
    """The value, if it can be an id: printable ASCII without spaces.

    Raises:
        PaymentFieldInvalid.
    """
    require_text(value, field=field, most=MAX_ID, least=least)
    if not value.isascii() or " " in value:
        raise PaymentFieldInvalid(f"{field} must have ASCII characters without spaces.", field=field)
    return value


def require_key(value: str, *, field: str, least: int = 0) -> str:
    """The value, if it can be a key of the provider: printable ASCII without spaces, and not just signs.

    Raises:
        PaymentFieldInvalid.
    """
    require_text(value, field=field, most=MAX_KEY, least=least)
    if not value.isascii() or " " in value:
        raise PaymentFieldInvalid(f"{field} must have ASCII characters without spaces.", field=field)
    if value and not any(character.isalnum() for character in value):  # `..` would be another address
        raise PaymentFieldInvalid(f"{field} must have a letter or a digit.", field=field)
    return value


def require_amount(amount_krw: int) -> int:
    """The amount, if it can be paid at all.

    Raises:
        PaymentFieldInvalid.
    """
    if not 1 <= amount_krw <= MAX_AMOUNT_KRW:
        raise PaymentFieldInvalid(
            f"amount_krw is {amount_krw}; it must be between 1 and {MAX_AMOUNT_KRW}.", field="amount_krw"
        )
    return amount_krw
