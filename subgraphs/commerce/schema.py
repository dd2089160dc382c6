"""The commerce subgraph: what subscription, shop and payment show, put together."""

import strawberry

from subgraphs.commerce.payment.schema import PaymentMutation, PaymentOfUser, PaymentQuery
from subgraphs.commerce.shop.catalogue_schema import Product
from subgraphs.commerce.shop.order_schema import Order
from subgraphs.commerce.shop.schema import ShopMutation, ShopOfUser, ShopQuery
from subgraphs.commerce.subscription.access_schema import Cartridge
from subgraphs.commerce.subscription.schema import (
    PlanSubscription,
    SubscriptionMutation,
    SubscriptionOfUser,
    SubscriptionQuery,
)
from subgraphs.runtime.graphql import build_schema


@strawberry.type
class Query(SubscriptionQuery, ShopQuery, PaymentQuery):
    """Everything that can be asked of the group."""


@strawberry.type
class Mutation(SubscriptionMutation, ShopMutation, PaymentMutation):
    """Everything that can be changed in the group."""


@strawberry.federation.type(keys=["id"], description="A person, with their plan, orders and payments.")
class User(SubscriptionOfUser, ShopOfUser, PaymentOfUser):
    id: strawberry.ID = strawberry.field(description="Names the person.")

    @classmethod
    def resolve_reference(cls, id: strawberry.ID) -> "User":
        """The person of a reference; what may be seen of them is decided field by field."""
        return cls(id=id)


schema = build_schema(Query, Mutation, types=[User, Product, Order, PlanSubscription, Cartridge])
