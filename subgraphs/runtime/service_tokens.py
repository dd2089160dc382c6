"""Tokens by which services know each other: `authorization: Service <JWT>`."""

import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey
from joserfc.jwt import JWTClaimsRegistry

from domain.ids import UserId
from domain.principal import Principal, service_principal
from domain.sealing import derive_key
from subgraphs.runtime.settings import TokenSettings
from subgraphs.runtime.tokens import LEEWAY_S, HeldToken, HeldTokens, TokenInvalid, check_claims, decoded_claims

SERVICE_TOKEN_TTL_S = 60


class ServiceTokens:
    """Tokens by which services know each other."""

    def __init__(self, settings: TokenSettings) -> None:
        self._key = OctKey.import_key(derive_key(settings.service_token_secret, purpose="service tokens"))
        self._claims = JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": "manpasik-service"},
            sub={"essential": True},
            exp={"essential": True},
        )
        self._held = HeldTokens()
        self._issued: dict[tuple[str, str, str], tuple[float, str]] = {}

    def issue(self, caller: str, callee: str, *, on_behalf_of: str = "") -> str:
        """A token by which `caller` calls `callee` (short names); the same one is given out for half its life."""
        wanted = (caller, callee, on_behalf_of)
        now = time.time()
        issued_at, token = self._issued.get(wanted, (0.0, ""))
        if now - issued_at > SERVICE_TOKEN_TTL_S / 2:
            claims: dict[str, Any] = {
                "iss": "manpasik-service",
                "sub": caller,
                "aud": callee,
                "iat": int(now),
                "exp": int(now) + SERVICE_TOKEN_TTL_S,
            }
            if on_behalf_of:
                claims["obo"] = on_behalf_of
            token = jwt.encode({"alg": "HS256"}, claims, self._key, algorithms=["HS256"])
            if len(self._issued) > 10_000:
                self._issued.clear()
            self._issued[wanted] = (now, token)
        return token

    def verify(self, token: str, *, callee: str) -> Principal:
        """Raises: TokenInvalid, TokenExpired: not a token of a service for this one."""
        held = self._held.find(token, audience=callee)
        if held is None:
            claims = decoded_claims(token, self._key, ("HS256",))
            check_claims(claims, self._claims)
            if claims.get("aud") != callee:
                raise TokenInvalid("The service token is meant for another service.")
            behalf = str(claims.get("obo", ""))
            principal = service_principal(str(claims["sub"]), on_behalf_of=UserId(behalf) if behalf else None)
            held = HeldToken(principal, float(claims["exp"]))
            self._held.keep(token, held, audience=callee)
        return held.principal
