"""Tokens by which services know each other: `authorization: Service <JWT>`.

A token is signed with the caller's own key (ES256), names its callee and is valid for five minutes. The callee checks
it with a key that is published for the service that the token names as its issuer, so a service can sign as itself
only. What the caller may call is in the catalogue (`may_call`), not in the token.

Source: RFC 7519 (JWT), RFC 8725 (JWT best practice: explicit type, fixed algorithm, checked issuer and audience).
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.jwt import JWTClaimsRegistry

from domain.catalog import workload
from domain.ids import UserId
from domain.principal import Principal, service_principal
from subgraphs.runtime.service_keys import PublicKeys, PublicServiceKey, SigningKeys
from subgraphs.runtime.tokens import (
    LEEWAY_S,
    CallNotAllowed,
    HeldToken,
    HeldTokens,
    TokenInvalid,
    check_claims,
    decoded_claims,
    unverified,
)

SERVICE_TOKEN_TTL_S = 300
_ALGORITHM = "ES256"
_TYPE = "service+jwt"
_MOST_CHARACTERS = 4096
_MOST_ISSUED = 10_000
_CLAIMS = JWTClaimsRegistry(
    leeway=LEEWAY_S,
    iss={"essential": True},
    sub={"essential": True},
    aud={"essential": True},
    iat={"essential": True},
    exp={"essential": True},
)


class PeerDisagrees(CallNotAllowed):
    """The caller's certificate belongs to another service than its token."""

    reason = "CERTIFICATE_OF_ANOTHER_SERVICE"


class ServiceTokens:
    """Issues tokens in the names of this process's services, and verifies those of all services.

    Args:
        keys: of the services that this process may sign as.
        published: of every service that may call.
    """

    def __init__(self, keys: SigningKeys, published: PublicKeys) -> None:
        self._keys = keys
        self._published = published
        self._held = HeldTokens()
        self._issued: dict[tuple[str, str, str], tuple[float, str]] = {}

    def issue(self, caller: str, callee: str, *, on_behalf_of: str = "") -> str:
        """A token by which `caller` calls `callee` (short names); the same one is given out for half its life.

        Raises:
            ServiceKeyError: this process holds no key of the caller.
        """
        wanted = (caller, callee, on_behalf_of)
        now = time.time()
        issued_at, token = self._issued.get(wanted, (0.0, ""))
        if now - issued_at > SERVICE_TOKEN_TTL_S / 2:
            key = self._keys.of(caller)
            claims: dict[str, Any] = {
                "iss": caller,
                "sub": caller,
                "aud": callee,
                "iat": int(now),
                "exp": int(now) + SERVICE_TOKEN_TTL_S,
            }
            if on_behalf_of:
                claims["obo"] = on_behalf_of
            header = {"alg": _ALGORITHM, "typ": _TYPE, "kid": key.kid}
            token = jwt.encode(header, claims, key.jwk, algorithms=[_ALGORITHM])
            if len(self._issued) >= _MOST_ISSUED:
                self._issued.clear()
            self._issued[wanted] = (now, token)
        return token

    def verify(self, token: str, *, callee: str) -> Principal:
        """The service behind a token that is meant for `callee`.

        Raises:
            TokenInvalid: not a token of a service for this one, or its key is not valid any more.
            TokenExpired: it was.
        """
        held = self._held.find(token, audience=callee)
        if held is not None and self._published.find(held.issuer, held.kid) is not None:
            return held.principal
        header, claims = _unverified(token)
        key = self._key(header, claims)
        claims = decoded_claims(token, key.jwk, (_ALGORITHM,))
        check_claims(claims, _CLAIMS)
        _check(claims, callee=callee)
        behalf = claims.get("obo")
        principal = service_principal(key.service, on_behalf_of=UserId(behalf) if behalf else None)
        self._held.keep(token, HeldToken(principal, float(claims["exp"]), key.service, key.kid), audience=callee)
        return principal

    def _key(self, header: dict[str, Any], claims: dict[str, Any]) -> PublicServiceKey:
        service, kid = claims.get("iss"), header.get("kid")
        if header.get("typ") != _TYPE or header.get("alg") != _ALGORITHM:
            raise TokenInvalid(f"A service token has the type {_TYPE} and the algorithm {_ALGORITHM}.")
        if not isinstance(service, str) or not isinstance(kid, str) or claims.get("sub") != service:
            raise TokenInvalid("A service token names its key, and the service as its issuer and subject.")
        key = self._published.find(service, kid)
        if key is None:
            raise TokenInvalid("The service token is signed with a key that is not published for its service.")
        return key


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if len(token) > _MOST_CHARACTERS:
        raise TokenInvalid(f"The service token has more than {_MOST_CHARACTERS} characters.")
    return unverified(token)


def _check(claims: dict[str, Any], *, callee: str) -> None:
    """What the registry does not check: one audience, a life that is not longer than ours, times that are numbers."""
    if claims["aud"] != callee:
        raise TokenInvalid("The service token is meant for another service.")
    issued_at, expires_at = claims["iat"], claims["exp"]
    if any(isinstance(at, bool) or not isinstance(at, (int, float)) for at in (issued_at, expires_at)):
        raise TokenInvalid("The service token's times are not numbers.")
    if expires_at - issued_at > SERVICE_TOKEN_TTL_S:
        raise TokenInvalid(f"The service token is valid for longer than {SERVICE_TOKEN_TTL_S} s.")
    if not isinstance(claims.get("obo", ""), str):
        raise TokenInvalid("The service token's claim obo is not a text.")


def check_peer(service: str, names: Iterable[str]) -> None:
    """Compare a caller's token with the names in its certificate, where mutual TLS gives one.

    A name agrees when it, its first DNS label, or the last part of its URI (SPIFFE) is the service's short or full
    name, or its group's (a process may serve the whole group), with or without the prefix `manpasik-`. Without a certificate (no names) there is nothing to compare.

    Args:
        service: short name of the service that the token proves.
        names: subject alternative names and common name of the verified certificate.

    Raises:
        PeerDisagrees: the certificate names other services only.
    """
    given = list(names)
    if not given:
        return
    own = {service}
    with suppress(KeyError):
        own |= {workload(service).full_name, workload(service).group.value}
    own |= {f"manpasik-{name}" for name in own}
    if not any(_label(name) in own for name in given):
        raise PeerDisagrees(f"The certificate of the caller is not that of {service}.")


def _label(name: str) -> str:
    return urlsplit(name).path.rpartition("/")[2] if "://" in name else name.partition(".")[0].lower()
