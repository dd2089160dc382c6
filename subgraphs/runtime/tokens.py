"""What tokens of people and of services share: their errors, the checks of the JOSE library, and what was verified before.

Source: RFC 7519 (JWT), RFC 8725 (JWT best practice).
"""

import base64
import time
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from joserfc.jwt import JWTClaimsRegistry

from domain.errors import Forbidden, Unauthenticated
from domain.principal import Principal

LEEWAY_S = 5
_MOST_HELD = 10_000


class TokenInvalid(Unauthenticated):
    """The token is malformed, not ours, or its signature does not hold."""

    reason = "TOKEN_INVALID"


class TokenExpired(Unauthenticated):
    """The token was ours and has expired."""

    reason = "TOKEN_EXPIRED"


class CallNotAllowed(Forbidden):
    """The catalogue does not allow this service to call that one."""

    reason = "CALL_NOT_ALLOWED"


@dataclass(frozen=True, slots=True)
class HeldToken:
    """What a verified token said, so that its signature is checked once and not with every call.

    Args:
        kid: of a bearer token, the key that signed it: the token is good for as long as its issuer publishes the key.
    """

    principal: Principal
    expires_at: float
    issuer: str = ""
    kid: str = ""

    def is_alive(self) -> bool:
        return time.time() < self.expires_at + LEEWAY_S


class HeldTokens:
    """Verified tokens by their text; forgotten all at once when there are too many."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], HeldToken] = {}

    def find(self, token: str, *, audience: str = "") -> HeldToken | None:
        held = self._held.get((token, audience))
        return held if held is not None and held.is_alive() else None

    def keep(self, token: str, held: HeldToken, *, audience: str = "") -> None:
        if len(self._held) >= _MOST_HELD:
            self._held.clear()
        self._held[token, audience] = held


def decoded_claims(token: str, key: ECKey | KeySet, algorithms: tuple[str, ...]) -> dict[str, Any]:
    try:
        return jwt.decode(token, key, algorithms=list(algorithms)).claims
    except (JoseError, ValueError) as error:
        raise TokenInvalid("The token's signature does not hold.") from error


def check_claims(claims: dict[str, Any], registry: JWTClaimsRegistry) -> None:
    try:
        registry.validate(claims)
    except JoseError as error:
        if error.error == "expired_token":
            raise TokenExpired("The token has expired; refresh it or sign in again.") from error
        raise TokenInvalid("The token's claims do not hold.") from error


def unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims before any check: only to find out which key to check with."""
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenInvalid("The token is malformed.")
    try:
        header, claims = (orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except ValueError as error:
        raise TokenInvalid("The token is malformed.") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise TokenInvalid("The token is malformed.")
    return header, claims
