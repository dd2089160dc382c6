"""Tokens of services: each service signs as itself only, for one callee, for five minutes."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from domain.principal import PrincipalKind
from subgraphs.runtime.service_keys import PublicKeys, ServiceKey, ServiceKeyError, SigningKeys
from subgraphs.runtime.service_tokens import PeerDisagrees, ServiceTokens, check_peer
from subgraphs.runtime.tokens import TokenExpired, TokenInvalid

_MEASUREMENT, _SHOP = ServiceKey.generate("measurement"), ServiceKey.generate("shop")
_PUBLISHED = PublicKeys([_MEASUREMENT.public, _SHOP.public])
_STRANGER = ServiceKey.generate("measurement")


def _tokens() -> ServiceTokens:
    return ServiceTokens(SigningKeys([_MEASUREMENT]), _PUBLISHED)


def _claims(**changed: object) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": "measurement", "sub": "measurement", "aud": "device", "iat": now, "exp": now + 300, **changed}
    return {name: value for name, value in claims.items() if value is not None}


def _signed(key: ServiceKey = _MEASUREMENT, *, header: dict[str, Any] | None = None, **changed: object) -> str:
    whole = {"alg": "ES256", "typ": "service+jwt", "kid": key.kid, **(header or {})}
    whole = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(whole, _claims(**changed), key.jwk, algorithms=["ES256"])


def _by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"x" * 64) -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _with_public_key_as_secret() -> str:
    secret = OctKey.import_key(_MEASUREMENT.public.pem().replace("-----", "====="))
    header = {"alg": "HS256", "typ": "service+jwt", "kid": _MEASUREMENT.kid}
    return jwt.encode(header, _claims(), secret, algorithms=["HS256"])


def _altered(**changed: object) -> str:
    header, _, signature = _signed().split(".")
    claims = base64.urlsafe_b64encode(json.dumps(_claims(**changed)).encode()).rstrip(b"=").decode()
    return f"{header}.{claims}.{signature}"


_OTHER_JWK: ECKey = _STRANGER.jwk
_FORGED: dict[str, Callable[[], str]] = {
    "shop signs as measurement": lambda: _signed(_SHOP),
    "shop signs as measurement under the key id of measurement": lambda: _signed(
        _SHOP, header={"kid": _MEASUREMENT.kid}
    ),
    "shop signs, issuer shop, subject measurement": lambda: _signed(_SHOP, iss="shop"),
    "shop's own token presented with the issuer measurement": lambda: _altered(iss="shop"),
    "a key that is not published": lambda: _signed(_STRANGER),
    "a key that is not published, under a published id": lambda: _signed(_STRANGER, header={"kid": _MEASUREMENT.kid}),
    "a key sent along": lambda: _signed(
        _STRANGER, header={"kid": _MEASUREMENT.kid, "jwk": _OTHER_JWK.as_dict(private=False)}
    ),
    "algorithm none": lambda: _by_hand({"alg": "none", "typ": "service+jwt", "kid": _MEASUREMENT.kid}, _claims(), b""),
    "HMAC with the public key": _with_public_key_as_secret,
    "another type of token": lambda: _signed(header={"typ": "JWT"}),
    "no type": lambda: _signed(header={"typ": None}),
    "no key id": lambda: _signed(header={"kid": None}),
    "a key id that is a list": lambda: _by_hand(
        {"alg": "ES256", "typ": "service+jwt", "kid": [_MEASUREMENT.kid]}, _claims()
    ),
    "an issuer that is a list": lambda: _signed(iss=["measurement"]),
    "a service that does not exist": lambda: _signed(iss="nobody", sub="nobody"),
    "another callee": lambda: _signed(aud="cartridge"),
    "several callees": lambda: _signed(aud=["device", "cartridge"]),
    "no callee": lambda: _signed(aud=None),
    "no subject": lambda: _signed(sub=None),
    "no issuer": lambda: _signed(iss=None),
    "no expiry": lambda: _signed(exp=None),
    "no time of issue": lambda: _signed(iat=None),
    "issued in the future": lambda: _signed(iat=int(time.time()) + 60, exp=int(time.time()) + 120),
    "not valid yet": lambda: _signed(nbf=int(time.time()) + 60),
    "a life of a year": lambda: _signed(exp=int(time.time()) + 365 * 86_400),
    "an expiry without end": lambda: _signed(exp=float("1e300")),
    "an expiry that is true": lambda: _signed(exp=True),
    "a time of issue that is a text": lambda: _signed(iat="now"),
    "acting for a number": lambda: _signed(obo=7),
    "an altered callee": lambda: _altered(aud="device", sub="measurement", obo="u2"),
    "a token of megabytes": lambda: _signed(pad="x" * 2_000_000),
    "two parts": lambda: _signed().rpartition(".")[0],
    "nothing": lambda: "",
}


@pytest.mark.parametrize("forgery", _FORGED)
def test_a_forged_token_of_a_service_is_refused(forgery: str) -> None:
    with pytest.raises(TokenInvalid):
        _tokens().verify(_FORGED[forgery](), callee="device")


def test_a_token_tells_its_service_and_whom_it_acts_for() -> None:
    tokens = _tokens()
    for _ in range(2):
        principal = tokens.verify(tokens.issue("measurement", "device", on_behalf_of="u1"), callee="device")
        assert (principal.kind, principal.subject, principal.owner) == (PrincipalKind.SERVICE, "measurement", "u1")
    assert tokens.verify(tokens.issue("measurement", "device"), callee="device").owner is None


def test_a_token_is_valid_for_its_callee_only_even_when_it_was_valid_there_before() -> None:
    tokens = _tokens()
    token = tokens.issue("measurement", "device")
    tokens.verify(token, callee="device")
    with pytest.raises(TokenInvalid, match="another service"):
        tokens.verify(token, callee="cartridge")


def test_a_process_signs_only_as_the_services_whose_keys_it_holds() -> None:
    with pytest.raises(ServiceKeyError, match="no key of shop"):
        _tokens().issue("shop", "payment")


def test_a_token_is_used_again_for_half_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = _tokens()
    first = tokens.issue("measurement", "device")
    assert tokens.issue("measurement", "device") == first
    assert tokens.issue("measurement", "device", on_behalf_of="u1") != first
    later = time.time() + 151
    monkeypatch.setattr(time, "time", lambda: later)
    assert tokens.issue("measurement", "device") != first


def test_a_token_expires_after_five_minutes_even_when_it_was_valid_before(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = _tokens()
    token = tokens.issue("measurement", "device")
    tokens.verify(token, callee="device")
    later = time.time() + 310
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(TokenExpired):
        tokens.verify(token, callee="device")


class _Withdrawable(PublicKeys):
    """Public keys of which all may be withdrawn."""

    def withdraw(self) -> None:
        self._keys = {}


def test_a_token_that_was_valid_before_is_refused_once_its_key_is_withdrawn() -> None:
    published = _Withdrawable([_MEASUREMENT.public])
    tokens = ServiceTokens(SigningKeys([_MEASUREMENT]), published)
    token = tokens.issue("measurement", "device")
    tokens.verify(token, callee="device")
    published.withdraw()
    with pytest.raises(TokenInvalid, match="not published"):
        tokens.verify(token, callee="device")


def test_the_old_key_of_a_service_stays_valid_beside_the_new_one() -> None:
    new = ServiceKey.generate("measurement")
    published = PublicKeys([_MEASUREMENT.public, new.public])
    for key in (_MEASUREMENT, new):
        token = ServiceTokens(SigningKeys([key]), published).issue("measurement", "device")
        assert ServiceTokens(SigningKeys([]), published).verify(token, callee="device").subject == "measurement"


@pytest.mark.parametrize(
    "name",
    [
        "measurement",
        "measurement-service",
        "manpasik-measurement-service",
        "manpasik-measurement-service.manpasik.svc.cluster.local",
        "Measurement-Service.manpasik.svc",
        "spiffe://manpasik.example/ns/prod/sa/measurement-service",
    ],
)
def test_a_certificate_of_the_same_service_agrees(name: str) -> None:
    check_peer("measurement", ["another-name.example", name])


@pytest.mark.parametrize(
    "names",
    [
        ["shop-service"],
        ["shop-service", "payment-service"],
        ["measurement-service-evil.example"],
        ["evil.measurement-service"],
        ["spiffe://manpasik.example/measurement-service/shop-service"],
        [""],
    ],
)
def test_a_certificate_of_another_service_does_not_agree(names: list[str]) -> None:
    with pytest.raises(PeerDisagrees):
        check_peer("measurement", names)


def test_without_a_certificate_the_token_alone_proves_the_service() -> None:
    check_peer("measurement", [])
