"""Readers that fall silent become offline: the background work of device-service."""

import asyncio

import structlog

from domain.hardware.device.service import SWEEP_SIZE, DeviceService
from subgraphs.runtime.database import Database

_log = structlog.get_logger("presence")


class PresenceSweep:
    """Looks for silent readers three times per heartbeat interval; several processes share the work by row locks.

    Args:
        heartbeat_interval_s: how often readers report.
    """

    def __init__(self, devices: DeviceService, database: Database, *, heartbeat_interval_s: float) -> None:
        self._devices = devices
        self._database = database
        self._pause_s = heartbeat_interval_s / 3

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            if await self.sweep() < SWEEP_SIZE:
                await asyncio.sleep(self._pause_s)

    async def sweep(self) -> int:
        """How many readers became offline in one transaction."""
        async with self._database.transaction() as session:
            silent = await self._devices.mark_silent_offline(session)
        if silent:
            _log.info("devices fell silent", count=len(silent))
        return len(silent)
