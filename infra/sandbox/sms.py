"""SANDBOX text messages: an API like Solapi's (`POST /messages/v4/send`), with its signatures; it sends nothing on.

The last digits of the number decide what becomes of a message to it:

- `...0400`: 400, refused for good;
- `...0429`: 429 with `Retry-After: 2` once, then taken;
- `...0500`: 500 once, then taken;
- any other: taken.

`GET /sandbox/sent` tells what was taken, newest last; `POST /sandbox/forget` forgets it.
"""

import hashlib
import hmac
import re
import secrets
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local.process import LOOPBACK
from subgraphs.runtime.serving import HttpServer

API_KEY = "SANDBOXKEY"
API_SECRET = "sandbox-secret-that-opens-nothing-else"  # noqa: S105 - of the sandbox
SENDER = "0215880000"
_KEPT = 1000
_LATE = timedelta(minutes=15)
_MAX_BYTES = 90
_AUTHORIZATION = re.compile(r"HMAC-SHA256 apiKey=(\S+), date=(\S+), salt=(\S{12,64}), signature=([0-9a-f]{64})")
_NUMBER = re.compile(r"[0-9]{8,15}")


class SmsSandbox:
    """Listens on the loopback interface.

    Args:
        port: 0 takes a free one; `url` tells where it serves.
    """

    def __init__(self, *, port: int = 0) -> None:
        self._failed_once: set[str] = set()
        self._salts: deque[str] = deque(maxlen=10_000)
        self.sent: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        app = Starlette(
            routes=[
                Route("/messages/v4/send", self._send, methods=["POST"]),
                Route("/sandbox/sent", self._sent),
                Route("/sandbox/forget", self._forget, methods=["POST"]),
            ]
        )
        self._server = HttpServer(app, LOOPBACK, port)
        self.port = self._server.port
        self.url = f"http://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        """Refuse new messages."""
        await self._server.stop(0)

    async def _send(self, request: Request) -> Response:
        if refusal := self._unproven(request.headers.get("authorization", "")):
            return _error(401, refusal)
        try:
            message = (await request.json())["message"]
            to, sender, text = str(message["to"]), str(message["from"]), str(message["text"])
        except (ValueError, KeyError, TypeError):
            return _error(400, "ValidationError")
        if not _NUMBER.fullmatch(to) or not text or sender != SENDER:
            return _error(400, "ValidationError")
        if to.endswith("0400"):
            return _error(400, "InvalidRecipient")
        if to.endswith(("0429", "0500")) and to not in self._failed_once:
            self._failed_once.add(to)
            if to.endswith("0429"):
                return _error(429, "TooManyRequests", headers={"retry-after": "2"})
            return _error(500, "InternalError")
        kind = "SMS" if len(text.encode("euc-kr", errors="replace")) <= _MAX_BYTES else "LMS"
        taken = {"messageId": f"M4V{secrets.token_hex(12)}", "to": to, "from": sender, "text": text, "type": kind}
        self.sent.append(taken)
        return JSONResponse(
            {**taken, "groupId": f"G4V{secrets.token_hex(12)}", "statusCode": "2000", "statusMessage": "SANDBOX"}
        )

    def _unproven(self, authorization: str) -> str | None:
        """Why a signature does not hold; each salt is taken once."""
        found = _AUTHORIZATION.fullmatch(authorization)
        if found is None or found[1] != API_KEY:
            return "InvalidApiKey"
        date, salt, signature = found[2], found[3], found[4]
        wanted = hmac.new(API_SECRET.encode(), f"{date}{salt}".encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, signature):
            return "SignatureDoesNotMatch"
        try:
            age = abs(datetime.now(UTC) - datetime.fromisoformat(date))
        except (ValueError, TypeError):
            return "InvalidDate"
        if age > _LATE:
            return "RequestTimeTooSkewed"
        if salt in self._salts:
            return "DuplicatedSignature"
        self._salts.append(salt)
        return None

    async def _sent(self, _: Request) -> Response:
        return JSONResponse({"sandbox": True, "sent": list(self.sent)})

    async def _forget(self, _: Request) -> Response:
        self.sent.clear()
        self._failed_once.clear()
        return JSONResponse({"sandbox": True})


def _error(status: int, code: str, *, headers: dict[str, str] | None = None) -> Response:
    """An error as the API words it."""
    return JSONResponse({"errorCode": code, "errorMessage": f"SANDBOX: {code}"}, status, headers=headers)
