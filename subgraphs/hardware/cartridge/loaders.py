"""Cartridges and their types by key, for one request."""

from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from domain.hardware.cartridge.models import CartridgeDetail, CartridgeType
from domain.hardware.codes import CartridgeCode
from domain.principal import Principal
from subgraphs.hardware.services import HardwareServices
from subgraphs.runtime.database import Database


class CartridgeLoaders:
    """`by_uid`: a cartridge that was read, or None. `type_by_code`: a type of the registry, or None."""

    def __init__(self, services: HardwareServices, database: Database, principal: Principal) -> None:
        self._services = services
        self._database = database
        self._principal = principal
        self.by_uid: DataLoader[str, CartridgeDetail | None] = DataLoader(load_fn=self._by_uid)
        self.type_by_code: DataLoader[CartridgeCode, CartridgeType | None] = DataLoader(load_fn=self._type_by_code)

    async def _by_uid(self, uids: Sequence[str]) -> list[CartridgeDetail | None]:
        async with self._database.read() as session:
            found = await self._services.cartridges.details(session, self._principal, uids)
        return [found.get(uid) for uid in uids]

    async def _type_by_code(self, codes: Sequence[CartridgeCode]) -> list[CartridgeType | None]:
        async with self._database.read() as session:
            found = await self._services.registry.types_by_codes(session, codes)
        return [found.get(code) for code in codes]
