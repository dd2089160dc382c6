"""Shop in GraphQL."""

import strawberry


@strawberry.type
class ShopQuery:
    pass


@strawberry.type
class ShopMutation:
    pass


@strawberry.type
class ShopOfUser:
    """What the service knows of a person; `id` is that of `User`."""

    id: strawberry.ID
