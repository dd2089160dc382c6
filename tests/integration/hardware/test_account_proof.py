"""Readers and cartridges of an unproven holder end when somebody else proves the account's address."""

from datetime import timedelta

import pytest

from domain.hardware.device.errors import CredentialRefused
from subgraphs.hardware.device.consumers import device_consumers
from subgraphs.runtime.account_proof import AccountProven, account_proof_consumer
from tests.integration.hardware.conftest import ALICE, BOB, GLUCOSE_TAG, SIGNED_TAG, Hardware
from tests.integration.hardware.test_calibrations import factory, field
from tests.integration.hardware.test_cartridge_proof import use
from tests.integration.operations.conftest import metadata_of


async def prove(hardware: Hardware, *, ago: timedelta = timedelta()) -> None:
    services = hardware.services
    event = AccountProven(user_id="alice", proven_at=hardware.clock.now() - ago)
    device = next(c for c in device_consumers(services.devices) if c.topic == AccountProven.topic)
    for consumer in (device, account_proof_consumer("cartridge", services.cartridges.drop)):
        async with hardware.database.transaction() as session:
            await consumer.handle(session, event, metadata_of())


async def test_readers_and_their_credentials_end_and_others_can_register_them(hardware: Hardware) -> None:
    credential = (await hardware.register()).credential
    await hardware.register(BOB, "dev-of-bob")
    await factory(hardware)
    await field(hardware)
    await prove(hardware)
    await prove(hardware)
    async with hardware.database.read() as session:
        with pytest.raises(CredentialRefused):
            await hardware.services.devices.verify_credential(session, device_id="dev-1", credential=credential)
    assert [row["device_id"] for row in await hardware.fetch("SELECT device_id FROM devices")] == ["dev-of-bob"]
    assert [row["kind"] for row in await hardware.fetch("SELECT kind FROM calibrations")] == ["factory"]
    await hardware.register(BOB)


async def test_a_reader_that_the_owner_registers_after_the_proof_stays(hardware: Hardware) -> None:
    await hardware.register()
    await prove(hardware, ago=timedelta(seconds=1))
    assert len(await hardware.fetch("SELECT 1 FROM devices")) == 1


async def test_cartridges_lose_their_reader_and_keep_their_count(hardware: Hardware) -> None:
    await hardware.import_lots()
    await hardware.read(SIGNED_TAG)
    assert await use(hardware, "s-1") == GLUCOSE_TAG.remaining_uses - 1
    await prove(hardware)
    await prove(hardware)
    assert await hardware.fetch("SELECT 1 FROM cartridges WHERE owner_user_id = 'alice'") == []
    assert await hardware.fetch("SELECT 1 FROM cartridge_usages WHERE user_id = 'alice'") == []
    await hardware.read(SIGNED_TAG, BOB)
    assert await use(hardware, "s-2", user_id="bob") == GLUCOSE_TAG.remaining_uses - 2


async def test_an_unsigned_reading_is_deleted(hardware: Hardware) -> None:
    await hardware.read(GLUCOSE_TAG)
    await hardware.read(GLUCOSE_TAG, BOB)
    await prove(hardware)
    assert [row["owner_user_id"] for row in await hardware.fetch("SELECT owner_user_id FROM cartridges")] == ["bob"]
    await hardware.read(GLUCOSE_TAG, ALICE)
