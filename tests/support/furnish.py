"""Data of a platform of the tests: the lot of its cartridges, and a free plan for several readers."""

from domain.commerce.subscription.plan_data import PLANS
from domain.commerce.terms import Tier
from infra.demo.factory import DemoFactory
from infra.factory import import_devices, import_lots
from tests.support.platform import ADMIN, Platform

FACTORY = DemoFactory("the factory of the end-to-end tests")
FREE_DEVICES = 20
"""Readers that the free plan of a platform of the tests allows: most tests are not about plans."""

_LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { accessToken } }"
_SET_PLAN = "mutation ($input: SetPlanInput!) { setPlan(input: $input) { maxDevices } }"


async def furnish(platform: Platform) -> None:
    """Import the factory's lot into a started platform, and let the free plan allow `FREE_DEVICES` readers."""
    await import_lots(platform.environment, FACTORY.lot_file, replace=True)
    [free] = [plan for plan in PLANS if plan.tier is Tier.FREE]
    account = {"email": ADMIN["BOOTSTRAP_ADMIN_EMAIL"], "password": ADMIN["BOOTSTRAP_ADMIN_PASSWORD"]}
    login = await platform.graphql(_LOGIN, {"input": account})
    plan = {
        "tier": "FREE",
        "nameEn": free.name_en,
        "nameKo": free.name_ko,
        "descriptionEn": free.description_en,
        "descriptionKo": free.description_ko,
        "monthlyPriceKrw": 0,
        "maxDevices": FREE_DEVICES,
        "maxFamilyMembers": free.max_family_members,
        "aiCoachingEnabled": free.ai_coaching_enabled,
        "telemedicineEnabled": free.telemedicine_enabled,
    }
    answer = await platform.graphql(_SET_PLAN, {"input": plan}, token=login["data"]["login"]["accessToken"])
    assert answer == {"data": {"setPlan": {"maxDevices": FREE_DEVICES}}}, answer


async def import_device_records(platform: Platform, *device_ids: str) -> None:
    """Import the factory's records of readers into a platform."""
    await import_devices(platform.environment, FACTORY.device_file(device_ids), replace=False)
