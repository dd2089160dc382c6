"""A signed-in person proves to read the mail of the account, by a code that was mailed.

The code is typed into the app that is signed in: it proves the person who holds the session *and* the mail. A link would not do,
because the person who opens it may be another one than the person who asked for it, which is how accounts that were opened
with a foreign address are taken from their real owner. A first proof that comes without the session (a reset mail, a provider) takes
the account from its holder (`proof`).

Asking writes a row; a worker mails the code after the commit, and again when the process died in between. The code has 50
random bits, so its SHA-256 is no help to a reader of the table within the time that it is good for.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import Forbidden, LimitExceeded
from domain.identity.auth.errors import InvalidEmailCode, NoEmail, TooManyEmailCodes
from domain.identity.auth.models import Account
from domain.identity.auth.ports import AttemptCounter
from domain.identity.auth.proof import note_proof
from domain.identity.auth.repository import AccountRepository, EmailProofRepository
from domain.mail import Mail, Mailer, MailNotSent, MailRefused
from domain.principal import Principal, PrincipalKind
from domain.sessions import Sessions

_log = structlog.get_logger(__name__)

CODE_TTL = timedelta(minutes=15)
MAILS_PER_HOUR = 5
TRIES_PER_HOUR = 10
_HOUR_S = 3600.0
_LEASE = timedelta(seconds=60)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Of Crockford's base 32: no letter looks like a digit."""
_CODE_CHARACTERS = 10
_LONGEST_CODE = 40

_TEXTS = {
    "ko": (
        "[만파식] 메일 주소 확인",
        (
            "로그인한 만파식 앱에 아래 코드를 입력하면 메일 주소가 확인됩니다. 코드는 {minutes}분 동안 한 번만 쓸 수 있습니다.\n\n"
            "{code}\n\n"
            "직접 요청하지 않았다면 누군가 이 주소로 가입한 것입니다. 코드를 아무에게도 알려 주지 마세요. "
            "비밀번호를 재설정하면 그 사람이 설정한 것은 모두 지워지고 계정은 본인의 것이 됩니다.\n"
        ),
    ),
    "en": (
        "[ManPaSik] Confirm your mail address",
        (
            "Type this code into the ManPaSik app that is signed in. It works once, within {minutes} minutes.\n\n"
            "{code}\n\n"
            "If you did not ask for this, another person has registered with your address: give the code to nobody. "
            "Reset the password: all that the other person has set is removed then, and the account is yours.\n"
        ),
    ),
}


def proof_mail(*, to: str, locale: str, code: str) -> Mail:
    """The mail in Korean or, for every other language, in English."""
    subject, text = _TEXTS["ko" if locale.lower().startswith("ko") else "en"]
    shown = f"{code[:5]}-{code[5:]}"
    return Mail(to=to, subject=subject, text=text.format(minutes=int(CODE_TTL.total_seconds() // 60), code=shown))


@dataclass(frozen=True, slots=True)
class _Claimed:
    user_id: str
    code_hash: bytes
    mail: Mail


class EmailProofs:
    """Commands about the proof of a mail address, and the worker that mails the codes. One for the process."""

    def __init__(self, *, clock: Clock, sessions: Sessions, counter: AttemptCounter, mailer: Mailer) -> None:
        self._clock = clock
        self._sessions = sessions
        self._counter = counter
        self._mailer = mailer

    async def request(self, session: AsyncSession, principal: Principal, *, locale: str) -> None:
        """Have a code mailed to the caller's address; nothing happens when it is proven already.

        Raises:
            Unauthenticated, Forbidden: not a signed-in person.
            NoEmail: the account has no address.
            TooManyEmailCodes: more than `MAILS_PER_HOUR` were asked for.
        """
        _require_person(principal)
        await self._count(f"email-proof:{principal.subject}", limit=MAILS_PER_HOUR)
        account = await self._account(session, principal)
        if account.email_verified_at is None:
            await EmailProofRepository(session).ask(account.id, locale=locale, due_at=self._clock.now())

    async def confirm(self, session: AsyncSession, principal: Principal, *, code: str) -> None:
        """Take the mailed code: from here on the address is proven by the holder of the account.

        Raises:
            Unauthenticated, Forbidden: not a signed-in person.
            NoEmail: the account has no address.
            InvalidEmailCode: wrong, used or expired, or mailed to another address.
            TooManyEmailCodes: more than `TRIES_PER_HOUR`.
        """
        _require_person(principal)
        await self._count(f"email-proof-try:{principal.subject}", limit=TRIES_PER_HOUR)
        account = await self._account(session, principal)
        repository = EmailProofRepository(session)
        proof = await repository.for_update(account.id)
        known, until = (proof.code_hash, proof.expires_at) if proof is not None else (None, None)
        matches = hmac.compare_digest(_hash(account.id, account.email or "", code), known or bytes(32))
        if known is None or until is None or until <= self._clock.now() or not matches:
            raise InvalidEmailCode
        note_proof(account, at=self._clock.now())
        await repository.remove(account.id)
        _log.info("email_proven", user_id=account.id)

    async def send_due(self) -> int:
        """Mail the codes that are due and answer how many there were. Safe on several instances at once."""
        handled = 0
        while (claimed := await self._claim()) is not None:
            await self._deliver(claimed)
            handled += 1
        return handled

    async def _claim(self) -> _Claimed | None:
        async with self._sessions.transaction() as session:
            now = self._clock.now()
            repository = EmailProofRepository(session)
            proof = await repository.claim_due(now, lease=_LEASE)
            if proof is None:
                return None
            account = await AccountRepository(session).by_id(proof.user_id)
            if account is None or account.email is None or account.disabled_at or not self._mailer.is_configured:
                _log.warning("email_code_not_mailed", user_id=proof.user_id, is_configured=self._mailer.is_configured)
                await repository.remove(proof.user_id)
                return None
            code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_CHARACTERS))
            hashed = _hash(account.id, account.email, code)
            proof.code_hash, proof.expires_at = hashed, now + CODE_TTL
            return _Claimed(account.id, hashed, proof_mail(to=account.email, locale=proof.locale, code=code))

    async def _deliver(self, claimed: _Claimed) -> None:
        try:
            await self._mailer.send(claimed.mail)
        except MailNotSent as error:  # tried again with another code when the lease is over
            _log.warning("email_code_postponed", user_id=claimed.user_id, why=str(error))
            return
        except MailRefused as error:
            _log.warning("email_code_refused", user_id=claimed.user_id, why=str(error))
        async with self._sessions.transaction() as session:
            await EmailProofRepository(session).mailed(claimed.user_id, claimed.code_hash)

    async def _account(self, session: AsyncSession, principal: Principal) -> Account:
        account = await AccountRepository(session).by_id_for_update(principal.subject)
        if account is None or account.email is None:
            raise NoEmail
        return account

    async def _count(self, key: str, *, limit: int) -> None:
        try:
            await self._counter.hit(key, limit=limit, window_s=_HOUR_S)
        except LimitExceeded as error:
            raise TooManyEmailCodes(float(error.details.get("retry_after_s", 60))) from error


def _require_person(principal: Principal) -> None:
    principal.require_authenticated()
    if principal.kind is not PrincipalKind.USER:
        raise Forbidden("Only people prove a mail address.")


def _hash(user_id: str, email: str, code: str) -> bytes:
    """Of the code as people type it: in any case, with or without dashes and spaces; bound to account and address."""
    typed = code[:_LONGEST_CODE].upper().replace("-", "").replace(" ", "")
    return hashlib.sha256(f"{user_id}\0{email}\0{typed}".encode()).digest()
