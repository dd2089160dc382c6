"""user-service's directory of contacts over real gRPC, and what notification-service remembers of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio
import pytest
from manpasik.internal.v1 import contact_directory_pb2 as pb
from manpasik.internal.v1.contact_directory_pb2_grpc import (
    ContactDirectoryStub,
    add_ContactDirectoryServicer_to_server,
)

from domain.catalog import Group
from domain.errors import AppError
from domain.identity.auth.directory import AccountDirectory
from domain.identity.person import HealthDetails, NewProfile
from domain.identity.user.service import UserService
from domain.ids import UserId
from domain.operations.notification.ports import Contact
from domain.sealing import Sealer
from domain.units import ResultUnits
from subgraphs.identity.user.servicer import DIRECTORY_NAME, ContactDirectoryServicer
from subgraphs.operations.notification.adapters.contacts import ABSENT_S, FRESH_S, GrpcContacts
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.clients import Channels, client_factory
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import GrpcServicer
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.settings import ServiceSettings, Settings
from tests.support.clock import FakeClock
from tests.support.postgres import DatabaseFor
from tests.support.trust import service_tokens

TOKENS = service_tokens()


@dataclass
class Seconds:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class UserSide:
    """user-service, and a client of it in the name of notification-service."""

    database: Database
    users: UserService
    port: int
    contacts: GrpcContacts
    seconds: Seconds
    server: GrpcServer

    async def open(self, user_id: str, *, email: str, marketing: bool = False, disabled: bool = False) -> None:
        async with self.database.raw() as connection:
            await connection.execute(
                "INSERT INTO accounts (id, email, role, created_at, disabled_at)"
                " VALUES ($1, $2, 'user', now(), CASE WHEN $3 THEN now() END)",
                user_id,
                email,
                disabled,
            )
            if marketing:
                for kind in ("terms", "marketing", "marketing"):
                    await connection.execute(
                        "INSERT INTO consents (user_id, kind, version, granted_at) VALUES ($1, $2, '1', now())",
                        user_id,
                        kind,
                    )
        profile = NewProfile(user_id, language="en", timezone="Europe/London", health=HealthDetails(blood_type="A+"))
        async with self.database.transaction() as session:
            await self.users.create(session, UserId(user_id), profile)


@asynccontextmanager
async def user_side(database: Database, sealer: Sealer) -> AsyncIterator[UserSide]:
    users = UserService(clock=FakeClock(), sealer=sealer, accounts=AccountDirectory())
    servicer = ContactDirectoryServicer(users, database)
    faces = [
        GrpcServicer(
            full_name=DIRECTORY_NAME,
            register=lambda server: add_ContactDirectoryServicer_to_server(servicer, server),
            service_only=True,
        )
    ]
    settings = ServiceSettings()
    access = access_of("user", faces, Authenticator({}, services=TOKENS, devices=None), settings)
    server = GrpcServer("127.0.0.1:0", faces, access, settings)
    port = await server.start()
    channels = Channels(Settings(addresses={"USER_SERVICE_ADDR": f"127.0.0.1:{port}"}))
    seconds = Seconds()
    contacts = GrpcContacts(client_factory(channels, TOKENS)("notification"), clock=seconds)
    try:
        yield UserSide(database, users, port, contacts, seconds, server)
    finally:
        await server.stop(0)
        await channels.close()


async def test_contacts_hold_what_a_message_needs_and_no_health(database_for: DatabaseFor, sealer: Sealer) -> None:
    async with user_side(await database_for(Group.IDENTITY), sealer) as side:
        await side.open("u-1", email="one@example.com", marketing=True)
        await side.open("u-2", email="two@example.com", disabled=True)
        async with side.database.raw() as connection:
            await connection.execute("UPDATE profiles SET result_units = 'amount' WHERE user_id = 'u-2'")
        found = await side.contacts.find(["u-1", "u-2", "nobody", "u-1"])
        assert found == {
            "u-1": Contact("u-1", "one@example.com", "en", "Europe/London", agreed_to_marketing=True),
            "u-2": Contact("u-2", "", "en", "Europe/London", ResultUnits.AMOUNT),
        }
        async with side.database.raw() as connection:
            assert await connection.fetchval("SELECT count(*) FROM health_data_access") == 0


async def test_only_services_that_may_call_get_contacts(database_for: DatabaseFor, sealer: Sealer) -> None:
    async with (
        user_side(await database_for(Group.IDENTITY), sealer) as side,
        grpc.aio.insecure_channel(f"127.0.0.1:{side.port}") as channel,
    ):
        stub = ContactDirectoryStub(channel)
        request = pb.GetContactsRequest(user_ids=["u-1"])
        for metadata, code in (
            ((), grpc.StatusCode.PERMISSION_DENIED),
            ((("authorization", f"Service {TOKENS.issue('device', 'user')}"),), grpc.StatusCode.PERMISSION_DENIED),
            (
                (("authorization", f"Service {TOKENS.issue('notification', 'auth')}"),),
                grpc.StatusCode.UNAUTHENTICATED,
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stub.GetContacts(request, metadata=metadata)
            assert refusal.value.code() is code
        good = (("authorization", f"Service {TOKENS.issue('notification', 'user')}"),)
        assert list((await stub.GetContacts(pb.GetContactsRequest(), metadata=good)).contacts) == []
        for wrong in (["x"] * 501, ["a\0b"]):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stub.GetContacts(pb.GetContactsRequest(user_ids=wrong), metadata=good)
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_contacts_are_remembered_for_minutes_and_kept_while_the_service_is_away(
    database_for: DatabaseFor, sealer: Sealer
) -> None:
    async with user_side(await database_for(Group.IDENTITY), sealer) as side:
        await side.open("u-1", email="one@example.com")
        await side.contacts.find(["u-1", "late"])
        await side.open("late", email="late@example.com")
        async with side.database.raw() as connection:
            await connection.execute("UPDATE accounts SET email = 'new@example.com' WHERE id = 'u-1'")
        assert (await side.contacts.find(["u-1"]))["u-1"].email == "one@example.com"
        side.seconds.now += ABSENT_S
        assert (await side.contacts.find(["late"]))["late"].email == "late@example.com"
        side.seconds.now += FRESH_S
        assert (await side.contacts.find(["u-1"]))["u-1"].email == "new@example.com"
        await side.server.stop(0)
        assert (await side.contacts.find(["u-1"]))["u-1"].email == "new@example.com"
        side.seconds.now += FRESH_S
        with pytest.raises(AppError):
            await side.contacts.find(["u-1"])
        known = side.contacts.last_known("u-1")
        assert known is not None
        assert known.language == "en"
        assert side.contacts.last_known("nobody") is None


async def test_more_people_than_one_call_takes_are_asked_for_in_several(
    database_for: DatabaseFor, sealer: Sealer
) -> None:
    async with user_side(await database_for(Group.IDENTITY), sealer) as side:
        await side.open("u-1", email="one@example.com")
        found = await side.contacts.find([*(f"nobody-{number}" for number in range(1200)), "u-1"])
        assert list(found) == ["u-1"]
