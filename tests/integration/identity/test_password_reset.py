"""A lost password: the mail that brings a one-time token, and what the token does."""

import asyncio
import re
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import event

from domain.identity.auth.errors import (
    InvalidAccessToken,
    InvalidCredentials,
    InvalidEmail,
    InvalidResetToken,
    TooManyResets,
    WeakPassword,
)
from domain.identity.auth.reset_mail import LEASE, TOKEN_TTL, ResetMails
from domain.mail import Mail, MailNotSent, MailRefused
from subgraphs.runtime.mail import SmtpMailer
from subgraphs.runtime.settings import MailSettings
from tests.integration.identity.conftest import EMAIL, PASSWORD, Identity

NEW_PASSWORD = "Another-horse8"


async def ask(identity: Identity, email: str = EMAIL, locale: str = "en") -> None:
    async with identity.database.transaction() as session:
        await identity.auth.request_password_reset(session, email=email, locale=locale)


async def complete(identity: Identity, token: str, password: str = NEW_PASSWORD) -> None:
    async with identity.database.transaction() as session:
        await identity.auth.complete_password_reset(session, token=token, new_password=password)


def token_in(mail: Mail) -> str:
    found = re.search(r"https://app\.example/reset-password\?token=([\w-]{43})\n", mail.text)
    assert found is not None
    return found.group(1)


async def mailed_token(identity: Identity) -> str:
    await ask(identity)
    await identity.mails.send_due()
    return token_in(identity.mailbox.mails[-1])


async def test_a_mailed_token_sets_a_new_password_and_ends_all_sign_ins(identity: Identity) -> None:
    await identity.register()
    old = await identity.login()
    await complete(identity, await mailed_token(identity))
    with pytest.raises(InvalidAccessToken):
        await identity.validate(old.access_token)
    with pytest.raises(InvalidCredentials):
        await identity.login(EMAIL, PASSWORD)
    await identity.login(EMAIL, NEW_PASSWORD)
    assert await identity.scalar("SELECT email_verified_at IS NOT NULL FROM accounts")


