"""Pre-hijacking: an attacker registers the victim's address and sets everything up; then the victim proves the address."""

import re
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from manpasik.v1 import device_pb2, device_pb2_grpc

from domain.catalog import Group
from tests.e2e.conftest import ChannelTo
from tests.e2e.test_flows import SignedIn, run_device_and_session, sign_in
from tests.integration.messaging.scene import until
from tests.support.platform import Platform
from tests.support.readers import unique

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

NEW_PASSWORD = "Battery-staple8"
LEFT = {
    Group.OPERATIONS: (
        "SELECT (SELECT count(*) FROM push_tokens WHERE user_id = $1)"
        " + (SELECT count(*) FROM pending_phones WHERE user_id = $1)"
        " + (SELECT count(*) FROM notification_preferences WHERE user_id = $1)"
    ),
    Group.HARDWARE: "SELECT count(*) FROM devices WHERE owner_user_id = $1",
    Group.MEASUREMENT: "SELECT count(*) FROM measurement_sessions WHERE user_id = $1",
    Group.COMMERCE: "SELECT count(*) FROM cart_items WHERE user_id = $1",
}
SET_UP = """mutation {
  registerPushToken(input: {token: "token-of-the-attacker", platform: IOS})
  setNotificationPhone(phone: "010-6666-6666")
  updateNotificationPreferences(input: {pushEnabled: true, emailEnabled: false, smsEnabled: true,
    measurementAlerts: false, healthAlerts: true, appointmentReminders: false, communityUpdates: false,
    promotions: false}) { phone }
  addToCart(input: {productId: "cartridge-01-01", quantity: 1}) { __typename }
}"""


async def left(platform: Platform, user_id: str) -> dict[Group, int]:
    """How much of a person is stored, by group."""
    found = {}
    for group, statement in LEFT.items():
        connection = await platform.database(group)
        try:
            found[group] = int(await connection.fetchval(statement, user_id))
        finally:
            await connection.close()
    return found


async def ask(platform: Platform, query: str, variables: dict[str, Any], token: str = "") -> dict[str, Any]:
    answer = await platform.graphql(query, variables, token=token)
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]
    return found


async def reset_by_mail(platform: Platform, person: SignedIn) -> str:
    """The access token of who has reset the password by the mail that reached the address."""
    tokens: list[str] = []
    await ask(
        platform,
        "mutation ($email: String!) { requestPasswordReset(input: {email: $email}) { success } }",
        {"email": person.email},
    )

    async def came() -> bool:
        for path in (platform.plan.home / "mail").glob("*.eml"):
            mail = message_from_bytes(path.read_bytes(), policy=default)
            body = mail.get_body()
            if mail["To"] == person.email and body is not None:
                tokens.extend(re.findall(r"token=(\S+)", body.get_content()))
        return bool(tokens)

    await until(came)
    await ask(
        platform,
        "mutation ($token: String!, $new: String!) {"
        " completePasswordReset(input: {token: $token, newPassword: $new}) { success } }",
        {"token": tokens[-1], "new": NEW_PASSWORD},
    )
    login = (
        "mutation ($email: String!, $new: String!) { login(input: {email: $email, password: $new}) { accessToken } }"
    )
    signed_in = await ask(platform, login, {"email": person.email, "new": NEW_PASSWORD})
    return str(signed_in["login"]["accessToken"])


async def test_nothing_of_an_unproven_holder_is_left_in_any_group(platform: Platform, channel_to: ChannelTo) -> None:
    attacker = await sign_in(platform, channel_to)
    devices = device_pb2_grpc.DeviceServiceStub(channel_to(platform, "device"))
    reader = unique("hijack")
    request = device_pb2.RegisterDeviceRequest(
        device_id=reader, serial_number=f"SN-{reader}", firmware_version="1.0.0", user_id=attacker.user_id
    )
    await devices.RegisterDevice(request, metadata=attacker.metadata, timeout=20)
    await run_device_and_session(platform, channel_to, attacker, device_id=reader, register=False)
    await ask(platform, SET_UP, {}, attacker.token)
    assert min((await left(platform, attacker.user_id)).values()) >= 1
    token = await reset_by_mail(platform, attacker)

    async def gone() -> bool:
        return not any((await left(platform, attacker.user_id)).values())

    await until(gone)
    listed = await devices.ListDevices(
        device_pb2.ListDevicesRequest(user_id=attacker.user_id),
        metadata=(("authorization", f"Bearer {token}"),),
        timeout=20,
    )
    assert list(listed.devices) == []

    async def ended() -> bool:
        answer = await platform.graphql("{ me { id } }", token=attacker.token)
        return "errors" in answer or answer["data"]["me"] is None

    await until(ended)
