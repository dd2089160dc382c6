"""The adapters against the sandboxes, over sockets: push by FCM, text messages by Solapi's API, mail by SMTP."""

import json
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from domain.clock import SystemClock
from domain.mail import Mail
from domain.operations.notification.ports import Accepted, NotNow, PushMessage, Refused, Unregistered
from infra.sandbox.mail import MailSandbox
from infra.sandbox.push import PushSandbox
from infra.sandbox.sms import API_KEY, API_SECRET, SENDER, SmsSandbox
from subgraphs.operations.notification.adapters.mail import SmtpNotifications
from subgraphs.operations.notification.adapters.push import FcmPush
from subgraphs.operations.notification.adapters.sms import SolapiSms
from subgraphs.runtime.settings import MailSettings, PushSettings, SettingsError, SmsSettings

HELLO = PushMessage("n-1", "건강 경고", "앱에서 확인하세요.", {"notification_id": "n-1"}, is_urgent=True)


@pytest.fixture
async def push_sandbox() -> AsyncIterator[PushSandbox]:
    sandbox = PushSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def push(push_sandbox: PushSandbox) -> AsyncIterator[FcmPush]:
    adapter = FcmPush(
        PushSettings(server_key=SecretStr(push_sandbox.server_key), api_url=push_sandbox.url), SystemClock()
    )
    yield adapter
    await adapter.close()


@pytest.fixture
async def sms_sandbox() -> AsyncIterator[SmsSandbox]:
    sandbox = SmsSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


def sms_settings(sandbox: SmsSandbox, **more: str) -> SmsSettings:
    told = {"api_url": sandbox.url, "api_key": API_KEY, "api_secret": API_SECRET, "sender": SENDER, **more}
    return SmsSettings.model_validate(told)


@pytest.fixture
async def texts(sms_sandbox: SmsSandbox) -> AsyncIterator[SolapiSms]:
    adapter = SolapiSms(sms_settings(sms_sandbox), SystemClock())
    yield adapter
    await adapter.close()


async def test_a_push_is_signed_taken_and_told_to_replace_itself(push: FcmPush, push_sandbox: PushSandbox) -> None:
    first, second = await push.send("phone-1", HELLO), await push.send("phone-2", HELLO)
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert [message["token"] for message in push_sandbox.sent] == ["phone-1", "phone-2"]
    taken = push_sandbox.sent[0]
    assert first.provider_id == taken["name"]
    assert taken["notification"] == {"title": "건강 경고", "body": "앱에서 확인하세요."}
    assert taken["android"]["notification"]["tag"] == taken["apns"]["headers"]["apns-collapse-id"] == "n-1"
    assert taken["android"]["priority"] == "HIGH"
    assert push_sandbox.tokens_issued == 1  # one access token serves both


@pytest.mark.parametrize(
    ("token", "outcome"),
    [
        ("gone-1", Unregistered()),
        ("bad-1", Refused("INVALID_ARGUMENT")),
        ("busy-1", NotNow("HTTP_429", 2.0)),
        ("broken-1", NotNow("HTTP_500", 0.0)),
    ],
)
async def test_what_the_push_service_answers_decides_what_is_done(
    push: FcmPush, push_sandbox: PushSandbox, token: str, outcome: object
) -> None:
    assert await push.send(token, HELLO) == outcome
    assert not push_sandbox.sent
    if isinstance(outcome, NotNow):
        assert isinstance(await push.send(token, HELLO), Accepted)


async def test_a_revoked_access_token_is_replaced_at_once(push: FcmPush, push_sandbox: PushSandbox) -> None:
    await push.send("phone-1", HELLO)
    push_sandbox.revoke_tokens()
    assert isinstance(await push.send("phone-2", HELLO), Accepted)
    assert push_sandbox.tokens_issued == 2


async def test_an_account_that_is_not_the_sandbox_s_gets_no_token(push_sandbox: PushSandbox) -> None:
    other = PushSandbox()
    key = json.loads(other.server_key) | {"token_uri": f"{push_sandbox.url}/token"}
    adapter = FcmPush(PushSettings(server_key=SecretStr(json.dumps(key)), api_url=push_sandbox.url), SystemClock())
    assert await adapter.send("phone-1", HELLO) == Refused("TOKEN_HTTP_400")
    await adapter.close()


