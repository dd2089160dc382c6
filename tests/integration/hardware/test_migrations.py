"""The registry is loaded by the migrations, and what was stored before them is kept."""

from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from domain.catalog import Group
from subgraphs.runtime.database import Database
from subgraphs.runtime.migrations import metadatas
from tests.integration.hardware.conftest import Hardware
from tests.support.postgres import PostgresServer


async def test_every_type_starts_with_a_calibration_model(hardware: Hardware) -> None:
    rows = await hardware.fetch(
        "SELECT count(*) AS types, count(m.model_id) AS models FROM cartridge_types t "
        "LEFT JOIN calibration_models m ON (m.category, m.type_index) = (t.category, t.type_index)"
    )
    assert rows == [{"types": 30, "models": 30}]


async def _upgrade_to(postgres: PostgresServer, name: str, revision: str, *, down: bool = False) -> None:
    def work(connection: Connection) -> None:
        with as_file(files("subgraphs.hardware") / "migrations") as folder:
            config = Config()
            config.set_main_option("script_location", str(folder))
            config.attributes.update({"connection": connection, "metadata": list(metadatas(Group.HARDWARE))})
            (command.downgrade if down else command.upgrade)(config, revision)

    database = Database(postgres.settings, Group.HARDWARE, name=name, max_connections=2)
    try:
        async with database.engine.connect() as connection, connection.begin():
            await connection.run_sync(work)
    finally:
        await database.close()


async def test_rows_from_before_are_kept_and_compared_without_case_from_now_on(postgres: PostgresServer) -> None:
    """Readers that differ in case only stay; cartridges belong to the person who read them first, and are unsigned."""
    name = await postgres.create_database()
    try:
        await _upgrade_to(postgres, name, "0002")
        connection: asyncpg.Connection[Any] = await asyncpg.connect(postgres.dsn(name))
        try:
            for number, (device_id, serial) in enumerate((("Dev-1", "SN-1"), ("dev-1", "sn-1"), ("DEV-1", "SN-2"))):
                await connection.execute(
                    "INSERT INTO devices (device_id, owner_user_id, serial_number, name, firmware_version, status, "
                    "registered_at) VALUES ($1, 'alice', $2, $2, '1.0.0', 'unknown', $3)",
                    device_id,
                    serial,
                    datetime(2026, 1, 1 + number, tzinfo=UTC),
                )
            for uid, reader in (("AA", "alice"), ("BB", None)):
                await connection.execute(
                    "INSERT INTO cartridges (uid, tag_version, category, type_index, lot_id, remaining_uses, max_uses, "
                    "flags, alpha, extended_calibration, first_read_by, first_read_at, last_read_at) "
                    "VALUES ($1, 2, 1, 1, '', 3, 5, 0, 1e300, '', $2, now(), now())",
                    uid,
                    reader,
                )
            for number, type_index in enumerate((1, 200)):  # a registered type, and one that is not
                await connection.execute(
                    "INSERT INTO calibrations (calibration_id, device_id, category, type_index, kind, alpha, "
                    "channel_offsets, channel_gains, temp_coefficient, humidity_coefficient, accuracy_score, "
                    "reference_standard, calibrated_by, calibrated_at, expires_at) VALUES ($1, 'Dev-1', 1, $2, 'factory', "
                    "0.9, '{0}', '{1}', 0, 0, 1, '', '', now(), now() + interval '1 day')",
                    f"c-{number}",
                    type_index,
                )
            await connection.execute("INSERT INTO cartridge_usages VALUES ('r-1', 'AA', 's-1', 'alice', 1, 1, now())")
            await _upgrade_to(postgres, name, "head")
            keys = await connection.fetch("SELECT device_id, device_key, serial_key, verified FROM devices ORDER BY 2")
            assert [tuple(row.values()) for row in keys] == [
                ("Dev-1", "dev-1", "sn-1", False),
                ("dev-1", "dev-1#2", "sn-1#2", False),
                ("DEV-1", "dev-1#3", "sn-2", False),
            ]
            units = await connection.fetch("SELECT unit FROM calibrations ORDER BY calibration_id")
            assert [row["unit"] for row in units] == ["mg/dL", None]
            read = await connection.fetch(
                "SELECT uid, owner_user_id, signed, remaining_uses FROM cartridges ORDER BY 1"
            )
            assert [tuple(row.values()) for row in read] == [("AA", "alice", False, 3), ("BB", "", False, 3)]
            # A process of the release before, which knows neither keys nor owners:
            await connection.execute(
                "INSERT INTO devices (device_id, owner_user_id, serial_number, name, firmware_version, status, "
                "registered_at) VALUES ('Old-2', 'bob', 'SN-9', 'x', '1.0.0', 'unknown', now())"
            )
            taken = await connection.execute(
                "INSERT INTO devices (device_id, owner_user_id, serial_number, name, firmware_version, status, "
                "registered_at) VALUES ('OLD-2', 'eve', 'SN-8', 'x', '1.0.0', 'unknown', now()) ON CONFLICT DO NOTHING"
            )
            assert taken == "INSERT 0 0"
            await connection.execute("DELETE FROM devices WHERE device_id = 'Old-2'")
            await connection.execute(
                "INSERT INTO cartridges (uid, tag_version, category, type_index, lot_id, remaining_uses, max_uses, flags, "
                "extended_calibration, first_read_at, last_read_at) VALUES ('CC', 1, 1, 1, '', 1, 1, 0, '', now(), now())"
            )
            await _upgrade_to(postgres, name, "0002", down=True)
            rows = await connection.fetch("SELECT device_id, serial_number FROM devices ORDER BY registered_at")
            assert [tuple(row.values()) for row in rows] == [("Dev-1", "SN-1"), ("dev-1", "sn-1"), ("DEV-1", "SN-2")]
        finally:
            await connection.close()
    finally:
        await postgres.drop_database(name)


async def test_sources_that_could_not_be_confirmed_are_replaced_and_an_administrators_own_stay(
    postgres: PostgresServer,
) -> None:
    name = await postgres.create_database()
    shipped = "Roche Elecsys Insulin, method sheet (0.4-1,000 uIU/mL)."
    try:
        await _upgrade_to(postgres, name, "2026_12_01_0558")
        connection: asyncpg.Connection[Any] = await asyncpg.connect(postgres.dsn(name))
        try:
            put = "UPDATE cartridge_types SET measuring_source = $2 WHERE (category, type_index) = (1, $1)"
            await connection.execute(put, 14, shipped)
            await connection.execute(put, 1, "Our own validation, report 7.")
            await _upgrade_to(postgres, name, "2026_12_01_1345")
            rows = await connection.fetch(
                "SELECT type_index, source, measuring_source FROM cartridge_types WHERE category = 1"
            )
        finally:
            await connection.close()
    finally:
        await postgres.drop_database(name)
    told = {row["type_index"]: row["measuring_source"] for row in rows}
    assert told[14].startswith("Manufacturer-typical, not from a standard")
    assert told[1] == "Our own validation, report 7."
    assert not any("method sheet" in row["measuring_source"] for row in rows)
