"""Payment in GraphQL."""

import strawberry


@strawberry.type
class PaymentQuery:
    pass


@strawberry.type
class PaymentMutation:
    pass


@strawberry.type
class PaymentOfUser:
    """What the service knows of a person; `id` is that of `User`."""

    id: strawberry.ID
