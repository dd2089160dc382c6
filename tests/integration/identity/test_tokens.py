"""Access tokens that hold and those that do not, refresh tokens that work once, and keys that change."""

import asyncio
import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from domain.identity.auth.errors import AccountDisabled, InvalidAccessToken, InvalidRefreshToken, RefreshTokenReused
from domain.identity.auth.keys import ACTIVE_FOR
from domain.identity.auth.tokens import AccessTokens, Tokens
from domain.principal import PrincipalKind, Role
from subgraphs.runtime.auth import Authenticator, CachedKeys, Issuer
from subgraphs.runtime.settings import TokenSettings
from tests.integration.identity.conftest import ACCESS_TTL, EMAIL, REFRESH_TTL, Identity, key_ring
from tests.support.clock import FakeClock
from tests.support.patience import PATIENCE_S
from tests.support.trust import service_tokens


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unverified."""
    header, claims = (json.loads(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))) for p in token.split(".")[:2])
    return header, claims


def unsigned(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


async def test_an_access_token_says_who_and_since_which_sign_in(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    tokens = await identity.login()
    header, claims = parts(tokens.access_token)
    assert header == {"alg": "ES256", "kid": (await identity.keys.signer()).kid, "typ": "JWT"}
    now = int(identity.clock.now().timestamp())
    assert {k: claims[k] for k in ("iss", "sub", "email", "role", "iat", "exp")} == {
        "iss": "manpasik-auth",
        "sub": user_id,
        "email": EMAIL,
        "role": "user",
        "iat": now,
        "exp": now + 900,
    }
    assert "profile:read" in claims["scope"].split()
    assert "users:read:any" not in claims["scope"].split()
    assert claims["sid"] == await identity.scalar("SELECT id FROM sign_ins")
    assert claims["jti"] != parts((await identity.login()).access_token)[1]["jti"]
    assert tokens.expires_in_s == 900


async def test_a_token_is_good_until_its_last_second(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    token = (await identity.login()).access_token
    identity.clock.advance(seconds=ACCESS_TTL.total_seconds() - 1)
    assert await identity.validate(token) == user_id
    identity.clock.advance(seconds=1)
    with pytest.raises(InvalidAccessToken):
        await identity.validate(token)


async def test_forged_tokens_do_not_hold(identity: Identity) -> None:
    await identity.register()
    token = (await identity.login()).access_token
    header, claims = parts(token)
    head, body, signature = token.split(".")
    admin = claims | {"role": "admin"}
    public = (await identity.keys.keys())[0]
    pem = ECKey.import_key(public).as_pem(private=False)
    mine = ECKey.generate_key("P-256")
    other_algorithm = ECKey.generate_key("P-384")
    forged = {
        "changed claims": f"{head}.{unsigned(admin)}.{signature}",
        "no algorithm": f"{unsigned(header | {'alg': 'none'})}.{unsigned(admin)}.",
        "the public key as HMAC secret": _hmac_signed({**header, "alg": "HS256"}, admin, secret=pem),
        "another key under our id": jwt.encode(header, admin, mine, algorithms=["ES256"]),
        "another key under its own id": jwt.encode({**header, "kid": "mine"}, admin, mine, algorithms=["ES256"]),
        "a key in the header": jwt.encode(
            {"alg": "ES256", "kid": "mine", "jwk": mine.as_dict(private=False)}, admin, mine, algorithms=["ES256"]
        ),
        "another curve": jwt.encode({**header, "alg": "ES384"}, admin, other_algorithm, algorithms=["ES384"]),
        "no key id": jwt.encode({"alg": "ES256"}, admin, mine, algorithms=["ES256"]),
        "cut short": token[:-2],
        "not a token": "not.a.token",
        "two parts": f"{head}.{body}",
        "empty": "",
        "huge": "x" * 100_000,
        "not ASCII": "토.큰.값",
    }
    believed = [name for name, value in forged.items() if await _is_believed(identity, value)]
    assert believed == []
    assert await _is_believed(identity, token)


def _hmac_signed(header: dict[str, Any], claims: dict[str, Any], *, secret: bytes) -> str:
    signed = f"{unsigned(header)}.{unsigned(claims)}"
    signature = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def _is_believed(identity: Identity, token: str) -> bool:
    try:
        await identity.validate(token)
    except InvalidAccessToken:
        return False
    return True


async def test_a_token_of_our_key_but_another_issuer_or_without_claims_does_not_hold(identity: Identity) -> None:
    await identity.register()
    _, claims = parts((await identity.login()).access_token)
    signer = await identity.keys.signer()
    for change in (
        {"iss": "else"},
        {"exp": None},
        {"sub": None},
        {"sid": None},
        {"role": "god"},
        {"exp": "9999999999"},
    ):
        changed = {name: value for name, value in (claims | change).items() if value is not None}
        token = jwt.encode({"alg": "ES256", "kid": signer.kid}, changed, signer.key, algorithms=["ES256"])
        with pytest.raises(InvalidAccessToken):
            await identity.validate(token)


async def test_every_face_takes_our_tokens_by_the_published_keys(identity: Identity) -> None:
    """The verifier of the shared core and the issuer agree."""
    settings = TokenSettings()
    clock = SystemNow()
    access_tokens = AccessTokens(identity.keys, clock=clock, issuer=settings.issuer, ttl=ACCESS_TTL)
    identity.auth._access_tokens = access_tokens
    user_id = (await identity.register()).user_id
    token = (await identity.login()).access_token
    issuers = {settings.issuer: Issuer(settings.issuer, CachedKeys(identity.keys), ("ES256",))}
    gate = Authenticator(issuers, services=service_tokens(), devices=None)
    principal = await gate.principal(f"Bearer {token}")
    assert (principal.kind, principal.subject, principal.role) == (PrincipalKind.USER, user_id, Role.USER)
    assert "profile:read" in principal.scopes


class SystemNow(FakeClock):
    """The real time, as verifiers of the shared core use it."""

    def __init__(self) -> None:
        super().__init__(datetime.now(UTC))


async def test_a_refresh_token_is_replaced_at_each_use_and_stored_as_a_hash(identity: Identity) -> None:
    await identity.register()
    first = await identity.login()
    second = await identity.refresh(first.refresh_token)
    third = await identity.refresh(second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert await identity.validate(third.access_token)
    assert parts(third.access_token)[1]["sid"] == parts(first.access_token)[1]["sid"]
    rows = str(await identity.scalar("SELECT string_agg(refresh_tokens::text, ' ') FROM refresh_tokens"))
    for tokens in (first, second, third):
        assert tokens.refresh_token not in rows
        assert tokens.refresh_token.encode().hex() not in rows


async def test_a_second_use_revokes_the_family_but_no_other_sign_in(identity: Identity) -> None:
    await identity.register()
    stolen, elsewhere = await identity.login(), await identity.login()
    latest = await identity.refresh(stolen.refresh_token)
    with pytest.raises(RefreshTokenReused):
        await identity.refresh(stolen.refresh_token)
    with pytest.raises(InvalidRefreshToken):
        await identity.refresh(latest.refresh_token)
    with pytest.raises(InvalidAccessToken):
        await identity.validate(latest.access_token)
    await identity.refresh(elsewhere.refresh_token)
    assert await identity.scalar("SELECT revoked_for FROM sign_ins WHERE revoked_at IS NOT NULL") == "reuse"


async def test_of_two_refreshes_at_once_one_wins_and_the_other_ends_the_sign_in(identity: Identity) -> None:
    await identity.register()
    token = (await identity.login()).refresh_token
    async with identity.database.transaction() as session:
        winner = await identity.auth.refresh(session, token)
        loser = asyncio.create_task(identity.refresh(token))
        await _wait_for_a_blocked_statement(identity)
        assert not loser.done()
    with pytest.raises(RefreshTokenReused):
        await loser
    assert winner.tokens is not None
    with pytest.raises(InvalidRefreshToken):
        await identity.refresh(winner.tokens.refresh_token)


async def test_of_many_refreshes_at_once_at_most_one_wins(identity: Identity) -> None:
    await identity.register()
    token = (await identity.login()).refresh_token
    results = await asyncio.gather(*(identity.refresh(token) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, Tokens) for result in results) == 1
    assert sum(isinstance(result, RefreshTokenReused) for result in results) == 7


async def _wait_for_a_blocked_statement(identity: Identity) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE_S):
        while await identity.scalar(waiting) == 0:  # noqa: ASYNC110 - the server tells by a view only
            await asyncio.sleep(0.01)


async def test_a_refresh_token_expires_and_each_use_begins_its_time_anew(identity: Identity) -> None:
    await identity.register()
    tokens = await identity.login()
    identity.clock.advance(days=6)
    tokens = await identity.refresh(tokens.refresh_token)
    identity.clock.advance(days=6)
    tokens = await identity.refresh(tokens.refresh_token)
    identity.clock.advance(seconds=REFRESH_TTL.total_seconds())
    with pytest.raises(InvalidRefreshToken):
        await identity.refresh(tokens.refresh_token)


async def test_a_refresh_of_a_disabled_account_is_refused(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    tokens = await identity.login()
    async with identity.database.raw() as connection:
        await connection.execute("UPDATE accounts SET disabled_at = now() WHERE id = $1", user_id)
    with pytest.raises(AccountDisabled):
        await identity.refresh(tokens.refresh_token)


@pytest.mark.parametrize("token", ["", "unknown", "x" * 10_000, "\x00"])
async def test_an_unknown_refresh_token_is_refused(identity: Identity, token: str) -> None:
    with pytest.raises(InvalidRefreshToken):
        await identity.refresh(token)


async def test_expired_sign_ins_are_forgotten_a_day_later_and_live_ones_are_not(identity: Identity) -> None:
    await identity.register()
    await identity.login()
    identity.clock.advance(days=7, hours=23)
    live = await identity.login()
    await identity.mails.tidy()
    assert await identity.scalar("SELECT count(*) FROM sign_ins") == 2
    identity.clock.advance(hours=2)
    await identity.mails.tidy()
    assert await identity.scalar("SELECT count(*) FROM sign_ins") == 1
    assert await identity.scalar("SELECT count(*) FROM refresh_tokens") == 1
    await identity.refresh(live.refresh_token)


# Keys


async def test_the_next_key_is_published_before_it_signs(identity: Identity) -> None:
    await identity.keys.rotate()
    published = [key["kid"] for key in await identity.keys.keys()]
    first = (await identity.keys.signer()).kid
    assert len(published) == 2
    identity.clock.advance(seconds=ACTIVE_FOR.total_seconds())
    second = (await identity.keys.signer()).kid
    assert second != first
    assert set(published) == {first, second}
    assert len(await identity.keys.keys()) == 3


async def test_published_keys_tell_nothing_private(identity: Identity) -> None:
    for key in await identity.keys.keys():
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


async def test_a_retired_key_stays_published_until_its_last_token_has_expired(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    first = (await identity.keys.signer()).kid
    identity.clock.advance(seconds=ACTIVE_FOR.total_seconds() - 1)
    await identity.keys.rotate()
    token = (await identity.login()).access_token  # signed in the last second
    identity.clock.advance(seconds=1)
    await identity.keys.rotate()
    assert (await identity.keys.signer()).kid != first
    assert parts(token)[0]["kid"] == first
    identity.clock.advance(seconds=ACCESS_TTL.total_seconds() - 2)
    await identity.keys.rotate()
    assert await identity.validate(token) == user_id
    identity.clock.advance(minutes=5)
    await identity.keys.rotate()
    assert first not in [key["kid"] for key in await identity.keys.keys()]


async def test_processes_that_start_and_rotate_together_agree_on_one_key(identity: Identity) -> None:
    rings = [key_ring(identity.database, identity.clock) for _ in range(4)]
    await asyncio.gather(*(ring.rotate() for ring in rings))
    first = {(await ring.signer()).kid for ring in rings}
    assert len(first) == 1
    identity.clock.advance(seconds=ACTIVE_FOR.total_seconds())
    await asyncio.gather(*(ring.rotate() for ring in rings))
    second = {(await ring.signer()).kid for ring in rings}
    assert len(second) == 1
    assert first != second
    assert await identity.scalar("SELECT count(*) FROM signing_keys") == 3


async def test_another_process_learns_of_a_new_key_when_a_token_names_it(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    await identity.keys.signer()
    elsewhere = key_ring(identity.database, identity.clock)
    await elsewhere.rotate(now_even_if_young=True)
    await elsewhere.rotate(now_even_if_young=True)  # so the new key was not published before
    identity.clock.advance(seconds=10)
    issuing = AccessTokens(elsewhere, clock=identity.clock, issuer="manpasik-auth", ttl=ACCESS_TTL)
    claims = await identity.access_tokens.verify((await identity.login()).access_token)
    token = issuing.issue(await elsewhere.signer(), claims)
    assert await identity.validate(token) == user_id


async def test_private_keys_are_sealed(identity: Identity) -> None:
    signer = await identity.keys.signer()
    private = signer.key.as_dict(private=True)["d"]
    assert isinstance(private, str)
    sealed = await identity.scalar("SELECT private_sealed FROM signing_keys WHERE state = 'active'")
    assert isinstance(sealed, bytes)
    raw = base64.urlsafe_b64decode(private + "=")
    assert private.encode() not in sealed
    assert raw not in sealed
    assert private not in str(await identity.scalar("SELECT public_jwk::text FROM signing_keys WHERE state = 'active'"))


async def test_a_changed_secret_brings_new_keys_and_the_old_tokens_stay_good(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    token = (await identity.login()).access_token
    changed = key_ring(identity.database, identity.clock, secret="another secret")
    await changed.rotate()
    assert (await changed.signer()).kid != (await identity.keys.signer()).kid
    verifier = AccessTokens(changed, clock=identity.clock, issuer="manpasik-auth", ttl=ACCESS_TTL)
    assert (await verifier.verify(token)).user_id == user_id


async def test_the_database_refuses_a_second_active_key(identity: Identity) -> None:
    await identity.keys.rotate()
    async with identity.database.raw() as connection:
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("UPDATE signing_keys SET state = 'active'")


async def test_known_keys_stay_good_while_the_database_is_away(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await identity.keys.keys()

    def down() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(identity.database, "transaction", down)
    identity.clock.advance(hours=1)
    assert await identity.keys.keys() == before


def test_a_key_serves_for_longer_than_a_token_lives() -> None:
    assert ACCESS_TTL + timedelta(hours=1) < ACTIVE_FOR
