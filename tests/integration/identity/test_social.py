"""Sign-in with Google, Apple, Kakao and Naver: what proves a person, and whose account that is."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.clock import SystemClock
from domain.errors import InvalidInput
from domain.identity.auth.directory import AccountDirectory
from domain.identity.auth.errors import (
    AccountDisabled,
    EmailTaken,
    InvalidAccessToken,
    InvalidCredentials,
    InvalidSocialToken,
    SocialSignInUnavailable,
)
from domain.identity.auth.ports import SocialProof, SocialToken
from domain.identity.auth.tokens import Tokens
from domain.identity.person import SocialProvider
from domain.ids import UserId
from subgraphs.identity.auth.adapters.social import ProviderUnavailable, SocialProviders
from subgraphs.runtime.settings import TokenSettings
from tests.integration.identity.conftest import EMAIL, PASSWORD, Identity, user_principal
from tests.support.clock import FakeClock
from tests.support.social_provider import SocialProviderServer

GOOGLE = SocialProof(SocialProvider.GOOGLE, "google-1", EMAIL, email_is_proven=True, name="홍길동")


@pytest.fixture
async def provider() -> AsyncIterator[SocialProviderServer]:
    server = SocialProviderServer()
    await server.start()
    yield server
    await server.stop()


def settings_for(provider: SocialProviderServer, **more: Any) -> TokenSettings:
    known = {
        "google_client_id": "our-client, our-ios-client",
        "google_jwks_url": f"{provider.url}/jwks",
        "apple_client_id": "com.example.app",
        "apple_jwks_url": f"{provider.url}/jwks",
        "kakao_userinfo_url": f"{provider.url}/kakao/me",
        "kakao_tokeninfo_url": f"{provider.url}/kakao/token_info",
        "kakao_app_id": "4711",
        "naver_userinfo_url": f"{provider.url}/naver/me",
    }
    return TokenSettings(**(known | more))


@pytest.fixture
async def verifier(provider: SocialProviderServer) -> AsyncIterator[SocialProviders]:
    providers = SocialProviders(settings_for(provider), clock=SystemClock())
    yield providers
    await providers.close()


def google(id_token: str, nonce: str = "") -> SocialToken:
    return SocialToken(SocialProvider.GOOGLE, id_token=id_token, nonce=nonce)


# What the providers prove


async def test_a_good_id_token_proves_the_person(provider: SocialProviderServer, verifier: SocialProviders) -> None:
    proof = await verifier.verify(google(provider.id_token()))
    assert proof == GOOGLE
    assert (await verifier.verify(google(provider.id_token(iss="accounts.google.com")))).social_id == "google-1"
    assert (await verifier.verify(google(provider.id_token(aud="our-ios-client")))).social_id == "google-1"


async def test_apple_sends_its_truth_as_text(provider: SocialProviderServer, verifier: SocialProviders) -> None:
    token = provider.id_token(iss="https://appleid.apple.com", aud="com.example.app", email_verified="true", name=None)
    proof = await verifier.verify(SocialToken(SocialProvider.APPLE, id_token=token))
    assert (proof.provider, proof.email_is_proven, proof.name) == (SocialProvider.APPLE, True, "")


@pytest.mark.parametrize("verified", [False, "false", None, "yes"])
async def test_an_address_that_the_provider_does_not_vouch_for_is_not_proven(
    provider: SocialProviderServer, verifier: SocialProviders, verified: object
) -> None:
    proof = await verifier.verify(google(provider.id_token(email_verified=verified)))
    assert not proof.email_is_proven


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": "https://appleid.apple.com"},
        {"aud": "another-client"},
        {"aud": ["our-client", "another-client"]},
        {"aud": ["our-client", "another-client"], "azp": "another-client"},
        {"aud": None},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"exp": "soon"},
        {"iat": 9_999_999_999},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=str,
)
async def test_an_id_token_with_wrong_claims_proves_nothing(
    provider: SocialProviderServer, verifier: SocialProviders, claims: dict[str, Any]
) -> None:
    with pytest.raises(InvalidSocialToken):
        await verifier.verify(google(provider.id_token(**claims)))


async def test_a_forged_id_token_proves_nothing(provider: SocialProviderServer, verifier: SocialProviders) -> None:
    stranger = provider.new_key("key-1")
    good = provider.id_token()
    head, body, _ = good.split(".")
    for token in (
        provider.id_token(key=stranger),
        provider.id_token(key=provider.new_key("unknown")),
        provider.id_token(alg="RS512"),
        f"{head}.{body}.",
        good[:-3],
        "a.b.c",
        "x" * 20_000,
    ):
        with pytest.raises((InvalidSocialToken, InvalidInput)):
            await verifier.verify(google(token))


async def test_a_nonce_that_is_given_must_be_carried(provider: SocialProviderServer, verifier: SocialProviders) -> None:
    await verifier.verify(google(provider.id_token(nonce="n-1"), nonce="n-1"))
    await verifier.verify(google(provider.id_token(nonce="n-1")))
    for carried in (None, "n-2", 1):
        with pytest.raises(InvalidSocialToken):
            await verifier.verify(google(provider.id_token(nonce=carried), nonce="n-1"))


async def test_keys_are_fetched_once_and_again_for_an_unknown_one_but_not_for_each(
    provider: SocialProviderServer,
) -> None:
    clock = FakeClock(SystemClock().now())
    verifier = SocialProviders(settings_for(provider), clock=clock)
    for _ in range(3):
        await verifier.verify(google(provider.id_token()))
    assert provider.jwks_requests == 1
    provider.keys.append(provider.new_key("key-2"))
    clock.advance(seconds=11)
    await verifier.verify(google(provider.id_token(key=provider.keys[1])))
    assert provider.jwks_requests == 2
    for number in range(3):
        with pytest.raises(InvalidSocialToken):
            await verifier.verify(google(provider.id_token(key=provider.new_key(f"random-{number}"))))
    assert provider.jwks_requests == 2
    provider.is_down = True
    clock.advance(seconds=11)
    await verifier.verify(google(provider.id_token()))  # a key that is known stays good
    with pytest.raises(ProviderUnavailable):
        await verifier.verify(google(provider.id_token(key=provider.new_key("another"))))
    await verifier.close()


async def test_kakao_proves_an_address_only_of_a_token_for_our_app(
    provider: SocialProviderServer, verifier: SocialProviders
) -> None:
    account = {"email": EMAIL, "is_email_valid": True, "is_email_verified": True, "profile": {"nickname": "길동"}}
    provider.people = {"good": {"id": 99, "kakao_account": account}, "foreign": {"id": 99, "kakao_account": account}}
    provider.app_ids = {"good": 4711, "foreign": 1}
    proof = await verifier.verify(SocialToken(SocialProvider.KAKAO, access_token="good"))
    assert proof == SocialProof(SocialProvider.KAKAO, "99", EMAIL, email_is_proven=True, name="길동")
    for token in ("foreign", "unknown"):
        with pytest.raises(InvalidSocialToken):
            await verifier.verify(SocialToken(SocialProvider.KAKAO, access_token=token))
    account["is_email_verified"] = False
    assert not (await verifier.verify(SocialToken(SocialProvider.KAKAO, access_token="good"))).email_is_proven


async def test_kakao_without_an_app_id_proves_no_address(provider: SocialProviderServer) -> None:
    provider.people = {
        "any": {"id": 99, "kakao_account": {"email": EMAIL, "is_email_valid": True, "is_email_verified": True}}
    }
    verifier = SocialProviders(settings_for(provider, kakao_app_id=""), clock=SystemClock())
    proof = await verifier.verify(SocialToken(SocialProvider.KAKAO, access_token="any"))
    assert (proof.social_id, proof.email, proof.email_is_proven) == ("99", EMAIL, False)
    await verifier.close()


async def test_naver_proves_the_person_but_no_address(
    provider: SocialProviderServer, verifier: SocialProviders
) -> None:
    provider.people = {
        "good": {"resultcode": "00", "response": {"id": "n1", "email": EMAIL, "nickname": "길동"}},
        "bad": {"resultcode": "024", "message": "Authentication failed"},
    }
    proof = await verifier.verify(SocialToken(SocialProvider.NAVER, access_token="good"))
    assert proof == SocialProof(SocialProvider.NAVER, "n1", EMAIL, email_is_proven=False, name="길동")
    for token in ("bad", "unknown"):
        with pytest.raises(InvalidSocialToken):
            await verifier.verify(SocialToken(SocialProvider.NAVER, access_token=token))


async def test_a_provider_that_is_down_is_said_to_be_down(
    provider: SocialProviderServer, verifier: SocialProviders
) -> None:
    provider.is_down = True
    for token in (
        google(provider.id_token()),
        SocialToken(SocialProvider.NAVER, access_token="x"),
    ):
        with pytest.raises(ProviderUnavailable):
            await verifier.verify(token)


@pytest.mark.parametrize("social_provider", SocialProvider)
async def test_a_missing_or_unusable_token_is_the_callers_mistake(
    verifier: SocialProviders, social_provider: SocialProvider
) -> None:
    for token in ("", "a\nb"):
        with pytest.raises((InvalidInput, InvalidSocialToken)):
            await verifier.verify(SocialToken(social_provider, id_token=token, access_token=token))


async def test_a_provider_without_a_client_id_is_not_configured(provider: SocialProviderServer) -> None:
    verifier = SocialProviders(settings_for(provider, google_client_id=""), clock=SystemClock())
    with pytest.raises(SocialSignInUnavailable):
        await verifier.verify(google(provider.id_token(aud="")))
    await verifier.close()


# Whose account it is


async def sign_in(identity: Identity, proof: SocialProof) -> Tokens:
    identity.social.proof = proof
    async with identity.database.transaction() as session:
        return await identity.auth.social_login(session, google("token"), language="ko")


async def test_the_first_sign_in_opens_an_account_and_the_next_finds_it(identity: Identity) -> None:
    first = await sign_in(identity, GOOGLE)
    again = await sign_in(identity, GOOGLE)
    assert first.user_id == again.user_id
    assert await identity.validate(first.access_token) == first.user_id
    async with identity.database.transaction() as session:
        profile = await identity.users.get(session, user_principal(first.user_id))
    assert profile.person.display_name == "홍길동"
    assert profile.person.account.email == EMAIL
    assert profile.person.account.social_provider is SocialProvider.GOOGLE
    assert profile.person.account.social_id == "google-1"
    with pytest.raises(InvalidCredentials):
        await identity.login(EMAIL, PASSWORD)


async def test_first_sign_ins_at_once_open_one_account(identity: Identity) -> None:
    results = await asyncio.gather(*(sign_in(identity, GOOGLE) for _ in range(4)))
    assert len({tokens.user_id for tokens in results}) == 1
    assert await identity.scalar("SELECT count(*) FROM accounts") == 1


async def test_a_person_without_an_address_gets_an_account_too(identity: Identity) -> None:
    for number in range(2):
        tokens = await sign_in(identity, SocialProof(SocialProvider.KAKAO, f"kakao-{number}"))
        assert (await identity.access_tokens.verify(tokens.access_token)).email == ""
    assert await identity.scalar("SELECT count(*) FROM accounts WHERE email IS NULL") == 2


async def test_a_proven_address_joins_the_account_that_has_proven_it_too(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    async with identity.database.raw() as connection:
        await connection.execute("UPDATE accounts SET email_verified_at = now()")
    before = await identity.login()
    assert (await sign_in(identity, GOOGLE)).user_id == user_id
    assert await identity.validate(before.access_token) == user_id
    await identity.login()  # the password is the same person's


async def test_a_proven_address_takes_an_unproven_account_away_from_whoever_registered_it(identity: Identity) -> None:
    """Somebody registers with another person's address and waits for that person to arrive."""
    user_id = (await identity.register()).user_id
    squatter = await identity.login()
    assert (await sign_in(identity, GOOGLE)).user_id == user_id
    with pytest.raises(InvalidCredentials):
        await identity.login()
    with pytest.raises(InvalidAccessToken):
        await identity.validate(squatter.access_token)


