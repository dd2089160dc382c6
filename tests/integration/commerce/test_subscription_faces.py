"""Plans over real gRPC and in the graph: the exact flow, hostile input, one statement a list, and a join with hardware."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from typing import Any

import grpc.aio
import pytest
from graphql import OperationDefinitionNode, parse
from manpasik.v1 import common_pb2
from manpasik.v1 import subscription_pb2 as pb
from manpasik.v1.subscription_pb2_grpc import SubscriptionServiceStub
from sqlalchemy import event

from domain.commerce.terms import Tier
from domain.principal import ANONYMOUS, Principal
from router.composition import Subgraph, compose
from router.planning.operation import normalize
from router.planning.planner import Planner
from router.supergraph.read import read_supergraph
from subgraphs.commerce.context import CommerceContext
from subgraphs.commerce.schema import schema
from subgraphs.commerce.subscription.faces import subscription_faces
from subgraphs.hardware.schema import schema as hardware_schema
from subgraphs.identity.schema import schema as identity_schema
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.context import Locale, RequestContext
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.settings import ServiceSettings
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce
from tests.integration.commerce.subscribing import create, deliver, subscribed, update
from tests.support.trust import service_tokens

SUBSCRIBE = """
mutation ($tier: SubscriptionTier!) {
  subscribe(input: {tier: $tier}) {
    subscription { id status tier chosenTier plan { tier features } expiresAt autoRenew holder { id } due { id } }
    due { id kind tier amountKrw creditUsedKrw dueAt }
  }
}
"""
CHANGE = """
mutation ($tier: SubscriptionTier!, $payment: String) {
  changePlan(input: {tier: $tier, payment: $payment}) {
    subscription { status tier plan { name aiCoachingEnabled } monthlyPriceKrw creditKrw }
    due { kind amountKrw }
  }
}
"""
OF_PEOPLE = """
query ($people: [_Any!]!) {
  _entities(representations: $people) {
    ... on User { id subscription { status tier plan { name maxDevices } due { amountKrw } } }
    ... on PlanSubscription { id tier }
  }
}
"""
ACCESS = """
query ($cartridges: [_Any!]!) {
  _entities(representations: $cartridges) {
    ... on Cartridge { id access {
      allowed level remainingDaily remainingMonthly requiredTier currentTier message addOnPriceKrw } }
  }
}
"""
LISTED = """
{
  plans { tier name monthlyPriceKrw features }
  featureAccess(feature: "ai_coaching") { feature allowed requiredTier currentTier message }
  cartridgeAccess(categoryCode: 1, typeIndex: 1) { allowed level remainingDaily remainingMonthly message }
  accessibleCartridges { type { id } nameEn nameKo access { level } }
}
"""
SET_PLAN = """
mutation { setPlan(input: {tier: PRO, nameEn: "Pro", nameKo: "프로", descriptionEn: "d", descriptionKo: "d",
  monthlyPriceKrw: 31900, maxDevices: 6, maxFamilyMembers: 6, aiCoachingEnabled: true, telemedicineEnabled: false})
  { tier monthlyPriceKrw maxDevices } }
"""
SET_ACCESS = """
mutation { setCartridgeAccess(input: {firstCategory: 9, lastCategory: 12, tier: FREE, level: LIMITED, dailyLimit: 2})
  { firstCategory lastCategory typeIndex tier level dailyLimit monthlyLimit } }
"""


@asynccontextmanager
async def stub(commerce: Commerce) -> AsyncIterator[SubscriptionServiceStub]:
    """A client of a server without tokens, as on a development network."""
    settings = ServiceSettings(grpc_auth="permissive")
    faces = subscription_faces(commerce.services, commerce.database)
    authenticator = Authenticator({}, services=service_tokens(), devices=None)
    access = access_of(faces.name, faces.servicers, authenticator, settings)
    server = GrpcServer("127.0.0.1:0", faces.servicers, access, settings)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield SubscriptionServiceStub(channel)
    finally:
        await server.stop(0)


async def run(
    commerce: Commerce, query: str, principal: Principal = ALICE, locale: Locale = "en", **variables: object
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    context = CommerceContext.of(
        RequestContext(principal=principal, locale=locale), commerce.services, commerce.database
    )
    result = await schema.execute(
        query,
        variable_values=deepcopy(variables),  # strawberry takes representations apart
        context_value=context,
    )
    return result.data or {}, [dict(error.extensions or {}) for error in result.errors or []]


@contextmanager
def statements(commerce: Commerce) -> Iterator[list[str]]:
    """The statements that are sent meanwhile, without those that open a transaction."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SET TRANSACTION"):
            sent.append(statement)

    engine = commerce.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", record)


