"""How many readers a plan allows, as subscription-service says it, or does not answer."""

from typing import Any, cast

import pytest
from google.protobuf.message import Message
from manpasik.v1 import common_pb2, subscription_pb2

from domain.errors import AppError, NotFound, TimedOut, Unavailable
from domain.ids import UserId
from subgraphs.hardware.device.adapters.allowances import GrpcAllowances
from subgraphs.runtime.clients import ServiceClient


class Stub:
    GetSubscription = "GetSubscription"
    ListSubscriptionPlans = "ListSubscriptionPlans"


class Client:
    """Answers by the name of the method; errors are raised."""

    def __init__(self, answers: dict[str, Message | AppError]) -> None:
        self._answers = answers

    def stub(self, callee: str, _stub_class: object) -> Any:
        assert callee == "subscription"
        return Stub

    async def unary(self, method: str, _request: Message, **_: object) -> Message:
        answer = self._answers[method]
        if isinstance(answer, AppError):
            raise answer
        return answer


PLANS = subscription_pb2.ListSubscriptionPlansResponse(
    plans=[
        subscription_pb2.SubscriptionPlan(tier=common_pb2.SUBSCRIPTION_TIER_PRO, max_devices=5),
        subscription_pb2.SubscriptionPlan(tier=common_pb2.SUBSCRIPTION_TIER_FREE, max_devices=3),
    ]
)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"GetSubscription": subscription_pb2.SubscriptionDetail(max_devices=2)}, 2),
        ({"GetSubscription": NotFound("none"), "ListSubscriptionPlans": PLANS}, 3),
        ({"GetSubscription": Unavailable("away")}, None),
        ({"GetSubscription": NotFound("none"), "ListSubscriptionPlans": TimedOut("slow")}, None),
    ],
    ids=["their plan", "no plan: the free one", "away", "away in between"],
)
async def test_the_plan_in_force_says_how_many_readers_there_may_be(
    answers: dict[str, Message | AppError], expected: int | None
) -> None:
    allowances = GrpcAllowances(cast("ServiceClient", Client(answers)))
    assert await allowances.max_devices(UserId("alice")) == expected
