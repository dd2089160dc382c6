"""What an unproven holder has set ends when somebody else proves the account's address."""

import re
from datetime import datetime, timedelta

import pytest

from domain.identity.auth.errors import InvalidAccessToken, InvalidCredentials, InvalidRefreshToken
from domain.identity.auth.models import ConsentKind, SocialIdentity
from domain.identity.auth.ports import SocialProof, SocialToken
from domain.identity.auth.repository import AccountRepository
from domain.identity.auth.tokens import Tokens
from domain.identity.person import HealthDetails, SocialProvider
from domain.identity.user.service import ProfileChange
from domain.units import ResultUnits
from tests.integration.identity.conftest import EMAIL, PASSWORD, Identity, Pause, user_principal
from tests.support.clock import FakeClock
from tests.support.outbox import payloads_of

ATTACKER = HealthDetails(
    blood_type="AB-", allergies=("none",), emergency_contact_name="Mallory", emergency_contact_phone="+82 10-6666-6666"
)
GOOGLE = SocialProof(SocialProvider.GOOGLE, "google-1", EMAIL, email_is_proven=True, name="Victim")
NEW_PASSWORD = "Battery-staple8"


async def attack(identity: Identity) -> Tokens:
    """The attacker registers the victim's address and sets up the profile."""
    registered = await identity.register(health=ATTACKER, consents=frozenset(ConsentKind), display_name="Mallory")
    change = ProfileChange(
        avatar_url="https://attacker.example/me.png", timezone="Asia/Tokyo", result_units=ResultUnits.AMOUNT
    )
    async with identity.database.transaction() as session:
        await identity.users.update(session, user_principal(registered.user_id), change)
    return await identity.login()


async def sign_in(identity: Identity, proof: SocialProof) -> Tokens:
    identity.social.proof = proof
    async with identity.database.transaction() as session:
        return await identity.auth.social_login(session, SocialToken(proof.provider, id_token="t"))


async def reset(identity: Identity) -> None:
    async with identity.database.transaction() as session:
        await identity.auth.request_password_reset(session, email=EMAIL, locale="en")
    await identity.mails.send_due()
    found = re.search(r"token=(\S+)", identity.mailbox.mails[-1].text)
    assert found
    async with identity.database.transaction() as session:
        await identity.auth.complete_password_reset(session, token=found[1], new_password=NEW_PASSWORD)


async def assert_taken_over(identity: Identity, attacker: Tokens) -> None:
    with pytest.raises(InvalidAccessToken):
        await identity.validate(attacker.access_token)
    with pytest.raises(InvalidCredentials):
        await identity.login(password=PASSWORD)
    async with identity.database.transaction() as session:
        whole = await identity.users.get(session, user_principal(attacker.user_id))
    assert whole.health == HealthDetails()
    assert (whole.person.avatar_url, whole.person.timezone) == ("", "Asia/Seoul")
    assert whole.person.result_units is ResultUnits.AS_MEASURED
    assert "Mallory" not in whole.person.display_name
    assert await identity.scalar("SELECT count(*) FROM consents") == 0
    (event,) = await payloads_of(identity.database, "account.proven")
    assert (event["user_id"], event["proof"]) == (attacker.user_id, 1)


async def test_a_reset_mail_gives_its_reader_the_account_without_what_was_set(identity: Identity) -> None:
    attacker = await attack(identity)
    await reset(identity)
    await assert_taken_over(identity, attacker)
    assert (await identity.login(password=NEW_PASSWORD)).user_id == attacker.user_id


async def test_a_verified_provider_gives_its_person_the_account_without_what_was_set(identity: Identity) -> None:
    attacker = await attack(identity)
    assert (await sign_in(identity, GOOGLE)).user_id == attacker.user_id
    await assert_taken_over(identity, attacker)
    assert await identity.scalar("SELECT string_agg(provider, ',') FROM social_identities") == "google"


