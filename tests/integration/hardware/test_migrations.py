"""The migrations make the tables that the models describe, with the registry loaded."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from domain.catalog import Group
from subgraphs.runtime.migrations import metadatas
from tests.integration.hardware.conftest import Hardware


async def test_models_and_migrations_agree(hardware: Hardware) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        several = list(metadatas(Group.HARDWARE))
        return list(compare_metadata(context, several))  # type: ignore[arg-type]  # it takes several and declares one

    async with hardware.database.engine.connect() as connection:
        found = await connection.run_sync(differences)
    assert [d for d in found if "alembic_version" not in str(d)] == []


async def test_every_type_starts_with_a_calibration_model(hardware: Hardware) -> None:
    rows = await hardware.fetch(
        "SELECT count(*) AS types, count(m.model_id) AS models FROM cartridge_types t "
        "LEFT JOIN calibration_models m ON (m.category, m.type_index) = (t.category, t.type_index)"
    )
    assert rows == [{"types": 30, "models": 30}]
