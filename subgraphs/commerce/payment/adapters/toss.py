"""Toss Payments over its HTTP API.

What an answer means decides about money, so it is read narrowly. A refusal is only what the provider calls one (4xx with a
code that is not about us or about this moment); what says that our key is wrong is neither the payer's fault nor a refusal;
and everything else, whatever its form, leaves the outcome unclear, so that the provider is asked again.

Source: Toss Payments core API, version 2022-11-16 (docs.tosspayments.com/reference, /reference/error-codes,
/guides/using-api/idempotency-key).
"""

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self
from urllib.parse import quote

import aiohttp
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.commerce.payment.errors import ProviderUnavailable
from domain.commerce.payment.ports import Declined, OutcomeUnclear, ProviderPayment, ProviderState
from domain.commerce.terms import MAX_AMOUNT_KRW
from subgraphs.runtime.settings import Settings, SettingsError, TossSettings

_log = structlog.get_logger("toss")

_POOL = 50

_CODES_ABOUT_US = frozenset(
    {
        "INVALID_API_KEY",
        "UNAUTHORIZED_KEY",
        "INCORRECT_BASIC_AUTH_FORMAT",
        "INVALID_AUTHORIZE_AUTH",
        "INVALID_IDEMPOTENCY_KEY",
        "FORBIDDEN_REQUEST",
    }
)
"""Our credentials or our request are wrong; the payer can do nothing about it."""

_CODES_OF_THE_MOMENT = frozenset(
    {
        "ALREADY_PROCESSED_PAYMENT",
        "DUPLICATED_ORDER_ID",
        "IDEMPOTENT_REQUEST_PROCESSING",
        "PROVIDER_ERROR",
        "CARD_PROCESSING_ERROR",
        "FAILED_INTERNAL_SYSTEM_PROCESSING",
        "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING",
        "FAILED_REFUND_PROCESS",
        "FAILED_PARTIAL_REFUND",
        "UNKNOWN_PAYMENT_ERROR",
        "COMMON_ERROR",
    }
)
"""Something may have been done, now or before."""

_STATUSES_OF_THE_MOMENT = frozenset({408, 409, 425, 429})

_STATES: Mapping[str, ProviderState] = {
    "READY": ProviderState.WAITING,
    "IN_PROGRESS": ProviderState.WAITING,
    "WAITING_FOR_DEPOSIT": ProviderState.WAITING,
    "DONE": ProviderState.CAPTURED,
    "PARTIAL_CANCELED": ProviderState.PARTLY_REFUNDED,
    "CANCELED": ProviderState.REFUNDED,
    "ABORTED": ProviderState.REFUSED,
    "EXPIRED": ProviderState.REFUSED,
}
_METHODS: Mapping[str, str] = {
    "카드": "card",
    "가상계좌": "virtual_account",
    "간편결제": "easy_pay",
    "휴대폰": "mobile_phone",
    "계좌이체": "transfer",
    "문화상품권": "culture_gift_certificate",
    "도서문화상품권": "book_gift_certificate",
    "게임문화상품권": "game_gift_certificate",
}

