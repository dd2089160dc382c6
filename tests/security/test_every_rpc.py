"""No message that anybody can send is answered with a bug: every RPC that a port offers gets empty messages, values beyond
the edges, and bytes that are no message at all."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from manpasik.v1 import measurement_pb2

from devices.client.credentials import Metadata
from devices.simulator.fleet import GLUCOSE_CATEGORY, GLUCOSE_TYPE
from domain.catalog import built_groups, services_of
from tests.security.commerce import purchases_of
from tests.security.messages import Garbage
from tests.support.platform import Platform
from tests.support.readers import Person, new_reader, sign_up, technician

pytestmark = [pytest.mark.xdist_group("security"), pytest.mark.timeout(300)]

SERVICES = [service.name for group in built_groups() for service in services_of(group)]
ROUNDS = 30
BUGS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
_OURS = ("manpasik.v1.", "manpasik.internal.v1.")


def offered(address: str) -> list[MethodDescriptor]:
    """The methods of ours that a port tells of by reflection."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        names = [name for name in database.get_services() if name.startswith(_OURS)]
        return [method for name in names for method in pool.FindServiceByName(name).methods]


def status_of(
    channel: grpc.Channel, method: MethodDescriptor, requests: Sequence[bytes], metadata: Metadata
) -> tuple[grpc.StatusCode, str]:
    """How a call with these messages, as they are on the wire, ends.

    The blocking client: the asynchronous one reports an error of its own when a stream is refused while it still writes.
    """
    multi: Any
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            multi = channel.stream_stream(path)
            for _ in multi(iter(requests), metadata=metadata, timeout=20):
                pass
        else:
            multi = channel.unary_unary(path)
            multi(requests[0], metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        call: Any = error
        return call.code(), call.details() or ""
    return grpc.StatusCode.OK, ""


@dataclass(frozen=True)
class Scene:
    """Somebody with a reader, a cartridge, a calibration, a session and purchases: what calls can be about."""

    person: Person
    technician: str
    known: Mapping[str, Sequence[object]]


async def scene(platform: Platform) -> Scene:
    async with platform.reader_side() as side:
        person, technician_token = await sign_up(platform, "fuzz"), await technician(platform)
        reader = await new_reader(side, person, technician_token, uses=60_000)
        session = await side.measurements.StartSession(
            measurement_pb2.StartSessionRequest(device_id=reader.device_id, cartridge_id=reader.cartridge_uid),
            metadata=person.metadata,
            timeout=20,
        )
    purchases = await purchases_of(platform, person)
    devices, uids = [reader.device_id], [reader.cartridge_uid]
    known: dict[str, Sequence[object]] = {
        "device_id": devices,
        "cartridge_uid": uids,
        "cartridge_id": uids,
        "session_id": [session.session_id],
        "user_id": [person.user_id, ""],
        "cartridge_category": [GLUCOSE_CATEGORY],
        "cartridge_type_index": [GLUCOSE_TYPE],
        "category_code": [GLUCOSE_CATEGORY],
        "type_index": [GLUCOSE_TYPE],
        "email": [person.email],
        "reference_values": [50.0, 100.0, 150.0, 220.0],
        "measured_values": [51.0, 99.0, 152.0, 219.0],
        "temperature_c": [25.0],
        "humidity_pct": [45.0],
        "product_id": [purchases.product_id],
        "cart_item_id": [purchases.cart_item_id],
        "order_id": [purchases.order_id, "test-order-001", ""],
        "payment_id": [purchases.payment_id],
        "notification_id": [purchases.notification_id],
        "payment_key": ["test-payment-key", "test-decline"],
        "pg_provider": ["toss", ""],
        "payment_type": [1, 2],
        "payment_method": ["card"],
        "amount_krw": [29900],
        "quantity": [1, 2],
        "shipping_address": ["서울특별시 중구 세종대로 110"],
        "feature_name": ["ai_coaching"],
        "template_key": ["payment_completed"],
        "quiet_hours_start": ["22:00", ""],
        "quiet_hours_end": ["07:00", ""],
        "from_date": ["", "0001-01-01", "2026-01-01"],
        "to_date": ["", "9999-12-31", "2027-01-01"],
    }
    return Scene(person, technician_token, known)


def found_bugs(address: str, metadata: Metadata, known: Mapping[str, Sequence[object]]) -> list[str]:
    """What the RPCs of a port answered with a bug's status."""
    bugs: list[str] = []
    methods = offered(address)
    assert methods
    with grpc.insecure_channel(address) as channel:
        for method in methods:
            make = GetMessageClass(method.input_type)
            for number in range(ROUNDS):
                garbage = Garbage(number, known)
                requests = [_filled(make(), garbage).SerializeToString() for _ in range(3)]
                if number == 0:
                    requests = [b"", b""]
                elif number % 5 == 0:
                    requests = [garbage.bytes(), garbage.bytes()]
                status, details = status_of(channel, method, requests, metadata)
                if status in BUGS:
                    bugs.append(f"{method.full_name}, round {number}: {status.name} {details}")
    return bugs


def _filled(message: Message, garbage: Garbage) -> Message:
    garbage.fill(message)
    return message


@pytest.mark.parametrize("service", SERVICES)
async def test_a_signed_in_person_meets_no_bug(platform: Platform, service: str) -> None:
    found = await scene(platform)
    assert await asyncio.to_thread(found_bugs, platform.address(service), found.person.metadata, found.known) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_an_administrator_meets_no_bug(platform: Platform, service: str) -> None:
    found = await scene(platform)
    metadata = (("authorization", f"Bearer {found.technician}"),)
    assert await asyncio.to_thread(found_bugs, platform.address(service), metadata, found.known) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_a_caller_of_the_development_network_meets_no_bug(open_platform: Platform, service: str) -> None:
    found = await scene(open_platform)
    assert await asyncio.to_thread(found_bugs, open_platform.address(service), (), found.known) == []
