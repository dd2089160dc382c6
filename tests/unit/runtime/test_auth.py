import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain.errors import Unauthenticated, Unavailable
from domain.ids import UserId
from domain.principal import ANONYMOUS, ROLE_SCOPES, Principal, PrincipalKind, Role
from subgraphs.runtime import auth
from subgraphs.runtime.auth import Authenticator, CachedKeys, Issuer, RemoteKeys, issuers_of
from subgraphs.runtime.settings import Settings
from subgraphs.runtime.tokens import TokenExpired, TokenInvalid
from tests.support.trust import service_tokens
from tests.unit.runtime.conftest import Serve

_KEY = ECKey.generate_key("P-256", {"kid": "k1"})
_OTHER_KEY = ECKey.generate_key("P-256", {"kid": "k1"})  # the same id: a forger knows it
_SETTINGS = Settings.load({})
_SERVICES = service_tokens()


class _Keys:
    """A key source that can be away, and counts how often it is asked."""

    def __init__(self, *keys: ECKey) -> None:
        self.published = [dict(key.as_dict(private=False)) for key in keys]
        self.asked = 0
        self.fails: Exception | None = None

    async def keys(self) -> list[dict[str, Any]]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        return self.published


class _Readers:
    async def verify(self, device_id: str, credential: str) -> Principal:
        if (device_id, credential) != ("urn:reader:7", "secret"):
            raise Unauthenticated("The device credential does not hold.")
        return Principal(PrincipalKind.DEVICE, device_id, owner=UserId("u1"))


def _authenticator(source: _Keys | None = None) -> Authenticator:
    issuers = issuers_of(_SETTINGS.tokens, source or _Keys(_KEY))
    return Authenticator(issuers, services=_SERVICES, devices=_Readers())


def _claims(**changed: object) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "iss": "manpasik-auth",
        "sub": "u1",
        "email": "u1@example.com",
        "role": "technician",
        "scope": "profile:read device:write",
        "aud": "manpasik-api",
        "sid": "s1",
        "iat": int(time.time()),
        "exp": int(time.time()) + 900,
    }
    claims.update(changed)
    return {name: value for name, value in claims.items() if value is not None}


def _signed(key: ECKey | OctKey | RSAKey = _KEY, alg: str = "ES256", kid: str = "k1", **changed: object) -> str:
    return jwt.encode({"alg": alg, "kid": kid}, _claims(**changed), key, algorithms=[alg])


def _unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    return ".".join(
        (_unpadded(json.dumps(header).encode()), _unpadded(json.dumps(claims).encode()), _unpadded(signature))
    )


async def test_a_token_of_ours_tells_the_user() -> None:
    principal = await _authenticator().principal(f"Bearer {_signed()}")
    assert principal == Principal(
        PrincipalKind.USER,
        "u1",
        Role.TECHNICIAN,
        frozenset({"profile:read", "device:write"}),
        email="u1@example.com",
        sign_in="s1",
    )


async def test_nothing_sent_is_anonymous() -> None:
    assert await _authenticator().principal("") is ANONYMOUS


async def test_a_token_without_scopes_has_those_of_its_role() -> None:
    principal = await _authenticator().principal(f"Bearer {_signed(scope=None, role='doctor')}")
    assert principal.scopes == {scope.value for scope in ROLE_SCOPES[Role.DOCTOR]}
    unknown = await _authenticator().principal(f"Bearer {_signed(scope='', role='emperor')}")
    assert (unknown.role, unknown.scopes) == (Role.USER, frozenset())


def _changed_claims() -> str:
    header, _, signature = _signed().split(".")
    return f"{header}.{_unpadded(json.dumps(_claims(role='admin')).encode())}.{signature}"


