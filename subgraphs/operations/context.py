"""What the group's resolvers have at hand for one request."""

from dataclasses import dataclass

import strawberry

from subgraphs.operations.notification.loaders import NotificationLoaders
from subgraphs.operations.services import OperationsServices
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.database import Database
from subgraphs.runtime.graphql import GraphQLContext
from subgraphs.runtime.signals import Signals


@dataclass(kw_only=True)
class OperationsContext(GraphQLContext):
    """Services, database, wake-ups and the loaders of this request."""

    services: OperationsServices
    database: Database
    signals: Signals
    notifications: NotificationLoaders

    @classmethod
    def of(
        cls, request: RequestContext, services: OperationsServices, database: Database, signals: Signals
    ) -> "OperationsContext":
        """A context with fresh loaders: nothing is remembered from one request to the next."""
        return cls(
            request=request,
            services=services,
            database=database,
            signals=signals,
            notifications=NotificationLoaders(services, database, request.principal),
        )


Info = strawberry.Info[OperationsContext, None]
