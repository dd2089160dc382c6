"""Proof of who is calling: access tokens of people, credentials of readers, tokens of services.

Every face verifies by itself; nothing trusts that a router in front of it has done so.

- `Bearer <JWT>`: an access token of auth-service (ES256, checked against its JWKS), or of Keycloak when configured.
- `Device <device id>:<credential>`: a reader, told by the group that registers readers.
- `Service <JWT>`: another service (HS256, one minute, audience = the called service).

Source: RFC 7519 (JWT), RFC 7517 (JWK), RFC 8725 (JWT best practice: fixed algorithms, checked issuer and audience).
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import aiohttp
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from domain.errors import ErrorKind, Unavailable
from domain.principal import ACCESS_TOKEN_AUDIENCE, ANONYMOUS, ROLE_SCOPES, Principal, PrincipalKind, Role
from subgraphs.runtime.errors import as_app_error
from subgraphs.runtime.revocation import Revocations
from subgraphs.runtime.service_tokens import ServiceTokens
from subgraphs.runtime.settings import TokenSettings
from subgraphs.runtime.tokens import (
    LEEWAY_S,
    HeldToken,
    HeldTokens,
    TokenInvalid,
    check_claims,
    decoded_claims,
    unverified,
)

_KEYS_TTL_S = 300.0
_KEYS_MIN_INTERVAL_S = 5.0
_KEYS_RETRY_S = 1.0

_log = structlog.get_logger("auth")


class KeySource(Protocol):
    """Whoever knows the public keys of access tokens."""

    async def keys(self) -> list[dict[str, Any]]:
        """Public JWKs (RFC 7517) that may have signed a token which is still valid."""
        ...


class DeviceCredentials(Protocol):
    """Whoever can tell a reader by its credential."""

    async def verify(self, device_id: str, credential: str) -> Principal:
        """A DEVICE principal whose owner is the user that registered it.

        Raises:
            Unauthenticated: unknown device, or not its credential.
        """
        ...


class RemoteKeys:
    """Public keys behind a JWKS address."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def keys(self) -> list[dict[str, Any]]:
        """Raises: Unavailable: the address does not answer with a key set."""
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with aiohttp.ClientSession(timeout=timeout) as http, http.get(self._url) as response:
                response.raise_for_status()
                document = await response.json(content_type=None)
            return [key for key in document["keys"] if isinstance(key, dict)]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise Unavailable("The keys that sign access tokens cannot be fetched.") from error


class CachedKeys:
    """A key set, fetched again when it is old or when a token names a key that it lacks (at most every 5 s).

    Keys that we hold stay good while their source is away, and callers do not queue up for a source that is: after a
    failed fetch the next one is tried a second later, and until then whoever needs it is told so at once.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._keys: dict[str, dict[str, Any]] = {}
        self._fetched_at = float("-inf")
        self._not_before = float("-inf")
        self._away = False
        self._lock = asyncio.Lock()

    async def find(self, kid: str) -> dict[str, Any] | None:
        """The key with this id, if its source knows it.

        Raises:
            Unavailable: keys were needed and could not be fetched.
        """
        if self._is_due(kid) and not (kid in self._keys and self._lock.locked()):
            async with self._lock:
                if self._is_due(kid):  # nobody has fetched while we waited
                    await self._refresh()
        if kid not in self._keys and self._away:
            raise Unavailable("The keys that sign access tokens cannot be fetched.")
        return self._keys.get(kid)

    def _is_due(self, kid: str) -> bool:
        now = time.monotonic()
        return now >= self._not_before and (kid not in self._keys or now - self._fetched_at > _KEYS_TTL_S)

    async def _refresh(self) -> None:
        try:
            fetched = await self._source.keys()
        except Exception as error:
            known = as_app_error(error)
            if known is None or known.kind not in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT):
                raise
            self._away = True
            self._not_before = time.monotonic() + _KEYS_RETRY_S
            _log.warning("keys of access tokens cannot be fetched", error=repr(error))
            return
        self._away = False
        self._keys = {str(key.get("kid", "")): key for key in fetched}
        self._fetched_at = time.monotonic()
        self._not_before = self._fetched_at + _KEYS_MIN_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer of bearer tokens that we believe."""

    name: str
    keys: CachedKeys
    algorithms: tuple[str, ...]
    client_id: str = ""
    """Of Keycloak: the audience or authorized party that its tokens must name."""


