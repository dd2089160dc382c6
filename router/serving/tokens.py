"""JSON Web Tokens: who is asking, by a token that one of several issuers signed."""

import asyncio
import base64
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from router.errors import ClientError
from router.serving.identity import ANONYMOUS, Identity, LoginSessions
from router.serving.settings import JwtIssuer


class JwtAuthenticator:
    """Bearer tokens signed by one of several issuers, verified against their published keys.

    Keys are fetched when first needed, kept for `KEYS_MAX_AGE_S`, and fetched again when a token names an unknown key,
    at most every `KEYS_MIN_AGE_S`, so that made-up key ids cannot make the router hammer the issuer.

    sessions: tells of tokens whose sign-in has ended; None: a token holds until it expires.
    """

    KEYS_MAX_AGE_S = 600.0
    KEYS_MIN_AGE_S = 10.0
    LEEWAY_S = 5
    VERIFIED_MOST = 10_000

    def __init__(
        self, issuers: tuple[JwtIssuer, ...], *, sessions: LoginSessions | None = None, timeout_s: float = 5.0
    ) -> None:
        self._sessions = sessions
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._timeout_s = timeout_s
        self._keys: dict[str, tuple[float, KeySet]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._verified: OrderedDict[str, tuple[KeySet, Mapping[str, Any]]] = OrderedDict()

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        header = headers.get("authorization")
        if not header:
            return ANONYMOUS
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _refused("The authorization header does not hold a bearer token.")
        claims = await self._verify(token.strip())
        subject = claims.get("sub")
        return Identity(
            authenticated=True,
            scopes=_scopes(claims),
            subject=subject if isinstance(subject, str) else None,
            expires_at=float(claims["exp"]) + self.LEEWAY_S,
            session=None if self._sessions is None else await self._sessions.of(claims),
        )

    async def _verify(self, token: str) -> Mapping[str, Any]:
        issuer = self._issuers.get(_unverified_issuer(token))
        if issuer is None:
            raise _refused("The token's issuer is not accepted here.")
        for refresh in (False, True):
            keys = await self._keys_of(issuer, refresh=refresh)
            if (claims := self._known(token, keys)) is not None:
                return claims
            try:
                decoded = jwt.decode(token, keys, algorithms=list(issuer.algorithms))
                self._registry(issuer).validate(decoded.claims)
            except ValueError:  # no key of that id: the issuer may have rotated
                continue
            except JoseError as error:
                raise _refused("The token is not valid.") from error
            self._verified[token] = (keys, decoded.claims)
            if len(self._verified) > self.VERIFIED_MOST:
                self._verified.popitem(last=False)
            return decoded.claims
        raise _refused("The token is signed by an unknown key.")

    def _known(self, token: str, keys: KeySet) -> Mapping[str, Any] | None:
        """The claims of a token that these very keys verified before, as long as it holds.

        Checking an ES256 signature costs more than the rest of a cached one-fetch query.
        """
        verified, claims = self._verified.get(token, (None, {}))
        if verified is not keys or claims["exp"] + self.LEEWAY_S < time.time():
            self._verified.pop(token, None)
            return None
        return claims

    def _registry(self, issuer: JwtIssuer) -> jwt.JWTClaimsRegistry:
        audience = {} if issuer.audience is None else {"aud": {"essential": True, "value": issuer.audience}}
        return jwt.JWTClaimsRegistry(leeway=self.LEEWAY_S, exp={"essential": True}, **audience)  # type: ignore[arg-type]  # joserfc types options loosely

    async def _keys_of(self, issuer: JwtIssuer, *, refresh: bool) -> KeySet:
        async with self._locks.setdefault(issuer.issuer, asyncio.Lock()):
            known = self._keys.get(issuer.issuer)
            limit = self.KEYS_MIN_AGE_S if refresh else self.KEYS_MAX_AGE_S
            if known is not None and time.monotonic() - known[0] < limit:
                return known[1]
            try:
                keys = await self._fetch(issuer.jwks_url)
            except (aiohttp.ClientError, TimeoutError, ValueError, JoseError) as error:
                if known is not None:
                    return known[1]
                raise ClientError(
                    "Tokens cannot be verified right now.", code="SERVICE_UNAVAILABLE", status=503
                ) from error
            self._keys[issuer.issuer] = (time.monotonic(), keys)
            return keys

    async def _fetch(self, url: str) -> KeySet:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            response.raise_for_status()
            return KeySet.import_key_set(await response.json(content_type=None))


def _unverified_issuer(token: str) -> str:
    try:
        payload = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["iss"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise _refused("The token cannot be read.") from error


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    found: set[str] = set()
    for name in ("scope", "scp", "scopes"):
        value = claims.get(name)
        if isinstance(value, str):
            found.update(value.split())
        elif isinstance(value, list):
            found.update(str(item) for item in value)
    return frozenset(found)


def _refused(message: str) -> ClientError:
    return ClientError(message, code="UNAUTHENTICATED", status=401)
