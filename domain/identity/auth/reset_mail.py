"""Reset mails: asked for in one transaction, sent by a worker after it, not lost in between.

Asking writes the same row for every address, known or not. The worker claims a row (SKIP LOCKED) with a lease, commits a fresh
one-time token for it, and only then sends the mail, so the link works when it arrives. If the process dies in between, the
lease runs out and the mail is sent again with another token. The token itself is nowhere but in the mail.
"""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from domain.clock import Clock
from domain.identity.auth.models import PasswordReset
from domain.identity.auth.ports import Profiles
from domain.identity.auth.proof import is_proven
from domain.identity.auth.repository import AccountRepository, ResetRepository, SignInRepository
from domain.identity.auth.tokens import new_secret_token, token_hash
from domain.ids import UserId
from domain.mail import Mail, Mailer, MailNotSent, MailRefused
from domain.sessions import Sessions

_log = structlog.get_logger(__name__)

TOKEN_TTL = timedelta(minutes=30)
LEASE = timedelta(seconds=60)
GIVE_UP_AFTER = timedelta(hours=6)
_LONGEST_PAUSE_S = 600
_KEEP_TRACES = timedelta(days=1)

_TEXTS = {
    "ko": (
        "[만파식] 비밀번호 재설정",
        (
            "비밀번호를 새로 정하려면 아래 링크를 여세요. 링크는 {minutes}분 동안 한 번만 쓸 수 있습니다.\n\n{link}\n\n"
            "앱에서 코드를 묻는 경우: {token}\n\n"
            "요청하신 적이 없다면 이 메일을 무시하세요. 비밀번호는 그대로입니다.\n"
        ),
    ),
    "en": (
        "[ManPaSik] Reset your password",
        (
            "Open this link to choose a new password. It works once, within {minutes} minutes.\n\n{link}\n\n"
            "If the app asks for a code: {token}\n\n"
            "If you did not ask for this, ignore this mail; your password stays as it is.\n"
        ),
    ),
}


_UNPROVEN = {
    "ko": (
        "\n주의: 이 메일 주소는 아직 확인되지 않았습니다. 비밀번호를 재설정하면 지금까지 이 계정에 설정된 것(기기, 측정 결과, 프로필, "
        "비상 연락처)이 계정에서 모두 제거됩니다. 다른 사람이 설정했을 수 있기 때문입니다. 아직 로그인되어 있다면 앱에서 먼저 메일 주소를 "
        "확인하세요. 그러면 모두 그대로 남습니다.\n"
    ),
    "en": (
        "\nNote: this mail address has not been confirmed yet. A new password removes from the account all that was set so far "
        "(readers, results, profile, emergency contact), because another person may have set it. If you are still signed in, "
        "confirm the address in the app first: then everything stays.\n"
    ),
}


def reset_mail(*, to: str, locale: str, link: str, token: str, is_proven: bool) -> Mail:
    """The mail in Korean or, for every other language, in English.

    Args:
        is_proven: whether the address was proven; else the mail says what a new password removes.
    """
    language = "ko" if locale.lower().startswith("ko") else "en"
    subject, text = _TEXTS[language]
    minutes = int(TOKEN_TTL.total_seconds() // 60)
    warning = "" if is_proven else _UNPROVEN[language]
    return Mail(to=to, subject=subject, text=text.format(minutes=minutes, link=link, token=token) + warning)


@dataclass(frozen=True, slots=True)
class _Claimed:
    request_id: str
    attempts: int
    is_too_old: bool
    mail: Mail | None


class ResetMails:
    """The worker behind `AuthService.request_password_reset`.

    Args:
        public_url: where the app's page for a new password is (`<public_url>/reset-password?token=...`).
    """

    def __init__(
        self, *, clock: Clock, sessions: Sessions, profiles: Profiles, mailer: Mailer, public_url: str
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._profiles = profiles
        self._mailer = mailer
        self._public_url = public_url.rstrip("/")

    async def send_due(self) -> int:
        """Work through the requests that are due and answer how many there were. Safe on several instances at once."""
        handled = 0
        while (claimed := await self._claim()) is not None:
            await self._deliver(claimed)
            handled += 1
        return handled

    async def tidy(self) -> None:
        """Forget used and expired tokens, and sign-ins that cannot be continued, a day later."""
        async with self._sessions.transaction() as session:
            before = self._clock.now() - _KEEP_TRACES
            await ResetRepository(session).delete_old(before)
            await SignInRepository(session).delete_expired(before)

    async def _claim(self) -> _Claimed | None:
        async with self._sessions.transaction() as session:
            now = self._clock.now()
            repository = ResetRepository(session)
            request = await repository.claim_due(now, lease=LEASE)
            if request is None:
                return None
            is_too_old = now - request.requested_at > GIVE_UP_AFTER
            account = await AccountRepository(session).by_email(request.email)
            mail = None
            if account is not None and account.disabled_at is None and not is_too_old and self._mailer.is_configured:
                token = new_secret_token()
                repository.add_token(
                    PasswordReset(
                        token_hash=token_hash(token), user_id=account.id, created_at=now, expires_at=now + TOKEN_TTL
                    )
                )
                locale = await self._profiles.language_of(session, UserId(account.id)) or request.locale
                link = f"{self._public_url}/reset-password?token={token}"
                mail = reset_mail(to=request.email, locale=locale, link=link, token=token, is_proven=is_proven(account))
            elif account is not None and not self._mailer.is_configured:
                _log.warning("mail_not_configured", what="password reset", user_id=account.id, set="SMTP_HOST")
            return _Claimed(request.id, request.attempts, is_too_old, mail)

    async def _deliver(self, claimed: _Claimed) -> None:
        if claimed.mail is not None:
            try:
                await self._mailer.send(claimed.mail)
            except MailNotSent as error:
                pause = timedelta(seconds=min(2**claimed.attempts, _LONGEST_PAUSE_S))
                _log.warning(
                    "reset_mail_postponed", request=claimed.request_id, attempts=claimed.attempts, why=str(error)
                )
                async with self._sessions.transaction() as session:
                    await ResetRepository(session).postpone(claimed.request_id, self._clock.now() + pause)
                return
            except MailRefused as error:
                _log.warning("reset_mail_refused", request=claimed.request_id, why=str(error))
        elif claimed.is_too_old:
            _log.error("reset_mail_given_up", request=claimed.request_id, attempts=claimed.attempts)
        async with self._sessions.transaction() as session:
            await ResetRepository(session).delete_request(claimed.request_id)
