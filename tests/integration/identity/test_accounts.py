"""Opening an account, signing in and out."""

import asyncio

import pytest
from fakeredis import FakeAsyncRedis
from sqlalchemy import text

from domain.errors import Forbidden, InvalidInput, Unauthenticated
from domain.identity.auth.errors import (
    AccountDisabled,
    AccountNotFound,
    EmailTaken,
    HealthConsentMissing,
    InvalidAccessToken,
    InvalidCredentials,
    InvalidEmail,
    TooManyRegistrations,
    TooManySignIns,
    WeakPassword,
)
from domain.identity.auth.limits import FailedSignIns
from domain.identity.auth.models import ConsentKind
from domain.identity.auth.passwords import Passwords
from domain.identity.person import HealthDetails
from domain.ids import UserId
from domain.principal import ANONYMOUS, DEVELOPMENT, Principal, PrincipalKind, Role
from subgraphs.runtime.limits import RateLimiter
from tests.integration.identity.conftest import (
    EMAIL,
    PASSWORD,
    REGISTRATIONS_PER_HOUR,
    CountingHasher,
    Identity,
    user_principal,
)


async def test_an_account_is_opened_as_a_user_with_its_address_in_lower_case(identity: Identity) -> None:
    registered = await identity.register("  Person@Example.COM")
    assert (registered.email, registered.display_name, registered.role) == (EMAIL, "person", Role.USER)
    assert registered.user_id[14] == "7"  # UUIDv7
    await identity.login("PERSON@example.com")


async def test_an_address_is_taken_whatever_its_case(identity: Identity) -> None:
    await identity.register(EMAIL)
    with pytest.raises(EmailTaken):
        await identity.register("PERSON@Example.com")


