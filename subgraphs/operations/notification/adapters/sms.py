"""Text messages by an API like Solapi's: one POST, signed with HMAC-SHA256 over date and salt.

Source: Solapi developer guide, authentication by API key (HMAC-SHA256) and messages/v4/send.
"""

import hashlib
import hmac
import secrets
from datetime import UTC

import aiohttp
import orjson

from domain.clock import Clock
from domain.operations.notification.ports import Accepted, NotNow, Outcome, Refused
from subgraphs.operations.notification.adapters.providers import TIMEOUT, answer_of, is_temporary, retry_after_s
from subgraphs.runtime.settings import SmsSettings

_TAKEN = "2000"
"""Solapi's status of a message that it has taken."""


def signature(secret: str, date: str, salt: str) -> str:
    """HMAC-SHA256 over date and salt, in hexadecimal."""
    return hmac.new(secret.encode(), f"{date}{salt}".encode(), hashlib.sha256).hexdigest()


class SolapiSms:
    """`TextSender` over Solapi's API."""

    def __init__(self, settings: SmsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._url = f"{settings.api_url.rstrip('/')}/messages/v4/send"
        self._http: aiohttp.ClientSession | None = None

    @property
    def is_configured(self) -> bool:
        settings = self._settings
        return bool(settings.api_key and settings.api_secret.get_secret_value() and settings.sender)

    async def send(self, phone: str, text: str) -> Outcome:
        """One message. One whose answer is lost is sent again: the API knows no key that would tell them apart."""
        message = {"to": _local(phone), "from": self._settings.sender, "text": text}
        headers = {"authorization": self._authorization(), "content-type": "application/json"}
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            body = orjson.dumps({"message": message})
            async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                answer = await answer_of(response)
                wait_s = retry_after_s(response.headers.get("retry-after", ""), self._clock.now())
                return _outcome(response.status, answer, wait_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            return NotNow(f"SMS_UNREACHABLE {type(error).__name__}")

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _authorization(self) -> str:
        date = self._clock.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        salt = secrets.token_hex(16)
        signed = signature(self._settings.api_secret.get_secret_value(), date, salt)
        return f"HMAC-SHA256 apiKey={self._settings.api_key}, date={date}, salt={salt}, signature={signed}"


def _local(phone: str) -> str:
    """Korean numbers as they are dialled in Korea, others with their country code, without the plus."""
    return f"0{phone[3:]}" if phone.startswith("+82") else phone.removeprefix("+")


def _outcome(status: int, answer: bytes, wait_s: float) -> Outcome:
    try:
        parsed = orjson.loads(answer)
    except ValueError:
        parsed = None
    told = parsed if isinstance(parsed, dict) else {}
    if status == 200 and str(told.get("statusCode", _TAKEN)) == _TAKEN:
        return Accepted(str(told.get("messageId", "")))
    if is_temporary(status):
        return NotNow(f"HTTP_{status}", wait_s)
    return Refused(str(told.get("errorCode") or told.get("statusCode") or f"HTTP_{status}"))
