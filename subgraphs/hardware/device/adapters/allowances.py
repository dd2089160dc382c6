"""How many readers people's plans allow, asked of subscription-service."""

import structlog
from manpasik.v1 import common_pb2
from manpasik.v1 import subscription_pb2 as pb
from manpasik.v1.subscription_pb2_grpc import SubscriptionServiceStub

from domain.errors import NotFound, TimedOut, Unavailable
from domain.ids import UserId
from subgraphs.runtime.clients import ServiceClient

_log = structlog.get_logger("device")

_TIMEOUT_S = 2.0


class GrpcAllowances:
    """The port `Allowances`. A subscription-service that is away limits nothing: a reader must work without the shop."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._subscriptions = client.stub("subscription", SubscriptionServiceStub)

    async def max_devices(self, user_id: UserId) -> int | None:
        """What the person's plan allows; None while subscription-service does not answer."""
        try:
            return await self._of_person(user_id)
        except (Unavailable, TimedOut) as error:
            _log.warning("plan not known", reason=error.reason)
            return None

    async def _of_person(self, user_id: UserId) -> int | None:
        asked = pb.GetSubscriptionDetailRequest(user_id=user_id)
        try:
            answer = await self._client.unary(
                self._subscriptions.GetSubscription, asked, timeout_s=_TIMEOUT_S, safe=True
            )
        except NotFound:
            return await self._of_the_free_plan()
        return answer.max_devices

    async def _of_the_free_plan(self) -> int | None:
        """What somebody has who never chose a plan."""
        listed = await self._client.unary(
            self._subscriptions.ListSubscriptionPlans,
            pb.ListSubscriptionPlansRequest(),
            timeout_s=_TIMEOUT_S,
            safe=True,
        )
        return next((plan.max_devices for plan in listed.plans if plan.tier == common_pb2.SUBSCRIPTION_TIER_FREE), None)
