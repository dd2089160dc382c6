"""What a payment is for has to be owed: by this payer, in this amount, and still."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.payment.errors import AmountMismatch, OrderNotFound, OrderNotPayable
from domain.commerce.payment.models import Opening, Payment
from domain.commerce.payment.ports import Debts
from domain.commerce.terms import Debt


async def debt_for(debts: Debts, session: AsyncSession, wanted: Opening | Payment) -> Debt | None:
    """What is owed, by the word of the shop or of subscription; None without an order of the shop's.

    Raises:
        OrderNotPayable: the subscription owes nothing.
    """
    if not wanted.order_id and not wanted.subscription_id:
        return None
    if wanted.order_id:
        of_order = await debts.of_order(session, wanted.order_id)
        if of_order is not None or not wanted.subscription_id:
            return of_order
    debt = await debts.of_subscription(session, wanted.subscription_id)
    if debt is None:
        raise OrderNotPayable("This subscription has nothing to pay.", subscription_id=wanted.subscription_id)
    return debt


def require_owed(wanted: Opening | Payment, debt: Debt | None) -> None:
    """Let a payment be opened or captured only for what is owed; without a debt the amount is the client's.

    Raises:
        OrderNotFound: somebody else owes it, or it is not what the named subscription owes.
        OrderNotPayable: nobody does (any more).
        AmountMismatch: another amount is owed.
    """
    if debt is None:
        return
    # Goods are no plan either: else one payment would be taken for both.
    other_plan = wanted.subscription_id not in ("", debt.subscription_id)
    if debt.user_id != wanted.user_id or other_plan:
        raise OrderNotFound(wanted.order_id or wanted.subscription_id)
    if not debt.is_open:
        raise OrderNotPayable("This is not open for payment (any more).")
    if debt.amount_krw != wanted.amount_krw:
        raise AmountMismatch(
            f"{debt.amount_krw} won are owed, not {wanted.amount_krw}.",
            owed_krw=debt.amount_krw,
            amount_krw=wanted.amount_krw,
        )
