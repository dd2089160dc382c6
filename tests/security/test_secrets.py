"""What may stand nowhere: not in a log, however much is logged, and not in a table."""

import asyncpg
import pytest

from devices.client.platform import Platform as ReaderSide
from devices.simulator.fleet import serial_number_of
from domain.catalog import built_groups
from tests.security.test_authorization import ALLERGY, Victim, victim_of
from tests.support.furnish import FACTORY, import_device_records
from tests.support.platform import ADMIN, PASSWORD, SECRETS, Platform
from tests.support.postgres import PostgresServer
from tests.support.readers import technician, unique

pytestmark = [pytest.mark.xdist_group("security"), pytest.mark.timeout(180)]

CLAIMED = unique("claimed")
CLAIM_CODE = FACTORY.claim_code(CLAIMED)
_CLAIM = """mutation ($serial: String!, $code: String!) {
  registerDevice(input: {serialNumber: $serial, claimCode: $code, firmwareVersion: "1.0.0"}) { device { id } } }"""


@pytest.fixture
async def victim(platform: Platform, readers: ReaderSide) -> Victim:
    found = await victim_of(platform, readers, await technician(platform))
    answer = await platform.graphql("{ me { healthProfile { allergies } } }", token=found.person.token)
    assert answer["data"]["me"]["healthProfile"]["allergies"] == [ALLERGY]
    await import_device_records(platform, CLAIMED)
    for code in (CLAIM_CODE[::-1], CLAIM_CODE):
        await platform.graphql(_CLAIM, {"serial": serial_number_of(CLAIMED), "code": code}, token=found.person.token)
    return found


def _secrets(victim: Victim) -> dict[str, str]:
    return {
        "an allergy": ALLERGY,
        "a password": PASSWORD,
        "the administrator's password": ADMIN["BOOTSTRAP_ADMIN_PASSWORD"],
        "an access token": victim.person.token.rpartition(".")[2],
        "a reader's credential": victim.credential,
        "a claim code": CLAIM_CODE,
        "a wrong claim code": CLAIM_CODE[::-1],
        **{f"the setting {name}": value for name, value in SECRETS.items()},
    }


async def test_logs_keep_secrets(platform: Platform, victim: Victim) -> None:
    logs = {log.name: log.read_text(errors="replace") for log in platform.plan.home.glob("*.log")}
    assert any(logs.values())
    found = [
        f"{name} in {log}" for log, text in logs.items() for name, value in _secrets(victim).items() if value in text
    ]
    assert found == []


async def test_tables_keep_secrets(platform: Platform, postgres: PostgresServer, victim: Victim) -> None:
    secrets, rows, found = _secrets(victim), 0, set()
    for group in built_groups():
        database = f"{platform.plan.external['DB_NAME']}_{group.value}"
        connection = await asyncpg.connect(postgres.dsn(database))
        try:
            tables = await connection.fetch(
                "SELECT table_schema || '.' || table_name FROM information_schema.tables"
                " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
            for (table,) in tables:
                for (row,) in await connection.fetch(f"SELECT t::text FROM {table} t"):
                    rows += 1
                    # Bytes are printed in hexadecimal digits: a text that is kept as bytes would hide in them.
                    found |= {
                        f"{name} in {table}"
                        for name, value in secrets.items()
                        if value in row or value.encode().hex() in row
                    }
        finally:
            await connection.close()
    assert rows > 20
    assert found == set()
