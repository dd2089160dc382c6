"""Access tokens (JWT, ES256) and the random tokens that only we can tell from noise.

Source: RFC 7519 (JWT), RFC 8725 (one fixed algorithm, checked issuer, key by id from our own set only).
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from domain.clock import Clock
from domain.identity.auth.errors import InvalidAccessToken
from domain.identity.auth.keys import KeyRing, SigningKey
from domain.ids import UserId, new_id
from domain.principal import ACCESS_TOKEN_AUDIENCE, ROLE_SCOPES, Role

_ALGORITHMS = ["ES256"]
_MAX_TOKEN = 8192


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a valid access token says: who, since which sign-in (`sid`)."""

    user_id: UserId
    email: str
    role: Role
    sign_in_id: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in gives: `expires_in_s` is the access token's life."""

    user_id: UserId
    access_token: str
    refresh_token: str
    expires_in_s: int


class AccessTokens:
    """Issues and verifies access tokens."""

    def __init__(self, keys: KeyRing, *, clock: Clock, issuer: str, ttl: timedelta) -> None:
        self._keys = keys
        self._clock = clock
        self._issuer = issuer
        self.ttl = ttl

    async def signer(self) -> SigningKey:
        """The key for `issue`; fetched before the caller's session takes a connection."""
        return await self._keys.signer()

    def issue(self, signer: SigningKey, claims: AccessClaims) -> str:
        """A token that lives for `ttl` from now."""
        now = int(self._clock.now().timestamp())
        return jwt.encode(
            {"alg": "ES256", "kid": signer.kid, "typ": "JWT"},
            {
                "iss": self._issuer,
                "aud": ACCESS_TOKEN_AUDIENCE,
                "sub": claims.user_id,
                "email": claims.email,
                "role": claims.role.value,
                "scope": " ".join(sorted(ROLE_SCOPES[claims.role])),
                "sid": claims.sign_in_id,
                "iat": now,
                "exp": now + int(self.ttl.total_seconds()),
                "jti": new_id(),
            },
            signer.key,
            algorithms=_ALGORITHMS,
        )

    async def verify(self, token: str) -> AccessClaims:
        """What a token of ours says. Whether its sign-in was revoked is not in it.

        Raises:
            InvalidAccessToken: malformed, not signed by a key of ours, of another issuer or for another audience, or expired.
        """
        key = await self._keys.public_key(_key_id(token))
        if key is None:
            raise InvalidAccessToken
        claims = _verified(token, key)
        now = self._clock.now().timestamp()
        expires, role = claims.get("exp"), claims.get("role")
        subject, sign_in_id = claims.get("sub"), claims.get("sid")
        if claims.get("iss") != self._issuer or not isinstance(expires, int) or expires <= now:
            raise InvalidAccessToken
        if claims.get("aud") != ACCESS_TOKEN_AUDIENCE:
            raise InvalidAccessToken
        if not isinstance(subject, str) or not isinstance(sign_in_id, str) or role not in list(Role):
            raise InvalidAccessToken
        return AccessClaims(UserId(subject), str(claims.get("email", "")), Role(str(role)), sign_in_id)


def _key_id(token: str) -> str:
    """The key that a token says it is signed with; nothing else of its header is believed."""
    if len(token) > _MAX_TOKEN:
        raise InvalidAccessToken
    try:
        return str(jws.extract_compact(token.encode()).headers().get("kid", ""))
    except (JoseError, ValueError) as error:
        raise InvalidAccessToken from error


def _verified(token: str, key: ECKey) -> Mapping[str, object]:
    try:
        return jwt.decode(token, key, algorithms=_ALGORITHMS).claims
    except (JoseError, ValueError) as error:
        raise InvalidAccessToken from error


def new_secret_token() -> str:
    """256 random bits in URL-safe text (43 characters)."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """How a random token is stored: SHA-256 (32 bytes). Of a text that is too long to be one, the beginning."""
    return hashlib.sha256(token[:_MAX_TOKEN].encode()).digest()
