"""Who may call what: every RPC that the ports offer, by everybody who should not get through, about somebody else's things."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from joserfc import jwt
from manpasik.internal.v1 import cartridge_registry_pb2, contact_directory_pb2, device_directory_pb2, factory_pb2
from manpasik.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    calibration_pb2,
    cartridge_pb2,
    device_pb2,
    measurement_pb2,
    user_pb2,
)

from devices.client.credentials import Metadata
from devices.client.platform import Platform as ReaderSide
from devices.simulator.fleet import GLUCOSE_CATEGORY, GLUCOSE_TYPE
from domain.catalog import WORKLOADS, Group, built_groups, may_call, services_of
from subgraphs.runtime.service_keys import ServiceKey, SigningKeys
from tests.security.commerce import ABOUT_PURCHASES, ADDRESS, OF_THE_SHOP_WINDOW, TITLE, Purchases, purchases_of
from tests.security.test_every_rpc import offered, status_of
from tests.support.furnish import FACTORY
from tests.support.patience import PATIENCE_S
from tests.support.platform import PASSWORD, Platform
from tests.support.readers import Person, new_reader, sign_in, sign_up, technician, unique

pytestmark = [pytest.mark.xdist_group("security"), pytest.mark.timeout(180)]

ALLERGY = "quinquefolium-7781"
"""Stands nowhere but in the victim's profile."""

REFUSALS = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS}


@dataclass(frozen=True)
class Victim:
    """Somebody with a reader, a cartridge, a calibration, a result and a profile with health details."""

    person: Person
    device_id: str
    serial_number: str
    credential: str
    cartridge_uid: str
    session_id: str
    running_session_id: str
    purchases: Purchases


@dataclass(frozen=True)
class Callers:
    """By what they are called in the tests: the metadata that they send."""

    victim: Victim
    metadata: Mapping[str, Metadata]
    stranger: Person


Make = Callable[[Victim], Message]


def _of_purchases(make: Callable[[Purchases], Message]) -> Make:
    return lambda victim: make(victim.purchases)


ABOUT_A_PERSON: dict[str, Make] = {
    "manpasik.v1.AuthService.Logout": lambda v: auth_pb2.LogoutRequest(user_id=v.person.user_id),
    "manpasik.v1.UserService.GetProfile": lambda v: user_pb2.GetProfileRequest(user_id=v.person.user_id),
    "manpasik.v1.UserService.UpdateProfile": lambda v: user_pb2.UpdateProfileRequest(
        user_id=v.person.user_id, display_name="taken over"
    ),
    "manpasik.v1.UserService.GetSubscription": lambda v: user_pb2.GetSubscriptionRequest(user_id=v.person.user_id),
    "manpasik.v1.CartridgeService.GetUsageHistory": lambda v: cartridge_pb2.GetUsageHistoryRequest(
        user_id=v.person.user_id, limit=10
    ),
    "manpasik.v1.MeasurementService.GetMeasurementHistory": lambda v: measurement_pb2.GetHistoryRequest(
        user_id=v.person.user_id, limit=10
    ),
    "manpasik.v1.MeasurementService.ExportToFHIRObservations": lambda v: (
        measurement_pb2.ExportToFHIRObservationsRequest(user_id=v.person.user_id)
    ),
    "manpasik.v1.DeviceService.RegisterDevice": lambda v: device_pb2.RegisterDeviceRequest(
        device_id=v.device_id, serial_number=v.serial_number, firmware_version="1.0.0"
    ),
    **{name: _of_purchases(make) for name, make in ABOUT_PURCHASES.items()},
}
"""What neither strangers may call, nor the person's own reader, whose credential is worth less than a password."""

