"""A token does what its scopes say, whosever it is and whatever its role may do."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from devices.nfc_tag import encode_v2
from domain.errors import Forbidden
from domain.hardware.codes import CartridgeCode
from domain.paging import PageRequest
from domain.principal import Principal, Scope
from subgraphs.hardware.services import HardwareServices
from tests.integration.hardware.conftest import ADMIN, ALICE, GLUCOSE_TAG, MEASUREMENT, Hardware

Command = Callable[[HardwareServices, AsyncSession, Principal], Awaitable[object]]

_READS: dict[str, Command] = {
    "get": lambda s, session, who: s.devices.get(session, who, "dev-1"),
    "list": lambda s, session, who: s.devices.list_owned(session, who, user_id="alice"),
    "page": lambda s, session, who: s.devices.pages_owned(session, who, user_ids=["alice"], page=PageRequest(first=5)),
    "cartridge": lambda s, session, who: s.cartridges.get(session, who, GLUCOSE_TAG.cartridge_uid, user_id="alice"),
    "usage": lambda s, session, who: s.cartridges.usage_history(session, who, user_id="alice", limit=5, offset=0),
    "calibrations": lambda s, session, who: s.calibrations.history(session, who, device_id="dev-1", limit=5, offset=0),
    "calibration": lambda s, session, who: s.calibrations.many_in_force(session, who, [("dev-1", CartridgeCode(1, 1))]),
}
_WRITES: dict[str, Command] = {
    "register": lambda s, session, who: s.devices.register(
        session, who, device_id="dev-2", serial_number="SN-2", firmware_version="1.0.0", user_id="alice"
    ),
    "rename": lambda s, session, who: s.devices.rename(session, who, device_id="dev-1", name="Kitchen"),
    "remove": lambda s, session, who: s.devices.remove(session, who, device_id="dev-1"),
    "read a tag": lambda s, session, who: s.cartridges.read(session, who, tag=encode_v2(GLUCOSE_TAG)),
    "use": lambda s, session, who: s.cartridges.record_usage(
        session, who, user_id="alice", session_id="s-1", uid=GLUCOSE_TAG.cartridge_uid
    ),
}


def _with(principal: Principal, *scopes: Scope) -> Principal:
    return replace(principal, scopes=frozenset(scope.value for scope in scopes))


async def _do(hardware: Hardware, command: Command, who: Principal) -> None:
    async with hardware.database.transaction() as session:
        await command(hardware.services, session, who)


@pytest.mark.parametrize("who", [ALICE, ADMIN], ids=["owner", "administrator"])
@pytest.mark.parametrize("name", [*_READS, *_WRITES])
async def test_a_command_needs_its_scope_and_no_other(hardware: Hardware, name: str, who: Principal) -> None:
    await hardware.register()
    await _do(hardware, _WRITES["read a tag"], ALICE)
    await _do(hardware, _WRITES["use"], MEASUREMENT)  # of a session of Alice's
    needed = Scope.DEVICE_READ if name in _READS else Scope.DEVICE_WRITE
    command = (_READS | _WRITES)[name]
    others = set(Scope) - {needed, Scope.CALIBRATION_FACTORY}  # the factory's scope opens readings of its own
    with pytest.raises(Forbidden, match=needed.value):
        await _do(hardware, command, _with(who, *others))
    await _do(hardware, command, _with(who, needed))


async def test_what_may_not_be_read_is_not_seen(hardware: Hardware) -> None:
    await hardware.register()
    async with hardware.database.read() as session:
        visible = hardware.services.devices.visible
        assert await visible(session, _with(ALICE, Scope.MEASUREMENT_READ), ["dev-1"]) == {}
        assert set(await visible(session, _with(ALICE, Scope.DEVICE_READ), ["dev-1"])) == {"dev-1"}
