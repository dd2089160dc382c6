"""Toss Payments over its HTTP API."""

from domain.commerce.payment.ports import ProviderPayment
from subgraphs.runtime.settings import TossSettings


class TossPayments:
    """The port `PaymentGateway`."""

    name = "toss"

    def __init__(self, settings: TossSettings) -> None:
        self._settings = settings

    async def confirm(
        self, *, reference: str, payment_key: str, amount_krw: int, idempotency_key: str
    ) -> ProviderPayment:
        """Capture what the payer has approved."""
        raise NotImplementedError

    async def find(self, reference: str) -> ProviderPayment | None:
        """What the provider has under our reference."""
        raise NotImplementedError

    async def refund(self, *, payment_key: str, amount_krw: int, reason: str, idempotency_key: str) -> ProviderPayment:
        """Pay back an amount of a captured payment."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the connections."""