async def test_an_unproven_address_joins_nothing(identity: Identity) -> None:
    await identity.register()
    with pytest.raises(EmailTaken):
        await sign_in(identity, SocialProof(SocialProvider.NAVER, "n1", EMAIL.upper(), email_is_proven=False))
    assert await identity.scalar("SELECT count(*) FROM social_identities") == 0


async def test_two_providers_with_the_same_proven_address_are_one_person(identity: Identity) -> None:
    first = await sign_in(identity, GOOGLE)
    apple = SocialProof(SocialProvider.APPLE, "apple-1", EMAIL, email_is_proven=True)
    assert (await sign_in(identity, apple)).user_id == first.user_id
    assert await identity.scalar("SELECT count(*) FROM social_identities") == 2
    async with identity.database.read() as session:
        (summary,) = (await AccountDirectory().summaries(session, [UserId(first.user_id), UserId("unknown")])).values()
    assert (summary.email, summary.social_provider, summary.social_id) == (
        EMAIL,
        SocialProvider.GOOGLE,
        GOOGLE.social_id,
    )


async def test_a_disabled_account_does_not_open_by_a_provider(identity: Identity) -> None:
    tokens = await sign_in(identity, GOOGLE)
    async with identity.database.transaction() as session:
        await identity.auth.set_disabled(session, user_id=UserId(tokens.user_id), disabled=True)
    with pytest.raises(AccountDisabled):
        await sign_in(identity, GOOGLE)