# gRPC


async def test_the_exact_flow_over_grpc(commerce: Commerce) -> None:
    async with stub(commerce) as subscriptions:
        free = await subscriptions.CreateSubscription(
            pb.CreateSubscriptionRequest(user_id="alice", tier=common_pb2.SUBSCRIPTION_TIER_FREE)
        )
        assert free.status == pb.SUBSCRIPTION_STATUS_ACTIVE
        assert not free.HasField("expires_at")
        assert (free.max_devices, free.max_family_members, free.monthly_price_krw, free.auto_renew) == (1, 1, 0, False)
        pro = await subscriptions.UpdateSubscription(
            pb.UpdateSubscriptionRequest(
                user_id="alice", new_tier=common_pb2.SUBSCRIPTION_TIER_PRO, payment_id="test-pay-001"
            )
        )
        assert pro.ai_coaching_enabled
        assert (pro.tier, pro.max_devices, pro.monthly_price_krw) == (common_pb2.SUBSCRIPTION_TIER_PRO, 5, 29_900)
        assert await subscriptions.GetSubscription(pb.GetSubscriptionDetailRequest(user_id="alice")) == pro
        feature = await subscriptions.CheckFeatureAccess(
            pb.CheckFeatureAccessRequest(user_id="alice", feature_name="ai_coaching")
        )
        assert (feature.allowed, feature.current_tier) == (True, common_pb2.SUBSCRIPTION_TIER_PRO)
        cancelled = await subscriptions.CancelSubscription(pb.CancelSubscriptionRequest(user_id="alice", reason="가격"))
        assert cancelled.success
        assert cancelled.effective_until == pro.expires_at
        after = await subscriptions.GetSubscription(pb.GetSubscriptionDetailRequest(user_id="alice"))
        assert (after.status, after.tier, after.auto_renew) == (pb.SUBSCRIPTION_STATUS_CANCELLED, pro.tier, False)
        assert after.cancelled_at == cancelled.cancelled_at


async def test_plans_and_cartridges_are_told_in_the_callers_language(commerce: Commerce) -> None:
    korean = (("accept-language", "ko"),)
    async with stub(commerce) as subscriptions:
        plans = (await subscriptions.ListSubscriptionPlans(pb.ListSubscriptionPlansRequest(), metadata=korean)).plans
        assert [plan.name for plan in plans] == ["무료", "베이직", "프로", "클리니컬"]
        assert [plan.tier for plan in plans] == list(range(4))
        assert [plan.monthly_price_krw for plan in plans] == [0, 9_900, 29_900, 59_900]
        assert "telemedicine" in plans[3].features
        assert "telemedicine" not in plans[2].features
        access = await subscriptions.CheckCartridgeAccess(
            pb.CheckCartridgeAccessRequest(user_id="alice", category_code=1, type_index=1), metadata=korean
        )
        assert (access.allowed, access.access_level) == (True, common_pb2.CARTRIDGE_ACCESS_LIMITED)
        assert (access.remaining_daily, access.remaining_monthly) == (3, -1)
        assert access.message == "오늘 3회 더 사용할 수 있습니다."
        nowhere = await subscriptions.CheckCartridgeAccess(
            pb.CheckCartridgeAccessRequest(user_id="alice", category_code=9, type_index=1)
        )
        assert (nowhere.allowed, nowhere.required_tier) == (False, common_pb2.SUBSCRIPTION_TIER_CLINICAL)
        assert nowhere.message == "No plan offers this cartridge at present."
        listed = await subscriptions.ListAccessibleCartridges(pb.ListAccessibleCartridgesRequest(user_id="alice"))
        assert len(listed.entries) == 30
        first = listed.entries[0]
        assert (first.type_info.name_en, first.type_info.name_ko, first.type_info.legacy_code) == ("Glucose", "혈당", 1)
        assert (first.access_level, first.remaining_daily) == (common_pb2.CARTRIDGE_ACCESS_LIMITED, 3)
        feature = await subscriptions.CheckFeatureAccess(
            pb.CheckFeatureAccessRequest(user_id="alice", feature_name="telemedicine"), metadata=korean
        )
        assert (feature.allowed, feature.message) == (False, "화상 진료: 클리니컬 플랜부터 이용할 수 있습니다.")


