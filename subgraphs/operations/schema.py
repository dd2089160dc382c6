"""The operations subgraph: what its services show, put together."""

import strawberry

from subgraphs.operations.notification.schema import (
    Notification,
    NotificationMutation,
    NotificationOfUser,
    NotificationQuery,
    NotificationSubscription,
)
from subgraphs.runtime.graphql import build_schema


@strawberry.type
class Query(NotificationQuery):
    """Everything that can be asked of the group."""


@strawberry.type
class Mutation(NotificationMutation):
    """Everything that can be changed in the group."""


@strawberry.type
class Subscription(NotificationSubscription):
    """What the group tells as it happens."""


@strawberry.federation.type(keys=["id"], description="A person, with the notifications that they got.")
class User(NotificationOfUser):
    id: strawberry.ID = strawberry.field(description="Names the person.")

    @classmethod
    def resolve_reference(cls, id: strawberry.ID) -> "User":
        """The person of a reference; what may be seen of them is decided field by field."""
        return cls(id=id)


schema = build_schema(Query, Mutation, Subscription, types=[User, Notification])
