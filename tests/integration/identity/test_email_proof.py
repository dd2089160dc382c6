"""A code by mail proves the address to the person who is signed in, who keeps the account."""

import re

import pytest

from domain.identity.auth.email_proof import CODE_TTL, EmailProofs
from domain.identity.auth.errors import (
    InvalidEmailCode,
    TooManyEmailCodes,
)
from tests.integration.identity.conftest import EMAIL, Identity, user_principal
from tests.integration.identity.test_password_reset import NEW_PASSWORD, complete, mailed_token
from tests.integration.identity.test_social import GOOGLE, sign_in


def proofs_of(identity: Identity) -> EmailProofs:
    return EmailProofs(
        clock=identity.clock, sessions=identity.database, counter=identity.counter, mailer=identity.mailbox
    )


async def mailed_code(identity: Identity, proofs: EmailProofs, user_id: str, locale: str = "en") -> str:
    async with identity.database.transaction() as session:
        await proofs.request(session, user_principal(user_id), locale=locale)
    assert await proofs.send_due() == 1
    found = re.search(r"\n([0-9A-Z]{5}-[0-9A-Z]{5})\n", identity.mailbox.mails[-1].text)
    assert found is not None
    return found.group(1)


async def confirm(identity: Identity, proofs: EmailProofs, user_id: str, code: str) -> None:
    async with identity.database.transaction() as session:
        await proofs.confirm(session, user_principal(user_id), code=code)


async def _by_reset(identity: Identity) -> str:
    await complete(identity, await mailed_token(identity))
    return (await identity.login(EMAIL, NEW_PASSWORD)).user_id


async def _by_provider(identity: Identity) -> str:
    return (await sign_in(identity, GOOGLE)).user_id


async def test_who_has_proven_the_address_while_signed_in_keeps_the_account(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    proofs = proofs_of(identity)
    code = await mailed_code(identity, proofs, user_id)
    await confirm(identity, proofs, user_id, code.lower().replace("-", " "))
    assert await _by_reset(identity) == user_id
    assert await _by_provider(identity) == user_id
    with pytest.raises(InvalidEmailCode):
        await confirm(identity, proofs, user_id, code)


async def test_a_code_is_good_for_its_account_a_quarter_of_an_hour_and_ten_tries(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    other = (await identity.register("other@example.com")).user_id
    proofs = proofs_of(identity)
    code = await mailed_code(identity, proofs, user_id, locale="ko")
    assert "코드" in identity.mailbox.mails[-1].text
    with pytest.raises(InvalidEmailCode):
        await confirm(identity, proofs, other, code)
    identity.clock.advance(seconds=CODE_TTL.total_seconds())
    with pytest.raises(InvalidEmailCode):
        await confirm(identity, proofs, user_id, code)
    for _ in range(9):
        with pytest.raises(InvalidEmailCode):
            await confirm(identity, proofs, user_id, "00000-00000")
    with pytest.raises(TooManyEmailCodes):
        await confirm(identity, proofs, user_id, code)
    assert await identity.scalar("SELECT count(*) FROM accounts WHERE email_verified_at IS NOT NULL") == 0
