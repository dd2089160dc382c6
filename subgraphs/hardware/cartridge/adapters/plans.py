"""People's plans, asked of subscription-service."""

import structlog
from manpasik.v1 import common_pb2
from manpasik.v1 import subscription_pb2 as pb
from manpasik.v1.subscription_pb2_grpc import SubscriptionServiceStub

from domain.errors import TimedOut, Unavailable
from domain.hardware.cartridge.models import PlanLevel, PlanRule
from domain.hardware.codes import CartridgeCode
from domain.ids import UserId
from subgraphs.runtime.clients import ServiceClient

_log = structlog.get_logger("cartridge")

_TIMEOUT_S = 1.0
_LEVEL_FROM_WIRE = {
    common_pb2.CARTRIDGE_ACCESS_INCLUDED: PlanLevel.INCLUDED,
    common_pb2.CARTRIDGE_ACCESS_LIMITED: PlanLevel.LIMITED,
    common_pb2.CARTRIDGE_ACCESS_ADD_ON: PlanLevel.ADD_ON,
    common_pb2.CARTRIDGE_ACCESS_RESTRICTED: PlanLevel.RESTRICTED,
    common_pb2.CARTRIDGE_ACCESS_BETA: PlanLevel.BETA,
}


class GrpcPlans:
    """The port `Plans`. A subscription-service that is away decides nothing: a reader must work without the shop."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._subscriptions = client.stub("subscription", SubscriptionServiceStub)

    async def rule(self, user_id: UserId, code: CartridgeCode) -> PlanRule | None:
        """What a person's plan says about a type now; None while subscription-service does not answer."""
        asked = pb.CheckCartridgeAccessRequest(user_id=user_id, category_code=code.category, type_index=code.type_index)
        try:
            answer = await self._client.unary(
                self._subscriptions.CheckCartridgeAccess, asked, timeout_s=_TIMEOUT_S, safe=True
            )
        except (Unavailable, TimedOut) as error:
            _log.warning("plan not known", reason=error.reason)
            return None
        level = _LEVEL_FROM_WIRE.get(answer.access_level)
        return PlanRule(level, answer.allowed) if level else None