ABOUT_A_READER: dict[str, Make] = {
    "manpasik.v1.DeviceService.ListDevices": lambda v: device_pb2.ListDevicesRequest(user_id=v.person.user_id),
    "manpasik.v1.DeviceService.StreamDeviceStatus": lambda v: device_pb2.DeviceStatusUpdate(
        device_id=v.device_id, status=device_pb2.DEVICE_STATUS_ERROR
    ),
    "manpasik.v1.DeviceService.RequestOtaUpdate": lambda v: device_pb2.OtaRequest(device_id=v.device_id),
    "manpasik.v1.DeviceService.UpdateDeviceStatus": lambda v: device_pb2.UpdateDeviceStatusRequest(
        device_id=v.device_id, status="error"
    ),
    "manpasik.v1.CartridgeService.RecordUsage": lambda v: cartridge_pb2.RecordUsageRequest(
        user_id=v.person.user_id, session_id="s", cartridge_uid=v.cartridge_uid
    ),
    "manpasik.v1.CartridgeService.GetRemainingUses": lambda v: cartridge_pb2.GetRemainingUsesRequest(
        cartridge_uid=v.cartridge_uid
    ),
    "manpasik.v1.CartridgeService.ValidateCartridge": lambda v: cartridge_pb2.ValidateCartridgeRequest(
        user_id=v.person.user_id, cartridge_uid=v.cartridge_uid
    ),
    "manpasik.v1.CalibrationService.PerformFieldCalibration": lambda v: calibration_pb2.PerformFieldCalibrationRequest(
        device_id=v.device_id,
        cartridge_category=GLUCOSE_CATEGORY,
        cartridge_type_index=GLUCOSE_TYPE,
        reference_values=[50, 100, 150, 200],
        measured_values=[50, 100, 150, 200],
        temperature_c=25,
        humidity_pct=50,
    ),
    "manpasik.v1.CalibrationService.GetCalibration": lambda v: calibration_pb2.GetCalibrationRequest(
        device_id=v.device_id, cartridge_category=GLUCOSE_CATEGORY, cartridge_type_index=GLUCOSE_TYPE
    ),
    "manpasik.v1.CalibrationService.ListCalibrationHistory": lambda v: calibration_pb2.ListCalibrationHistoryRequest(
        device_id=v.device_id, limit=10
    ),
    "manpasik.v1.CalibrationService.CheckCalibrationStatus": lambda v: calibration_pb2.CheckCalibrationStatusRequest(
        device_id=v.device_id, cartridge_category=GLUCOSE_CATEGORY, cartridge_type_index=GLUCOSE_TYPE
    ),
    "manpasik.v1.MeasurementService.StartSession": lambda v: measurement_pb2.StartSessionRequest(
        device_id=v.device_id, cartridge_id=v.cartridge_uid
    ),
    "manpasik.v1.MeasurementService.StreamMeasurement": lambda v: measurement_pb2.MeasurementData(
        session_id=v.running_session_id, raw_channels=[1.0] * 88
    ),
    "manpasik.v1.MeasurementService.EndSession": lambda v: measurement_pb2.EndSessionRequest(
        session_id=v.running_session_id
    ),
    "manpasik.v1.MeasurementService.ExportSingleMeasurement": lambda v: measurement_pb2.ExportSingleMeasurementRequest(
        session_id=v.session_id
    ),
}
"""What the person and the person's reader may call, and strangers may not."""

FOR_THE_FACTORY: dict[str, Make] = {
    "manpasik.v1.CalibrationService.RegisterFactoryCalibration": lambda v: (
        calibration_pb2.RegisterFactoryCalibrationRequest(
            device_id=v.device_id, cartridge_category=GLUCOSE_CATEGORY, cartridge_type_index=GLUCOSE_TYPE, alpha=0.9
        )
    ),
}
"""What needs a scope that people do not have, about their own things too."""