@pytest.mark.parametrize("by", ["reset", "provider"])
async def test_a_provider_that_an_unproven_holder_has_linked_leads_nowhere_after_the_proof(
    identity: Identity, by: str
) -> None:
    mallory = SocialProof(SocialProvider.KAKAO, "mallory", EMAIL, email_is_proven=False, name="Mallory")
    taken = (await sign_in(identity, mallory)).user_id
    if by == "reset":
        await reset(identity)
    else:
        await sign_in(identity, GOOGLE)
    again = SocialProof(SocialProvider.KAKAO, "mallory", None, email_is_proven=False, name="Mallory")
    assert (await sign_in(identity, again)).user_id != taken


@pytest.mark.parametrize("by", ["reset", "provider"])
async def test_the_holder_is_shut_out_and_forgotten_everywhere_before_the_account_changes_hands(
    identity: Identity, clock: FakeClock, pause: Pause, by: str
) -> None:
    attacker = await attack(identity)
    mallory = SocialProof(SocialProvider.KAKAO, "mallory", None, email_is_proven=False, name="Mallory")
    async with identity.database.transaction() as session:
        AccountRepository(session).add_social_identity(
            SocialIdentity(provider="kakao", social_id="mallory", user_id=attacker.user_id, linked_at=clock.now())
        )

    async def during() -> None:
        with pytest.raises(InvalidAccessToken):
            await identity.validate(attacker.access_token)
        with pytest.raises(InvalidRefreshToken):
            await identity.refresh(attacker.refresh_token)
        with pytest.raises(InvalidCredentials):
            await identity.login()
        proof, identity.social.proof = identity.social.proof, mallory
        async with identity.database.transaction() as session:
            other = await identity.auth.social_login(session, SocialToken(mallory.provider, id_token="t"))
        assert other.user_id != attacker.user_id
        identity.social.proof = proof
        assert await payloads_of(identity.database, "account.proven") == []
        clock.advance(seconds=2)

    shut_out_at = clock.now()
    pause.during = during
    await (reset(identity) if by == "reset" else sign_in(identity, GOOGLE))
    assert pause.seconds == [2.0]
    (event,) = await payloads_of(identity.database, "account.proven")
    # The groups drop what was set until then, which is after the last moment at which the holder could set anything.
    assert datetime.fromisoformat(str(event["proven_at"])) >= shut_out_at + timedelta(seconds=2)


async def test_the_reset_mail_says_what_it_removes_from_an_account_whose_address_is_not_proven(
    identity: Identity,
) -> None:
    await attack(identity)
    await reset(identity)
    assert "아직 확인되지 않았습니다" in identity.mailbox.mails[-1].text
    await reset(identity)  # which the first one has proven
    assert "아직 확인되지 않았습니다" not in identity.mailbox.mails[-1].text


async def test_nobody_waits_where_nobody_is_shut_out(identity: Identity, pause: Pause) -> None:
    await sign_in(identity, GOOGLE)
    await sign_in(identity, GOOGLE)
    await reset(identity)
    assert (await identity.login(password=NEW_PASSWORD)).user_id
    assert pause.seconds == []


async def test_a_pending_reset_ends_with_the_proof(identity: Identity) -> None:
    await attack(identity)
    async with identity.database.transaction() as session:
        await identity.auth.request_password_reset(session, email=EMAIL, locale="en")
    await identity.mails.send_due()
    await sign_in(identity, GOOGLE)
    assert await identity.scalar("SELECT count(*) FROM password_resets WHERE used_at IS NULL") == 0


async def test_the_same_person_keeps_everything(identity: Identity) -> None:
    """A linked provider that verifies the address later, and every proof after the first, drop nothing."""
    unverified = SocialProof(SocialProvider.KAKAO, "me", EMAIL, email_is_proven=False, name="Me")
    user_id = (await sign_in(identity, unverified)).user_id
    async with identity.database.transaction() as session:
        change = ProfileChange(health=HealthDetails(blood_type="A+"))
        await identity.users.update(session, user_principal(user_id), change)
    await sign_in(identity, SocialProof(SocialProvider.KAKAO, "me", EMAIL, email_is_proven=True, name="Me"))
    await sign_in(identity, GOOGLE)
    await reset(identity)
    async with identity.database.transaction() as session:
        whole = await identity.users.get(session, user_principal(user_id))
    assert (whole.health.blood_type, whole.person.display_name) == ("A+", "Me")
    assert await payloads_of(identity.database, "account.proven") == []
    assert await identity.scalar("SELECT proof FROM accounts") == 1
