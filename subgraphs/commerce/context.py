"""What the group's resolvers have at hand for one request."""

from dataclasses import dataclass

import strawberry

from domain.commerce.terms import Tier
from subgraphs.commerce.payment.loaders import PaymentLoaders
from subgraphs.commerce.services import CommerceServices
from subgraphs.commerce.shop.loaders import ShopLoaders
from subgraphs.commerce.subscription.loaders import SubscriptionLoaders
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.database import Database
from subgraphs.runtime.graphql import GraphQLContext

# Here, because every schema module of the group reads this one before it names a tier. The identity subgraph has the same
# enumeration.
strawberry.enum(Tier, name="SubscriptionTier", description="A plan, lowest first; each includes the ones before it.")


@dataclass(kw_only=True)
class CommerceContext(GraphQLContext):
    """Services, database and the loaders of this request."""

    services: CommerceServices
    database: Database
    payments: PaymentLoaders
    subscriptions: SubscriptionLoaders
    shop: ShopLoaders

    @classmethod
    def of(cls, request: RequestContext, services: CommerceServices, database: Database) -> "CommerceContext":
        """A context with fresh loaders: nothing is remembered from one request to the next."""
        principal = request.principal
        return cls(
            request=request,
            services=services,
            database=database,
            payments=PaymentLoaders(services, database, principal),
            subscriptions=SubscriptionLoaders(services, database, principal),
            shop=ShopLoaders(services, database, principal),
        )


Info = strawberry.Info[CommerceContext, None]
