"""The rules of payments."""

from domain.clock import Clock
from domain.commerce.payment.ports import Debts, PaymentGateway, Sessions


class PaymentService:
    """Commands of the payment service. One for the process."""

    def __init__(self, clock: Clock, *, sessions: Sessions, gateway: PaymentGateway, debts: Debts) -> None:
        self._clock = clock
        self._sessions = sessions
        self._gateway = gateway
        self._debts = debts