FOR_SERVICES: dict[str, Make] = {
    "manpasik.internal.v1.ContactDirectory.GetContacts": lambda v: contact_directory_pb2.GetContactsRequest(
        user_ids=[v.person.user_id]
    ),
    "manpasik.internal.v1.DeviceDirectory.GetDevice": lambda v: device_directory_pb2.GetDeviceRequest(
        device_id=v.device_id
    ),
    "manpasik.internal.v1.DeviceDirectory.VerifyCredential": lambda v: device_directory_pb2.VerifyCredentialRequest(
        device_id=v.device_id, credential=v.credential
    ),
    "manpasik.internal.v1.CartridgeRegistry.GetType": lambda _: cartridge_registry_pb2.GetTypeRequest(
        category_code=GLUCOSE_CATEGORY, type_index=GLUCOSE_TYPE
    ),
    "manpasik.internal.v1.DeviceFactory.ImportDevices": lambda _: factory_pb2.ImportDevicesRequest(
        csv=b"serial_number,claim_code_hash,device_id\nSN-attack," + b"0" * 64 + b","
    ),
    "manpasik.internal.v1.CartridgeFactory.ImportLots": lambda _: factory_pb2.ImportLotsRequest(
        csv=FACTORY.lot_file, replace=True
    ),
    "manpasik.internal.v1.CartridgeRegistry.GetCartridge": lambda v: cartridge_registry_pb2.GetCartridgeRequest(
        cartridge_uid=v.cartridge_uid
    ),
}

FOR_EVERYBODY = {
    f"manpasik.v1.AuthService.{name}"
    for name in ("Register", "Login", "SocialLogin", "RefreshToken", "ValidateToken", "ResetPassword")
}
FOR_WHOEVER_HOLDS_THE_CARTRIDGE = {
    "manpasik.v1.CartridgeService.ReadCartridge",
}
FOR_EVERYBODY_SIGNED_IN = {
    "manpasik.v1.CartridgeService.GetCartridgeType",
    "manpasik.v1.CartridgeService.ListCategories",
    "manpasik.v1.CartridgeService.ListTypesByCategory",
    "manpasik.v1.CalibrationService.ListCalibrationModels",
    *OF_THE_SHOP_WINDOW,
}
GUARDED = ABOUT_A_PERSON | ABOUT_A_READER | FOR_THE_FACTORY | FOR_SERVICES


@pytest.fixture
async def callers(platform: Platform, readers: ReaderSide) -> Callers:
    admin = await technician(platform)
    victim = await victim_of(platform, readers, admin)
    stranger = await sign_up(platform, "stranger")
    other = await readers.devices.RegisterDevice(
        device_pb2.RegisterDeviceRequest(
            device_id=unique("other"), serial_number=unique("SN"), firmware_version="1.0.0"
        ),
        metadata=stranger.metadata,
        timeout=20,
    )
    return Callers(
        victim,
        {
            "anonymous": (),
            "stranger": stranger.metadata,
            "stranger's reader": _device(other.device_id, other.registration_token),
            "own reader": _device(victim.device_id, victim.credential),
            "forged reader": _device(victim.device_id, other.registration_token),
            "victim": victim.person.metadata,
        },
        stranger,
    )


def _device(device_id: str, credential: str) -> Metadata:
    return (("authorization", f"Device {device_id}:{credential}"),)


async def victim_of(platform: Platform, readers: ReaderSide, admin: str) -> Victim:
    email = f"{unique('victim')}@e2e.example"
    async with platform.channel("auth") as channel:
        registered = await auth_pb2_grpc.AuthServiceStub(channel).Register(
            auth_pb2.RegisterRequest(email=email, password=PASSWORD, display_name="Victim", allergies=[ALLERGY]),
            timeout=20,
        )
    person = Person(registered.user_id, email, await sign_in(platform, email, PASSWORD))
    reader = await new_reader(readers, person, admin)
    sessions = [
        await readers.measurements.StartSession(
            measurement_pb2.StartSessionRequest(device_id=reader.device_id, cartridge_id=reader.cartridge_uid),
            metadata=person.metadata,
            timeout=20,
        )
        for _ in range(2)
    ]
    ended, running = (session.session_id for session in sessions)
    for session_id in (ended, running):
        await _stream_one(readers, person, session_id)
    await readers.measurements.EndSession(
        measurement_pb2.EndSessionRequest(session_id=ended), metadata=person.metadata, timeout=20
    )
    serial = f"SN-{reader.device_id}"
    again = await readers.devices.RegisterDevice(
        device_pb2.RegisterDeviceRequest(device_id=reader.device_id, serial_number=serial, firmware_version="1.0.0"),
        metadata=person.metadata,
        timeout=20,
    )
    purchases = await purchases_of(platform, person)
    return Victim(
        person, reader.device_id, serial, again.registration_token, reader.cartridge_uid, ended, running, purchases
    )


