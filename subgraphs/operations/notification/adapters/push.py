"""Push messages by Firebase Cloud Messaging.

A service account signs a short JWT, its token endpoint trades it for an access token of an hour, and each message is one
POST. Sources: FCM HTTP v1 API (projects.messages.send, error codes of the FCM service); OAuth 2.0 for server-to-server
applications of Google; RFC 7523 (JWT grant).
"""

import asyncio
import time
from pathlib import Path

import aiohttp
import orjson
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from domain.clock import Clock
from domain.operations.notification.ports import Accepted, NotNow, Outcome, PushMessage, Refused, Unregistered
from subgraphs.operations.notification.adapters.providers import TIMEOUT, answer_of, is_temporary, retry_after_s
from subgraphs.runtime.settings import PushSettings, SettingsError

_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_TTL_S = 600
_EARLY_S = 60.0
"""An access token is renewed this long before it ends."""

_log = structlog.get_logger("push")


class _ServiceAccount(BaseModel):
    """The fields of a service account's key file that are read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    project_id: str
    client_email: str
    private_key: SecretStr
    private_key_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


class _TokenAnswer(BaseModel):
    access_token: str
    expires_in: float = 3600.0


class _TokenRefused(Exception):
    """The token endpoint gives no access token; `temporary` says whether it may later."""

    def __init__(self, reason: str, *, temporary: bool, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.temporary = temporary
        self.after_s = after_s


class FcmPush:
    """`PushSender` over FCM.

    Raises:
        SettingsError: `FCM_SERVER_KEY` is set and is no service account's key (at construction).
    """

    def __init__(self, settings: PushSettings, clock: Clock) -> None:
        self._clock = clock
        self._account, self._key = _account_of(settings)
        self._url = f"{settings.api_url.rstrip('/')}/v1/projects/{self._account.project_id}" if self._account else ""
        self._http: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._token = ""
        self._token_until = 0.0

    @property
    def is_configured(self) -> bool:
        return self._account is not None

    async def send(self, token: str, message: PushMessage) -> Outcome | Unregistered:
        """One message to one app."""
        try:
            outcome = await self._attempt(token, message)
            if isinstance(outcome, NotNow) and outcome.reason == "HTTP_401":  # revoked before its time
                self._token = ""
                outcome = await self._attempt(token, message)
        except _TokenRefused as error:
            _log.warning("no access token for push messages", why=error.reason)
            return NotNow(error.reason, error.after_s) if error.temporary else Refused(error.reason)
        except (aiohttp.ClientError, TimeoutError) as error:
            return NotNow(f"PUSH_UNREACHABLE {type(error).__name__}")
        return outcome

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=TIMEOUT)
        return self._http

    async def _attempt(self, token: str, message: PushMessage) -> Outcome | Unregistered:
        headers = {"authorization": f"Bearer {await self._access_token()}", "content-type": "application/json"}
        body = orjson.dumps({"message": _wire(token, message)})
        url = f"{self._url}/messages:send"
        async with self._session().post(url, data=body, headers=headers, allow_redirects=False) as response:
            answer = await answer_of(response)
            wait_s = retry_after_s(response.headers.get("retry-after", ""), self._clock.now())
            return _outcome(response.status, answer, wait_s)

    async def _access_token(self) -> str:
        async with self._lock:  # one process asks for one token, however many messages wait for it
            if not self._token or time.monotonic() > self._token_until:
                answer = await self._new_token()
                self._token = answer.access_token
                self._token_until = time.monotonic() + max(answer.expires_in - _EARLY_S, 0.0)
            return self._token

    async def _new_token(self) -> _TokenAnswer:
        account, key = self._account, self._key
        if account is None or key is None:
            raise _TokenRefused("NOT_CONFIGURED", temporary=False)
        now = int(self._clock.now().timestamp())
        claims = {
            "iss": account.client_email,
            "scope": _SCOPE,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + _ASSERTION_TTL_S,
        }
        assertion = jwt.encode({"alg": "RS256", "kid": account.private_key_id}, claims, key, algorithms=["RS256"])
        form = {"grant_type": _GRANT, "assertion": assertion}
        async with self._session().post(account.token_uri, data=form, allow_redirects=False) as response:
            answer = await answer_of(response)
            if response.status != 200:
                wait_s = retry_after_s(response.headers.get("retry-after", ""), self._clock.now())
                raise _TokenRefused(
                    f"TOKEN_HTTP_{response.status}", temporary=is_temporary(response.status), after_s=wait_s
                )
        try:
            return _TokenAnswer.model_validate_json(answer)
        except ValidationError as error:
            raise _TokenRefused("TOKEN_MALFORMED", temporary=True) from error


def _account_of(settings: PushSettings) -> tuple[_ServiceAccount | None, RSAKey | None]:
    told = settings.server_key.get_secret_value().strip()
    if not told:
        return None, None
    try:
        text = told if told.startswith("{") else Path(told).read_text(encoding="utf-8")
        account = _ServiceAccount.model_validate_json(text)
        return account, RSAKey.import_key(account.private_key.get_secret_value())
    except (
        OSError,
        ValueError,
        JoseError,
    ) as error:  # a ValidationError is a ValueError; none is shown, it has the key
        raise SettingsError("FCM_SERVER_KEY: neither a service account's key as JSON nor the path of one") from error


def _wire(token: str, message: PushMessage) -> dict[str, object]:
    """The message as FCM takes it. Sent again it replaces the first one on the phone."""
    notification = {"title": message.title, "body": message.body}
    return {
        "token": token,
        "notification": notification,
        "data": dict(message.data),
        "android": {
            "priority": "HIGH" if message.is_urgent else "NORMAL",
            "collapse_key": message.message_id,
            "notification": {"tag": message.message_id},
        },
        "apns": {
            "headers": {
                "apns-collapse-id": message.message_id,
                "apns-priority": "10" if message.is_urgent else "5",
            }
        },
        "webpush": {"notification": {"tag": message.message_id}},
    }


def _outcome(status: int, answer: bytes, wait_s: float) -> Outcome | Unregistered:
    if status == 200:
        return Accepted(_text(answer, "name"))
    code = _error_code(answer)
    if code == "UNREGISTERED":
        return Unregistered()
    if is_temporary(status) or status == 401:
        return NotNow(f"HTTP_{status}", wait_s)
    return Refused(code or f"HTTP_{status}")


def _error_code(answer: bytes) -> str:
    """The FCM error code (`UNREGISTERED`), else the canonical status (`INVALID_ARGUMENT`); empty without either."""
    error = _object(answer).get("error")
    if not isinstance(error, dict):
        return ""
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("errorCode"), str):
            return str(detail["errorCode"])
    return str(error.get("status", ""))


def _text(answer: bytes, name: str) -> str:
    value = _object(answer).get(name)
    return value if isinstance(value, str) else ""


def _object(answer: bytes) -> dict[str, object]:
    try:
        parsed = orjson.loads(answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