@pytest.mark.parametrize(
    ("method", "message", "status"),
    [
        ("GetSubscription", pb.GetSubscriptionDetailRequest(user_id="nobody"), "NOT_FOUND"),
        ("GetSubscription", pb.GetSubscriptionDetailRequest(), "INVALID_ARGUMENT"),
        ("GetSubscription", pb.GetSubscriptionDetailRequest(user_id="a\0b"), "INVALID_ARGUMENT"),
        ("GetSubscription", pb.GetSubscriptionDetailRequest(user_id="x" * 100_000), "INVALID_ARGUMENT"),
        ("CreateSubscription", pb.CreateSubscriptionRequest(user_id="a", tier=7), "INVALID_ARGUMENT"),  # type: ignore[arg-type]
        ("CreateSubscription", pb.CreateSubscriptionRequest(user_id="\0"), "INVALID_ARGUMENT"),
        ("UpdateSubscription", pb.UpdateSubscriptionRequest(user_id="nobody", new_tier=2), "NOT_FOUND"),  # type: ignore[arg-type]
        ("UpdateSubscription", pb.UpdateSubscriptionRequest(user_id="a", new_tier=-1), "INVALID_ARGUMENT"),  # type: ignore[arg-type]
        ("UpdateSubscription", pb.UpdateSubscriptionRequest(user_id="a", payment_id="\0"), "INVALID_ARGUMENT"),
        ("UpdateSubscription", pb.UpdateSubscriptionRequest(user_id="a", payment_id="x" * 100_000), "INVALID_ARGUMENT"),
        ("CancelSubscription", pb.CancelSubscriptionRequest(user_id="nobody", reason="\0"), "NOT_FOUND"),
        ("CheckFeatureAccess", pb.CheckFeatureAccessRequest(user_id="a", feature_name="\0"), "NOT_FOUND"),
        ("CheckFeatureAccess", pb.CheckFeatureAccessRequest(user_id="a", feature_name="x" * 4_000), "NOT_FOUND"),
        ("CheckCartridgeAccess", pb.CheckCartridgeAccessRequest(user_id="a"), "INVALID_ARGUMENT"),
        (
            "CheckCartridgeAccess",
            pb.CheckCartridgeAccessRequest(user_id="a", category_code=2**31 - 1, type_index=-(2**31)),
            "INVALID_ARGUMENT",
        ),
        ("ListAccessibleCartridges", pb.ListAccessibleCartridgesRequest(user_id="\0"), "INVALID_ARGUMENT"),
    ],
)
async def test_what_is_wrong_is_the_callers_fault(commerce: Commerce, method: str, message: Any, status: str) -> None:
    async with stub(commerce) as subscriptions:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(subscriptions, method)(message)
    assert refused.value.code().name == status


