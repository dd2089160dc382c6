"""The group as callers meet it: gRPC, GraphQL and the key set, over real sockets with tokens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import grpc.aio
import pytest
from fakeredis import FakeAsyncRedis
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from manpasik.v1 import auth_pb2, auth_pb2_grpc, common_pb2, user_pb2, user_pb2_grpc
from pydantic import SecretStr
from sqlalchemy import event

from domain.catalog import Group
from domain.clock import SystemClock
from domain.sealing import Sealer
from subgraphs.identity.group import build
from subgraphs.runtime.auth import Authenticator, issuers_of
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import GroupResources
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.http_server import subgraph_app
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.serving import HttpServer
from subgraphs.runtime.settings import ServiceSettings, Settings, TokenSettings
from tests.integration.identity.conftest import EMAIL, PASSWORD
from tests.support.postgres import DatabaseFor
from tests.support.trust import service_tokens

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Served:
    """A running group and its clients."""

    database: Database
    auth: auth_pb2_grpc.AuthServiceStub
    users: user_pb2_grpc.UserServiceStub
    http: aiohttp.ClientSession
    url: str

    async def graphql(self, query: str, token: str = "", **variables: object) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = {"query": query, "variables": variables}
        async with self.http.post(f"{self.url}/graphql", json=body, headers=headers) as response:
            return cast("dict[str, Any]", await response.json())

    async def register(self, email: str = EMAIL, **more: Any) -> str:
        answer = await self.auth.Register(auth_pb2.RegisterRequest(email=email, password=PASSWORD, **more))
        return answer.user_id

    async def login(self, email: str = EMAIL) -> auth_pb2.LoginResponse:
        return await self.auth.Login(auth_pb2.LoginRequest(email=email, password=PASSWORD))


async def served_with(database: Database, sealer: Sealer, *, grpc_auth: str) -> AsyncIterator[Served]:
    settings = Settings(
        tokens=TokenSettings(jwt_secret=SecretStr("secret of a test")),
        service=ServiceSettings(grpc_auth=grpc_auth),
    )
    redis = FakeAsyncRedis()
    unused: Any = None
    resources = GroupResources(
        settings=settings,
        database=database,
        sealer=sealer,
        redis=redis,
        limiter=RateLimiter(redis),
        objects=unused,
        clients=unused,
        clock=SystemClock(),
    )
    faces = await build(resources)
    assert faces.key_source is not None
    gate = Authenticator(issuers_of(settings.tokens, faces.key_source), services=service_tokens(), devices=None)
    servers, channels = [], {}
    for service in faces.services:
        access = access_of(service.name, service.servicers, gate, settings.service)
        servers.append(GrpcServer("127.0.0.1:0", service.servicers, access, settings.service))
        channels[service.name] = grpc.aio.insecure_channel(f"127.0.0.1:{await servers[-1].start()}")
    web = HttpServer(subgraph_app([faces], authenticator=gate, checks={}), "127.0.0.1", 0)
    await web.start()
    async with aiohttp.ClientSession() as http:
        yield Served(
            database,
            auth_pb2_grpc.AuthServiceStub(channels["auth"]),
            user_pb2_grpc.UserServiceStub(channels["user"]),
            http,
            f"http://127.0.0.1:{web.port}",
        )
    for channel in channels.values():
        await channel.close()
    for server in servers:
        await server.stop(0)
    await web.stop(0)
    await faces.close()
    await redis.aclose()


@pytest.fixture
async def served(database_for: DatabaseFor, sealer: Sealer) -> AsyncIterator[Served]:
    async for running in served_with(await database_for(Group.IDENTITY), sealer, grpc_auth="strict"):
        yield running


@pytest.fixture
async def permissive(database_for: DatabaseFor, sealer: Sealer) -> AsyncIterator[Served]:
    async for running in served_with(await database_for(Group.IDENTITY), sealer, grpc_auth="permissive"):
        yield running


def bearer(tokens: auth_pb2.LoginResponse) -> Metadata:
    return (("authorization", f"Bearer {tokens.access_token}"),)


def refusal(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """Status and our reason."""
    info = ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            Status.FromString(value).details[0].Unpack(info)
    return error.code().name, info.reason


async def test_an_existing_client_registers_without_flags_and_goes_on(served: Served) -> None:
    answer = await served.auth.Register(
        auth_pb2.RegisterRequest(email="E2E@manpasik.local", password="Test1234!", display_name="E2E")
    )
    assert (answer.email, answer.display_name, answer.role) == ("e2e@manpasik.local", "E2E", "user")
    tokens = await served.auth.Login(auth_pb2.LoginRequest(email="e2e@manpasik.local", password="Test1234!"))
    assert (tokens.token_type, tokens.expires_in) == ("Bearer", 900)
    whose = await served.auth.ValidateToken(auth_pb2.ValidateTokenRequest(access_token=tokens.access_token))
    assert (whose.user_id, whose.email, whose.role) == (answer.user_id, "e2e@manpasik.local", "user")
    profile = await served.users.GetProfile(user_pb2.GetProfileRequest(), metadata=bearer(tokens))
    assert profile.user_id == answer.user_id
    assert profile.subscription_tier == common_pb2.SUBSCRIPTION_TIER_FREE


async def test_every_rpc_answers_errors_with_status_and_reason(served: Served) -> None:
    await served.register()
    provider = common_pb2.SOCIAL_PROVIDER_GOOGLE
    calls: list[tuple[Any, str, str]] = [
        (served.auth.Register(auth_pb2.RegisterRequest(email=EMAIL.upper(), password=PASSWORD)), "ALREADY_EXISTS", "EMAIL_TAKEN"),
        (served.auth.Register(auth_pb2.RegisterRequest(email="x", password=PASSWORD)), "INVALID_ARGUMENT", "INVALID_EMAIL"),
        (served.auth.Register(auth_pb2.RegisterRequest(email="a@b.cd", password="weak")), "INVALID_ARGUMENT", "WEAK_PASSWORD"),
        (served.auth.Register(auth_pb2.RegisterRequest(email="a@b.cd", password=PASSWORD, gender=9)), "INVALID_ARGUMENT", "INVALID_INPUT"),  # type: ignore[arg-type]
        (served.auth.Login(auth_pb2.LoginRequest(email=EMAIL, password="x")), "UNAUTHENTICATED", "INVALID_CREDENTIALS"),
        (served.auth.SocialLogin(auth_pb2.SocialLoginRequest()), "INVALID_ARGUMENT", "INVALID_INPUT"),
        (served.auth.SocialLogin(auth_pb2.SocialLoginRequest(provider=provider)), "FAILED_PRECONDITION", "SOCIAL_PROVIDER_NOT_CONFIGURED"),
        (served.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token="x")), "UNAUTHENTICATED", "INVALID_REFRESH_TOKEN"),
        (served.auth.ValidateToken(auth_pb2.ValidateTokenRequest(access_token="x")), "UNAUTHENTICATED", "INVALID_ACCESS_TOKEN"),
        (served.auth.Logout(auth_pb2.LogoutRequest()), "UNAUTHENTICATED", "UNAUTHENTICATED"),
        (served.auth.ResetPassword(auth_pb2.ResetPasswordRequest(email="x")), "INVALID_ARGUMENT", "INVALID_EMAIL"),
        (served.users.GetProfile(user_pb2.GetProfileRequest(user_id="x")), "UNAUTHENTICATED", "UNAUTHENTICATED"),
        (served.users.UpdateProfile(user_pb2.UpdateProfileRequest()), "UNAUTHENTICATED", "UNAUTHENTICATED"),
        (served.users.GetSubscription(user_pb2.GetSubscriptionRequest()), "UNAUTHENTICATED", "UNAUTHENTICATED"),
    ]  # fmt: skip
    seen = []
    for call, _, _ in calls:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
        seen.append(refusal(failed.value))
    assert seen == [(status, reason) for _, status, reason in calls]


async def test_the_sixth_failed_sign_in_is_resource_exhausted(served: Served) -> None:
    await served.register()
    seen = []
    for _ in range(6):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.auth.Login(auth_pb2.LoginRequest(email=EMAIL, password="x"))
        seen.append(failed.value.code().name)
    assert seen == ["UNAUTHENTICATED"] * 5 + ["RESOURCE_EXHAUSTED"]


async def test_a_reused_refresh_token_ends_the_sign_in_for_good(served: Served) -> None:
    """The refusal must not roll the revocation back."""
    await served.register()
    first = await served.login()
    second = await served.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=first.refresh_token))
    for token in (first.refresh_token, second.refresh_token):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=token))
        assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError):
        await served.auth.ValidateToken(auth_pb2.ValidateTokenRequest(access_token=second.access_token))


async def test_a_profile_is_updated_and_signed_out_over_grpc(served: Served) -> None:
    await served.register(
        birth_date="1990-05-17",
        gender=common_pb2.GENDER_FEMALE,
        blood_type="A+",
        height_cm=164.5,
        allergies=["dust"],
        terms_agreed=True,
        privacy_agreed=True,
        health_data_agreed=True,
    )
    tokens = await served.login()
    own = bearer(tokens)
    changed = await served.users.UpdateProfile(
        user_pb2.UpdateProfileRequest(weight_kg=58.5, timezone="UTC"), metadata=own
    )
    assert (changed.weight_kg, changed.height_cm, changed.timezone) == (58.5, 164.5, "UTC")
    read = await served.users.GetProfile(user_pb2.GetProfileRequest(), metadata=own)
    assert read == changed
    assert (read.gender, read.blood_type, list(read.allergies)) == (common_pb2.GENDER_FEMALE, "A+", ["dust"])
    plan = await served.users.GetSubscription(user_pb2.GetSubscriptionRequest(), metadata=own)
    assert plan.tier == common_pb2.SUBSCRIPTION_TIER_FREE
    assert not plan.HasField("expires_at")
    assert plan.started_at == read.created_at
    await served.auth.Logout(auth_pb2.LogoutRequest(), metadata=own)
    with pytest.raises(grpc.aio.AioRpcError):
        await served.auth.ValidateToken(auth_pb2.ValidateTokenRequest(access_token=tokens.access_token))


async def test_on_a_development_network_callers_are_taken_at_their_word(permissive: Served) -> None:
    user_id = await permissive.register()
    profile = await permissive.users.GetProfile(user_pb2.GetProfileRequest(user_id=user_id))
    assert profile.email == EMAIL
    await permissive.auth.Logout(auth_pb2.LogoutRequest(user_id=user_id))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await permissive.users.GetProfile(user_pb2.GetProfileRequest(user_id="e2e-nobody"))
    assert refusal(failed.value) == ("NOT_FOUND", "PROFILE_NOT_FOUND")


async def test_asking_for_a_reset_says_the_same_in_the_callers_language(served: Served) -> None:
    await served.register()
    korean: Metadata = (("accept-language", "ko"),)
    answers = [
        await served.auth.ResetPassword(auth_pb2.ResetPasswordRequest(email=email), metadata=korean)
        for email in (EMAIL, "unknown@example.com")
    ]
    assert answers[0] == answers[1]
    assert answers[0].success
    assert "메일" in answers[0].message


async def test_the_key_set_is_published_and_may_be_kept_for_minutes(served: Served) -> None:
    async with served.http.get(f"{served.url}/.well-known/jwks.json") as response:
        document = await response.json(content_type=None)
        assert response.headers["cache-control"] == "public, max-age=300"
    assert len(document["keys"]) == 2
    assert all("d" not in key and key["kid"] for key in document["keys"])


# GraphQL

REGISTER = "mutation($input: RegisterInput!) { register(input: $input) { userId email displayName role } }"
LOGIN = """mutation($email: String!, $password: String!) { login(input: {email: $email, password: $password}) {
  accessToken refreshToken expiresIn tokenType user { id email displayName role subscriptionTier } } }"""
ENTITIES = """query($people: [_Any!]!) { _entities(representations: $people) {
  ... on User { id displayName } } }"""


async def graphql_login(served: Served, email: str = EMAIL, password: str = PASSWORD) -> dict[str, Any]:
    answer = await served.graphql(LOGIN, email=email, password=password)
    assert "errors" not in answer, answer
    return cast("dict[str, Any]", answer["data"]["login"])


async def test_a_person_registers_signs_in_and_reads_and_changes_the_profile(served: Served) -> None:
    person = {"email": EMAIL, "password": PASSWORD, "birthDate": "1990-05-17", "bloodType": "a+", "gender": "FEMALE"}
    refused = await served.graphql(REGISTER, input=person | {"termsAgreed": True})
    assert refused["errors"][0]["extensions"]["reason"] == "HEALTH_CONSENT_MISSING"
    registered = await served.graphql(REGISTER, input=person | {"termsAgreed": True, "healthDataAgreed": True})
    assert registered["data"]["register"]["role"] == "USER"
    payload = await graphql_login(served)
    assert (payload["expiresIn"], payload["tokenType"]) == (900, "Bearer")
    assert payload["user"]["id"] == registered["data"]["register"]["userId"]
    token = payload["accessToken"]
    query = "{ me { id email healthProfile { birthDate bloodType gender heightCm allergies } } }"
    me = await served.graphql(query, token)
    assert me["data"]["me"]["healthProfile"] == {
        "birthDate": "1990-05-17",
        "bloodType": "A+",
        "gender": "FEMALE",
        "heightCm": None,
        "allergies": [],
    }
    update = """mutation($input: UpdateProfileInput!) { updateProfile(input: $input) {
      user { displayName avatarUrl healthProfile { bloodType heightCm } } } }"""
    changed = await served.graphql(update, token, input={"displayName": "길동", "bloodType": None, "heightCm": 170})
    assert changed["data"]["updateProfile"]["user"] == {
        "displayName": "길동",
        "avatarUrl": None,
        "healthProfile": {"bloodType": None, "heightCm": 170.0},
    }
    choose = """mutation($units: ResultUnits) { updateProfile(input: {resultUnits: $units}) {
      user { resultUnits displayName } } }"""
    for given, kept in (("AMOUNT", "AMOUNT"), (None, "AS_MEASURED")):
        chosen = await served.graphql(choose, token, units=given)
        assert chosen["data"]["updateProfile"]["user"] == {"resultUnits": kept, "displayName": "길동"}
    zero = await served.graphql(update, token, input={"heightCm": 0})
    assert zero["errors"][0]["extensions"]["details"]["field"] == "height_cm"
    me = await served.graphql(query, token)
    assert me["data"]["me"]["healthProfile"]["heightCm"] == 170.0
    cleared = await served.graphql(update, token, input={"heightCm": None})
    assert cleared["data"]["updateProfile"]["user"]["healthProfile"]["heightCm"] is None
    wrong = await served.graphql(update, token, input={"displayName": ""})
    assert wrong["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert wrong["errors"][0]["extensions"]["details"]["field"] == "display_name"


async def test_tokens_are_refreshed_passwords_changed_and_sign_ins_ended_by_mutations(served: Served) -> None:
    await served.register()
    payload = await graphql_login(served)
    refresh = (
        "mutation($t: String!) { refreshToken(input: {refreshToken: $t}) { accessToken refreshToken user { id } } }"
    )
    fresh = (await served.graphql(refresh, t=payload["refreshToken"]))["data"]["refreshToken"]
    change = """mutation { changePassword(input: {currentPassword: "%s", newPassword: "Another-horse8"}) {
      accessToken refreshToken } }"""
    changed = await served.graphql(change % PASSWORD, fresh["accessToken"])
    assert changed["data"]["changePassword"]["accessToken"]
    ended = await served.graphql(refresh, t=fresh["refreshToken"])
    assert ended["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED", "reason": "INVALID_REFRESH_TOKEN"}
    token = (await graphql_login(served, password="Another-horse8"))["accessToken"]
    assert (await served.graphql("mutation { logout { success } }", token))["data"]["logout"]["success"]
    assert (await served.graphql("mutation { logout { success } }"))["errors"][0]["extensions"][
        "code"
    ] == "UNAUTHENTICATED"


async def test_a_reuse_through_graphql_ends_the_sign_in_for_good(served: Served) -> None:
    await served.register()
    payload = await graphql_login(served)
    refresh = "mutation($t: String!) { refreshToken(input: {refreshToken: $t}) { accessToken refreshToken } }"
    fresh = (await served.graphql(refresh, t=payload["refreshToken"]))["data"]["refreshToken"]
    reasons = [
        (await served.graphql(refresh, t=token))["errors"][0]["extensions"]["reason"]
        for token in (payload["refreshToken"], fresh["refreshToken"])
    ]
    assert reasons == ["REFRESH_TOKEN_REUSED", "INVALID_REFRESH_TOKEN"]


async def test_a_reset_by_mutations_says_nothing_of_the_account(served: Served) -> None:
    await served.register()
    ask = "mutation($email: String!) { requestPasswordReset(input: {email: $email}) { success message } }"
    answers = [(await served.graphql(ask, email=email))["data"] for email in (EMAIL, "unknown@example.com")]
    assert answers[0] == answers[1]
    complete = """mutation { completePasswordReset(input: {token: "x", newPassword: "Another-horse8"}) { success } }"""
    refused = await served.graphql(complete)
    assert refused["errors"][0]["extensions"]["reason"] == "INVALID_RESET_TOKEN"
    social = 'mutation { socialLogin(input: {provider: GOOGLE, idToken: "x"}) { accessToken } }'
    assert (await served.graphql(social))["errors"][0]["extensions"]["code"] == "FAILED_PRECONDITION"


async def test_people_referred_to_are_loaded_together_and_others_are_null(served: Served) -> None:
    first = await served.register("first@example.com", display_name="First")
    second = await served.register("second@example.com", display_name="Second")
    token = (await graphql_login(served, "first@example.com"))["accessToken"]
    people = [{"__typename": "User", "id": user_id} for user_id in (second, first, "unknown", first)]
    own = await served.graphql(ENTITIES, token, people=people)
    me = {"id": first, "displayName": "First"}
    assert own["data"]["_entities"] == [None, me, None, me]
    assert (await served.graphql(ENTITIES, people=people))["data"]["_entities"] == [None] * 4
    async with served.database.raw() as connection:
        await connection.execute("UPDATE accounts SET role = 'admin' WHERE id = $1", first)
    admin = (await graphql_login(served, "first@example.com"))["accessToken"]
    statements: list[str] = []
    engine = served.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda c, cur, sql, *rest: statements.append(sql))
    everybody = await served.graphql(ENTITIES, admin, people=people)
    assert everybody["data"]["_entities"] == [{"id": second, "displayName": "Second"}, me, None, me]
    assert len([sql for sql in statements if sql.startswith("SELECT")]) == 2


async def test_health_details_of_others_are_refused_field_by_field(served: Served) -> None:
    first = await served.register("first@example.com")
    second = await served.register("second@example.com")
    token = (await graphql_login(served, "first@example.com"))["accessToken"]
    query = "query($id: ID!) { user(id: $id) { id healthProfile { bloodType } } }"
    assert (await served.graphql(query, token, id=second))["data"]["user"] is None
    assert (await served.graphql(query, token, id=first))["data"]["user"]["id"] == first
    anonymous = await served.graphql(query, id=first)
    assert anonymous["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    at_login = await served.graphql(
        LOGIN.replace("subscriptionTier", "healthProfile { bloodType }"), email="first@example.com", password=PASSWORD
    )
    assert at_login["data"]["login"]["user"]["healthProfile"] is None  # the call itself was anonymous
    assert at_login["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