_Text = Annotated[str, Field(max_length=200)]
_Won = Annotated[int, Field(ge=0, le=MAX_AMOUNT_KRW)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class TossCancel(_Answer):
    """One refund of a payment."""

    transactionKey: _Text  # noqa: N815 - the provider's name
    cancelAmount: _Won  # noqa: N815


class TossFailure(_Answer):
    """Why a payment was refused, and the body of every error."""

    code: str = Field(min_length=1)
    message: str = ""


class TossPayment(_Answer):
    """What is read of the provider's `Payment` object."""

    paymentKey: _Text = Field(min_length=1)  # noqa: N815
    orderId: _Text  # noqa: N815
    status: str
    totalAmount: _Won  # noqa: N815
    balanceAmount: _Won  # noqa: N815
    currency: str
    method: str | None = None
    lastTransactionKey: _Text | None = None  # noqa: N815
    approvedAt: str | None = None  # noqa: N815
    cancels: list[TossCancel] | None = None
    failure: TossFailure | None = None


def read_payment(body: bytes) -> ProviderPayment:
    """The payment that an answer tells of.

    Raises:
        OutcomeUnclear: it is not readable as one.
    """
    try:
        answer = TossPayment.model_validate_json(body)
        approved_at = datetime.fromisoformat(answer.approvedAt) if answer.approvedAt else None
    except (ValidationError, ValueError) as error:
        raise OutcomeUnclear("the answer is no payment of this API") from error
    state = _STATES.get(answer.status)
    if state is None or answer.currency != "KRW":
        raise OutcomeUnclear(f"state {answer.status[:40]!r} in {answer.currency[:8]!r}")
    method = answer.method or ""
    return ProviderPayment(
        reference=answer.orderId,
        payment_key=answer.paymentKey,
        transaction_id=answer.lastTransactionKey or answer.paymentKey,
        state=state,
        amount_krw=answer.totalAmount,
        balance_krw=answer.balanceAmount,
        method=_METHODS.get(method, "" if _unprintable(method) else method[:40]),
        approved_at=approved_at,
        cancels={cancel.transactionKey: cancel.cancelAmount for cancel in answer.cancels or ()},
        failure_code=_shown(answer.failure.code, 100) if answer.failure else "",
        failure_message=_shown(answer.failure.message, 500) if answer.failure else "",
    )


def error_of(status: int, body: bytes) -> Exception:
    """What a status that is not 200 means: `Declined`, `ProviderUnavailable` or `OutcomeUnclear`."""
    try:
        failure = TossFailure.model_validate_json(body)
    except ValidationError:
        failure = None
    if status == 401 or (failure is not None and 400 <= status < 500 and failure.code in _CODES_ABOUT_US):
        _log.error("the provider refuses our credentials or our request", status=status, code=_code(failure))
        return ProviderUnavailable()
    if (
        failure is None
        or not 400 <= status < 500
        or status in _STATUSES_OF_THE_MOMENT
        or failure.code in _CODES_OF_THE_MOMENT
    ):
        return OutcomeUnclear(f"status {status}, code {_code(failure)}")
    return Declined(_shown(failure.code, 100), _shown(failure.message, 500))


def _code(failure: TossFailure | None) -> str:
    return _shown(failure.code, 100) if failure else ""


def _shown(text: str, most: int) -> str:
    """A text of the provider's, fit to be stored and shown."""
    return "".join(character if character.isprintable() else " " for character in text)[:most]


def _unprintable(text: str) -> bool:
    return not text.isprintable()


class TossPayments:
    """The port `PaymentGateway`."""

    name = "toss"

    def __init__(self, settings: TossSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Raises: SettingsError: production without a key, or with one that would travel in clear."""
        if settings.service.is_production and not settings.toss.secret_key.get_secret_value():
            raise SettingsError(
                "ENVIRONMENT=production refuses to start: TOSS_SECRET_KEY: set the merchant's secret key"
            )
        if settings.service.is_production and not settings.toss.api_url.startswith("https://"):
            raise SettingsError("ENVIRONMENT=production refuses to start: TOSS_API_URL: must be an https address")
        return cls(settings.toss)

    async def confirm(
        self, *, reference: str, payment_key: str, amount_krw: int, idempotency_key: str
    ) -> ProviderPayment:
        """Capture what the payer has approved."""
        request = {"paymentKey": payment_key, "orderId": reference, "amount": amount_krw}
        status, body = await self._send("POST", "/v1/payments/confirm", request, idempotency_key=idempotency_key)
        if status == 200:
            return read_payment(body)
        error = error_of(status, body)
        if isinstance(error, OutcomeUnclear) and b"ALREADY_PROCESSED_PAYMENT" in body:
            return await self._processed_before(reference, payment_key)
        raise error

    async def find(self, reference: str) -> ProviderPayment | None:
        """What the provider has under our reference."""
        return await self._found(f"/v1/payments/orders/{quote(reference, safe='')}")

    async def refund(self, *, payment_key: str, amount_krw: int, reason: str, idempotency_key: str) -> ProviderPayment:
        """Pay back an amount of a captured payment."""
        path = f"/v1/payments/{quote(payment_key, safe='')}/cancel"
        request = {"cancelReason": reason, "cancelAmount": amount_krw}
        status, body = await self._send("POST", path, request, idempotency_key=idempotency_key)
        if status == 200:
            return read_payment(body)
        raise error_of(status, body)

    async def _processed_before(self, reference: str, payment_key: str) -> ProviderPayment:
        """Whose payment was it that this key has paid for already: ours, or another one?"""
        if (ours := await self.find(reference)) is not None:
            return ours
        other = await self._found(f"/v1/payments/{quote(payment_key, safe='')}")
        if other is None or other.reference == reference:
            raise OutcomeUnclear("processed before, and not to be found")
        raise Declined("ALREADY_PROCESSED_PAYMENT", "This approval has paid for something else already.")

    async def _found(self, path: str) -> ProviderPayment | None:
        status, body = await self._send("GET", path)
        if status == 200:
            return read_payment(body)
        error = error_of(status, body)
        if isinstance(error, Declined):
            if status == 404:
                return None
            raise OutcomeUnclear(f"status {status}, code {error.code}")
        raise error

    async def _send(
        self, method: str, path: str, request: Mapping[str, object] | None = None, *, idempotency_key: str = ""
    ) -> tuple[int, bytes]:
        """Status and body of an answer.

        Raises:
            OutcomeUnclear: none came, or not all of it.
            ProviderUnavailable: we have no key.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        session = self._connected()
        url = self._settings.api_url.rstrip("/") + path
        try:
            async with session.request(method, url, json=request, headers=headers, allow_redirects=False) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OutcomeUnclear(type(error).__name__) from error

    def _connected(self) -> aiohttp.ClientSession:
        secret = self._settings.secret_key.get_secret_value()
        if not secret:
            _log.error("TOSS_SECRET_KEY is not set: nothing can be paid")
            raise ProviderUnavailable
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": "Basic " + b64encode(f"{secret}:".encode()).decode()},
                connector=aiohttp.TCPConnector(limit=_POOL),
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
