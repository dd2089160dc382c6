"""What can go wrong with plans and subscriptions, besides what every command shares."""

from domain.errors import AlreadyExists, Conflict, InvalidInput, NotFound, WrongState


class SubscriptionFieldInvalid(InvalidInput):
    """A field has a value that it cannot have."""

    reason = "SUBSCRIPTION_FIELD_INVALID"


class SubscriptionNotFound(NotFound):
    """The person never had a subscription."""

    reason = "SUBSCRIPTION_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("This person has never had a subscription.")


class SubscriptionRunning(AlreadyExists):
    """The person has a plan that is not over: it is changed, not started again."""

    reason = "SUBSCRIPTION_ALREADY_RUNNING"

    def __init__(self) -> None:
        super().__init__("There is a subscription already: change its plan instead of starting another one.")


class SubscriptionOver(WrongState):
    """The plan is over; a new one can be started."""

    reason = "SUBSCRIPTION_OVER"

    def __init__(self) -> None:
        super().__init__("This subscription is over: start a new one.")


class SubscriptionUnpaid(WrongState):
    """The chosen plan waits for its payment, and cannot be changed before."""

    reason = "SUBSCRIPTION_UNPAID"

    def __init__(self) -> None:
        super().__init__("The plan waits for its payment: pay for it or cancel it first.")


class SubscriptionMoveRefused(WrongState):
    """The state does not lead there."""

    reason = "SUBSCRIPTION_MOVE_REFUSED"

    def __init__(self, subscription_id: str, status: str, to: str) -> None:
        super().__init__(f"A subscription that is {status} cannot become {to}.", subscription_id=subscription_id)


class PaymentInProgress(Conflict):
    """A payment of the plan is being captured: what it pays for cannot be taken away from under it."""

    reason = "PAYMENT_IN_PROGRESS"

    def __init__(self) -> None:
        super().__init__("A payment of this plan is being processed: try again in a moment.")


class PaymentNotUsable(WrongState):
    """The named payment does not pay for this change. It does not say why: the payment may be somebody else's."""

    reason = "PAYMENT_NOT_USABLE"

    def __init__(self, payment_id: str) -> None:
        super().__init__(
            "This payment does not pay for this plan: it has to be your own, of this subscription, completed, of the exact "
            "amount, and neither used nor refunded.",
            payment_id=payment_id,
        )


class FeatureUnknown(NotFound):
    """No plan knows a feature of this name."""

    reason = "FEATURE_UNKNOWN"


class PlanFieldInvalid(InvalidInput):
    """A field of a plan has a value that it cannot have."""

    reason = "PLAN_FIELD_INVALID"


class AccessRuleInvalid(InvalidInput):
    """A rule of cartridge access contradicts itself."""

    reason = "ACCESS_RULE_INVALID"
