"""The keys that a process loads when it starts: the data keys of a group's database, and the key pairs of services."""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import func, select

from domain.catalog import WORKLOADS, Group, services_of
from domain.sealing import Sealer, master_key, new_data_key
from domain.tables import DataKeyRow
from subgraphs.runtime.database import Database
from subgraphs.runtime.service_keys import (
    PUBLIC_FOLDER,
    PublicKeyFolder,
    PublicKeys,
    ServiceKeyError,
    SigningKeys,
    make_missing_keys,
)
from subgraphs.runtime.settings import Settings

DEVELOPMENT_KEYS = Path(".manpasik", "keys")


async def load_sealer(database: Database, master_secret: str) -> Sealer:
    """The sealer of a database; its first data key is made here, once, however many processes start together.

    Raises:
        SealBroken: the master key is not the one that wrapped the database's keys.
    """
    master = master_key(master_secret)
    async with database.transaction() as session:
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("data_keys", 0))))
        rows = (await session.scalars(select(DataKeyRow))).all()
        if not rows:
            session.add(DataKeyRow(wrapped=new_data_key(master)))
            await session.flush()
            rows = (await session.scalars(select(DataKeyRow))).all()
        database.sealer = Sealer.unwrap({row.key_id: row.wrapped for row in rows}, master)
        return database.sealer


def load_service_keys(settings: Settings, groups: Iterable[Group]) -> tuple[SigningKeys, PublicKeys]:
    """The private keys of the groups' services, and everybody's public ones. Outside production, missing keys are made.

    Raises:
        ServiceKeyError: a key is missing, cannot be used, or is not published.
    """
    chosen = settings.service_keys
    services = [service.name for group in groups for service in services_of(group)]
    everybody = [workload.name for workload in WORKLOADS]
    folder = Path(chosen.folder) if chosen.folder else DEVELOPMENT_KEYS
    single = chosen.key.get_secret_value()
    if not single and not settings.service.is_production:
        make_missing_keys(folder, everybody)
    if not single:
        # Outside production every process made, or could read, all of them anyway.
        signing = SigningKeys.read(folder, services if settings.service.is_production else everybody)
    elif len(services) == 1:
        signing = SigningKeys.single(services[0], single)
    else:
        raise ServiceKeyError(
            f"SERVICE_KEY is one key, and this process signs as {', '.join(services)}; set SERVICE_KEYS_DIR"
        )
    published = PublicKeyFolder(Path(chosen.public_folder) if chosen.public_folder else folder / PUBLIC_FOLDER)
    for key in signing.public():
        if published.find(key.service, key.kid) is None:
            raise ServiceKeyError(
                f"the key {key.kid} of {key.service} is not in the folder of public keys: nobody would believe it"
            )
    return signing, published