_PUBLIC_PEM = _KEY.as_pem(private=False)
_FORGED: dict[str, Callable[[], str]] = {
    "algorithm none": lambda: _by_hand({"alg": "none", "kid": "k1"}, _claims()),
    "algorithm none in capitals": lambda: _by_hand({"alg": "NONE", "kid": "k1"}, _claims(), b"x"),
    "no algorithm": lambda: _by_hand({"kid": "k1"}, _claims(), b"x"),
    "HMAC with the public key": lambda: _signed(OctKey.import_key(_PUBLIC_PEM.replace(b"-----", b"=====")), "HS256"),
    "signed by the forger": lambda: _signed(_OTHER_KEY),
    "key sent along": lambda: jwt.encode(
        {"alg": "ES256", "kid": "k1", "jwk": _OTHER_KEY.as_dict(private=False)}, _claims(), _OTHER_KEY
    ),
    "unknown key": lambda: _signed(_OTHER_KEY, kid="k2"),
    "no key named": lambda: jwt.encode({"alg": "ES256"}, _claims(), _KEY),
    "other issuer": lambda: _signed(iss="https://evil.example"),
    "no audience": lambda: _signed(aud=None),
    "other audience": lambda: _signed(aud="manpasik-auth"),
    "no sign-in": lambda: _signed(sid=None),
    "no issue time": lambda: _signed(iat=None),
    "no issuer": lambda: _signed(iss=None),
    "no expiry": lambda: _signed(exp=None),
    "expiry that is a text": lambda: _signed(exp="never"),
    "no subject": lambda: _signed(sub=None),
    "empty subject": lambda: _signed(sub=""),
    "not yet valid": lambda: _signed(nbf=int(time.time()) + 600),
    "changed claims": _changed_claims,
    "cut signature": lambda: _signed()[:-4],
    "no signature": lambda: _signed().rpartition(".")[0] + ".",
    "two parts": lambda: _signed().rpartition(".")[0],
    "claims that are a list": lambda: f"{_signed().split('.')[0]}.{_unpadded(b'[]')}.x",
    "unknown critical header": lambda: _by_hand({"alg": "ES256", "kid": "k1", "crit": ["x"], "x": 1}, _claims(), b"x"),
    "not a token": lambda: "hello",
    "nothing": lambda: "",
}


@pytest.mark.parametrize("forgery", _FORGED)
async def test_a_forged_token_is_refused(forgery: str) -> None:
    with pytest.raises(TokenInvalid):
        await _authenticator().principal(f"Bearer {_FORGED[forgery]()}")


async def test_hmac_with_each_form_of_the_public_key_is_refused() -> None:
    """The classic confusion of algorithms, signed by hand since the library refuses to make such a key."""
    import hashlib  # noqa: PLC0415 - only this test signs by hand
    import hmac  # noqa: PLC0415

    signed = _by_hand({"alg": "HS256", "kid": "k1"}, _claims()).rpartition(".")[0]
    for secret in (_PUBLIC_PEM, _PUBLIC_PEM.strip(), json.dumps(_KEY.as_dict(private=False)).encode()):
        signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        with pytest.raises(TokenInvalid):
            await _authenticator().principal(f"Bearer {signed}.{_unpadded(signature)}")


async def test_an_expired_token_says_so() -> None:
    with pytest.raises(TokenExpired):
        await _authenticator().principal(f"Bearer {_signed(exp=int(time.time()) - 60)}")


async def test_a_token_that_held_before_is_refused_once_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator, token = _authenticator(), _signed()
    await authenticator.principal(f"Bearer {token}")
    later = time.time() + 1000
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(TokenExpired):
        await authenticator.principal(f"Bearer {token}")


async def test_a_token_that_held_before_is_refused_once_its_key_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _Keys(_KEY)
    authenticator, token = _authenticator(source), _signed()
    await authenticator.principal(f"Bearer {token}")
    source.published = []
    monkeypatch.setattr(auth, "_KEYS_TTL_S", 0.0)
    monkeypatch.setattr(auth, "_KEYS_MIN_INTERVAL_S", 0.0)
    later = time.monotonic() + 10
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(TokenInvalid):
        await authenticator.principal(f"Bearer {token}")


@given(authorization=st.text(max_size=60) | st.text(max_size=60).map("Bearer ".__add__))
async def test_any_other_text_is_refused(authorization: str) -> None:
    if authorization:
        with pytest.raises(Unauthenticated):
            await _authenticator().principal(authorization, callee="device")


