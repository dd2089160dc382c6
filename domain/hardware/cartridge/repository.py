"""Every SQL statement about cartridges and their registry. Lock order: the uid (advisory), then the reading's row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from domain.hardware.cartridge.models import (
    VERSIONED,
    Cartridge,
    CartridgeCategory,
    CartridgeLot,
    CartridgeType,
    CartridgeTypeVersion,
    CartridgeUsage,
    CategorySummary,
    RegisteredCartridge,
    ResolvedCartridge,
)
from domain.hardware.cartridge.proof import KnownFacts, resolve
from domain.hardware.codes import CartridgeCode
from domain.ids import UserId

_UID_LOCKS = 0x63617274  # "cart": namespace of the advisory locks


@dataclass(frozen=True, slots=True)
class KnownReading:
    """A reading as it counts, and the types that the registry knows of those that its lot and its tag name."""

    cartridge: ResolvedCartridge
    type_of_lot: CartridgeType | None
    type_of_tag: CartridgeType | None

    @property
    def type(self) -> CartridgeType | None:
        """The type of the cartridge; None when the registry does not know it."""
        code = (self.cartridge.category, self.cartridge.type_index)
        for type_ in (self.type_of_lot, self.type_of_tag):
            if type_ is not None and (type_.category, type_.type_index) == code:
                return type_
        return None


def _same_type(type_: type[CartridgeType], named: type[CartridgeLot] | type[Cartridge]) -> ColumnElement[bool]:
    return and_(type_.category == named.category, type_.type_index == named.type_index)


class RegistryRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def type(self, category: int, type_index: int) -> CartridgeType | None:
        return await self._session.get(CartridgeType, (category, type_index))

    async def lock(self, code: CartridgeCode) -> None:
        """Only one change of a type at a time, until the transaction ends."""
        name = f"cartridge-type:{code}"
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    async def keep_version(self, replaced: CartridgeType) -> None:
        """Keep what a type says now as the version that it has now."""
        kept = {name: getattr(replaced, name) for name in ("category", "type_index", "version", *VERSIONED)}
        self._session.add(CartridgeTypeVersion(**kept))
        await self._session.flush()

    async def newest_version_in(self, code: CartridgeCode, unit: str) -> CartridgeTypeVersion | None:
        """The newest of the replaced versions of a type that has this unit."""
        return await self._session.scalar(
            select(CartridgeTypeVersion)
            .where(
                CartridgeTypeVersion.category == code.category,
                CartridgeTypeVersion.type_index == code.type_index,
                CartridgeTypeVersion.unit == unit,
            )
            .order_by(CartridgeTypeVersion.version.desc())
            .limit(1)
        )

    async def type_of_legacy_code(self, legacy_code: int) -> CartridgeType | None:
        return await self._session.scalar(select(CartridgeType).where(CartridgeType.legacy_code == legacy_code))

    async def types_by_codes(self, codes: Collection[CartridgeCode]) -> dict[CartridgeCode, CartridgeType]:
        key = tuple_(CartridgeType.category, CartridgeType.type_index)
        found = await self._session.scalars(
            select(CartridgeType).where(key.in_([(code.category, code.type_index) for code in codes]))
        )
        return {CartridgeCode(t.category, t.type_index): t for t in found}

    async def types(self, category: int | None) -> Sequence[CartridgeType]:
        """Types of a category, or all of them; by category and index."""
        statement = select(CartridgeType).order_by(CartridgeType.category, CartridgeType.type_index)
        if category is not None:
            statement = statement.where(CartridgeType.category == category)
        return (await self._session.scalars(statement)).all()

    async def plain_categories(self) -> Sequence[CartridgeCategory]:
        return (await self._session.scalars(select(CartridgeCategory))).all()

    async def categories(self) -> Sequence[CategorySummary]:
        """All categories by code, with the number of their types; a type counts in the narrowest one."""
        narrowest = (
            select(CartridgeCategory.code)
            .where(
                CartridgeCategory.code <= CartridgeType.category, CartridgeCategory.last_code >= CartridgeType.category
            )
            .order_by(CartridgeCategory.last_code - CartridgeCategory.code)
            .limit(1)
            .correlate(CartridgeType)
            .scalar_subquery()
        )
        of_types = select(narrowest.label("code")).select_from(CartridgeType).subquery()
        counted = select(of_types.c.code, func.count().label("types")).group_by(of_types.c.code).subquery()
        rows = await self._session.execute(
            select(CartridgeCategory, func.coalesce(counted.c.types, 0))
            .outerjoin(counted, counted.c.code == CartridgeCategory.code)
            .order_by(CartridgeCategory.code)
        )
        return [CategorySummary(category, count) for category, count in rows]

    async def upsert_type(self, values: Mapping[str, object]) -> CartridgeType:
        changed = {name: value for name, value in values.items() if name not in ("category", "type_index")}
        statement = (
            insert(CartridgeType)
            .values(**values)
            .on_conflict_do_update(index_elements=["category", "type_index"], set_=changed)
            .returning(CartridgeType)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).one()

    async def upsert_category(self, values: Mapping[str, object]) -> CartridgeCategory:
        changed = {name: value for name, value in values.items() if name != "code"}
        statement = (
            insert(CartridgeCategory)
            .values(**values)
            .on_conflict_do_update(index_elements=["code"], set_=changed)
            .returning(CartridgeCategory)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).one()


class CartridgeRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, uid: str, owners: Sequence[str]) -> Cartridge | None:
        """The reading of the first of the owners who has one."""
        found = await self._session.scalars(
            select(Cartridge).where(Cartridge.uid == uid, Cartridge.owner_user_id.in_(owners))
        )
        return min(found.all(), key=lambda reading: owners.index(reading.owner_user_id), default=None)

    async def get_for_update(self, uid: str, owner: str) -> Cartridge | None:
        return await self._session.get(Cartridge, (uid, owner), with_for_update=True, populate_existing=True)

    async def known(self, uids: Collection[str], owner: str) -> Sequence[KnownReading]:
        """A person's readings of the named cartridges with what is known beside them, in one statement."""
        other, type_of_lot, type_of_tag = aliased(Cartridge), aliased(CartridgeType), aliased(CartridgeType)
        taken = (
            select(other.uid)
            .where(other.uid == Cartridge.uid, other.signed, other.owner_user_id != Cartridge.owner_user_id)
            .exists()
        )
        rows = await self._session.execute(
            select(Cartridge, RegisteredCartridge, CartridgeLot, taken, type_of_lot, type_of_tag)
            .outerjoin(RegisteredCartridge, RegisteredCartridge.uid == Cartridge.uid)
            .outerjoin(CartridgeLot, CartridgeLot.lot_id == func.coalesce(RegisteredCartridge.lot_id, Cartridge.lot_id))
            .outerjoin(type_of_lot, _same_type(type_of_lot, CartridgeLot))
            .outerjoin(type_of_tag, _same_type(type_of_tag, Cartridge))
            .where(Cartridge.uid.in_(uids), Cartridge.owner_user_id == owner)
        )
        return [
            KnownReading(resolve(reading, KnownFacts(registered, lot, signed_by_another)), of_lot, of_tag)
            for reading, registered, lot, signed_by_another, of_lot, of_tag in rows
        ]

    async def registered(self, uid: str) -> tuple[RegisteredCartridge, CartridgeLot] | None:
        """What the factory has registered under a uid, with its lot."""
        row = (
            await self._session.execute(
                select(RegisteredCartridge, CartridgeLot)
                .join(CartridgeLot, CartridgeLot.lot_id == RegisteredCartridge.lot_id)
                .where(RegisteredCartridge.uid == uid)
            )
        ).one_or_none()
        return None if row is None else (row[0], row[1])

    async def lot(self, lot_id: str) -> CartridgeLot | None:
        return await self._session.get(CartridgeLot, lot_id)

    async def add(self, values: Mapping[str, object]) -> bool:
        """False when this person has read it before; then nothing was stored."""
        statement = (
            insert(Cartridge)
            .values(**values)
            .on_conflict_do_nothing(index_elements=["uid", "owner_user_id"])
            .returning(Cartridge.uid)
        )
        return await self._session.scalar(statement) is not None

    async def lock_uid(self, uid: str) -> None:
        """Let one transaction at a time decide whose a signed cartridge is."""
        await self._session.execute(select(func.pg_advisory_xact_lock(_UID_LOCKS, func.hashtext(uid))))

    async def signed_owner(self, uid: str) -> str | None:
        """Who has shown the signature of this cartridge."""
        return await self._session.scalar(select(Cartridge.owner_user_id).where(Cartridge.uid == uid, Cartridge.signed))

    async def release(self, uid: str, *, at: datetime) -> bool:
        """Take a signed cartridge from the person who has it to themselves; False when there is none."""
        released = await self._session.scalars(
            update(Cartridge)
            .where(Cartridge.uid == uid, Cartridge.signed)
            .values(signed=False, released_at=at)
            .returning(Cartridge.uid)
            .execution_options(synchronize_session=False)
        )
        return released.one_or_none() is not None

    async def left_by_others(self, uid: str, owner: str) -> int | None:
        """How many uses earlier owners of a signed cartridge have left of it; None when there were none."""
        return await self._session.scalar(
            select(func.min(Cartridge.remaining_uses)).where(
                Cartridge.uid == uid, Cartridge.owner_user_id != owner, Cartridge.released_at.is_not(None)
            )
        )

    async def forget_unused(self, owner: str, *, keep: int) -> None:
        """Remove a person's oldest readings beyond a number; only those that prove nothing and were never used."""
        used = select(CartridgeUsage.record_id).where(CartridgeUsage.cartridge_uid == Cartridge.uid)
        if owner:  # readings without a person are used by anybody
            used = used.where(CartridgeUsage.user_id == owner)
        unused = (
            select(Cartridge.uid)
            .where(Cartridge.owner_user_id == owner, ~Cartridge.signed, Cartridge.released_at.is_(None), ~used.exists())
            .order_by(Cartridge.last_read_at.desc(), Cartridge.uid)
            .offset(keep)
        )
        await self._session.execute(
            delete(Cartridge)
            .where(Cartridge.owner_user_id == owner, Cartridge.uid.in_(unused))
            .execution_options(synchronize_session=False)
        )

    async def drop(self, owner: str, *, until: datetime, heir: str) -> None:
        """Take a person's readings and uses until a moment, which is included, away from them.

        Readings that prove nothing are deleted. A signed cartridge, and one that was released, keeps its count of uses under
        the id `heir` and belongs to nobody; so do the recorded uses, which are worn off the cartridge for good.
        """
        mine = (Cartridge.owner_user_id == owner, Cartridge.first_read_at <= until)
        keeps_count = or_(Cartridge.signed, Cartridge.released_at.is_not(None))
        for statement in (
            delete(Cartridge).where(*mine, ~keeps_count),
            update(Cartridge)
            .where(*mine)
            .values(owner_user_id=heir, signed=False, released_at=func.coalesce(Cartridge.released_at, until)),
            update(CartridgeUsage)
            .where(CartridgeUsage.user_id == owner, CartridgeUsage.used_at <= until)
            .values(user_id=heir),
        ):
            await self._session.execute(statement.execution_options(synchronize_session=False))

    async def uses_of(self, uid: str, owner: str) -> int:
        """How many uses of a cartridge are recorded for a person."""
        counted = select(func.count()).where(CartridgeUsage.cartridge_uid == uid, CartridgeUsage.user_id == owner)
        return await self._session.scalar(counted) or 0

    async def usage(self, uid: str, session_id: str) -> CartridgeUsage | None:
        return await self._session.scalar(
            select(CartridgeUsage).where(CartridgeUsage.cartridge_uid == uid, CartridgeUsage.session_id == session_id)
        )

    async def add_usage(self, usage: CartridgeUsage) -> None:
        self._session.add(usage)
        await self._session.flush()

    async def usages_of(
        self, user_id: UserId, *, limit: int, offset: int
    ) -> tuple[Sequence[tuple[CartridgeUsage, str]], int]:
        """A page of a person's uses with the Korean name of their type, newest first, and how many there are."""
        total = await self._session.scalar(select(func.count()).where(CartridgeUsage.user_id == user_id))
        rows = await self._session.execute(
            select(CartridgeUsage, func.coalesce(CartridgeType.name_ko, ""))
            .outerjoin(
                CartridgeType,
                and_(
                    CartridgeType.category == CartridgeUsage.category,
                    CartridgeType.type_index == CartridgeUsage.type_index,
                ),
            )
            .where(CartridgeUsage.user_id == user_id)
            .order_by(CartridgeUsage.used_at.desc(), CartridgeUsage.record_id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [(usage, name) for usage, name in rows], total or 0
