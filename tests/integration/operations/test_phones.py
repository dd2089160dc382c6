"""A phone number counts once a code that was sent to it has been given back."""

import asyncio
import re

import pytest

from domain.errors import AppError, Forbidden
from domain.operations.notification.errors import PhoneCodeNotSent, PhoneCodeRefused, TooManyPhoneCodes
from domain.operations.notification.models import NotificationType, Priority
from domain.operations.notification.phones import MAX_ATTEMPTS
from domain.operations.notification.ports import Refused
from domain.principal import Principal, PrincipalKind, Scope
from tests.integration.operations.conftest import ALICE, BOB, SERVICE, Operations
from tests.integration.operations.test_graphql import PREFERENCES, data, reason

PHONE, OTHER = "+821012345678", "+821087654321"


async def request(operations: Operations, phone: str = PHONE, who: Principal = ALICE, locale: str = "en") -> str:
    """The code that was sent."""
    await operations.services.phones.request_code(who, phone=phone, locale=locale, address="192.0.2.7")
    to, text = operations.texts.texted[-1]
    assert to == phone
    (code,) = re.findall(r"\b\d{6}\b", text)
    return str(code)


async def confirm(operations: Operations, code: str, who: Principal = ALICE) -> str:
    return await operations.services.phones.confirm(who, code=code, locale="en")


async def alert(operations: Operations) -> list[str]:
    """To which numbers an alert goes."""
    operations.texts.texted.clear()
    await operations.prefer(sms_enabled=True, push_enabled=False, email_enabled=False)
    await operations.send(SERVICE, type=NotificationType.HEALTH_ALERT, priority=Priority.URGENT)
    await operations.services.deliveries.deliver_due()
    return [to for to, _ in operations.texts.texted]


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


async def test_an_unproven_number_gets_no_message(operations: Operations) -> None:
    await operations.services.phones.set(ALICE, phone=PHONE, locale="en")
    assert await alert(operations) == []
    code = await request(operations)
    assert await alert(operations) == []
    assert await confirm(operations, code) == "+82********78"
    assert await alert(operations) == [PHONE]


async def test_a_number_that_an_earlier_release_stored_gets_no_message(operations: Operations) -> None:
    await operations.verify_phone(PHONE)
    async with operations.database.raw() as connection:
        await connection.execute("UPDATE contact_phones SET verified_at = NULL")
    assert await alert(operations) == []


async def test_a_code_is_good_once_and_for_its_person(operations: Operations) -> None:
    code = await request(operations)
    for attempt in (confirm(operations, code, BOB), confirm(operations, wrong(code)), confirm(operations, "")):
        with pytest.raises(PhoneCodeRefused):
            await attempt
    await confirm(operations, code)
    with pytest.raises(PhoneCodeRefused):
        await confirm(operations, code)


async def test_a_code_ends_after_ten_minutes(operations: Operations) -> None:
    code = await request(operations)
    operations.clock.advance(seconds=600)
    with pytest.raises(PhoneCodeRefused):
        await confirm(operations, code)


async def test_a_code_ends_after_five_attempts_also_when_they_come_at_once(operations: Operations) -> None:
    code = await request(operations)
    guesses = (confirm(operations, wrong(code)) for _ in range(MAX_ATTEMPTS))
    refused = await asyncio.gather(*guesses, return_exceptions=True)
    assert {type(answer) for answer in refused} == {PhoneCodeRefused}
    with pytest.raises(PhoneCodeRefused):
        await confirm(operations, code)
    assert await confirm(operations, await request(operations))


async def test_a_new_code_ends_the_one_before(operations: Operations) -> None:
    first = await request(operations)
    second = await request(operations, OTHER)
    if first != second:
        with pytest.raises(PhoneCodeRefused):
            await confirm(operations, first)
    assert (await confirm(operations, second)).endswith("21")


async def test_a_change_needs_a_proof_and_the_old_number_is_told(operations: Operations) -> None:
    await operations.verify_phone(PHONE)
    await operations.services.phones.set(ALICE, phone=OTHER, locale="en")
    code = await request(operations, OTHER)
    assert await alert(operations) == [PHONE]
    operations.texts.texted.clear()
    await confirm(operations, code)
    ((to, text),) = operations.texts.texted
    assert to == PHONE
    assert "no longer" in text
    assert await alert(operations) == [OTHER]
    operations.texts.texted.clear()
    await operations.services.phones.set(ALICE, phone="", locale="ko")
    ((to, text),) = operations.texts.texted
    assert (to, "더 이상" in text) == (OTHER, True)
    assert await alert(operations) == []


async def test_codes_are_limited_by_person_number_and_network(operations: Operations) -> None:
    for _ in range(5):
        await request(operations)
    with pytest.raises(TooManyPhoneCodes) as refusal:
        await request(operations, OTHER)
    assert refusal.value.details["retry_after_s"]
    with pytest.raises(TooManyPhoneCodes):
        await request(operations, PHONE, BOB)
    operations.counter.counts = {key: 30 for key in operations.counter.counts if ":network:" in key}
    with pytest.raises(TooManyPhoneCodes):
        await request(operations, OTHER, BOB)


async def test_neither_number_nor_code_can_be_read_from_the_database(operations: Operations) -> None:
    code = await request(operations)
    (row,) = await operations.fetch("SELECT * FROM pending_phones")
    assert "5678" not in str(row)
    assert code not in str(row)


async def test_a_message_that_is_not_sent_is_an_error(operations: Operations) -> None:
    operations.texts.answers.append(Refused("BAD_NUMBER"))
    with pytest.raises(PhoneCodeNotSent):
        await request(operations)
    operations.texts.is_configured = False
    with pytest.raises(PhoneCodeNotSent):
        await request(operations)


async def test_a_reader_and_a_service_set_no_phone(operations: Operations) -> None:
    scopes = frozenset({Scope.NOTIFICATION_WRITE.value})
    reader = Principal(kind=PrincipalKind.DEVICE, subject="dev-1", owner=ALICE.user_id, scopes=scopes)
    for who in (reader, SERVICE):
        with pytest.raises(AppError):
            await operations.services.phones.set(who, phone=PHONE, locale="en")
    with pytest.raises(Forbidden):
        await operations.services.phones.set(reader, phone=PHONE, locale="en")


async def test_a_person_proves_a_number_in_graphql(operations: Operations) -> None:
    query = PREFERENCES.replace("phone", "phone phoneVerified pendingPhone")
    ask = 'mutation { requestPhoneCode(phone: "010-1234-5678") { phone expiresAt } }'
    assert (await data(operations, ask))["requestPhoneCode"]["phone"] == "010******78"
    shown = (await data(operations, query))["notificationPreferences"]
    assert (shown["phone"], shown["phoneVerified"], shown["pendingPhone"]) == ("010******78", False, "010******78")
    (code,) = re.findall(r"\b\d{6}\b", operations.texts.texted[-1][1])
    give = "mutation ($code: String!) { confirmPhone(code: $code) }"
    assert await reason(operations, give, code=wrong(code)) == "PHONE_CODE_REFUSED"
    assert await data(operations, give, code=code) == {"confirmPhone": "010******78"}
    shown = (await data(operations, query))["notificationPreferences"]
    assert (shown["phoneVerified"], shown["pendingPhone"]) == (True, None)
