"""Orders that nobody pays are given up: the background work of shop-service."""

import asyncio

import structlog

from domain.commerce.shop.saga import SWEEP_SIZE, OrderSaga
from subgraphs.runtime.database import Database

_log = structlog.get_logger("unpaid orders")
_PAUSE_S = 10.0


class UnpaidSweep:
    """Looks for orders whose time to pay is over; several processes share the work by row locks."""

    def __init__(self, saga: OrderSaga, database: Database) -> None:
        self._saga = saga
        self._database = database

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            if await self.sweep() < SWEEP_SIZE:
                await asyncio.sleep(_PAUSE_S)

    async def sweep(self) -> int:
        """How many orders it has looked at, each in a transaction of its own: one that fails delays no other."""
        async with self._database.transaction() as session:
            claimed = await self._saga.claim_unpaid(session)
        for order_id in claimed:
            try:
                async with self._database.transaction() as session:
                    given_up = await self._saga.time_out(session, order_id)
            except Exception as error:  # noqa: BLE001 - the boundary of this work; the order's turn comes again
                _log.warning("an unpaid order could not be given up", order_id=order_id, exc_info=error)
            else:
                _log.info("an order was not paid in time", order_id=order_id, given_up=given_up)
        return len(claimed)