async def test_a_token_works_once_also_when_two_bring_it_at_once(identity: Identity) -> None:
    await identity.register()
    token = await mailed_token(identity)
    results = await asyncio.gather(*(complete(identity, token) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["InvalidResetToken"] * 3 + ["NoneType"]


async def test_a_token_expires_after_half_an_hour(identity: Identity) -> None:
    await identity.register()
    token = await mailed_token(identity)
    identity.clock.advance(seconds=TOKEN_TTL.total_seconds())
    with pytest.raises(InvalidResetToken):
        await complete(identity, token)
    assert timedelta(minutes=30) == TOKEN_TTL


async def test_a_weak_password_does_not_use_the_token_up(identity: Identity) -> None:
    await identity.register()
    token = await mailed_token(identity)
    with pytest.raises(WeakPassword):
        await complete(identity, token, "weak")
    await complete(identity, token)


async def test_using_one_token_uses_up_the_others(identity: Identity) -> None:
    await identity.register()
    first, second = await mailed_token(identity), await mailed_token(identity)
    await complete(identity, second)
    with pytest.raises(InvalidResetToken):
        await complete(identity, first)


async def test_an_unknown_token_costs_no_hashing(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(identity.hasher, "hash", hashed.append)
    with pytest.raises(InvalidResetToken):
        await complete(identity, "unknown")
    assert hashed == []


async def test_the_token_is_nowhere_but_in_the_mail(identity: Identity) -> None:
    await identity.register()
    token = await mailed_token(identity)
    stored = str(await identity.scalar("SELECT string_agg(password_resets::text, '') FROM password_resets"))
    assert token not in stored
    assert token.encode().hex() not in stored
    assert await identity.scalar("SELECT count(*) FROM reset_requests") == 0


async def test_asking_for_an_unknown_address_does_the_same_and_mails_nothing(identity: Identity) -> None:
    await identity.register()
    statements: list[str] = []
    engine = identity.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda c, cur, sql, *rest: statements.append(sql))
    await ask(identity)
    known, statements[:] = list(statements), []
    await ask(identity, "unknown@example.com")
    assert statements == known
    assert await identity.mails.send_due() == 2
    assert [mail.to for mail in identity.mailbox.mails] == [EMAIL]
    assert await identity.scalar("SELECT count(*) FROM reset_requests") == 0


async def test_asking_too_often_is_refused_for_known_and_unknown_alike(identity: Identity) -> None:
    await identity.register()
    for email in (EMAIL, "unknown@example.com"):
        for _ in range(5):
            await ask(identity, email)
        with pytest.raises(TooManyResets):
            await ask(identity, email.upper())
    with pytest.raises(InvalidEmail):
        await ask(identity, "nobody")


@pytest.mark.parametrize(
    ("language", "subject"), [("ko", "[만파식] 비밀번호 재설정"), ("en-US", "[ManPaSik] Reset your password")]
)
async def test_the_mail_is_in_the_persons_language(identity: Identity, language: str, subject: str) -> None:
    await identity.register(language=language)
    await ask(identity, locale="ko" if language == "en-US" else "en")
    await identity.mails.send_due()
    assert identity.mailbox.mails[0].subject == subject
    assert "30" in identity.mailbox.mails[0].text


async def test_a_mail_that_cannot_be_sent_now_is_sent_later(identity: Identity) -> None:
    await identity.register()
    identity.mailbox.failures = [MailNotSent("busy"), MailNotSent("busy")]
    await ask(identity)
    await identity.mails.send_due()
    await identity.mails.send_due()
    assert identity.mailbox.mails == []
    identity.clock.advance(seconds=2)
    await identity.mails.send_due()
    identity.clock.advance(seconds=4)
    await identity.mails.send_due()
    await complete(identity, token_in(identity.mailbox.mails[0]))


async def test_a_process_that_dies_while_it_sends_loses_no_mail(identity: Identity) -> None:
    await identity.register()
    identity.mailbox.failures = [KeyboardInterruptedMidway()]
    await ask(identity)
    with pytest.raises(KeyboardInterruptedMidway):
        await identity.mails.send_due()
    assert await identity.mails.send_due() == 0  # its lease holds
    identity.clock.advance(seconds=LEASE.total_seconds())
    assert await identity.mails.send_due() == 1
    await complete(identity, token_in(identity.mailbox.mails[0]))


class KeyboardInterruptedMidway(Exception):
    """Stands for the death of the process: no code of ours runs after it."""


async def test_a_recipient_that_is_refused_for_good_is_not_tried_again(identity: Identity) -> None:
    await identity.register()
    identity.mailbox.failures = [MailRefused("no such mailbox")]
    await ask(identity)
    await identity.mails.send_due()
    identity.clock.advance(hours=1)
    assert await identity.mails.send_due() == 0


async def test_a_mail_is_given_up_after_hours(identity: Identity) -> None:
    await identity.register()
    await ask(identity)
    identity.clock.advance(hours=7)
    await identity.mails.send_due()
    assert identity.mailbox.mails == []
    assert await identity.scalar("SELECT count(*) FROM reset_requests") == 0


async def test_several_workers_send_each_mail_once(identity: Identity) -> None:
    addresses = [f"person{n}@example.com" for n in range(6)]
    for address in addresses:
        await identity.register(address)
        await ask(identity, address)
    handled = await asyncio.gather(*(identity.mails.send_due() for _ in range(3)))
    assert sum(handled) == 6
    assert sorted(mail.to for mail in identity.mailbox.mails) == addresses


async def test_without_a_mail_server_it_is_said_so_without_a_token(
    identity: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    await identity.register()
    identity.mailbox.is_configured = False
    await ask(identity)
    await identity.mails.send_due()
    said = capsys.readouterr().out
    assert "mail_not_configured" in said
    assert EMAIL not in said
    assert await identity.scalar("SELECT count(*) FROM password_resets") == 0
    assert await identity.scalar("SELECT count(*) FROM reset_requests") == 0


class MailServer:
    """A handler of a real SMTP server on a local port."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.answers: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        if self.answers:
            return self.answers.pop(0)
        self.envelopes.append(envelope)
        return "250 OK"


async def test_mail_goes_out_by_smtp(identity: Identity) -> None:
    handler = MailServer()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = MailSettings(host="127.0.0.1", port=port, tls="none", sender="ManPaSik <hello@manpasik.example>")
    mailer = SmtpMailer(settings)
    assert mailer.is_configured
    mails = ResetMails(
        clock=identity.clock,
        sessions=identity.database,
        profiles=identity.users,
        mailer=mailer,
        public_url="https://app.example",
    )
    await identity.register(language="ko")
    await ask(identity)
    handler.answers = ["451 try later"]
    await mails.send_due()
    assert handler.envelopes == []
    identity.clock.advance(seconds=10)
    await mails.send_due()
    received = message_from_bytes(_bytes_of(handler.envelopes[0]), policy=default)
    assert isinstance(received, EmailMessage)
    assert (received["To"], received["Subject"]) == (EMAIL, "[만파식] 비밀번호 재설정")
    await complete(identity, token_in(Mail("", "", received.get_content().replace("\r\n", "\n"))))
    handler.answers = ["550 never"]
    with pytest.raises(MailRefused):
        await mailer.send(Mail("x@example.com", "s", "t"))
    server.close()
    await server.wait_closed()
    with pytest.raises(MailNotSent):
        await mailer.send(Mail("x@example.com", "s", "t"))


def _bytes_of(envelope: Envelope) -> bytes:
    assert isinstance(envelope.content, bytes)
    return envelope.content


def test_without_a_host_mail_is_not_configured() -> None:
    assert not SmtpMailer(MailSettings()).is_configured
