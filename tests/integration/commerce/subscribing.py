"""What the tests of plans play with: people who subscribe and pay, and the events that follow, delivered by hand."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select

from domain.commerce.payment.models import Payment, PaymentType
from domain.commerce.subscription.models import PlanChange
from domain.commerce.subscription.service import Cancelled
from domain.commerce.terms import Tier
from domain.ids import new_id
from domain.messaging import OutboxRow
from domain.principal import Principal
from subgraphs.commerce.subscription.consumers import subscription_consumers
from subgraphs.commerce.subscription.renewals import RenewalSweep
from subgraphs.runtime.faces import EventMetadata
from tests.integration.commerce.conftest import ALICE, Commerce
from tests.support.outbox import opened_row

KEY = "test-key"


async def create(commerce: Commerce, tier: Tier, who: Principal = ALICE) -> PlanChange:
    async with commerce.database.transaction() as session:
        return await commerce.services.subscriptions.create(session, who, user_id="", tier=tier)


async def update(commerce: Commerce, tier: Tier, payment_id: str = "", who: Principal = ALICE) -> PlanChange:
    return await commerce.services.subscriptions.update(who, user_id="", new_tier=tier, payment_id=payment_id)


async def get(commerce: Commerce, who: Principal = ALICE) -> PlanChange:
    async with commerce.database.read() as session:
        return await commerce.services.subscriptions.get(session, who, user_id="")


async def cancel(commerce: Commerce, who: Principal = ALICE) -> Cancelled:
    async with commerce.database.transaction() as session:
        return await commerce.services.subscriptions.cancel(session, who, user_id="", reason="too dear")


async def open_payment(commerce: Commerce, owed: PlanChange, who: Principal = ALICE, amount_krw: int = 0) -> Payment:
    """A pending payment of what a subscription owes."""
    assert owed.due is not None
    async with commerce.database.transaction() as session:
        return await commerce.services.payments.create(
            session,
            who,
            user_id="",
            order_id="",
            subscription_id=owed.standing.subscription.subscription_id,
            payment_type=PaymentType.SUBSCRIPTION,
            amount_krw=amount_krw or owed.due.amount_krw,
            payment_method="card",
        )


async def pay(commerce: Commerce, owed: PlanChange, who: Principal = ALICE, key: str = "") -> str:
    """Capture what a subscription owes, with a key of its own unless one is given; the id of the payment."""
    payment = await open_payment(commerce, owed, who)
    await commerce.services.payments.confirm(who, payment_id=payment.payment_id, payment_key=key or f"test-{new_id()}")
    return payment.payment_id


async def events(commerce: Commerce, pattern: str) -> list[tuple[str, dict[str, Any]]]:
    """Topics and payloads of the events so far whose topic is like a pattern, in their order."""
    async with commerce.database.read() as session:
        rows = await session.scalars(select(OutboxRow).where(OutboxRow.topic.like(pattern)).order_by(OutboxRow.id))
        return [(row.topic, opened_row(row, commerce.database)) for row in rows]


async def told(commerce: Commerce, topic: str) -> list[dict[str, Any]]:
    """The payloads of the events of a topic so far, in their order."""
    return [payload for _, payload in await events(commerce, topic)]


def handlers(commerce: Commerce) -> Mapping[str, Any]:
    """The consumers of subscription-service, by topic."""
    consumers = subscription_consumers(commerce.services.settlements, commerce.services.cartridges)
    return {consumer.topic: consumer for consumer in consumers}


async def deliver(commerce: Commerce, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Hand events to subscription-service, each in a transaction of its own; a second time also, where they are repeated."""
    consumers = handlers(commerce)
    for topic, payload in events:
        metadata = EventMetadata("", topic, "", "", commerce.clock.now(), "", "")
        event = consumers[topic].event.model_validate(payload)
        async with commerce.database.transaction() as session:
            await consumers[topic].handle(session, event, metadata)


async def deliver_payments(commerce: Commerce, user_id: str = "") -> None:
    """Hand over all that payment has told so far, in its order; what was handed over before changes nothing.

    Args:
        user_id: only what it has told of this person.
    """
    all_told = await events(commerce, "payment.%")
    await deliver(commerce, [(topic, payload) for topic, payload in all_told if user_id in ("", payload["user_id"])])


async def settle_refunds(commerce: Commerce) -> None:
    """Let payment carry out what it was asked to pay back."""
    while await commerce.services.payments.settle_unclear():
        pass


async def sweep(commerce: Commerce) -> int:
    """One run of the scheduler."""
    return await RenewalSweep(commerce.services.renewals, commerce.database).sweep()


async def subscribed(commerce: Commerce, tier: Tier, who: Principal = ALICE) -> PlanChange:
    """Somebody on a paid plan whose first month begins now."""
    owed = await create(commerce, tier, who)
    await pay(commerce, owed, who)
    await deliver_payments(commerce)
    return await get(commerce, who)
