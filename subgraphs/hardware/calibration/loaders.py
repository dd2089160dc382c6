"""Calibrations by key, for one request."""

from collections import defaultdict
from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from domain.hardware.calibration.models import Calibration
from domain.hardware.codes import CartridgeCode
from domain.paging import Page, PageRequest
from domain.principal import Principal
from subgraphs.hardware.services import HardwareServices
from subgraphs.runtime.database import Database


class CalibrationLoaders:
    """`by_id`, `of_device` (a page of a reader's), `in_force` (of a reader for a type); None or empty if not visible."""

    def __init__(self, services: HardwareServices, database: Database, principal: Principal) -> None:
        self._calibrations = services.calibrations
        self._database = database
        self._principal = principal
        self.by_id: DataLoader[str, Calibration | None] = DataLoader(load_fn=self._by_id)
        self.of_device: DataLoader[tuple[str, PageRequest], Page[Calibration]] = DataLoader(load_fn=self._of_device)
        self.in_force: DataLoader[tuple[str, CartridgeCode], Calibration | None] = DataLoader(load_fn=self._in_force)

    async def _by_id(self, calibration_ids: Sequence[str]) -> list[Calibration | None]:
        async with self._database.read() as session:
            found = await self._calibrations.by_ids(session, self._principal, calibration_ids)
        return [found.get(calibration_id) for calibration_id in calibration_ids]

    async def _of_device(self, wanted: Sequence[tuple[str, PageRequest]]) -> list[Page[Calibration]]:
        by_page: defaultdict[PageRequest, list[str]] = defaultdict(list)
        for device_id, page in wanted:
            by_page[page].append(device_id)
        answers: dict[tuple[str, PageRequest], Page[Calibration]] = {}
        async with self._database.read() as session:
            for page, device_ids in by_page.items():
                found = await self._calibrations.pages(session, self._principal, device_ids=device_ids, page=page)
                answers.update({(device_id, page): items for device_id, items in found.items()})
        nothing: Page[Calibration] = Page(items=(), has_next=False, total=0)
        return [answers.get(key, nothing) for key in wanted]

    async def _in_force(self, wanted: Sequence[tuple[str, CartridgeCode]]) -> list[Calibration | None]:
        async with self._database.read() as session:
            found = await self._calibrations.many_in_force(session, self._principal, wanted)
        return [found.get(key) for key in wanted]
