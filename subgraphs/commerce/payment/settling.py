"""The background work of payment-service: outcomes that were left unclear are found out."""

import asyncio

import structlog

from domain.commerce.payment.service import PaymentService

_log = structlog.get_logger("payment")

_PAUSE_S = 1.0


class SettleUnclear:
    """Looks for captures and refunds that nobody is at; several processes share the work by row locks."""

    def __init__(self, payments: PaymentService) -> None:
        self._payments = payments

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            if count := await self._payments.settle_unclear():
                _log.info("unclear outcomes looked at", count=count)
            else:
                await asyncio.sleep(_PAUSE_S)
