"""Finding out what became of captures and refunds whose outcome was left unclear; any number of processes share it."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import structlog

from domain.clock import Clock
from domain.commerce.payment.capture import LEASE, Asking, Capture
from domain.commerce.payment.refunds import PayingBack, Refunds
from domain.commerce.payment.repository import AttemptRepository, PaymentRepository, RefundRepository
from domain.sessions import Sessions

_log = structlog.get_logger("payment")

BATCH = 20
_AT_ONCE = 5

KEY_REMEMBERED = timedelta(days=14)
"""A request is repeated for this long; the provider remembers idempotency keys for 15 days.
Source: Toss Payments, guide on idempotency keys."""


class Settlement:
    """Claims what is unclear and settles it."""

    def __init__(self, clock: Clock, *, sessions: Sessions, capture: Capture, refunds: Refunds) -> None:
        self._clock = clock
        self._sessions = sessions
        self._capture = capture
        self._refunds = refunds

    async def run_once(self) -> int:
        """How many captures and refunds were claimed; their outcomes are known now, or asked for again later."""
        now = self._clock.now()
        work: list[Awaitable[bool]] = []
        async with self._sessions.transaction() as session:
            for attempt in await AttemptRepository(session).claim_unclear(now=now, lease=LEASE, limit=BATCH):
                may_repeat = now - attempt.started_at < KEY_REMEMBERED
                if not may_repeat:
                    _log.error("capture unclear for too long", payment_id=attempt.payment_id)
                work.append(self._capture.settle(Asking.of(attempt), tries=attempt.tries, may_repeat=may_repeat))
            claimed = await RefundRepository(session).claim_unclear(now=now, lease=LEASE, limit=BATCH)
            payments = await PaymentRepository(session).by_ids({refund.payment_id for refund in claimed})
            for refund in claimed:
                if now - refund.requested_at >= KEY_REMEMBERED:
                    _log.error("refund unclear for too long: settle it by hand", refund_id=refund.refund_id)
                    continue
                paying = PayingBack.of(refund, payment_key=payments[refund.payment_id].payment_key)
                work.append(self._refunds.settle(paying, tries=refund.tries))
        limit = asyncio.Semaphore(_AT_ONCE)

        async def settle(one: Awaitable[bool]) -> None:
            async with limit:
                await one

        # One that fails keeps nobody else from being settled; what was claimed comes again when its lease ends.
        results = await asyncio.gather(*(settle(one) for one in work), return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        if failures:
            raise ExceptionGroup("payments could not be settled", failures)
        return len(work)
