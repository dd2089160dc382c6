"""`manpasik cartridges ...` and `manpasik devices ...`: imports what the factory has made into the platform's database."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog import Group
from domain.clock import SystemClock
from domain.hardware.cartridge.lot_file import MAX_FILE_BYTES
from domain.hardware.cartridge.lot_keys import LotKeys
from domain.hardware.cartridge.lots import LotImport, LotService
from domain.hardware.cartridge.repository import CartridgeRepository
from domain.hardware.cartridge.service import normal_uid
from domain.hardware.device.records import DeviceRecordService, RecordImport
from domain.hardware.factory import FACTORY_SERVICE
from domain.principal import service_principal
from domain.sealing import Sealer
from infra.local.errors import LocalStackError
from infra.located import located
from subgraphs.runtime.database import Database
from subgraphs.runtime.keys import load_sealer
from subgraphs.runtime.settings import Settings

_FACTORY = service_principal(FACTORY_SERVICE)


async def import_lots(environ: Mapping[str, str], content: bytes, *, replace: bool) -> LotImport:
    """Import a lot file.

    Raises:
        LocalStackError: no database is named, and no platform runs in `MANPASIK_HOME`.
        SettingsError: the environment cannot be used.
        LotFileInvalid: the file is wrong; the message names the lines.
        SealBroken: `ENCRYPTION_MASTER_KEY` is not that of the platform.
    """
    async with _hardware(environ) as (session, sealer):
        lots = LotService(SystemClock(), LotKeys(sealer))
        return await lots.import_file(session, _FACTORY, content, replace=replace)


async def import_devices(environ: Mapping[str, str], content: bytes, *, replace: bool) -> RecordImport:
    """Import a file of device records.

    Raises:
        LocalStackError, SettingsError: as `import_lots`.
        DeviceFileInvalid: the file is wrong; the message names the lines.
    """
    async with _hardware(environ) as (session, _):
        return await DeviceRecordService(SystemClock()).import_file(session, _FACTORY, content, replace=replace)


async def release_cartridge(environ: Mapping[str, str], uid: str) -> bool:
    """End the exclusive ownership of a cartridge; False when it has no owner.

    Raises:
        LocalStackError, SettingsError: as `import_lots`.
    """
    async with _hardware(environ) as (session, _):
        return await CartridgeRepository(session).release(normal_uid(uid), at=SystemClock().now())


def read_file(path: Path) -> bytes:
    """The content of a file of the factory.

    Raises:
        LocalStackError: it cannot be read, or is larger than what is imported at a time.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise LocalStackError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise LocalStackError(f"{path} has more than {MAX_FILE_BYTES} bytes; split it")
    return content


@asynccontextmanager
async def _hardware(environ: Mapping[str, str]) -> AsyncIterator[tuple[AsyncSession, Sealer]]:
    """A transaction on the hardware group's database, and the sealer of its secrets."""
    settings = Settings.load(located(environ))
    database = Database(settings.database, Group.HARDWARE, max_connections=2)
    try:
        sealer = await load_sealer(database, settings.master_secret)
        async with database.transaction() as session:
            yield session, sealer
    finally:
        await database.close()
