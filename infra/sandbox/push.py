"""SANDBOX push service: Firebase Cloud Messaging's HTTP v1 API, with its token endpoint; it sends nothing on.

What an app's token begins with decides what becomes of a message to it:

- `gone-...`: 404 UNREGISTERED, as of an app that was removed;
- `bad-...`: 400 INVALID_ARGUMENT;
- `busy-...`: 429 with `Retry-After: 2` once, then taken;
- `broken-...`: 500 once, then taken;
- `slow-...`: taken, answered after `slow_s`;
- any other: taken.

`GET /sandbox/sent` tells what was taken, newest last; `POST /sandbox/forget` forgets it.
"""

import asyncio
import json
import secrets
import time
from collections import deque
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jwt import JWTClaimsRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local.process import LOOPBACK
from subgraphs.runtime.serving import HttpServer

PROJECT = "manpasik-sandbox"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_TTL_S = 3600
_ACCOUNT = f"sandbox@{PROJECT}.iam.gserviceaccount.com"
_KEPT = 1000


class PushSandbox:
    """Listens on the loopback interface.

    Args:
        port: 0 takes a free one; `url` tells where it serves.
        key_file: where to leave the key that opens it, for processes that are given `FCM_SERVER_KEY` as a path.
        slow_s: how long an answer to a `slow-` token takes.
    """

    def __init__(self, *, port: int = 0, key_file: Path | None = None, slow_s: float = 5.0) -> None:
        self._private: RSAPrivateKey = generate_private_key(public_exponent=65537, key_size=2048)
        self._key = RSAKey.import_key(self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._key_file = key_file
        self._slow_s = slow_s
        self._tokens: dict[str, float] = {}
        self._failed_once: set[str] = set()
        self.sent: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.tokens_issued = 0
        self._server = HttpServer(self._app(), LOOPBACK, port)
        self.port = self._server.port
        self.url = f"http://{LOOPBACK}:{self.port}"

    @property
    def server_key(self) -> str:
        """A service account's key as `FCM_SERVER_KEY` takes it; it opens this sandbox only."""
        return json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "sandbox",
                "private_key": self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
                "client_email": _ACCOUNT,
                "token_uri": f"{self.url}/token",
            }
        )

    async def start(self) -> None:
        """Serve; the key's file is there when this returns."""
        if self._key_file is not None:
            self._key_file.parent.mkdir(parents=True, exist_ok=True)
            self._key_file.touch(mode=0o600)
            self._key_file.write_text(self.server_key, encoding="utf-8")
        await self._server.start()

    async def stop(self) -> None:
        """Refuse new messages."""
        await self._server.stop(0)

    def revoke_tokens(self) -> None:
        """Access tokens that were given out stop working."""
        self._tokens.clear()

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/token", self._token, methods=["POST"]),
                Route(f"/v1/projects/{PROJECT}/messages:send", self._send, methods=["POST"]),
                Route("/sandbox/sent", self._sent),
                Route("/sandbox/forget", self._forget, methods=["POST"]),
            ]
        )

    async def _token(self, request: Request) -> Response:
        async with request.form() as form:
            grant, assertion = form.get("grant_type"), form.get("assertion")
        if grant != GRANT or not isinstance(assertion, str):
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        try:
            claims = jwt.decode(assertion, self._key, algorithms=["RS256"]).claims
            JWTClaimsRegistry(
                iss={"essential": True, "value": _ACCOUNT},
                aud={"essential": True, "value": f"{self.url}/token"},
                scope={"essential": True, "value": SCOPE},
                exp={"essential": True},
                iat={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError) as error:
            return JSONResponse({"error": "invalid_grant", "error_description": str(error)}, 400)
        token = secrets.token_urlsafe(32)
        self._tokens[token] = time.monotonic() + TOKEN_TTL_S
        self.tokens_issued += 1
        return JSONResponse({"access_token": token, "expires_in": TOKEN_TTL_S, "token_type": "Bearer"})

    async def _send(self, request: Request) -> Response:
        scheme, _, access = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or self._tokens.get(access, 0) < time.monotonic():
            return _error(401, "UNAUTHENTICATED")
        try:
            message = (await request.json())["message"]
            token, data = message["token"], message.get("data", {})
            sound = isinstance(token, str) and all(isinstance(value, str) for value in data.values())
        except (ValueError, KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            return _error(400, "INVALID_ARGUMENT")
        if refusal := self._refusal(token):
            return refusal
        if token.startswith("slow-"):
            await asyncio.sleep(self._slow_s)
        name = f"projects/{PROJECT}/messages/{secrets.token_hex(8)}"
        self.sent.append({"name": name, **message})
        return JSONResponse({"name": name})

    def _refusal(self, token: str) -> Response | None:
        kind = token.partition("-")[0]
        if kind == "gone":
            return _error(404, "NOT_FOUND", code="UNREGISTERED")
        if kind == "bad":
            return _error(400, "INVALID_ARGUMENT", code="INVALID_ARGUMENT")
        if kind in ("busy", "broken") and token not in self._failed_once:
            self._failed_once.add(token)
            if kind == "busy":
                return _error(429, "RESOURCE_EXHAUSTED", code="QUOTA_EXCEEDED", headers={"retry-after": "2"})
            return _error(500, "INTERNAL", code="INTERNAL")
        return None

    async def _sent(self, _: Request) -> Response:
        return JSONResponse({"sandbox": True, "sent": list(self.sent)})

    async def _forget(self, _: Request) -> Response:
        self.sent.clear()
        self._failed_once.clear()
        return JSONResponse({"sandbox": True})


def _error(status: int, name: str, *, code: str = "", headers: dict[str, str] | None = None) -> Response:
    """An error as the API words it."""
    details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}] if code else []
    error = {"code": status, "message": f"SANDBOX: {name}", "status": name, "details": details}
    return JSONResponse({"error": error}, status, headers=headers)
