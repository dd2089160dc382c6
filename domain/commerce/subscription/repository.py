"""Every SQL statement about subscriptions. Lock order: the subscription, then its charges; payments come after both."""

from collections.abc import Collection, Sequence
from datetime import date, datetime

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.subscription.access import CartridgeKind, Uses
from domain.commerce.subscription.models import (
    AddOn,
    CartridgeAccessRule,
    CartridgeName,
    CartridgeUse,
    Charge,
    ChargeStatus,
    PaymentFate,
    PaymentNote,
    Plan,
    Subscription,
    SubscriptionStatus,
)
from domain.commerce.terms import Tier
from domain.ids import UserId


class SubscriptionRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def latest_of(self, user_ids: Collection[str]) -> dict[str, Subscription]:
        """The newest subscription of each person that ever had one."""
        found = await self._session.scalars(
            select(Subscription)
            .ext(distinct_on(Subscription.user_id))
            .where(Subscription.user_id.in_(user_ids))
            .order_by(Subscription.user_id, Subscription.revision.desc())
        )
        return {subscription.user_id: subscription for subscription in found}

    async def latest_for_update(self, user_id: UserId) -> Subscription | None:
        """The newest subscription of a person, locked and fresh."""
        # Locked by id and not by the query itself: that would go on to the row that was the newest when it began.
        found = await self._session.scalar(
            select(Subscription.subscription_id)
            .where(Subscription.user_id == user_id)
            .order_by(Subscription.revision.desc())
            .limit(1)
        )
        return await self.get_for_update(found) if found else None

    async def get(self, subscription_id: str) -> Subscription | None:
        return None if "\0" in subscription_id else await self._session.get(Subscription, subscription_id)

    async def get_for_update(self, subscription_id: str) -> Subscription | None:
        if "\0" in subscription_id:
            return None
        return await self._session.get(Subscription, subscription_id, with_for_update=True, populate_existing=True)

    async def by_ids(self, subscription_ids: Collection[str]) -> Sequence[Subscription]:
        wanted = [subscription_id for subscription_id in subscription_ids if "\0" not in subscription_id]
        found = await self._session.scalars(select(Subscription).where(Subscription.subscription_id.in_(wanted)))
        return found.all()

    async def running_of(self, user_id: str) -> Subscription | None:
        """The subscription of a person that is not over."""
        return await self._session.scalar(
            select(Subscription).where(
                Subscription.user_id == user_id, Subscription.status != SubscriptionStatus.EXPIRED
            )
        )

    async def add(self, subscription: Subscription) -> bool:
        """False when the person has one already that is not over; then nothing was stored."""
        values = {column.key: getattr(subscription, column.key) for column in Subscription.__mapper__.column_attrs}
        statement = insert(Subscription).values(values).on_conflict_do_nothing().returning(Subscription.subscription_id)
        return await self._session.scalar(statement) is not None

    async def due(self, now: datetime, *, limit: int) -> Sequence[str]:
        """Ids of subscriptions that something has become due of, longest overdue first, locked.

        Rows that another instance is working on are left to it.
        """
        found = await self._session.scalars(
            select(Subscription.subscription_id)
            .where(Subscription.act_at <= now)
            .order_by(Subscription.act_at, Subscription.subscription_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return found.all()

    async def look_again(self, subscription_id: str, *, at: datetime) -> None:
        await self._session.execute(
            update(Subscription).where(Subscription.subscription_id == subscription_id).values(act_at=at)
        )


class ChargeRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, subscription_id: str) -> Sequence[Charge]:
        """All charges of a subscription, the first opened first. Their subscription's lock guards them."""
        found = await self._session.scalars(
            select(Charge)
            .where(Charge.subscription_id == subscription_id)
            .order_by(Charge.opened_at, Charge.charge_id)
            .execution_options(populate_existing=True)
        )
        return found.all()

    async def open_of(self, subscription_ids: Collection[str]) -> dict[str, Charge]:
        """The open charge of each subscription that has one."""
        found = await self._session.scalars(
            select(Charge).where(Charge.subscription_id.in_(subscription_ids), Charge.status == ChargeStatus.OPEN)
        )
        return {charge.subscription_id: charge for charge in found}

    async def add(self, charge: Charge) -> None:
        self._session.add(charge)
        await self._session.flush()


class PaymentNoteRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def fate_of(self, payment_id: str) -> PaymentFate | None:
        fate = await self._session.scalar(select(PaymentNote.fate).where(PaymentNote.payment_id == payment_id))
        return PaymentFate(fate) if fate else None

    async def note(self, payment_id: str, subscription_id: str, fate: PaymentFate, *, at: datetime) -> None:
        """Keep what became of a payment; a later fate replaces an earlier one."""
        values = {"subscription_id": subscription_id, "fate": fate, "noted_at": at}
        await self._session.execute(
            insert(PaymentNote)
            .values(payment_id=payment_id, **values)
            .on_conflict_do_update(index_elements=[PaymentNote.payment_id], set_=values)
        )


class PlanRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def all(self) -> dict[Tier, Plan]:
        """The plans by tier, lowest first."""
        found = {Tier(plan.tier): plan for plan in await self._session.scalars(select(Plan))}
        return {tier: found[tier] for tier in Tier}

    async def get_for_update(self, tier: Tier) -> Plan:
        return await self._session.get_one(Plan, tier, with_for_update=True, populate_existing=True)


class AccessRepository:
    """Rules of cartridge access, what people have bought apart, and what they have used."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def rules(self) -> Sequence[CartridgeAccessRule]:
        return (
            await self._session.scalars(
                select(CartridgeAccessRule).order_by(
                    CartridgeAccessRule.first_category,
                    CartridgeAccessRule.last_category,
                    CartridgeAccessRule.type_index,
                )
            )
        ).all()

    async def set_rule(self, values: dict[str, object]) -> None:
        """Add a rule, or replace what it says."""
        keys = ["first_category", "last_category", "type_index", "tier"]
        await self._session.execute(
            insert(CartridgeAccessRule)
            .values(values)
            .on_conflict_do_update(
                index_elements=keys, set_={name: value for name, value in values.items() if name not in keys}
            )
        )

    async def names(self) -> Sequence[CartridgeName]:
        """All cartridge types by category and index."""
        return (
            await self._session.scalars(
                select(CartridgeName).order_by(CartridgeName.category_code, CartridgeName.type_index)
            )
        ).all()

    async def add_ons_of(self, user_id: str) -> Collection[CartridgeKind]:
        found = await self._session.execute(
            select(AddOn.category_code, AddOn.type_index).where(AddOn.user_id == user_id, AddOn.revoked_at.is_(None))
        )
        return {CartridgeKind(category, type_index) for category, type_index in found}

    async def grant_add_on(
        self, *, order_id: str, user_id: str, category_code: int, type_index: int, at: datetime
    ) -> None:
        """Once for an order and a type; what was revoked stays so."""
        await self._session.execute(
            insert(AddOn)
            .values(
                order_id=order_id,
                category_code=category_code,
                type_index=type_index,
                user_id=user_id,
                granted_at=at,
            )
            .on_conflict_do_nothing()
        )

    async def revoke_add_ons(self, order_id: str, *, at: datetime) -> None:
        await self._session.execute(
            update(AddOn).where(AddOn.order_id == order_id, AddOn.revoked_at.is_(None)).values(revoked_at=at)
        )

    async def record_use(self, use: CartridgeUse) -> None:
        """Once a session."""
        values = {column.key: getattr(use, column.key) for column in CartridgeUse.__mapper__.column_attrs}
        await self._session.execute(insert(CartridgeUse).values(values).on_conflict_do_nothing())

    async def uses_of(
        self, user_id: str, kinds: Collection[CartridgeKind] | None, *, today: date
    ) -> dict[CartridgeKind, Uses]:
        """Uses on a day and in its month until then, of the types that were used at all.

        Args:
            kinds: None: of all types.
        """
        conditions = [CartridgeUse.user_id == user_id, CartridgeUse.used_on.between(today.replace(day=1), today)]
        if kinds is not None:
            conditions.append(
                tuple_(CartridgeUse.category_code, CartridgeUse.type_index).in_([tuple(k) for k in kinds])
            )
        found = await self._session.execute(
            select(
                CartridgeUse.category_code,
                CartridgeUse.type_index,
                func.count().filter(CartridgeUse.used_on == today),
                func.count(),
            )
            .where(*conditions)
            .group_by(CartridgeUse.category_code, CartridgeUse.type_index)
        )
        return {CartridgeKind(category, index): Uses(day, month) for category, index, day, month in found}
