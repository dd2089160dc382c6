"""Phone numbers: one counts once a code that was sent to it has been given back.

A number that is not proven receives its code and nothing else. A proven number stays in use until another one is proven,
so that a change loses no alert; then, and when it is removed, one last message tells the old number of it. A code has six
digits, is good once, for ten minutes and five attempts; what is stored of it is a sealed hash.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import Forbidden, LimitExceeded
from domain.operations.notification import fields
from domain.operations.notification.errors import PhoneCodeNotSent, PhoneCodeRefused, TooManyPhoneCodes
from domain.operations.notification.models import PendingPhone
from domain.operations.notification.phone_repository import PhoneRepository
from domain.operations.notification.ports import Accepted, AttemptCounter, TextSender
from domain.principal import Principal, PrincipalKind, Scope
from domain.sealing import Sealer
from domain.sessions import Sessions

CODE_DIGITS = 6
CODE_TTL = timedelta(minutes=10)
MAX_ATTEMPTS = 5
_HOUR_S, _DAY_S = 3600.0, 86400.0
_LIMITS = {
    "person": ((5, _HOUR_S), (10, _DAY_S)),
    "number": ((5, _HOUR_S), (10, _DAY_S)),
    "network": ((30, _HOUR_S),),
}
"""How many codes are sent, by what is counted; a network may be a clinic's."""

_CODE = {
    "ko": "[만파식] 인증번호 {code}. 10분 동안 한 번만 쓸 수 있습니다. 다른 사람에게 알려 주지 마세요.",
    "en": "[ManPaSik] Your code is {code}. It works once, within 10 minutes. Do not share it.",
}
_CHANGED = {
    "ko": "[만파식] 이 번호로는 더 이상 알림을 보내지 않습니다. 직접 바꾸지 않았다면 바로 비밀번호를 바꾸세요.",
    "en": "[ManPaSik] Notifications no longer go to this number. If you did not change it, change your password now.",
}

_log = structlog.get_logger("phone numbers")


@dataclass(frozen=True, slots=True)
class Phones:
    """A person's numbers with their middles hidden; empty without one. `pending` has to be proven yet."""

    verified: str = ""
    pending: str = ""


@dataclass(frozen=True, slots=True)
class SentCode:
    """Where a code went, its middle hidden, and until when it is good."""

    phone: str
    expires_at: datetime