class Authenticator:
    """Tells who is behind an `authorization` value.

    Args:
        issuers: the issuers of bearer tokens, by their `iss`.
        revocations: the sign-ins that ended; without them, tokens are good until they expire.
    """

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        *,
        services: ServiceTokens,
        devices: DeviceCredentials | None,
        revocations: Revocations | None = None,
    ) -> None:
        self._revocations = revocations or Revocations()
        self._issuers = issuers
        self._services = services
        self._devices = devices
        self._held = HeldTokens()

    async def principal(self, authorization: str, *, callee: str = "") -> Principal:
        """The caller; anonymous when nothing was sent.

        Args:
            callee: short name of the called service; service tokens are taken only where it is given.

        Raises:
            TokenInvalid, TokenExpired, SignInEnded, Unauthenticated: a credential was sent that does not hold.
            Unavailable: the keys or the credentials cannot be checked now.
        """
        if not authorization:
            return ANONYMOUS
        scheme, _, credential = authorization.partition(" ")
        credential = credential.strip()
        match scheme.lower():
            case "bearer":
                principal = await self._bearer(credential)
                await self._revocations.require(principal)
                return principal
            case "service" if callee:
                return self._services.verify(credential, callee=callee)
            case "device" if self._devices is not None:
                device_id, _, secret = credential.rpartition(":")
                if not device_id or not secret:
                    raise TokenInvalid("A device credential reads: Device <device id>:<credential>.")
                return await self._devices.verify(device_id, secret)
            case _:
                raise TokenInvalid(f"Credentials of the scheme {scheme[:20]!r} are not taken here.")

    def while_valid(
        self, principal: Principal, authorization: str, *, callee: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Run a block, such as a stream, for as long as the credential that it came with is valid.

        Raises:
            SignInEnded: in the block's place, once the credential was revoked.
        """
        return self._revocations.while_valid(principal, lambda: self.principal(authorization, callee=callee))

    async def _bearer(self, token: str) -> Principal:
        held = self._held.find(token)
        if held is not None and await self._issuers[held.issuer].keys.find(held.kid) is not None:
            return held.principal
        header, claimed = unverified(token)
        issuer = self._issuers.get(str(claimed.get("iss", "")))
        if issuer is None:
            raise TokenInvalid("The token's issuer is not known here.")
        kid = str(header.get("kid", ""))
        key = await issuer.keys.find(kid)
        if key is None:
            raise TokenInvalid("The token is signed with a key that its issuer does not publish.")
        claims = decoded_claims(token, _key_set_of(key), issuer.algorithms)
        check_claims(
            claims,
            JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": issuer.name},
                sub={"essential": True},
                exp={"essential": True},
            ),
        )
        if issuer.client_id:
            _check_keycloak(claims, issuer.client_id)
        else:
            _check_own(claims)
        held = HeldToken(_user_of(claims), float(claims["exp"]), issuer.name, kid)
        self._held.keep(token, held)
        return held.principal


def _key_set_of(key: dict[str, Any]) -> KeySet:
    """Raises: TokenInvalid: the issuer publishes something under this id that is no key."""
    try:
        return KeySet.import_key_set({"keys": [cast("Any", key)]})
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise TokenInvalid("The token is signed with a key that cannot be read.") from error


def _check_own(claims: dict[str, Any]) -> None:
    """Raises: TokenInvalid: a token of auth-service for another audience, or that names no sign-in."""
    check_claims(
        claims,
        JWTClaimsRegistry(
            aud={"essential": True, "value": ACCESS_TOKEN_AUDIENCE}, sid={"essential": True}, iat={"essential": True}
        ),
    )


def _check_keycloak(claims: Mapping[str, Any], client_id: str) -> None:
    """Raises: TokenInvalid: a token for another client, or an ID or refresh token (`typ`) instead of an access token."""
    audience = claims.get("aud", [])
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences and claims.get("azp") != client_id:
        raise TokenInvalid("The token is meant for another client.")
    if claims.get("typ", "Bearer") != "Bearer":
        raise TokenInvalid("The token is not an access token.")


def _user_of(claims: Mapping[str, Any]) -> Principal:
    """The person of a verified token: ours names `role` and `scope`; Keycloak's, roles in `realm_access`."""
    realm = claims.get("realm_access")
    listed = realm.get("roles") if isinstance(realm, dict) else [claims.get("role", "")]
    granted = listed if isinstance(listed, list) else []
    roles = [role for role in reversed(Role) if role.value in granted]
    role = roles[0] if roles else Role.USER
    own_scopes = claims.get("scope") if realm is None else None
    scopes = str(own_scopes).split() if own_scopes is not None else [scope.value for scope in ROLE_SCOPES[role]]
    return Principal(
        kind=PrincipalKind.USER,
        subject=str(claims["sub"]),
        role=role,
        scopes=frozenset(scopes),
        email=str(claims.get("email", "")),
        sign_in=str(claims.get("sid", "")) if realm is None else "",
    )


def issuers_of(settings: TokenSettings, own_keys: KeySource) -> dict[str, Issuer]:
    """The issuers that the settings name: ours, and Keycloak's realm when it is enabled."""
    issuers = {settings.issuer: Issuer(settings.issuer, CachedKeys(own_keys), ("ES256",))}
    if settings.keycloak_enabled:
        realm = f"{settings.keycloak_url.rstrip('/')}/realms/{settings.keycloak_realm}"
        keys = CachedKeys(RemoteKeys(f"{realm}/protocol/openid-connect/certs"))
        issuers[realm] = Issuer(realm, keys, ("RS256", "ES256", "PS256"), client_id=settings.keycloak_client_id)
    return issuers
