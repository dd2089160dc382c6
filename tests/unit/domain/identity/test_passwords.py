"""The password policy, and what a check of a password costs."""

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters

from domain.identity.auth import passwords
from domain.identity.auth.errors import PasswordChecksBusy, WeakPassword
from domain.identity.auth.passwords import Passwords, Verdict, owasp_hasher, require_strong


def cheap(time_cost: int = 1) -> PasswordHasher:
    return PasswordHasher(time_cost=time_cost, memory_cost=64, parallelism=1)


@pytest.mark.parametrize("password", ["Abcdef1!", "비밀Ab1!번호", "Aa1 Aa1£", "Aa1!" * 32])
def test_a_password_with_all_kinds_of_characters_is_strong(password: str) -> None:
    require_strong(password)


@pytest.mark.parametrize(
    ("password", "missing"),
    [
        ("Abcde1!", "length"),
        ("Aa1!" * 32 + "x", "max_length"),
        ("abcdef1!", "upper"),
        ("ABCDEF1!", "lower"),
        ("Abcdefg!", "digit"),
        ("Abcdefg1", "special"),
        ("Abc def 1", "special"),
        ("", "length,upper,lower,digit,special"),
        ("abc", "length,upper,digit,special"),
    ],
)
def test_a_weak_password_is_told_everything_that_it_lacks(password: str, missing: str) -> None:
    with pytest.raises(WeakPassword) as refused:
        require_strong(password, field="new_password")
    assert refused.value.details == {"field": "new_password", "missing": missing}
    assert password not in refused.value.message or not password


def test_new_hashes_meet_the_owasp_minimum() -> None:
    parameters = extract_parameters(owasp_hasher().hash("x"))
    assert (parameters.type.name, parameters.version) == ("ID", 19)
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2
    assert len(owasp_hasher().hash("x").split("$")) == 6


async def test_a_right_password_is_right_and_a_wrong_one_wrong() -> None:
    checker = Passwords(cheap())
    stored = await checker.hash("Abcdef1!")
    assert await checker.verify(stored, "Abcdef1!") == Verdict(is_right=True)
    assert await checker.verify(stored, "Abcdef1?") == Verdict(is_right=False)
    assert await checker.verify("not a hash", "Abcdef1!") == Verdict(is_right=False)
    checker.close()


async def test_a_password_of_nobody_is_never_right() -> None:
    checker = Passwords(cheap())
    assert await checker.verify(None, "Abcdef1!") == Verdict(is_right=False)
    checker.close()


async def test_composed_and_decomposed_letters_are_the_same_password() -> None:
    checker = Passwords(cheap())
    assert (await checker.verify(await checker.hash("Caf\u00e9-123"), "Cafe\u0301-123")).is_right
    checker.close()


async def test_a_hash_with_other_parameters_asks_for_a_new_one() -> None:
    old = await Passwords(cheap(time_cost=1)).hash("Abcdef1!")
    assert await Passwords(cheap(time_cost=2)).verify(old, "Abcdef1!") == Verdict(is_right=True, needs_rehash=True)


async def test_the_event_loop_runs_on_while_a_password_is_hashed() -> None:
    checker = Passwords(PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1), threads=1)
    hashing = asyncio.ensure_future(checker.hash("Abcdef1!"))
    turns = 0
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    checker.close()


async def test_more_waiting_checks_than_the_machine_can_do_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 2)
    checker = Passwords(cheap(), threads=1)
    results = await asyncio.gather(*(checker.hash("Abcdef1!") for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [str, str, PasswordChecksBusy]
    assert await checker.hash("Abcdef1!")  # and room again
    checker.close()