@pytest.mark.parametrize("header", [[], "x", 1, None, {"alg": ["ES256"], "kid": ["k1"]}, {"alg": 1, "kid": {}}])
async def test_odd_headers_are_refused(header: Any) -> None:
    with pytest.raises(TokenInvalid):
        await _authenticator().principal(f"Bearer {_by_hand(header, _claims(), b'x' * 64)}")


async def test_an_issuer_that_publishes_junk_is_no_bug() -> None:
    source = _Keys()
    source.published = [{"kid": "k1", "kty": "EC", "crv": "P-256", "x": "?"}]
    with pytest.raises(TokenInvalid):
        await _authenticator(source).principal(f"Bearer {_signed()}")


# --- readers


async def test_a_reader_is_told_by_its_credential() -> None:
    principal = await _authenticator().principal("Device urn:reader:7:secret")
    assert (principal.kind, principal.user_id) == (PrincipalKind.DEVICE, "u1")


@pytest.mark.parametrize("sent", ["urn:reader:7:guess", "urn:reader:7", "urn:reader:7:", ":secret", "secret", ""])
async def test_a_wrong_credential_of_a_reader_is_refused(sent: str) -> None:
    with pytest.raises(Unauthenticated):
        await _authenticator().principal(f"Device {sent}")


async def test_readers_are_refused_where_nobody_can_tell_them() -> None:
    with pytest.raises(TokenInvalid):
        await Authenticator({}, services=_SERVICES, devices=None).principal("Device urn:reader:7:secret")


# --- services


async def test_a_service_is_told_by_its_token() -> None:
    token = _SERVICES.issue("measurement", "device", on_behalf_of="u1")
    principal = await _authenticator().principal(f"Service {token}", callee="device")
    assert (principal.kind, principal.subject, principal.owner) == (PrincipalKind.SERVICE, "measurement", "u1")


# --- cached keys


class _Time:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Time:
    return _Time(monkeypatch)


async def test_an_unknown_key_is_asked_for_at_most_every_five_seconds(clock: _Time) -> None:
    source = _Keys(_KEY)
    keys = CachedKeys(source)
    assert await keys.find("k1") is not None
    for _ in range(10):
        assert await keys.find("k9") is None
    assert source.asked == 1
    source.published.append({"kid": "k9"})
    clock.now += 5.1
    assert await keys.find("k9") is not None
    assert source.asked == 2


async def test_many_callers_share_one_fetch() -> None:
    source = _Keys(_KEY)
    keys = CachedKeys(source)
    assert all(await asyncio.gather(*(keys.find("k1") for _ in range(50))))
    assert source.asked == 1


async def test_known_keys_are_fetched_again_when_they_are_old(clock: _Time) -> None:
    source = _Keys(_KEY)
    keys = CachedKeys(source)
    await keys.find("k1")
    clock.now += 301
    source.published = []
    assert await keys.find("k1") is None
    assert source.asked == 2


@pytest.mark.parametrize("failure", [Unavailable("away"), ConnectionRefusedError(), TimeoutError()])
async def test_known_keys_outlive_their_source(clock: _Time, failure: Exception) -> None:
    source = _Keys(_KEY)
    keys = CachedKeys(source)
    await keys.find("k1")
    source.fails = failure
    clock.now += 301
    for _ in range(10):
        assert await keys.find("k1") is not None
    assert source.asked == 2  # and it is not asked again with every call
    with pytest.raises(Unavailable):
        await keys.find("k9")


