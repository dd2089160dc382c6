"""The hardware services on a database of the test's own, with a clock that tests control."""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis

from devices.nfc_signature import Ed25519Lot
from devices.nfc_tag import TagV2, encode_v2
from domain.catalog import Group
from domain.hardware.cartridge.lots import LotImport
from domain.hardware.cartridge.models import PlanRule
from domain.hardware.codes import CartridgeCode
from domain.hardware.device.models import Registration
from domain.hardware.device.records import RecordImport
from domain.ids import UserId
from domain.principal import ROLE_SCOPES, Principal, PrincipalKind, Role, service_principal
from domain.sealing import Sealer
from subgraphs.hardware.device.adapters.claim_attempts import LimitedClaimAttempts
from subgraphs.hardware.device.adapters.firmware_objects import FirmwareObjects
from subgraphs.hardware.services import HardwareServices, hardware_services
from subgraphs.runtime.database import Database
from subgraphs.runtime.device_credentials import device_principal
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.objects import LocalObjects
from subgraphs.runtime.settings import ServiceSettings, Settings
from tests.support.clock import FakeClock
from tests.support.postgres import DatabaseFor

GLUCOSE_TAG = TagV2(
    cartridge_uid="00112233445566AA",
    category=1,
    type_index=1,
    legacy_code=1,
    lot_id="LOT-A",
    expires_on=dt.date(2027, 6, 30),
    remaining_uses=10,
    max_uses=10,
    required_channels=88,
    measurement_s=15,
    alpha=0.93,
    temp_coefficient=0.002,
    humidity_coefficient=-0.001,
)

LOT = Ed25519Lot.of_seed("LOT-A", bytes(range(32)))
LOT_HEADER = (
    "lot_id,category,type_index,key_type,key,lot_expires_on,"
    "uid,alpha,temp_coefficient,humidity_coefficient,max_uses,expires_on"
)
LOT_LINE = f"LOT-A,1,1,ed25519,{LOT.public_key.hex()},,,,,,,"
"""A line of a lot file: the lot alone, whose tags are signed."""
SIGNED_TAG = LOT.sign(GLUCOSE_TAG)


def person(user_id: str, role: Role = Role.USER) -> Principal:
    scopes = frozenset(scope.value for scope in ROLE_SCOPES[role])
    return Principal(kind=PrincipalKind.USER, subject=user_id, role=role, scopes=scopes)


ALICE, BOB = person("alice"), person("bob")
MEASUREMENT, FACTORY = service_principal("measurement"), service_principal("factory")
TECHNICIAN, ADMIN = person("tech", Role.TECHNICIAN), person("admin", Role.ADMIN)


@dataclass(frozen=True)
class Hardware:
    """The group as one process has it."""

    services: HardwareServices
    database: Database
    clock: FakeClock
    objects: LocalObjects
    plans: "KnownPlans"

    async def register(
        self,
        owner: Principal = ALICE,
        device_id: str = "dev-1",
        *,
        serial: str = "",
        firmware: str = "1.0.0",
        claim_code: str = "",
    ) -> Registration:
        allowance = await self.services.devices.allowance(owner, user_id="")
        async with self.database.transaction() as session:
            return await self.services.devices.register(
                session,
                owner,
                device_id=device_id,
                serial_number=serial or f"SN-{device_id}",
                firmware_version=firmware,
                user_id="",
                claim_code=claim_code,
                max_devices=allowance,
            )

    async def read(self, tag: TagV2 | bytes, principal: Principal = ALICE, device_id: str = "") -> None:
        raw = tag if isinstance(tag, bytes) else encode_v2(tag)
        async with self.database.transaction() as session:
            await self.services.cartridges.read(session, principal, tag=raw, device_id=device_id)

    async def import_lots(self, *lines: str, replace: bool = False, principal: Principal = FACTORY) -> LotImport:
        """Import a lot file of these lines; without any, the lot of `SIGNED_TAG`."""
        content = "\n".join((LOT_HEADER, *(lines or (LOT_LINE,)))).encode()
        async with self.database.transaction() as session:
            return await self.services.lots.import_file(session, principal, content, replace=replace)

    async def import_devices(self, *lines: str, replace: bool = False, principal: Principal = FACTORY) -> RecordImport:
        """Import a file of device records of these lines."""
        content = "\n".join(("serial_number,claim_code_hash,device_id", *lines)).encode()
        async with self.database.transaction() as session:
            return await self.services.device_records.import_file(session, principal, content, replace=replace)

    async def fetch(self, statement: str, *arguments: object) -> list[dict[str, object]]:
        """Rows of a plain SQL statement."""
        async with self.database.raw() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]

    def device(self, device_id: str = "dev-1", owner: str = "alice") -> Principal:
        return device_principal(device_id, owner)


class KnownPlans:
    """Subscription-service, which another group runs: says what a test has told it, and nothing of what it was not."""

    def __init__(self) -> None:
        self.rules: dict[str, PlanRule] = {}
        self.allowed: dict[str, int] = {}

    async def rule(self, user_id: UserId, code: CartridgeCode) -> PlanRule | None:
        return self.rules.get(user_id)

    async def max_devices(self, user_id: UserId) -> int | None:
        return self.allowed.get(user_id)


@pytest.fixture
async def hardware(database_for: DatabaseFor, tmp_path: Path, sealer: Sealer) -> Hardware:
    clock = FakeClock()
    objects = LocalObjects(tmp_path / "objects", secret="a secret of the tests", public_url="http://objects.test")
    plans = KnownPlans()
    database = await database_for(Group.HARDWARE)
    return Hardware(_services(Settings().service, clock, objects, plans, sealer), database, clock, objects, plans)


@pytest.fixture
async def production(hardware: Hardware, sealer: Sealer) -> Hardware:
    """The same, where only readers with a factory record are registered."""
    settings = Settings().service.model_copy(update={"unknown_devices": "refuse"})
    return replace(hardware, services=_services(settings, hardware.clock, hardware.objects, hardware.plans, sealer))


def _services(
    settings: ServiceSettings, clock: FakeClock, objects: LocalObjects, plans: KnownPlans, sealer: Sealer
) -> HardwareServices:
    return hardware_services(
        settings,
        clock,
        store=FirmwareObjects(objects),
        plans=plans,
        sealer=sealer,
        attempts=LimitedClaimAttempts(RateLimiter(FakeAsyncRedis())),
        allowances=plans,
    )
