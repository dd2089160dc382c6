"""subscription-service over gRPC."""

from manpasik.v1 import cartridge_pb2
from manpasik.v1 import subscription_pb2 as pb
from manpasik.v1 import subscription_pb2_grpc as pb_grpc

from domain.commerce.subscription.access import access_message
from domain.commerce.subscription.cartridges import ListedCartridge
from domain.commerce.subscription.features import features_of
from domain.commerce.subscription.models import Plan, Standing
from domain.commerce.terms import Tier
from subgraphs.commerce.services import CommerceServices
from subgraphs.commerce.subscription.wire import LEVEL_NUMBERS, STATUS_NUMBERS, TIER_NUMBERS, required_number, tier_of
from subgraphs.commerce.wire import timestamp
from subgraphs.runtime.context import Locale, current
from subgraphs.runtime.database import Database


class SubscriptionServicer(pb_grpc.SubscriptionServiceServicer):
    """manpasik.v1.SubscriptionService."""

    def __init__(self, services: CommerceServices, database: Database) -> None:
        self._subscriptions = services.subscriptions
        self._plans = services.plans
        self._cartridges = services.cartridges
        self._database = database

    async def CreateSubscription(  # noqa: N802 - the name of the wire
        self, request: pb.CreateSubscriptionRequest, _context: object
    ) -> pb.SubscriptionDetail:
        tier = tier_of(request.tier, field="tier")
        async with self._database.transaction() as session:
            made = await self._subscriptions.create(session, current().principal, user_id=request.user_id, tier=tier)
        return _detail(made.standing)

    async def GetSubscription(  # noqa: N802 - the name of the wire
        self, request: pb.GetSubscriptionDetailRequest, _context: object
    ) -> pb.SubscriptionDetail:
        async with self._database.read() as session:
            found = await self._subscriptions.get(session, current().principal, user_id=request.user_id)
        return _detail(found.standing)

    async def UpdateSubscription(  # noqa: N802 - the name of the wire
        self, request: pb.UpdateSubscriptionRequest, _context: object
    ) -> pb.SubscriptionDetail:
        # In transactions of the service's own: it may have to wait for the payment provider.
        changed = await self._subscriptions.update(
            current().principal,
            user_id=request.user_id,
            new_tier=tier_of(request.new_tier, field="new_tier"),
            payment_id=request.payment_id,
        )
        return _detail(changed.standing)

    async def CancelSubscription(  # noqa: N802 - the name of the wire
        self, request: pb.CancelSubscriptionRequest, _context: object
    ) -> pb.CancelSubscriptionResponse:
        async with self._database.transaction() as session:
            cancelled = await self._subscriptions.cancel(
                session, current().principal, user_id=request.user_id, reason=request.reason
            )
        return pb.CancelSubscriptionResponse(
            success=True,
            cancelled_at=timestamp(cancelled.cancelled_at),
            effective_until=timestamp(cancelled.effective_until),
        )

    async def CheckFeatureAccess(  # noqa: N802 - the name of the wire
        self, request: pb.CheckFeatureAccessRequest, _context: object
    ) -> pb.CheckFeatureAccessResponse:
        async with self._database.read() as session:
            decision = await self._plans.check_feature(
                session, current().principal, user_id=request.user_id, feature=request.feature_name
            )
        return pb.CheckFeatureAccessResponse(
            allowed=decision.allowed,
            required_tier=required_number(decision.required_tier),
            current_tier=TIER_NUMBERS[Tier(decision.current.tier)],
            message=decision.message(current().locale),
        )

    async def ListSubscriptionPlans(  # noqa: N802 - the name of the wire
        self, _request: pb.ListSubscriptionPlansRequest, _context: object
    ) -> pb.ListSubscriptionPlansResponse:
        async with self._database.read() as session:
            plans = await self._plans.all(session)
        return pb.ListSubscriptionPlansResponse(plans=[_plan(plan, current().locale) for plan in plans])

    async def CheckCartridgeAccess(  # noqa: N802 - the name of the wire
        self, request: pb.CheckCartridgeAccessRequest, _context: object
    ) -> pb.CheckCartridgeAccessResponse:
        async with self._database.read() as session:
            decision = await self._cartridges.check(
                session,
                current().principal,
                user_id=request.user_id,
                category=request.category_code,
                type_index=request.type_index,
            )
            plans = {Tier(plan.tier): plan for plan in await self._plans.all(session)}
        return pb.CheckCartridgeAccessResponse(
            allowed=decision.allowed,
            access_level=LEVEL_NUMBERS[decision.level],
            remaining_daily=decision.remaining_daily,
            remaining_monthly=decision.remaining_monthly,
            required_tier=required_number(decision.required_tier),
            current_tier=TIER_NUMBERS[decision.current_tier],
            message=access_message(decision, plans, current().locale),
            addon_price_krw=decision.add_on_price_krw,
        )

    async def ListAccessibleCartridges(  # noqa: N802 - the name of the wire
        self, request: pb.ListAccessibleCartridgesRequest, _context: object
    ) -> pb.ListAccessibleCartridgesResponse:
        async with self._database.read() as session:
            listed = await self._cartridges.list_all(session, current().principal, user_id=request.user_id)
        return pb.ListAccessibleCartridgesResponse(entries=[_entry(cartridge) for cartridge in listed])


def _detail(standing: Standing) -> pb.SubscriptionDetail:
    subscription, plan = standing.subscription, standing.plan
    return pb.SubscriptionDetail(
        subscription_id=subscription.subscription_id,
        user_id=subscription.user_id,
        tier=TIER_NUMBERS[standing.tier],
        status=STATUS_NUMBERS[standing.status],
        started_at=timestamp(subscription.started_at),
        expires_at=timestamp(subscription.expires_at) if subscription.expires_at else None,
        cancelled_at=timestamp(subscription.cancelled_at) if subscription.cancelled_at else None,
        max_devices=plan.max_devices,
        max_family_members=plan.max_family_members,
        ai_coaching_enabled=plan.ai_coaching_enabled,
        telemedicine_enabled=plan.telemedicine_enabled,
        monthly_price_krw=standing.monthly_price_krw,
        auto_renew=standing.auto_renew,
    )


def _plan(plan: Plan, locale: Locale) -> pb.SubscriptionPlan:
    korean = locale == "ko"
    return pb.SubscriptionPlan(
        tier=TIER_NUMBERS[Tier(plan.tier)],
        name=plan.name_ko if korean else plan.name_en,
        description=plan.description_ko if korean else plan.description_en,
        monthly_price_krw=plan.monthly_price_krw,
        max_devices=plan.max_devices,
        max_family_members=plan.max_family_members,
        ai_coaching_enabled=plan.ai_coaching_enabled,
        telemedicine_enabled=plan.telemedicine_enabled,
        features=features_of(plan),
    )


def _entry(listed: ListedCartridge) -> pb.CartridgeAccessEntry:
    name, decision = listed.name, listed.decision
    return pb.CartridgeAccessEntry(
        type_info=cartridge_pb2.CartridgeTypeInfo(
            category_code=name.category_code,
            type_index=name.type_index,
            legacy_code=name.legacy_code or 0,
            name_en=name.name_en,
            name_ko=name.name_ko,
            is_active=True,
        ),
        access_level=LEVEL_NUMBERS[decision.level],
        remaining_daily=decision.remaining_daily,
        remaining_monthly=decision.remaining_monthly,
    )