async def test_any_words_are_taken_as_a_reason(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    async with stub(commerce) as subscriptions:
        reason = "too\0 dear\n" + "x" * 4_900
        assert (
            await subscriptions.CancelSubscription(pb.CancelSubscriptionRequest(user_id="alice", reason=reason))
        ).success
    (row,) = await commerce.fetch("SELECT cancel_reason FROM subscriptions")
    assert str(row["cancel_reason"]).startswith("too  dear x")
    assert len(str(row["cancel_reason"])) == 500


async def test_a_second_plan_already_exists(commerce: Commerce) -> None:
    async with stub(commerce) as subscriptions:
        request = pb.CreateSubscriptionRequest(user_id="alice", tier=common_pb2.SUBSCRIPTION_TIER_PRO)
        first = await subscriptions.CreateSubscription(request)
        assert (first.status, first.tier) == (
            pb.SUBSCRIPTION_STATUS_SUSPENDED,
            common_pb2.SUBSCRIPTION_TIER_FREE,
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await subscriptions.CreateSubscription(request)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


# GraphQL


async def test_a_plan_is_chosen_paid_and_ended_in_the_graph(commerce: Commerce) -> None:
    data, errors = await run(commerce, SUBSCRIBE, tier="FREE")
    assert errors == []
    made = data["subscribe"]["subscription"]
    assert (made["status"], made["tier"], made["holder"], data["subscribe"]["due"]) == (
        "ACTIVE",
        "FREE",
        {"id": "alice"},
        None,
    )
    data, errors = await run(commerce, CHANGE, tier="PRO")
    assert errors == []
    assert data["changePlan"]["due"] == {"kind": "UPGRADE", "amountKrw": 29_900}
    assert data["changePlan"]["subscription"]["tier"] == "FREE"
    data, errors = await run(commerce, CHANGE, tier="PRO", payment="test-pay-001", locale="ko")
    assert errors == []
    assert data["changePlan"] == {
        "subscription": {
            "status": "ACTIVE",
            "tier": "PRO",
            "plan": {"name": "프로", "aiCoachingEnabled": True},
            "monthlyPriceKrw": 29_900,
            "creditKrw": 0,
        },
        "due": None,
    }
    data, errors = await run(
        commerce, 'mutation { cancelSubscription(input: {reason: "x"}) { cancelledAt effectiveUntil } }'
    )
    assert errors == []
    assert data["cancelSubscription"]["effectiveUntil"] > data["cancelSubscription"]["cancelledAt"]


async def test_a_paid_plan_says_what_has_to_be_paid(commerce: Commerce) -> None:
    data, _ = await run(commerce, SUBSCRIBE, tier="CLINICAL")
    made = data["subscribe"]
    assert made["subscription"]["status"] == "AWAITING"
    assert (made["subscription"]["tier"], made["subscription"]["chosenTier"]) == ("FREE", "CLINICAL")
    assert made["subscription"]["due"]["id"] == made["due"]["id"]
    assert (made["due"]["kind"], made["due"]["tier"], made["due"]["amountKrw"]) == ("START", "CLINICAL", 59_900)


async def test_people_show_their_plans_with_as_many_statements_for_many_as_for_one(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.BASIC)
    await create(commerce, Tier.FREE, BOB)
    people = [{"__typename": "User", "id": name} for name in ("alice", "bob", "nobody")]
    with statements(commerce) as for_one:
        await run(commerce, OF_PEOPLE, ADMIN, people=people[:1])
    with statements(commerce) as for_many:
        data, errors = await run(commerce, OF_PEOPLE, ADMIN, people=people)
    assert errors == []
    alice, bob, nobody = data["_entities"]
    assert alice["subscription"] == {
        "status": "ACTIVE",
        "tier": "BASIC",
        "plan": {"name": "Basic", "maxDevices": 2},
        "due": None,
    }
    assert bob["subscription"]["tier"] == "FREE"
    assert nobody["subscription"] is None
    assert len(for_many) == len(for_one)


async def test_the_plan_of_another_is_refused_and_ones_own_is_still_shown(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    theirs = (await subscribed(commerce, Tier.PRO, BOB)).standing.subscription.subscription_id
    references = [
        {"__typename": "User", "id": "bob"},
        {"__typename": "User", "id": "alice"},
        {"__typename": "PlanSubscription", "id": theirs},
    ]
    data, errors = await run(commerce, OF_PEOPLE, people=references)
    assert data["_entities"][0] == {"id": "bob", "subscription": None}
    assert data["_entities"][1]["subscription"]["tier"] == "FREE"
    assert data["_entities"][2] is None
    assert [error["code"] for error in errors] == ["FORBIDDEN"]
    data, errors = await run(commerce, OF_PEOPLE, ANONYMOUS, people=references[1:2])
    assert [error["code"] for error in errors] == ["UNAUTHENTICATED"]


async def test_cartridges_show_the_callers_access_in_as_many_statements_for_many_as_for_one(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.BASIC)
    codes = [(1, 1), (2, 1), (5, 1), (2, 2), (9, 9)]
    cartridges = [
        {"__typename": "Cartridge", "id": f"{number:016X}", "categoryCode": category, "typeIndex": type_index}
        for number, (category, type_index) in enumerate(codes)
    ]
    with statements(commerce) as for_one:
        await run(commerce, ACCESS, cartridges=cartridges[:1])
    with statements(commerce) as for_many:
        data, errors = await run(commerce, ACCESS, cartridges=cartridges)
    assert errors == []
    assert len(for_many) == len(for_one)
    seen = [
        (one["access"]["level"], one["access"]["allowed"], one["access"]["requiredTier"]) for one in data["_entities"]
    ]
    assert seen == [
        ("INCLUDED", True, "FREE"),
        ("ADD_ON", False, "BASIC"),
        ("RESTRICTED", False, "PRO"),
        ("ADD_ON", False, "BASIC"),
        ("RESTRICTED", False, None),
    ]
    add_on = data["_entities"][1]["access"]
    assert add_on["message"] == f"Available as an add-on for {add_on['addOnPriceKrw']:,} won."
    assert data["_entities"][0]["access"]["remainingDaily"] is None
    assert add_on["remainingDaily"] == 0


async def test_a_cartridge_without_a_known_code_has_no_access(commerce: Commerce) -> None:
    data, errors = await run(commerce, ACCESS, cartridges=[{"__typename": "Cartridge", "id": "0000000000000001"}])
    assert data["_entities"] == [{"id": "0000000000000001", "access": None}]
    assert [error["code"] for error in errors] == ["BAD_USER_INPUT"]


async def test_what_a_plan_opens_is_listed(commerce: Commerce) -> None:
    measured = {"session_id": "s", "user_id": "alice", "category_code": 1, "type_index": 1}
    await deliver(commerce, [("measurement.completed", {**measured, "measured_at": commerce.clock.now().isoformat()})])
    data, errors = await run(commerce, LISTED)
    assert errors == []
    assert [plan["tier"] for plan in data["plans"]] == ["FREE", "BASIC", "PRO", "CLINICAL"]
    assert data["featureAccess"] == {
        "feature": "ai_coaching",
        "allowed": False,
        "requiredTier": "PRO",
        "currentTier": "FREE",
        "message": "AI coaching: available from the plan Pro.",
    }
    assert data["cartridgeAccess"] == {
        "allowed": True,
        "level": "LIMITED",
        "remainingDaily": 2,
        "remainingMonthly": None,
        "message": "You may use it 2 more times today.",
    }
    assert len(data["accessibleCartridges"]) == 30
    assert data["accessibleCartridges"][0] == {
        "type": {"id": "0101"},
        "nameEn": "Glucose",
        "nameKo": "혈당",
        "access": {"level": "LIMITED"},
    }


async def test_plans_and_rules_are_changed_by_administrators_alone(commerce: Commerce) -> None:
    for query in (SET_PLAN, SET_ACCESS, "{ cartridgeAccessRules { tier } }"):
        _, errors = await run(commerce, query)
        assert [error["code"] for error in errors] == ["FORBIDDEN"]
    data, errors = await run(commerce, SET_PLAN, ADMIN)
    assert (errors, data["setPlan"]) == ([], {"tier": "PRO", "monthlyPriceKrw": 31_900, "maxDevices": 6})
    data, errors = await run(commerce, SET_ACCESS, ADMIN)
    assert errors == []
    rules, _ = await run(
        commerce,
        "{ cartridgeAccessRules { firstCategory lastCategory typeIndex tier level dailyLimit monthlyLimit } }",
        ADMIN,
    )
    assert data["setCartridgeAccess"] in rules["cartridgeAccessRules"]


async def test_anothers_plan_is_not_changed_in_the_graph(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE, BOB)
    await update(commerce, Tier.PRO, "test-pay-001", BOB)
    for query in (
        'mutation { subscribe(input: {tier: FREE, userId: "bob"}) { due { id } } }',
        'mutation { changePlan(input: {tier: FREE, userId: "bob"}) { due { id } } }',
        'mutation { cancelSubscription(input: {userId: "bob"}) { cancelledAt } }',
    ):
        _, errors = await run(commerce, query)
        assert [error["code"] for error in errors] == ["FORBIDDEN"]


# Together with hardware


def test_a_cartridges_access_is_joined_by_its_codes() -> None:
    parts = [
        Subgraph(name, f"http://{name}", part.as_str())
        for name, part in (("identity", identity_schema), ("hardware", hardware_schema), ("commerce", schema))
    ]
    supergraph = read_supergraph(compose(parts).supergraph_sdl)
    document = parse('{ cartridge(id: "AA") { remainingUses access { allowed requiredTier } } }')
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    printed = str(Planner(supergraph).plan(normalize(supergraph, document, operation, variables={})).plan)
    fetches = [line.strip() for line in printed.splitlines() if "Fetch" in line]
    assert fetches == ['Fetch(service: "hardware") {', 'Fetch(service: "commerce") {']
    wanted = printed[printed.index('"commerce"') :].split("=>", maxsplit=1)[0]
    for field in ("categoryCode", "typeIndex", "id"):
        assert field in wanted