class PhoneService:
    """Commands and queries about phone numbers. Those that send a text message open their own transactions, and send
    outside of them."""

    def __init__(
        self, clock: Clock, *, sealer: Sealer, sessions: Sessions, counter: AttemptCounter, texts: TextSender
    ) -> None:
        self._clock = clock
        self._sealer = sealer
        self._sessions = sessions
        self._counter = counter
        self._texts = texts

    async def of(self, session: AsyncSession, user_id: str) -> Phones:
        """A person's numbers; for callers who may see the person's preferences."""
        repository = PhoneRepository(session)
        verified = (await repository.verified([user_id])).get(user_id)
        pending = await repository.pending(user_id)
        return Phones(
            masked(open_phone(self._sealer, user_id, verified)) if verified else "",
            masked(self._open_pending(pending)) if pending else "",
        )

    async def set(self, principal: Principal, *, phone: str, locale: str) -> str:
        """Store a number that has to be proven; an empty one forgets all numbers. Answers it as `masked`.

        Raises:
            InvalidNotification: not a phone number.
            Unauthenticated, Forbidden, InvalidInput: not a person, or the token lacks notification:write.
        """
        owner = _owner(principal)
        number = fields.phone(phone) if phone else ""
        async with self._sessions.transaction() as session:
            repository = PhoneRepository(session)
            known = await self._verified(session, owner)
            if not number:
                await repository.remove(owner)
            elif number == known:
                await repository.remove_pending(owner)
            else:
                await repository.put_pending(self._pending(owner, number))
        if known and not number:
            await self._tell(known, locale)
        return masked(number)

    async def request_code(self, principal: Principal, *, phone: str, locale: str, address: str = "") -> SentCode:
        """Send a code to a number; it replaces the one before.

        Args:
            address: network address of the caller, when it is known.

        Raises:
            InvalidNotification: not a phone number.
            TooManyPhoneCodes: too many were sent for this person, to this number or from this network.
            PhoneCodeNotSent: text messages are not configured, or the provider does not take it.
            Unauthenticated, Forbidden, InvalidInput: as `set`.
        """
        owner = _owner(principal)
        number = fields.phone(phone)
        if not self._texts.is_configured:
            raise PhoneCodeNotSent("Text messages cannot be sent here; SMS_API_KEY is not set.")
        await self._count(person=owner, number=_comparable(number), network=address)
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
        row = self._pending(owner, number, code)
        expires_at = row.expires_at
        async with self._sessions.transaction() as session:
            await PhoneRepository(session).put_pending(row)
        outcome = await self._texts.send(number, _CODE[_language(locale)].format(code=code))
        if not isinstance(outcome, Accepted):
            _log.warning("phone code not sent", user_id=owner, why=outcome.reason)
            raise PhoneCodeNotSent("The text message could not be sent to this number; check it, or try again later.")
        return SentCode(masked(number), expires_at or self._clock.now())

    async def confirm(self, principal: Principal, *, code: str, locale: str) -> str:
        """Prove the number that the last code was sent to. Answers it as `masked`.

        Raises:
            PhoneCodeRefused: wrong, used or expired, or the attempts are used up; the answer is the same.
            Unauthenticated, Forbidden, InvalidInput: as `set`.
        """
        owner = _owner(principal)
        async with self._sessions.transaction() as session:
            proven = await self._prove(session, owner, code)
        if proven is None:  # raised after the commit: the attempt counts
            raise PhoneCodeRefused
        number, before = proven
        if before and _comparable(before) != _comparable(number):
            await self._tell(before, locale)
        return masked(number)

    async def _prove(self, session: AsyncSession, owner: str, code: str) -> tuple[str, str] | None:
        """The proven number, and the one before or nothing; None when the code is refused."""
        repository = PhoneRepository(session)
        row = await repository.pending_for_update(owner)
        now = self._clock.now()
        if row is None or row.code_hash is None or row.expires_at is None or row.expires_at <= now:
            return None
        if row.attempts >= MAX_ATTEMPTS:
            return None
        row.attempts += 1
        await session.flush()
        expected = self._sealer.open(row.code_hash, context=_code_context(owner))
        if not hmac.compare_digest(expected, _hash(code)):
            return None
        number, before = self._open_pending(row), await self._verified(session, owner)
        await repository.remove_pending(owner)
        sealed = self._sealer.seal(number.encode(), context=phone_context(owner))
        await repository.put_verified(owner, sealed, at=now)
        return number, before

    async def _verified(self, session: AsyncSession, owner: str) -> str:
        sealed = (await PhoneRepository(session).verified([owner])).get(owner)
        return open_phone(self._sealer, owner, sealed) if sealed else ""

    def _pending(self, owner: str, number: str, code: str = "") -> PendingPhone:
        now = self._clock.now()
        return PendingPhone(
            user_id=owner,
            phone=self._sealer.seal(number.encode(), context=_pending_context(owner)),
            code_hash=self._sealer.seal(_hash(code), context=_code_context(owner)) if code else None,
            expires_at=now + CODE_TTL if code else None,
            attempts=0,
            requested_at=now,
        )

    def _open_pending(self, row: PendingPhone) -> str:
        return self._sealer.open(row.phone, context=_pending_context(row.user_id)).decode()

    async def _count(self, **counted: str) -> None:
        try:
            for kind, value in counted.items():
                hashed = hashlib.sha256(value.encode()).hexdigest()[:32]
                for limit, window_s in _LIMITS[kind] if value else ():
                    key = f"phone-code:{kind}:{int(window_s)}:{hashed}"
                    await self._counter.hit(key, limit=limit, window_s=window_s)
        except LimitExceeded as error:
            raise TooManyPhoneCodes(
                "Too many codes were asked for; try again later.",
                retry_after_s=error.details.get("retry_after_s", 1),
            ) from error

    async def _tell(self, number: str, locale: str) -> None:
        """Tell a number that it is not used any more; a lost message changes nothing."""
        if not self._texts.is_configured:
            return
        outcome = await self._texts.send(number, _CHANGED[_language(locale)])
        if not isinstance(outcome, Accepted):
            _log.warning("a former phone number was not told", why=outcome.reason)


def masked(phone: str) -> str:
    """The first three and the last two digits."""
    return f"{phone[:3]}{'*' * (len(phone) - 5)}{phone[-2:]}" if phone else ""


def open_phone(sealer: Sealer, user_id: str, sealed: bytes) -> str:
    """The number of a `ContactPhone`."""
    return sealer.open(sealed, context=phone_context(user_id)).decode()


def phone_context(user_id: str) -> str:
    return f"contact_phones.phone:{user_id}"


def _owner(principal: Principal) -> str:
    principal.require_scope(Scope.NOTIFICATION_WRITE)
    owner = fields.user_id(principal.acting_for(""))
    if principal.kind is not PrincipalKind.USER:
        raise Forbidden("Only a person who is signed in sets a phone number.")
    return owner


def _comparable(number: str) -> str:
    """One form for the forms in which a Korean number is written."""
    return f"0{number[3:]}" if number.startswith("+82") else number


def _hash(code: str) -> bytes:
    return hashlib.sha256(code[:64].strip().encode()).digest()


def _language(locale: str) -> str:
    return "ko" if locale.lower().startswith("ko") else "en"


def _pending_context(user_id: str) -> str:
    return f"pending_phones.phone:{user_id}"


def _code_context(user_id: str) -> str:
    return f"pending_phones.code_hash:{user_id}"
