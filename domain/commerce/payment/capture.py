"""Capturing a payment exactly once, whatever happens between us and the provider.

1. One transaction locks the payment, moves it to CONFIRMING and writes an attempt with an idempotency key of its own.
   Whoever comes meanwhile finds CONFIRMING and waits for the outcome.
2. The provider is asked outside of any transaction: no lock and no connection is held for as long as it takes.
3. One transaction locks both again and writes down what it has said.

A crash, a time-out or a lost answer between 1 and 3 leaves the attempt STARTED. Then nothing is guessed: the provider is
asked what it has under our reference, and only when it has captured nothing is the request repeated, with the *same*
idempotency key, so that a first request that is still on its way takes effect once. This is done by the same call while
its patience lasts, and otherwise in the background, by whichever process claims the attempt (`settle`). Two of them at
work on one attempt do no harm: the provider acts once, and only the first one finds the attempt STARTED in step 3.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.payment.errors import PaymentKeyUsed, ProviderUnavailable
from domain.commerce.payment.events import PaymentCompleted, PaymentFailed
from domain.commerce.payment.models import AttemptStatus, Payment, PaymentAttempt, PaymentType
from domain.commerce.payment.ports import Declined, OutcomeUnclear, PaymentGateway, ProviderPayment, ProviderState
from domain.commerce.payment.repository import AttemptRepository, PaymentRepository
from domain.commerce.payment.states import PaymentStatus, move
from domain.ids import new_id
from domain.messaging import Outbox
from domain.sessions import Sessions

_log = structlog.get_logger("payment")

LEASE = timedelta(seconds=30)
"""For this long nobody else looks after an attempt; longer than any call waits for the provider (`PATIENCE_S`)."""

_PAUSES_S = (0.1, 0.3, 0.7, 1.5, 3.0)
MISMATCH = "AMOUNT_MISMATCH"


@dataclass(frozen=True, slots=True)
class Asking:
    """A request to capture, as it is sent; the same every time."""

    attempt_id: str
    payment_id: str
    payment_key: str
    amount_krw: int
    idempotency_key: str

    @classmethod
    def of(cls, attempt: PaymentAttempt) -> "Asking":
        return cls(
            attempt_id=attempt.attempt_id,
            payment_id=attempt.payment_id,
            payment_key=attempt.payment_key,
            amount_krw=attempt.amount_krw,
            idempotency_key=attempt.idempotency_key,
        )


@dataclass(frozen=True, slots=True)
class Captured:
    """The provider has captured what we asked for."""

    found: ProviderPayment


@dataclass(frozen=True, slots=True)
class Mismatched:
    """The provider has captured another amount than we asked for."""

    found: ProviderPayment


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider has refused for good and captured nothing."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NothingCaptured:
    """The provider has nothing captured for us so far; a request may still be on its way."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """The provider has not said."""


Verdict = Captured | Mismatched | Refused
Answer = Verdict | NothingCaptured | Unclear


def judge(found: ProviderPayment, asking: Asking) -> Answer:
    """What a provider's word means for a request of ours: reference and amount have to be ours."""
    if found.reference != asking.payment_id:
        return Unclear()  # it speaks of something else
    match found.state:
        case ProviderState.CAPTURED | ProviderState.PARTLY_REFUNDED | ProviderState.REFUNDED:
            return Captured(found) if found.amount_krw == asking.amount_krw else Mismatched(found)
        case ProviderState.REFUSED if found.payment_key != asking.payment_key:
            return NothingCaptured()  # the payer had begun before, and approved in another try
        case ProviderState.REFUSED:
            return Refused(found.failure_code or "REFUSED", found.failure_message)
        case ProviderState.WAITING:
            return NothingCaptured()
        case _:
            assert_never(found.state)


async def _unless_shared(session: AsyncSession, captured: Captured, payment: Payment) -> Captured | Mismatched:
    """The capture, unless the provider names the key of another captured payment for it: then it is none of ours."""
    holder = await PaymentRepository(session).captured_with(captured.found.payment_key)
    if holder in (None, payment.payment_id):
        return captured
    _log.error("provider captured under the key of another payment", payment_id=payment.payment_id, other=holder)
    return Mismatched(captured.found)