async def test_callers_do_not_queue_for_a_source_that_is_away(clock: _Time) -> None:
    source = _Keys(_KEY)
    source.fails = Unavailable("away")
    keys = CachedKeys(source)
    answers = await asyncio.gather(*(keys.find("k1") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert source.asked == 1
    source.fails = None
    clock.now += 1.1
    assert await keys.find("k1") is not None


async def test_a_bug_of_the_source_stays_a_bug() -> None:
    source = _Keys()
    source.fails = KeyError("x")
    with pytest.raises(KeyError):
        await CachedKeys(source).find("k1")


# --- Keycloak


_REALM_KEY = RSAKey.generate_key(2048, {"kid": "realm"})


@pytest.fixture
async def keycloak(serve: Serve) -> tuple[Authenticator, str]:
    """An authenticator that believes a realm on a real socket, and the realm's address."""

    async def certs(_: Request) -> Response:
        return JSONResponse({"keys": [_REALM_KEY.as_dict(private=False), "junk"]})

    base = await serve(Starlette(routes=[Route("/realms/manpasik/protocol/openid-connect/certs", certs)]))
    tokens = Settings.load({"KEYCLOAK_ENABLED": "true", "KEYCLOAK_URL": base + "/"}).tokens
    return Authenticator(issuers_of(tokens, _Keys(_KEY)), services=_SERVICES, devices=None), f"{base}/realms/manpasik"


def _of_realm(realm: str, **changed: object) -> str:
    claims: dict[str, object] = {
        "iss": realm,
        "role": None,
        "scope": "openid",
        "azp": "manpasik-api",
        "typ": "Bearer",
        "realm_access": {"roles": ["offline_access", "doctor"]},
        **changed,
    }
    return _signed(_REALM_KEY, "RS256", "realm", **claims)


async def test_a_token_of_the_realm_tells_the_user(keycloak: tuple[Authenticator, str]) -> None:
    authenticator, realm = keycloak
    for audience in ({"azp": "manpasik-api"}, {"azp": "other", "aud": ["account", "manpasik-api"]}):
        principal = await authenticator.principal(f"Bearer {_of_realm(realm, **audience)}")
        assert (principal.subject, principal.role) == ("u1", Role.DOCTOR)
        assert principal.scopes == {scope.value for scope in ROLE_SCOPES[Role.DOCTOR]}


@pytest.mark.parametrize("access", [{"roles": None}, {"roles": "admin"}, {}, {"roles": [1, "user"]}, "admin"])
async def test_odd_roles_of_the_realm_give_no_more_than_a_user_has(
    keycloak: tuple[Authenticator, str], access: object
) -> None:
    authenticator, realm = keycloak
    principal = await authenticator.principal(f"Bearer {_of_realm(realm, realm_access=access)}")
    assert principal.role is Role.USER


@pytest.mark.parametrize(
    "changed", [{"azp": "other", "aud": None}, {"azp": None, "aud": "account"}, {"typ": "ID"}, {"exp": None}]
)
async def test_tokens_of_the_realm_for_others_are_refused(
    keycloak: tuple[Authenticator, str], changed: dict[str, object]
) -> None:
    authenticator, realm = keycloak
    with pytest.raises(TokenInvalid):
        await authenticator.principal(f"Bearer {_of_realm(realm, **changed)}")


async def test_issuers_do_not_sign_for_each_other(keycloak: tuple[Authenticator, str]) -> None:
    authenticator, realm = keycloak
    for token in (_of_realm("manpasik-auth"), _signed(iss=realm, azp="manpasik-api"), _signed(kid="realm", iss=realm)):
        with pytest.raises(TokenInvalid):
            await authenticator.principal(f"Bearer {token}")


async def test_the_realm_is_believed_only_when_it_is_enabled() -> None:
    assert set(issuers_of(_SETTINGS.tokens, _Keys())) == {"manpasik-auth"}


async def test_keys_that_cannot_be_fetched_are_told_as_an_outage(serve: Serve) -> None:
    async def broken(_: Request) -> Response:
        return Response("<html>", status_code=200)

    async def failing(_: Request) -> Response:
        return Response("no", status_code=500)

    base = await serve(Starlette(routes=[Route("/broken", broken), Route("/failing", failing)]))
    for url in (f"{base}/broken", f"{base}/failing", f"{base}/nothing", "http://127.0.0.1:1/jwks"):
        with pytest.raises(Unavailable):
            await RemoteKeys(url).keys()
        issuer = Issuer("manpasik-auth", CachedKeys(RemoteKeys(url)), ("ES256",))
        with pytest.raises(Unavailable):
            await Authenticator({issuer.name: issuer}, services=_SERVICES, devices=None).principal(
                f"Bearer {_signed()}"
            )
