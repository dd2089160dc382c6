"""Subscription in GraphQL."""

import strawberry


@strawberry.type
class SubscriptionQuery:
    pass


@strawberry.type
class SubscriptionMutation:
    pass


@strawberry.type
class SubscriptionOfUser:
    """What the service knows of a person; `id` is that of `User`."""

    id: strawberry.ID
