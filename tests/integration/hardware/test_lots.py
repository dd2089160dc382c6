"""Importing lots: all or nothing, idempotent, and by the factory only."""

import asyncio
from dataclasses import replace

import pytest

from devices.nfc_signature import CmacLot
from domain.errors import Forbidden, Unauthenticated
from domain.hardware.cartridge.errors import LotFileInvalid
from domain.hardware.cartridge.lots import LotImport
from domain.hardware.cartridge.models import Proof, Refusal
from domain.principal import ANONYMOUS, DEVELOPMENT, Principal
from tests.integration.hardware.conftest import (
    ADMIN,
    ALICE,
    GLUCOSE_TAG,
    LOT,
    LOT_LINE,
    MEASUREMENT,
    SIGNED_TAG,
    TECHNICIAN,
    Hardware,
)

KEY = LOT.public_key.hex()


def line(uid: str, *, alpha: str = "0.9", type_index: int = 1, lot: str = "LOT-A") -> str:
    return f"{lot},1,{type_index},ed25519,{KEY},,{uid},{alpha},0,0,10,2027-12-31"


A, B = "00000000000000AA", "00000000000000bb"


async def stored(hardware: Hardware) -> list[tuple[object, object]]:
    rows = await hardware.fetch("SELECT uid, alpha FROM registered_cartridges ORDER BY uid")
    return [(row["uid"], row["alpha"]) for row in rows]


async def test_the_same_file_again_changes_nothing(hardware: Hardware) -> None:
    assert await hardware.import_lots(line(A), line(B)) == LotImport(1, 2, 0, 0)
    assert await hardware.import_lots(line(A), line(B)) == LotImport(0, 0, 0, 3)
    assert await hardware.import_lots(line(A), line("00000000000000CC")) == LotImport(0, 1, 0, 2)
    assert [uid for uid, _ in await stored(hardware)] == [A, B.upper(), "00000000000000CC"]


async def test_a_file_with_one_wrong_line_stores_nothing(hardware: Hardware) -> None:
    for wrong in (line(B, alpha="1e9"), line(B, type_index=200, lot="LOT-B")):
        with pytest.raises(LotFileInvalid, match="line 3"):
            await hardware.import_lots(line(A), wrong)
    assert await stored(hardware) == []
    assert await hardware.fetch("SELECT lot_id FROM cartridge_lots") == []


async def test_what_is_stored_changes_only_when_that_is_asked_for(hardware: Hardware) -> None:
    await hardware.import_lots(line(A))
    with pytest.raises(LotFileInvalid, match="line 3: cartridge 00000000000000AA is stored with other values"):
        await hardware.import_lots(line(B), line(A, alpha="0.8"))
    with pytest.raises(LotFileInvalid, match="line 2: lot LOT-A is stored with other values"):
        await hardware.import_lots(LOT_LINE.replace(KEY, "00" * 32))
    assert await stored(hardware) == [(A, 0.9)]
    assert await hardware.import_lots(line(B), line(A, alpha="0.8"), replace=True) == LotImport(0, 1, 1, 1)
    assert await stored(hardware) == [(A, 0.8), (B.upper(), 0.9)]


async def test_imports_at_once_of_the_same_file_store_it_once(hardware: Hardware) -> None:
    done = await asyncio.gather(*(hardware.import_lots(line(A), line(B)) for _ in range(4)))
    assert sorted(d.cartridges_added for d in done) == [0, 0, 0, 2]


@pytest.mark.parametrize(
    "who", [ALICE, TECHNICIAN, MEASUREMENT, DEVELOPMENT, ANONYMOUS], ids=lambda who: f"{who.kind}-{who.subject}"
)
async def test_only_the_factory_and_administrators_import(hardware: Hardware, who: Principal) -> None:
    with pytest.raises((Forbidden, Unauthenticated)):
        await hardware.import_lots(line(A), principal=who)
    await hardware.import_lots(line(A), principal=ADMIN)


async def test_a_large_file_is_imported_in_one_piece(hardware: Hardware) -> None:
    done = await hardware.import_lots(*(line(f"{number:016X}") for number in range(5000)))
    assert done == LotImport(1, 5000, 0, 0)


async def test_a_lot_that_is_recalled_expires_for_cartridges_that_were_read_before(hardware: Hardware) -> None:
    await hardware.import_lots(LOT_LINE)
    await hardware.read(SIGNED_TAG)
    await hardware.read(replace(GLUCOSE_TAG, cartridge_uid=A))
    recalled = LOT_LINE.replace(f"{KEY},,", f"{KEY},2026-11-01,")
    await hardware.import_lots(recalled, replace=True)
    async with hardware.database.read() as session:
        signed = await hardware.services.cartridges.get(session, ALICE, SIGNED_TAG.cartridge_uid)
        unsigned = await hardware.services.cartridges.get(session, ALICE, A)
    assert signed.refusal is Refusal.EXPIRED
    assert unsigned.refusal is None  # it only says that it is of this lot


async def test_a_secret_key_that_does_not_open_leaves_its_cartridges_unverified(hardware: Hardware) -> None:
    lot = CmacLot("LOT-C", bytes(range(16)))
    await hardware.import_lots(f"LOT-C,1,1,aes-cmac,{lot.key.hex()},,,,,,,")
    await hardware.fetch("UPDATE cartridge_lots SET sealed_key = sealed_key || '\\x00'")
    await hardware.read(lot.sign(GLUCOSE_TAG))
    async with hardware.database.read() as session:
        found = await hardware.services.cartridges.get(session, ALICE, GLUCOSE_TAG.cartridge_uid)
    assert found.cartridge.proof is Proof.NONE