def back_off(tries: int) -> timedelta:
    """How long an outcome that stays unclear is left alone: 2, 4, 8 ... at most 300 seconds."""
    return timedelta(seconds=min(2 ** min(tries, 9), 300))


class Capture:
    """The three steps.

    Args:
        patience_s: for how long one call asks about an outcome that is unclear.
    """

    def __init__(self, clock: Clock, *, sessions: Sessions, gateway: PaymentGateway, patience_s: float) -> None:
        self._clock = clock
        self._sessions = sessions
        self._gateway = gateway
        self._patience_s = patience_s

    async def begin(self, session: AsyncSession, payment: Payment, payment_key: str) -> Asking:
        """Step 1, for a payment that the session has locked.

        Raises:
            MoveNotAllowed: it is not pending.
            PaymentKeyUsed: the key has captured another payment, or is just being used for it.
        """
        now = self._clock.now()
        payment.status = move(PaymentStatus(payment.status), PaymentStatus.CONFIRMING)
        attempt = PaymentAttempt(
            attempt_id=new_id(),
            payment_id=payment.payment_id,
            payment_key=payment_key,
            idempotency_key=new_id(),
            amount_krw=payment.amount_krw,
            status=AttemptStatus.STARTED,
            code="",
            message="",
            tries=1,
            started_at=now,
            settle_after=now + LEASE,
        )
        if not await AttemptRepository(session).add(attempt):
            raise PaymentKeyUsed
        return Asking.of(attempt)

    async def carry_out(self, asking: Asking) -> Payment | None:
        """Steps 2 and 3, once step 1 has committed; the payment after them.

        Without an outcome in time it is None, and the attempt is left to the background.

        Raises:
            ProviderUnavailable: the provider does not know us; the payment is pending again.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                answer: Answer = await self._until_clear(asking)
        except TimeoutError:
            answer = Unclear()
        except ProviderUnavailable:
            await self._withdraw(asking)
            raise
        return await self._conclude(asking, answer, tries=1)

    async def settle(self, asking: Asking, *, tries: int, may_repeat: bool) -> bool:
        """Find out what became of an attempt that somebody has left; whether it is known now.

        Args:
            may_repeat: whether the provider still remembers the idempotency key.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await self._find_out(asking, may_repeat=may_repeat)
        except (TimeoutError, ProviderUnavailable):
            answer = Unclear()
        return await self._conclude(asking, answer, tries=tries) is not None

    async def _until_clear(self, asking: Asking) -> Verdict:
        answer = await self._request(asking)
        pauses = iter(_PAUSES_S)
        while isinstance(answer, NothingCaptured | Unclear):
            await asyncio.sleep(next(pauses, _PAUSES_S[-1]))
            try:
                answer = await self._find_out(asking, may_repeat=True)
            except ProviderUnavailable:  # it knew us a moment ago, and may have captured then
                answer = Unclear()
        return answer

    async def _find_out(self, asking: Asking, *, may_repeat: bool) -> Answer:
        """The outcome of a request that was sent before."""
        answer = await self._look_up(asking)
        if not isinstance(answer, NothingCaptured) or not may_repeat:
            return answer
        repeated = await self._request(asking)
        # A refusal of the second request is believed only when the first one has not captured meanwhile.
        if isinstance(repeated, Refused):
            seen = await self._look_up(asking)
            return repeated if isinstance(seen, NothingCaptured) else seen
        return repeated

    async def _request(self, asking: Asking) -> Answer:
        try:
            found = await self._gateway.confirm(
                reference=asking.payment_id,
                payment_key=asking.payment_key,
                amount_krw=asking.amount_krw,
                idempotency_key=asking.idempotency_key,
            )
        except Declined as declined:
            return Refused(declined.code, declined.message)
        except OutcomeUnclear as unclear:
            _log.warning("capture unclear", payment_id=asking.payment_id, why=str(unclear))
            return Unclear()
        return self._judge(found, asking)

    async def _look_up(self, asking: Asking) -> Answer:
        try:
            found = await self._gateway.find(asking.payment_id)
        except OutcomeUnclear as unclear:
            _log.warning("provider does not tell", payment_id=asking.payment_id, why=str(unclear))
            return Unclear()
        return NothingCaptured() if found is None else self._judge(found, asking)

    def _judge(self, found: ProviderPayment, asking: Asking) -> Answer:
        if found.reference != asking.payment_id:
            _log.error("provider speaks of another payment", payment_id=asking.payment_id, told=found.reference)
        return judge(found, asking)

    async def _conclude(self, asking: Asking, answer: Answer, *, tries: int) -> Payment | None:
        """The payment with its outcome; None while that is not known."""
        if isinstance(answer, NothingCaptured | Unclear):
            async with self._sessions.transaction() as session:
                later = self._clock.now() + back_off(tries)
                await AttemptRepository(session).settle_after(asking.attempt_id, later)
            return None
        async with self._sessions.transaction() as session:
            return await self.record(session, asking, answer)

    async def record(self, session: AsyncSession, asking: Asking, verdict: Verdict) -> Payment:
        """Step 3: write an outcome down, with its event; the payment after it. Only the first one who comes does."""
        payment = await PaymentRepository(session).get_one_for_update(asking.payment_id)
        attempt = await AttemptRepository(session).get_for_update(asking.attempt_id)
        if attempt.status != AttemptStatus.STARTED:
            return payment
        if isinstance(verdict, Captured):
            verdict = await _unless_shared(session, verdict, payment)
        now = self._clock.now()
        attempt.ended_at = now
        match verdict:
            case Captured(found):
                attempt.status = AttemptStatus.CAPTURED
                attempt.captured_krw = found.amount_krw
                await self._complete(session, payment, found, now)
            case Mismatched(found):
                _log.error(
                    "provider captured another amount",
                    payment_id=payment.payment_id,
                    asked_krw=payment.amount_krw,
                    captured_krw=found.amount_krw,
                )
                attempt.status = AttemptStatus.MISMATCHED
                attempt.captured_krw = found.amount_krw
                told = f"The provider captured {found.amount_krw} won."
                await self._fail(session, payment, Refused(MISMATCH, told), now)
            case Refused(code, message):
                attempt.status = AttemptStatus.DECLINED
                attempt.code, attempt.message = code[:100], message[:500]
                await self._fail(session, payment, verdict, now)
            case _:
                assert_never(verdict)
        return payment

    async def _withdraw(self, asking: Asking) -> None:
        async with self._sessions.transaction() as session:
            payment = await PaymentRepository(session).get_for_update(asking.payment_id)
            attempt = await AttemptRepository(session).get_for_update(asking.attempt_id)
            if payment is not None and attempt.status == AttemptStatus.STARTED:
                attempt.status = AttemptStatus.WITHDRAWN
                attempt.ended_at = self._clock.now()
                payment.status = move(PaymentStatus(payment.status), PaymentStatus.PENDING)

    @staticmethod
    async def _complete(session: AsyncSession, payment: Payment, found: ProviderPayment, now: datetime) -> None:
        payment.status = move(PaymentStatus(payment.status), PaymentStatus.COMPLETED)
        payment.completed_at = now
        payment.payment_key = found.payment_key
        payment.pg_transaction_id = found.transaction_id
        payment.payment_method = found.method or payment.payment_method
        await session.flush()
        await Outbox(session).add(
            PaymentCompleted(
                payment_id=payment.payment_id,
                user_id=payment.user_id,
                order_id=payment.order_id,
                subscription_id=payment.subscription_id,
                payment_type=PaymentType(payment.payment_type).value,
                amount_krw=payment.amount_krw,
                payment_method=payment.payment_method,
                pg_provider=payment.pg_provider,
                pg_transaction_id=payment.pg_transaction_id,
                completed_at=now,
            )
        )

    @staticmethod
    async def _fail(session: AsyncSession, payment: Payment, refused: Refused, now: datetime) -> None:
        payment.status = move(PaymentStatus(payment.status), PaymentStatus.FAILED)
        payment.closed_at = now
        payment.failure_code, payment.failure_message = refused.code[:100], refused.message[:500]
        await session.flush()
        await Outbox(session).add(
            PaymentFailed(
                payment_id=payment.payment_id,
                user_id=payment.user_id,
                order_id=payment.order_id,
                subscription_id=payment.subscription_id,
                payment_type=PaymentType(payment.payment_type).value,
                amount_krw=payment.amount_krw,
                code=payment.failure_code,
                message=payment.failure_message,
                failed_at=now,
            )
        )
