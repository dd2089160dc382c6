"""The migrations make what the models say, and load every template."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from domain.catalog import Group
from domain.operations.notification.template_data import TEMPLATES
from subgraphs.runtime.migrations import metadatas
from tests.integration.operations.conftest import Operations


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
    return list(compare_metadata(context, [*metadatas(Group.OPERATIONS)]))  # type: ignore[arg-type]  # a list is taken, the stubs lack it


async def test_models_and_migrations_agree(operations: Operations) -> None:
    async with operations.database.engine.connect() as connection:
        assert await connection.run_sync(_differences) == []


async def test_every_template_is_there_in_both_languages(operations: Operations) -> None:
    rows = await operations.fetch("SELECT key, locale FROM notification_template_texts")
    assert {(row["key"], row["locale"]) for row in rows} == {
        (seed.key, locale) for seed in TEMPLATES for locale in ("ko", "en")
    }