async def test_a_push_service_that_is_away_is_asked_again_later(push: FcmPush, push_sandbox: PushSandbox) -> None:
    await push_sandbox.stop()
    outcome = await push.send("phone-1", HELLO)
    assert isinstance(outcome, NotNow)
    assert outcome.reason.startswith("PUSH_UNREACHABLE")


async def test_the_key_of_push_may_be_a_file_and_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "account.json"
    sandbox = PushSandbox(key_file=path)
    await sandbox.start()
    await sandbox.stop()
    assert FcmPush(PushSettings(server_key=SecretStr(str(path))), SystemClock()).is_configured
    assert not FcmPush(PushSettings(), SystemClock()).is_configured
    for wrong in ("AAAA-legacy-server-key", "{}", '{"project_id": "p", "client_email": "e", "private_key": "k"}'):
        with pytest.raises(SettingsError, match="FCM_SERVER_KEY") as refusal:
            FcmPush(PushSettings(server_key=SecretStr(wrong)), SystemClock())
        assert wrong not in str(refusal.value)


async def test_a_text_message_is_signed_and_taken(texts: SolapiSms, sms_sandbox: SmsSandbox) -> None:
    assert isinstance(await texts.send("+821012345678", "[만파식] 안녕하세요"), Accepted)
    assert isinstance(await texts.send("01012345679", "again"), Accepted)
    taken = [(message["to"], message["text"], message["type"]) for message in sms_sandbox.sent]
    assert taken == [("01012345678", "[만파식] 안녕하세요", "SMS"), ("01012345679", "again", "SMS")]


@pytest.mark.parametrize(
    ("phone", "outcome"),
    [
        ("01012340400", Refused("InvalidRecipient")),
        ("01012340429", NotNow("HTTP_429", 2.0)),
        ("01012340500", NotNow("HTTP_500", 0.0)),
    ],
)
async def test_what_the_sms_service_answers_decides_what_is_done(
    texts: SolapiSms, sms_sandbox: SmsSandbox, phone: str, outcome: object
) -> None:
    assert await texts.send(phone, "hello") == outcome
    assert not sms_sandbox.sent
    if isinstance(outcome, NotNow):
        assert isinstance(await texts.send(phone, "hello"), Accepted)


async def test_a_wrong_secret_signs_no_text_message(sms_sandbox: SmsSandbox) -> None:
    adapter = SolapiSms(sms_settings(sms_sandbox, api_secret="another"), SystemClock())
    assert await adapter.send("01012345678", "hello") == Refused("SignatureDoesNotMatch")
    await adapter.close()
    assert not SolapiSms(sms_settings(sms_sandbox, sender=""), SystemClock()).is_configured


async def test_the_sandboxes_tell_what_they_took(
    push: FcmPush, push_sandbox: PushSandbox, texts: SolapiSms, sms_sandbox: SmsSandbox
) -> None:
    await push.send("phone-1", HELLO)
    await texts.send("01012345678", "hello")
    async with aiohttp.ClientSession() as http:
        for url, field, value in ((push_sandbox.url, "token", "phone-1"), (sms_sandbox.url, "to", "01012345678")):
            async with http.get(f"{url}/sandbox/sent") as response:
                told = await response.json()
            assert told["sandbox"] is True
            assert [message[field] for message in told["sent"]] == [value]


async def test_a_mail_sent_again_has_the_same_id_and_no_header_of_its_text(tmp_path: Path) -> None:
    sandbox = MailSandbox(tmp_path)
    await sandbox.start()
    adapter = SmtpNotifications(MailSettings(host="127.0.0.1", port=sandbox.port, tls="none"))
    mail = Mail("alice@example.com", "제목", "본문\nBcc: everybody@example.com\n", message_id="n-1")
    assert await adapter.send(mail) == await adapter.send(mail) == Accepted("n-1")
    mails = [message_from_bytes(path.read_bytes(), policy=default) for path in sandbox.mails()]
    assert [mail["Message-ID"] for mail in mails] == ["<n-1@manpasik>"] * 2
    assert isinstance(mails[0], EmailMessage)
    assert (mails[0]["Subject"], mails[0]["Bcc"]) == ("제목", None)
    await sandbox.stop()
    assert isinstance(await adapter.send(mail), NotNow)
