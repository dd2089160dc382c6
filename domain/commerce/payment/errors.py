"""What can go wrong with payments, besides what every command shares."""

from domain.errors import Conflict, InvalidInput, NotFound, TimedOut, Unavailable, WrongState


class PaymentFieldInvalid(InvalidInput):
    """A field of a payment has a value that it cannot have."""

    reason = "PAYMENT_FIELD_INVALID"


class PaymentNotFound(NotFound):
    """No payment has this id, or none that the caller may know of."""

    reason = "PAYMENT_NOT_FOUND"

    def __init__(self, payment_id: str) -> None:
        super().__init__("There is no payment with this id.", payment_id=payment_id[:64])


class PaymentNotPending(WrongState):
    """It was given up before the capture."""

    reason = "PAYMENT_NOT_PENDING"

    def __init__(self, payment_id: str, status: str) -> None:
        super().__init__(f"The payment is {status}; open a new one.", payment_id=payment_id, status=status)


class PaymentKeyUsed(WrongState):
    """The provider's key has captured another payment, or is just being used for it. It does not say for which."""

    reason = "PAYMENT_KEY_USED"

    def __init__(self) -> None:
        super().__init__("This payment key was used for another payment: approve this payment to get a key of its own.")


class PaymentNotCaptured(WrongState):
    """Nothing was captured, so there is nothing to pay back."""

    reason = "PAYMENT_NOT_CAPTURED"

    def __init__(self, payment_id: str, status: str) -> None:
        super().__init__(f"The payment is {status}: there is nothing to pay back.", payment_id=payment_id)


class AmountMismatch(WrongState):
    """The amount is not what is owed, or the provider has captured another one than was asked for."""

    reason = "AMOUNT_MISMATCH"


class PaymentDeclined(WrongState):
    """The provider has refused.

    Args:
        code: the provider's; message: what it tells the payer.
    """

    reason = "PAYMENT_DECLINED"

    def __init__(self, *, code: str, message: str) -> None:
        super().__init__(f"The payment was declined: {message or code}", provider_code=code)
        self.code = code


class RefundDeclined(WrongState):
    """The provider does not pay back."""

    reason = "REFUND_DECLINED"

    def __init__(self, *, code: str, message: str) -> None:
        super().__init__(f"The refund was declined: {message or code}", provider_code=code)
        self.code = code


class RefundExceedsPayment(WrongState):
    """More than what is left of the payment, refunds in hand included."""

    reason = "REFUND_EXCEEDS_PAYMENT"

    def __init__(self, *, asked_krw: int, left_krw: int) -> None:
        super().__init__(
            f"{left_krw} won of this payment are left to pay back.",
            asked_krw=asked_krw,
            left_krw=left_krw,
        )


class RefundNotAllowed(WrongState):
    """The payer may no longer ask for it: too late, or the order is on its way."""

    reason = "REFUND_NOT_ALLOWED"


class OrderNotPayable(WrongState):
    """The order, or the charge of the subscription, is not open for a payment."""

    reason = "ORDER_NOT_PAYABLE"


class OrderNotFound(NotFound):
    """The order or subscription is somebody else's."""

    reason = "ORDER_NOT_FOUND"

    def __init__(self, named: str) -> None:
        super().__init__("There is no such order or subscription to pay.", named=named[:64])


class PaymentInProgress(Conflict):
    """The provider is being asked at this moment."""

    reason = "PAYMENT_IN_PROGRESS"


class OutcomePending(TimedOut):
    """The provider has not told the outcome in time; it is asked in the background until it does."""

    reason = "PAYMENT_OUTCOME_PENDING"

    def __init__(self, payment_id: str) -> None:
        super().__init__(
            "The payment provider has not answered yet. Nothing is lost: ask for the payment again in a moment.",
            payment_id=payment_id,
        )


class ProviderUnavailable(Unavailable):
    """Payments are not set up: no key for the provider, or one that it refuses. Nothing was captured."""

    reason = "PAYMENT_PROVIDER_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("Payments are not available at the moment.")
