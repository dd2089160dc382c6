"""A local identity provider: JWKS and ID tokens as Google and Apple have them, user-info as Kakao and Naver have it."""

import time
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey


class SocialProviderServer:
    """Serves on a free local port between `start` and `stop`.

    `people` are the answers of the user-info APIs by access token; `app_ids` tell which app a Kakao token was given to.
    """

    def __init__(self) -> None:
        self.keys = [self.new_key("key-1")]
        self.people: dict[str, dict[str, Any]] = {}
        self.app_ids: dict[str, int] = {}
        self.jwks_requests = 0
        self.is_down = False
        self.url = ""
        self._runner: web.AppRunner | None = None

    @staticmethod
    def new_key(kid: str) -> RSAKey:
        return RSAKey.generate_key(2048, parameters={"kid": kid, "use": "sig"})

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/kakao/me", self._person)
        app.router.add_get("/kakao/token_info", self._token_info)
        app.router.add_get("/naver/me", self._person)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def id_token(self, *, key: RSAKey | None = None, alg: str = "RS256", **claims: Any) -> str:
        """An ID token of Google's form, with the given claims over good ones; None leaves a claim out."""
        signer = key or self.keys[0]
        now = int(time.time())
        good = {
            "iss": "https://accounts.google.com",
            "aud": "our-client",
            "sub": "google-1",
            "email": "person@example.com",
            "email_verified": True,
            "name": "홍길동",
            "iat": now,
            "exp": now + 600,
        }
        merged = {name: value for name, value in (good | claims).items() if value is not None}
        return jwt.encode({"alg": alg, "kid": signer.kid}, merged, signer, algorithms=[alg])

    async def _jwks(self, _: web.Request) -> web.Response:
        self.jwks_requests += 1
        if self.is_down:
            raise web.HTTPServiceUnavailable
        return web.json_response({"keys": [key.as_dict(private=False) for key in self.keys]})

    async def _person(self, request: web.Request) -> web.Response:
        if self.is_down:
            raise web.HTTPServiceUnavailable
        person = self.people.get(_bearer(request))
        if person is None:
            raise web.HTTPUnauthorized
        return web.json_response(person)

    async def _token_info(self, request: web.Request) -> web.Response:
        app_id = self.app_ids.get(_bearer(request))
        if app_id is None:
            raise web.HTTPUnauthorized
        return web.json_response({"id": 1, "expires_in": 600, "app_id": app_id})


def _bearer(request: web.Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")
