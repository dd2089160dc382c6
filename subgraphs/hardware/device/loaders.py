"""Readers by key, for one request."""

from collections import defaultdict
from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from domain.errors import AppError
from domain.hardware.device.models import Device
from domain.paging import Page, PageRequest
from domain.principal import Principal
from subgraphs.hardware.services import HardwareServices
from subgraphs.runtime.database import Database


class DeviceLoaders:
    """`by_id`: a reader that the caller may see, or None. `of_user`: a page of a person's readers."""

    def __init__(self, services: HardwareServices, database: Database, principal: Principal) -> None:
        self._devices = services.devices
        self._database = database
        self._principal = principal
        self.by_id: DataLoader[str, Device | None] = DataLoader(load_fn=self._by_id)
        self.of_user: DataLoader[tuple[str, PageRequest], Page[Device]] = DataLoader(load_fn=self._of_user)

    async def _by_id(self, device_ids: Sequence[str]) -> list[Device | None]:
        async with self._database.read() as session:
            found = await self._devices.visible(session, self._principal, device_ids)
        return [found.get(device_id) for device_id in device_ids]

    async def _of_user(self, wanted: Sequence[tuple[str, PageRequest]]) -> list[Page[Device] | BaseException]:
        answers: dict[tuple[str, PageRequest], Page[Device] | BaseException] = {}
        by_page: defaultdict[PageRequest, list[str]] = defaultdict(list)
        for user_id, page in wanted:
            try:
                self._principal.acting_for(user_id)
            except AppError as refusal:  # belongs to this key alone: the others still get their answer
                answers[user_id, page] = refusal
            else:
                by_page[page].append(user_id)
        async with self._database.read() as session:
            for page, user_ids in by_page.items():
                found = await self._devices.pages_owned(session, self._principal, user_ids=user_ids, page=page)
                answers.update({(user_id, page): devices for user_id, devices in found.items()})
        return [answers[key] for key in wanted]