async def test_of_two_registrations_at_once_one_is_told_that_the_address_is_taken(identity: Identity) -> None:
    results = await asyncio.gather(*(identity.register() for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["EmailTaken"] * 3 + ["Registered"]
    assert await identity.scalar("SELECT count(*) FROM profiles") == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"email": "nobody"}, InvalidEmail),
        ({"password": "short"}, WeakPassword),
        ({"health": HealthDetails(height_cm=1000.0)}, InvalidInput),
        ({"language": "klingon please"}, InvalidInput),
    ],
)
async def test_a_refused_registration_leaves_nothing_behind(
    identity: Identity, fields: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await identity.register(**fields)
    assert await identity.scalar("SELECT count(*) FROM accounts") == 0


async def test_a_password_is_stored_as_its_argon2id_hash_only(identity: Identity) -> None:
    await identity.register()
    stored = await identity.scalar("SELECT password_hash FROM accounts")
    assert isinstance(stored, str)
    assert stored.startswith("$argon2id$")
    row = await identity.scalar("SELECT accounts::text FROM accounts")
    assert PASSWORD not in str(row)


async def test_consents_are_recorded_with_version_and_time_and_only_those_given(identity: Identity) -> None:
    await identity.register(consents=frozenset({ConsentKind.TERMS, ConsentKind.HEALTH_DATA}))
    async with identity.database.raw() as connection:
        rows = await connection.fetch("SELECT kind, version, granted_at FROM consents ORDER BY kind")
    assert [row["kind"] for row in rows] == ["health_data", "terms"]
    assert {row["granted_at"] for row in rows} == {identity.clock.now()}
    assert all(row["version"] for row in rows)


async def test_an_older_client_without_flags_registers_with_health_details(identity: Identity) -> None:
    registered = await identity.register(health=HealthDetails(blood_type="A+"))
    async with identity.database.transaction() as session:
        profile = await identity.users.get(session, user_principal(registered.user_id))
    assert profile.health.blood_type == "A+"
    assert await identity.scalar("SELECT count(*) FROM consents") == 0


async def test_a_client_that_sends_flags_needs_the_one_for_health_details(identity: Identity) -> None:
    agreed = frozenset({ConsentKind.TERMS, ConsentKind.PRIVACY})
    with pytest.raises(HealthConsentMissing):
        await identity.register(consents=agreed, health=HealthDetails(blood_type="A+"))
    await identity.register(consents=agreed, health=HealthDetails(birth_date="1990-05-17"))


async def test_a_network_address_opens_only_so_many_accounts_an_hour(identity: Identity) -> None:
    for number in range(REGISTRATIONS_PER_HOUR):
        await identity.register(f"p{number}@example.com", address="203.0.113.7")
    with pytest.raises(TooManyRegistrations) as refused:
        await identity.register("one-more@example.com", address="203.0.113.7")
    assert refused.value.details["retry_after_s"] == "3600.0"
    await identity.register("one-more@example.com", address="203.0.113.8")
    identity.clock.advance(hours=1, seconds=1)
    await identity.register("later@example.com", address="203.0.113.7")


async def test_asking_for_taken_addresses_is_counted_and_what_is_refused_at_sight_is_not(identity: Identity) -> None:
    await identity.register()
    for _ in range(REGISTRATIONS_PER_HOUR):
        with pytest.raises(WeakPassword):
            await identity.register("new@example.com", "weak", address="203.0.113.7")
    for _ in range(REGISTRATIONS_PER_HOUR):
        with pytest.raises(EmailTaken):
            await identity.register(address="203.0.113.7")
    with pytest.raises(TooManyRegistrations):
        await identity.register("new@example.com", address="203.0.113.7")


async def test_an_unknown_address_takes_the_same_work_and_answer_as_a_wrong_password(identity: Identity) -> None:
    await identity.register()
    answers = []
    for email in (EMAIL, "unknown@example.com", "not an address"):
        identity.hasher.checked.clear()
        with pytest.raises(InvalidCredentials) as refused:
            await identity.login(email, "Wrong-horse7")
        answers.append((refused.value.message, dict(refused.value.details), len(identity.hasher.checked)))
    assert answers == [("Mail address or password is wrong.", {}, 1)] * 3


async def test_an_account_without_a_password_takes_the_same_work_too(identity: Identity) -> None:
    await identity.register()
    async with identity.database.transaction() as session:
        await session.execute(text("UPDATE accounts SET password_hash = NULL"))
    with pytest.raises(InvalidCredentials):
        await identity.login()
    assert len(identity.hasher.checked) == 1


async def test_no_database_connection_is_held_while_a_password_is_checked(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identity.register()
    held: list[int] = []
    verify = identity.hasher.verify

    def watching(hash: str | bytes, password: str | bytes) -> bool:
        held.append(identity.database.engine.pool.checkedout())  # type: ignore[attr-defined]  # QueuePool's
        return verify(hash, password)

    monkeypatch.setattr(identity.hasher, "verify", watching)
    await identity.login()
    assert held == [0]


async def test_the_sixth_failed_sign_in_within_a_minute_is_refused_and_a_minute_later_not(identity: Identity) -> None:
    await identity.register()
    for _ in range(5):
        with pytest.raises(InvalidCredentials):
            await identity.login(EMAIL, "Wrong-horse7")
        identity.clock.advance(seconds=1)
    identity.hasher.checked.clear()
    with pytest.raises(TooManySignIns) as refused:
        await identity.login(EMAIL.upper(), PASSWORD)  # even with the right password, in any case
    assert identity.hasher.checked == []
    assert float(refused.value.details["retry_after_s"]) == 55
    assert EMAIL not in str(identity.counter.events)
    identity.clock.advance(seconds=55.1)
    await identity.login()


async def test_an_unknown_address_is_limited_like_a_known_one(identity: Identity) -> None:
    for _ in range(5):
        with pytest.raises(InvalidCredentials):
            await identity.login("unknown@example.com", "x")
    with pytest.raises(TooManySignIns):
        await identity.login("unknown@example.com", "x")


async def test_sign_ins_that_succeed_are_not_counted(identity: Identity) -> None:
    await identity.register()
    for _ in range(12):
        await identity.login(address="192.0.2.1")


async def test_another_account_can_sign_in_from_where_one_has_failed(identity: Identity) -> None:
    await identity.register()
    for _ in range(5):
        with pytest.raises(InvalidCredentials):
            await identity.login("other@example.com", "x", address="192.0.2.1")
    await identity.login(address="192.0.2.1")


async def test_one_address_cannot_try_many_accounts(identity: Identity) -> None:
    await identity.register()
    for number in range(50):
        with pytest.raises(InvalidCredentials):
            await identity.login(f"person{number}@example.com", "x", address="192.0.2.1")
    with pytest.raises(TooManySignIns):
        await identity.login(address="192.0.2.1")
    await identity.login(address="192.0.2.2")


async def test_of_many_guesses_at_once_no_more_than_five_are_answered(identity: Identity) -> None:
    """All of them pass the first check before any has failed: the threads are held until all are in."""
    await identity.register()
    guesses = [f"Guess-number{n}" for n in range(19)] + [PASSWORD]
    results = await asyncio.gather(*(identity.login(EMAIL, guess) for guess in guesses), return_exceptions=True)
    assert len(identity.hasher.checked) == 20  # so they did overlap
    kinds = [type(result).__name__ for result in results]
    assert kinds.count("InvalidCredentials") == 5
    assert kinds.count("TooManySignIns") == 15


async def test_the_limit_holds_with_the_counters_that_processes_share(
    identity: Identity, redis: FakeAsyncRedis
) -> None:
    failed = FailedSignIns(RateLimiter(redis))
    identity.auth._failed_sign_ins = failed
    await identity.register()
    for _ in range(5):
        with pytest.raises(InvalidCredentials):
            await identity.login(EMAIL, "Wrong-horse7", address="192.0.2.1")
    with pytest.raises(TooManySignIns) as refused:
        await identity.login(address="192.0.2.9")
    assert 0 < float(refused.value.details["retry_after_s"]) <= 60


async def test_a_hash_made_with_older_parameters_is_made_anew_at_the_next_sign_in(identity: Identity) -> None:
    await identity.register()
    before = await identity.scalar("SELECT password_hash FROM accounts")
    identity.auth._passwords = Passwords(CountingHasher(time_cost=2))
    await identity.login()
    after = await identity.scalar("SELECT password_hash FROM accounts")
    assert "t=1" in str(before)
    assert "t=2" in str(after)
    await identity.login()


async def test_a_disabled_account_is_told_so_only_with_the_right_password(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    tokens = await identity.login()
    async with identity.database.transaction() as session:
        await identity.auth.set_disabled(session, user_id=user_id, disabled=True)
    with pytest.raises(InvalidCredentials):
        await identity.login(EMAIL, "Wrong-horse7")
    with pytest.raises(AccountDisabled):
        await identity.login()
    with pytest.raises(InvalidAccessToken):
        await identity.validate(tokens.access_token)
    async with identity.database.transaction() as session:
        await identity.auth.set_disabled(session, user_id=user_id, disabled=False)
    await identity.login()


async def test_logout_ends_every_sign_in_of_the_caller_and_of_nobody_else(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    await identity.register("other@example.com")
    first, second, others = await identity.login(), await identity.login(), await identity.login("other@example.com")
    async with identity.database.transaction() as session:
        await identity.auth.logout(session, user_principal(user_id))
    for tokens in (first, second):
        with pytest.raises(InvalidAccessToken):
            await identity.validate(tokens.access_token)
        with pytest.raises(Unauthenticated):
            await identity.refresh(tokens.refresh_token)
    assert await identity.validate(others.access_token) == others.user_id
    await identity.refresh(others.refresh_token)


async def test_nobody_signs_another_person_out_but_an_administrator(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    tokens = await identity.login()
    reader = Principal(kind=PrincipalKind.DEVICE, subject="device-1", owner=UserId(user_id))
    refused: list[tuple[Principal, type[Exception]]] = [
        (ANONYMOUS, Unauthenticated),
        (user_principal("somebody"), Forbidden),
        (reader, Forbidden),
    ]
    for principal, error in refused:
        with pytest.raises(error):
            async with identity.database.transaction() as session:
                await identity.auth.logout(session, principal, user_id=user_id)
    assert await identity.validate(tokens.access_token) == user_id
    async with identity.database.transaction() as session:
        await identity.auth.logout(session, user_principal("boss", Role.ADMIN), user_id=user_id)
    with pytest.raises(InvalidAccessToken):
        await identity.validate(tokens.access_token)


async def test_changing_the_password_ends_all_sign_ins_but_a_fresh_one(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    old = await identity.login()
    async with identity.database.transaction() as session:
        fresh = await identity.auth.change_password(
            session, user_principal(user_id), current=PASSWORD, new="Another-horse8"
        )
    with pytest.raises(InvalidAccessToken):
        await identity.validate(old.access_token)
    assert await identity.validate(fresh.access_token) == user_id
    with pytest.raises(InvalidCredentials):
        await identity.login()
    await identity.login(EMAIL, "Another-horse8")


async def test_changing_the_password_needs_the_current_one_and_a_strong_new_one(identity: Identity) -> None:
    person = user_principal((await identity.register()).user_id)
    cases: list[tuple[Principal, str, str, type[Exception]]] = [
        (person, "Wrong-horse7", "Another-horse8", InvalidCredentials),
        (person, PASSWORD, "weak", WeakPassword),
        (ANONYMOUS, PASSWORD, "Another-horse8", Unauthenticated),
        (DEVELOPMENT, PASSWORD, "Another-horse8", Forbidden),
    ]
    for principal, current, new, error in cases:
        with pytest.raises(error):
            async with identity.database.transaction() as session:
                await identity.auth.change_password(session, principal, current=current, new=new)
    await identity.login()


async def test_a_granted_role_is_in_the_next_tokens_and_ends_the_old_ones(identity: Identity) -> None:
    await identity.register()
    old = await identity.login()
    async with identity.database.transaction() as session:
        await identity.auth.grant_role(session, email=EMAIL.upper(), role=Role.TECHNICIAN)
    with pytest.raises(InvalidAccessToken):
        await identity.validate(old.access_token)
    claims = await identity.access_tokens.verify((await identity.login()).access_token)
    assert claims.role is Role.TECHNICIAN
    with pytest.raises(AccountNotFound):
        async with identity.database.transaction() as session:
            await identity.auth.grant_role(session, email="nobody@example.com", role=Role.ADMIN)
