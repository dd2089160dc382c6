"""Plans renew, pause and end: the background work of subscription-service."""

import asyncio

import structlog

from domain.commerce.subscription.renewal import BATCH, RenewalService
from subgraphs.runtime.database import Database
from subgraphs.runtime.outages import is_outage

PAUSE_S = 30.0

_log = structlog.get_logger("renewals")


class RenewalSweep:
    """Looks twice a minute for what is due; several processes share the work by row locks."""

    def __init__(self, renewals: RenewalService, database: Database) -> None:
        self._renewals = renewals
        self._database = database

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            if await self.sweep() < BATCH:
                await asyncio.sleep(PAUSE_S)

    async def sweep(self) -> int:
        """How many subscriptions were looked at, in one transaction.

        One that fails is undone by itself and put off, so that the others do not wait for it.
        """
        async with self._database.transaction() as session:
            claimed = await self._renewals.claim(session)
            for subscription_id in claimed:
                try:
                    async with session.begin_nested():
                        await self._renewals.renew(session, subscription_id)
                except Exception as error:
                    if is_outage(error):
                        raise
                    _log.exception("a subscription could not be renewed", subscription_id=subscription_id)
                    await self._renewals.postpone(session, subscription_id)
        if claimed:
            _log.info("subscriptions were due", count=len(claimed))
        return len(claimed)