async def _stream_one(readers: ReaderSide, person: Person, session_id: str) -> None:
    async def frames() -> AsyncIterator[measurement_pb2.MeasurementData]:
        yield measurement_pb2.MeasurementData(
            session_id=session_id,
            raw_channels=[1.234] * 88,
            differential=measurement_pb2.DifferentialCorrection(s_det=1.234, s_ref=0.012, alpha=0.95),
        )

    async for answer in readers.measurements.StreamMeasurement(frames(), metadata=person.metadata, timeout=20):
        assert answer.session_id == session_id


async def _status(platform: Platform, method: str, request: Message, metadata: Metadata) -> tuple[grpc.StatusCode, str]:
    """How a call ends, and all that it was answered, as text."""
    service, _, name = method.rpartition(".")
    workload = next(
        found.name
        for group in built_groups()
        for found in services_of(group)
        if found.grpc_service == service or _INTERNAL.get(service) == found.name
    )
    if name.startswith("Stream"):
        return await asyncio.to_thread(_status_of_stream, platform.address(workload), method, request, metadata)
    async with platform.channel(workload) as channel:
        multi: Any = channel.unary_unary(f"/{service}/{name}")
        try:
            answer = await multi(request.SerializeToString(), metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, repr(answer)


def _status_of_stream(address: str, method: str, request: Message, metadata: Metadata) -> tuple[grpc.StatusCode, str]:
    found = next(known for known in offered(address) if known.full_name == method)
    with grpc.insecure_channel(address) as channel:
        return status_of(channel, found, [request.SerializeToString()], metadata)


_INTERNAL = {
    "manpasik.internal.v1.ContactDirectory": "user",
    "manpasik.internal.v1.DeviceDirectory": "device",
    "manpasik.internal.v1.CartridgeRegistry": "cartridge",
    "manpasik.internal.v1.DeviceFactory": "device",
    "manpasik.internal.v1.CartridgeFactory": "cartridge",
}


async def test_no_rpc_is_forgotten_here(platform: Platform) -> None:
    found: set[str] = set()
    for group in built_groups():
        for service in services_of(group):
            found |= {m.full_name for m in await asyncio.to_thread(offered, platform.address(service.name))}
    named = set(GUARDED) | FOR_EVERYBODY | FOR_EVERYBODY_SIGNED_IN | FOR_WHOEVER_HOLDS_THE_CARTRIDGE
    assert found == named


async def test_rpcs_are_refused_to_whom_they_do_not_concern(platform: Platform, callers: Callers) -> None:
    got_through: list[str] = []
    leaks = (ALLERGY, ADDRESS, TITLE, callers.victim.person.email, callers.victim.credential)
    refused: dict[str, Mapping[str, Make]] = {
        "anonymous": GUARDED,
        "forged reader": GUARDED,
        "stranger": GUARDED,
        "stranger's reader": GUARDED,
        "own reader": ABOUT_A_PERSON | FOR_THE_FACTORY | FOR_SERVICES,
        "victim": FOR_THE_FACTORY | FOR_SERVICES,
    }
    for caller, methods in refused.items():
        unknown = caller in ("anonymous", "forged reader")
        for method, make in methods.items():
            status, said = await _status(platform, method, make(callers.victim), callers.metadata[caller])
            expected = {grpc.StatusCode.UNAUTHENTICATED} if unknown and method not in FOR_SERVICES else REFUSALS
            expected = expected | {grpc.StatusCode.UNAUTHENTICATED} if unknown else expected
            if status not in expected or any(leak in said for leak in leaks):
                got_through.append(f"{caller}: {method}: {status.name} {said[:200]}")
    assert got_through == [], "\n".join(got_through)


async def test_services_get_through_where_the_catalogue_lets_them(platform: Platform, callers: Callers) -> None:
    tokens = platform.service_tokens()
    for callee, method in (
        ("device", "manpasik.internal.v1.DeviceDirectory.GetDevice"),
        ("user", "manpasik.v1.UserService.GetProfile"),
    ):
        make = GUARDED[method]
        for caller in (service.name for service in WORKLOADS):
            metadata = (("authorization", f"Service {tokens.issue(caller, callee)}"),)
            status, said = await _status(platform, method, make(callers.victim), metadata)
            wanted = grpc.StatusCode.OK if may_call(caller, callee) else grpc.StatusCode.PERMISSION_DENIED
            assert status is wanted, f"{caller} calls {method}: {said}"
        elsewhere = (("authorization", f"Service {tokens.issue('measurement', 'auth')}"),)
        assert (await _status(platform, method, make(callers.victim), elsewhere))[0] is grpc.StatusCode.UNAUTHENTICATED


def _signed_as(service: str, key: ServiceKey, *, callee: str, **changed: object) -> str:
    """A token that says it is of a service, signed with any key, under any claims."""
    now = int(time.time())
    claims: dict[str, Any] = {"iss": service, "sub": service, "aud": callee, "iat": now, "exp": now + 300, **changed}
    header = {"alg": "ES256", "typ": "service+jwt", "kid": key.kid}
    return jwt.encode(header, claims, key.jwk, algorithms=["ES256"])


async def test_no_service_gets_through_as_another(platform: Platform, callers: Callers) -> None:
    method = "manpasik.internal.v1.DeviceDirectory.GetDevice"  # measurement may call it, shop may not
    make = GUARDED[method]
    keys = SigningKeys.read(platform.plan.service_keys_folder, ["measurement", "shop"])
    own, shop, stranger = keys.of("measurement"), keys.of("shop"), ServiceKey.generate("measurement")
    relabelled = replace(shop, public=replace(shop.public, kid=own.kid))
    now = int(time.time())
    forged = {
        "shop's key": _signed_as("measurement", shop, callee="device"),
        "shop's key under the id of measurement's": _signed_as("measurement", relabelled, callee="device"),
        "a stranger's key": _signed_as("measurement", stranger, callee="device"),
        "another callee": _signed_as("measurement", own, callee="cartridge"),
        "every callee": _signed_as("measurement", own, callee="device", aud=["device", "cartridge"]),
        "expired": _signed_as("measurement", own, callee="device", iat=now - 600, exp=now - 300),
        "from the future": _signed_as("measurement", own, callee="device", iat=now + 600, exp=now + 900),
        "a life of a year": _signed_as("measurement", own, callee="device", exp=now + 365 * 86_400),
        "shop's subject, measurement's key": _signed_as("shop", own, callee="device"),
    }
    got_through = []
    for forgery, token in forged.items():
        metadata = (("authorization", f"Service {token}"),)
        status, said = await _status(platform, method, make(callers.victim), metadata)
        if status is not grpc.StatusCode.UNAUTHENTICATED:
            got_through.append(f"{forgery}: {status.name} {said[:200]}")
    assert got_through == [], "\n".join(got_through)
    good = (("authorization", f"Service {_signed_as('measurement', own, callee='device')}"),)
    assert (await _status(platform, method, make(callers.victim), good))[0] is grpc.StatusCode.OK


async def test_the_victims_own_calls_get_through(platform: Platform, callers: Callers) -> None:
    """Without this, a platform that refuses everything would pass."""
    own = callers.metadata["victim"]
    for method in ("UserService.GetProfile", "MeasurementService.ExportSingleMeasurement", "DeviceService.ListDevices"):
        name = f"manpasik.v1.{method}"
        status, said = await _status(platform, name, GUARDED[name](callers.victim), own)
        assert status is grpc.StatusCode.OK, said
    reader = callers.metadata["own reader"]
    name = "manpasik.v1.MeasurementService.ExportSingleMeasurement"
    assert (await _status(platform, name, GUARDED[name](callers.victim), reader))[0] is grpc.StatusCode.OK


# --- GraphQL, asked of the subgraphs themselves and of the router

QUERIES: dict[Group, list[str]] = {
    Group.IDENTITY: [
        'query { user(id: "%(user)s") { id email displayName healthProfile { allergies } } }',
        (
            'query { _entities(representations: [{__typename: "User", id: "%(user)s"}])'
            " { ... on User { id email displayName healthProfile { allergies } } } }"
        ),
        'mutation { updateProfile(input: {userId: "%(user)s", displayName: "x"}) { user { email } } }',
        'mutation { logout(input: {userId: "%(user)s"}) { __typename } }',
    ],
    Group.HARDWARE: [
        'query { device(id: "%(device)s") { id serialNumber currentCalibration(categoryCode: 1, typeIndex: 1) { id } } }',
        (
            'query { _entities(representations: [{__typename: "Device", id: "%(device)s"}])'
            " { ... on Device { id serialNumber calibrations(first: 5) { edges { node { id } } } } } }"
        ),
        (
            'query { _entities(representations: [{__typename: "User", id: "%(user)s"}])'
            " { ... on User { devices { edges { node { id serialNumber } } } } } }"
        ),
        'query { cartridge(id: "%(cartridge)s") { id lotId remainingUses } }',
        (
            'query { _entities(representations: [{__typename: "Cartridge", id: "%(cartridge)s"}])'
            " { ... on Cartridge { id lotId remainingUses verified } } }"
        ),
        (
            'mutation { registerDevice(input: {deviceId: "%(device)s", serialNumber: "%(serial)s", firmwareVersion: "1.0.0"})'
            " { device { serialNumber } registrationToken } }"
        ),
        'mutation { updateDevice(input: {id: "%(device)s", name: "mine"}) { id serialNumber } }',
        'mutation { sendDeviceCommand(input: {deviceId: "%(device)s", type: REBOOT}) { id } }',
        'mutation { requestOtaUpdate(input: {deviceId: "%(device)s"}) { __typename } }',
        'mutation { removeDevice(id: "%(device)s") }',
        'mutation { upsertCartridgeCategory(input: {code: 240, lastCode: 240, nameEn: "x", nameKo: "x"}) { code } }',
        'mutation { publishFirmware(input: {version: "9.9.9", contentBase64: "AAAA"}) { version } }',
    ],
    Group.COMMERCE: [
        'query { order(id: "%(order)s") { id totalKrw shippingAddress timeline { kind } } }',
        'query { payment(id: "%(payment)s") { id amountKrw status } }',
        (
            'query { _entities(representations: [{__typename: "User", id: "%(user)s"}])'
            " { ... on User { subscription { tier } orders { totalCount } payments { totalCount } } } }"
        ),
        (
            'query { _entities(representations: [{__typename: "Order", id: "%(order)s"}])'
            " { ... on Order { totalKrw shippingAddress } } }"
        ),
        (
            'query { _entities(representations: [{__typename: "Payment", id: "%(payment)s"}])'
            " { ... on Payment { amountKrw } } }"
        ),
        'mutation { cancelOrder(id: "%(order)s") { status } }',
        'mutation { confirmPayment(input: {id: "%(payment)s", paymentKey: "test-payment-key"}) { status } }',
        'mutation { refundPayment(input: {id: "%(payment)s"}) { payment { status } } }',
        'mutation { subscribe(input: {tier: CLINICAL, userId: "%(user)s"}) { subscription { tier } } }',
        'mutation { changePlan(input: {tier: CLINICAL, userId: "%(user)s"}) { subscription { tier } } }',
        'mutation { restockProduct(input: {id: "%(product)s", quantity: 1}) { id stock } }',
        "mutation { setCartridgeAccess(input: {firstCategory: 1, tier: FREE, level: INCLUDED}) { level } }",
    ],
    Group.OPERATIONS: [
        (
            'query { _entities(representations: [{__typename: "User", id: "%(user)s"}])'
            " { ... on User { unreadNotificationCount notifications { edges { node { title } } } } } }"
        ),
        (
            'query { _entities(representations: [{__typename: "Notification", id: "%(notification)s"}])'
            " { ... on Notification { title body } } }"
        ),
        'mutation { markNotificationRead(id: "%(notification)s") { title } }',
        (
            'mutation { sendNotification(input: {userId: "%(user)s", type: SYSTEM, title: "x", channel: IN_APP})'
            " { title } }"
        ),
        'mutation { sendNotificationFromTemplate(input: {userId: "%(user)s", templateKey: "payment_completed"}) { title } }',
    ],
    Group.MEASUREMENT: [
        'query { measurementSession(id: "%(session)s") { id frameCount result { value } } }',
        'query { measurements(userId: "%(user)s") { totalCount edges { node { value } } } }',
        'query { measurementsFhirBundle(userId: "%(user)s") }',
        (
            'query { _entities(representations: [{__typename: "MeasurementSession", id: "%(session)s"}])'
            " { ... on MeasurementSession { frameCount chainVerified similar { similarity } fhirBundle } } }"
        ),
        (
            'query { _entities(representations: [{__typename: "Measurement", id: "%(session)s"}])'
            " { ... on Measurement { value unit } } }"
        ),
        (
            'query { _entities(representations: [{__typename: "User", id: "%(user)s"}])'
            " { ... on User { measurements { totalCount } measurementSessions { totalCount } } } }"
        ),
        (
            'query { _entities(representations: [{__typename: "Device", id: "%(device)s"}])'
            " { ... on Device { sessions { edges { node { frameCount } } } } } }"
        ),
        'mutation { endMeasurementSession(sessionId: "%(running)s") { session { frameCount } } }',
        (
            'mutation { startMeasurementSession(input: {deviceId: "%(device)s", cartridgeId: "%(cartridge)s"})'
            " { session { frameCount } } }"
        ),
    ],
}


def _told(data: Any) -> list[Any]:
    """What an answer says beside that there is nothing: leaves that are not null, empty or an id that was sent."""
    if isinstance(data, dict):
        return [leaf for key, value in data.items() if key != "id" for leaf in _told(value)]
    if isinstance(data, list):
        return [leaf for value in data for leaf in _told(value)]
    return [] if data in (None, "") else [data]


@pytest.mark.parametrize("caller", ["anonymous", "stranger", "stranger's reader"])
@pytest.mark.parametrize("group", list(QUERIES), ids=lambda group: group.value)
async def test_a_subgraph_tells_nothing_to_whom_it_does_not_concern(
    platform: Platform, callers: Callers, group: Group, caller: str
) -> None:
    victim = callers.victim
    names = {
        "user": victim.person.user_id,
        "device": victim.device_id,
        "serial": victim.serial_number,
        "cartridge": victim.cartridge_uid,
        "session": victim.session_id,
        "running": victim.running_session_id,
        "order": victim.purchases.order_id,
        "payment": victim.purchases.payment_id,
        "product": victim.purchases.product_id,
        "notification": victim.purchases.notification_id,
    }
    told: list[str] = []
    urls = [platform.subgraph_url(group), platform.url(platform.plan.router_port, "/graphql")]
    async with aiohttp.ClientSession(headers=dict(callers.metadata[caller])) as http:
        for url in urls:
            for query in QUERIES[group]:
                if "_entities" in query and url != urls[0]:
                    continue
                async with http.post(url, json={"query": query % names}) as answer:
                    body = await answer.json()
                if "GRAPHQL_VALIDATION_FAILED" in json.dumps(body):
                    told.append(f"the query is wrong: {query} {body}")
                elif any(_told(body.get("data"))):
                    told.append(f"{query}: {body}")
    assert told == []


@pytest.mark.parametrize("caller", ["anonymous", "stranger", "stranger's reader"])
async def test_nobody_follows_the_frames_of_others(platform: Platform, callers: Callers, caller: str) -> None:
    query = f'subscription {{ measurementFrames(sessionId: "{callers.victim.running_session_id}") {{ value }} }}'
    url = platform.subgraph_url(Group.MEASUREMENT)
    async with (
        aiohttp.ClientSession(headers=dict(callers.metadata[caller])) as http,
        http.ws_connect(url, protocols=["graphql-transport-ws"]) as socket,
    ):
        await socket.send_json({"type": "connection_init"})
        assert (await socket.receive_json(timeout=PATIENCE_S))["type"] == "connection_ack"
        await socket.send_json({"id": "1", "type": "subscribe", "payload": {"query": query}})
        answer = await socket.receive_json(timeout=PATIENCE_S)
    assert "errors" in json.dumps(answer)
    assert '"value"' not in json.dumps(answer)
