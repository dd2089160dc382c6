"""Puts the commerce group together: services, gRPC, GraphQL, events and background work."""

from domain.catalog import Group
from subgraphs.commerce.context import CommerceContext
from subgraphs.commerce.payment.adapters.toss import TossPayments
from subgraphs.commerce.payment.faces import payment_faces
from subgraphs.commerce.schema import schema
from subgraphs.commerce.services import commerce_services
from subgraphs.commerce.shop.faces import shop_faces
from subgraphs.commerce.subscription.faces import subscription_faces
from subgraphs.runtime.faces import GroupFaces, GroupResources


async def build(resources: GroupResources) -> GroupFaces:
    """The faces of the group on the given resources.

    Raises:
        SettingsError: production without a key of the payment provider.
    """
    database = resources.database
    gateway = TossPayments.of(resources.settings)
    services = commerce_services(database, resources.clock, gateway, resources.sealer)
    return GroupFaces(
        group=Group.COMMERCE,
        services=(
            subscription_faces(services, database),
            shop_faces(services, database),
            payment_faces(services, database),
        ),
        schema=schema,
        graphql_context=lambda request: CommerceContext.of(request, services, database),
        close=gateway.close,
    )
