"""The rules of cartridges: what a reading stores, when a cartridge may be used, and that a use counts once.

Each person has readings of their own, and uses of their own: what a stranger reads, records or invents about a uid reaches
the stranger's reading only, and shows nothing of anybody else's. `proof` says which cartridges are verified.

Uses are recorded by measurement-service when it starts a session. The owner may ask for it again (clients do); that takes
nothing more, and a session that measurement-service has not recorded is not taken from anybody's word.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import Forbidden, InvalidInput
from domain.hardware.access import require_scope
from domain.hardware.cartridge.errors import (
    CartridgeBelongsToAnother,
    CartridgeNotFound,
    CartridgeTypeNotFound,
    SessionNotRecorded,
    refused,
)
from domain.hardware.cartridge.lot_keys import LotKeys
from domain.hardware.cartridge.models import (
    Cartridge,
    CartridgeCategory,
    CartridgeDetail,
    CartridgeType,
    CartridgeUsage,
    Refusal,
    ResolvedCartridge,
    Validation,
)
from domain.hardware.cartridge.nfc_tag import TagForged, TagV2, decode
from domain.hardware.cartridge.ports import Plans, ReaderSlot
from domain.hardware.cartridge.registry import category_of
from domain.hardware.cartridge.repository import CartridgeRepository, RegistryRepository
from domain.hardware.cartridge.tag_content import TagContent, content_of
from domain.hardware.codes import CartridgeCode
from domain.ids import UserId, new_id
from domain.paging import page_limit
from domain.principal import Principal, PrincipalKind, Scope

MAX_ID_LENGTH = 64
MAX_UNUSED_READINGS = 200
"""Of unsigned tags, for each person: what is never used and can be invented is not kept without end."""

USES_RECORDED_BY = "measurement"
"""The service that runs sessions, and the only one that records uses."""


class CartridgeService:
    """Commands and queries about cartridges.

    Args:
        keys: opens the keys of lots.
    """

    def __init__(self, clock: Clock, reader_slot: ReaderSlot, plans: Plans, keys: LotKeys) -> None:
        self.clock = clock
        self._reader_slot = reader_slot
        self._plans = plans
        self._keys = keys

    async def read(
        self, session: AsyncSession, principal: Principal, *, tag: bytes, tag_version: int = 0, device_id: str = ""
    ) -> CartridgeDetail:
        """Decode a tag and keep what it says as the caller's reading; an expired or used-up one is answered with its refusal.

        The platform's count is the truth: a tag can lower it, and never raise it. The rest of an unsigned tag is written
        once by its maker: until the first use a cartridge may be read with corrected values that take nothing back (a
        later expiry, more uses, another type); after it, a tag that says something else than before is a forgery.

        Args:
            tag_version: 1 or 2; 0 takes it from the tag.
            device_id: the reader that holds the cartridge; a reader that calls needs not name itself.
        Raises:
            TagInvalid and its kinds: the tag is too short, damaged, forged or out of range.
            CartridgeTypeNotFound: no type has the legacy code of a version 1 tag.
            CartridgeBelongsToAnother: the tag is signed, and another person has shown it before.
            DeviceNotFound, Forbidden: `device_id` is not registered, or not the caller's.
        """
        require_scope(principal, Scope.DEVICE_WRITE)
        if principal.kind is PrincipalKind.DEVICE:
            device_id = device_id or principal.subject
        content = await self._content(session, tag, tag_version)
        reading = await self._keep(session, principal.user_id or "", content)
        detail = await self._detail(session, reading)
        if device_id:
            await self._reader_slot.cartridge_inserted(
                session,
                principal,
                device_id=device_id,
                uid=detail.cartridge.uid,
                category=detail.cartridge.category,
                type_index=detail.cartridge.type_index,
                lot_id=detail.cartridge.lot_id,
            )
        return detail

    async def _content(self, session: AsyncSession, raw: bytes, version: int) -> TagContent:
        tag = decode(raw, version)
        cartridges = CartridgeRepository(session)
        if isinstance(tag, TagV2):
            lot = await cartridges.lot(tag.lot_id) if tag.lot_id else None
            return content_of(tag, signed=lot is not None and self._keys.verifies(lot, tag, raw))
        type_ = await RegistryRepository(session).type_of_legacy_code(tag.legacy_code)
        if type_ is None:
            raise CartridgeTypeNotFound(f"No cartridge type has the legacy code 0x{tag.legacy_code:02X}.")
        known = await cartridges.registered(tag.cartridge_uid)
        uses = type_.default_uses if known is None else known[0].max_uses
        return TagContent(
            version=1,
            uid=tag.cartridge_uid,
            category=type_.category,
            type_index=type_.type_index,
            legacy_code=tag.legacy_code,
            remaining_uses=uses,
            max_uses=uses,
        )

    async def _keep(self, session: AsyncSession, owner: str, content: TagContent) -> Cartridge:
        now = self.clock.now()
        cartridges = CartridgeRepository(session)
        if content.signed:
            await cartridges.lock_uid(content.uid)
            if await cartridges.signed_owner(content.uid) not in (None, owner):
                raise CartridgeBelongsToAnother(content.uid)
            left = await cartridges.left_by_others(content.uid, owner)
            if left is not None:
                content = replace(content, remaining_uses=min(content.remaining_uses, left))
        added = await cartridges.add(
            {
                **content.fixed,
                "uid": content.uid,
                "owner_user_id": owner,
                "signed": content.signed,
                "remaining_uses": content.remaining_uses,
                "flags": content.flags,
                "extended_calibration": content.extended_calibration if content.signed else b"",
                "first_read_by": owner or None,
                "first_read_at": now,
                "last_read_at": now,
            }
        )
        reading = await cartridges.get_for_update(content.uid, owner)
        if reading is None:  # released by another transaction this very moment
            raise CartridgeNotFound(content.uid)
        if added and not content.signed:
            await cartridges.forget_unused(owner, keep=MAX_UNUSED_READINGS)
        if not added:
            await self._merge(cartridges, reading, content)
            reading.last_read_at = now
            await session.flush()
        return reading

    @staticmethod
    async def _merge(cartridges: CartridgeRepository, known: Cartridge, content: TagContent) -> None:
        changed = {name: value for name, value in content.fixed.items() if getattr(known, name) != value}
        used = await cartridges.uses_of(known.uid, known.owner_user_id)
        says_uses = content.version > 1  # a version 1 tag says nothing of uses: what it has are the type's
        remaining = min(known.remaining_uses, content.remaining_uses) if says_uses else known.remaining_uses
        same_type = (known.category, known.type_index) == (content.category, content.type_index)
        if content.signed:
            if not known.signed:  # an unsigned reading before it may have known a wrong number of uses
                remaining = min(content.remaining_uses, max(0, content.max_uses - used))
            known.signed, known.released_at = True, None
        elif known.signed and not says_uses and same_type:
            changed = {}  # read by a device that knows version 1 only
        elif changed and not known.signed and await cartridges.registered(known.uid) is not None:
            changed = {}  # the registry's values count, whatever the tag says
        elif changed:
            extends = content.max_uses > known.max_uses or (
                known.expires_on is not None and (content.expires_on is None or content.expires_on > known.expires_on)
            )
            if known.signed or not same_type or extends or used:
                raise _contradiction(known)
        for name, value in changed.items():
            setattr(known, name, value)
        known.remaining_uses = min(remaining, known.max_uses)
        known.flags = content.flags
        known.extended_calibration = content.extended_calibration if content.signed else known.extended_calibration

    async def validate(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        uid: str,
        category: int = 0,
        type_index: int = 0,
        user_id: str = "",
    ) -> Validation:
        """Whether a person may use a cartridge now, whatever their plan says; `under_plan` adds that.

        Args:
            category, type_index: what the caller takes it for; 0 means whatever it is.
        """
        require_scope(principal, Scope.DEVICE_READ)
        user = principal.acting_for(user_id)
        reading = await CartridgeRepository(session).get(normal_uid(uid), _owners(principal, user))
        if reading is None:
            return Validation(Refusal.UNKNOWN, None)
        detail = await self._detail(session, reading)
        mismatch = _mismatch(detail.cartridge, category, type_index)
        return Validation(Refusal.TYPE_MISMATCH if mismatch else detail.refusal, detail)

    async def under_plan(self, principal: Principal, validation: Validation, *, user_id: str = "") -> Validation:
        """The same with what the person's plan says of the type: asked of another service, so outside of any session."""
        if validation.detail is None:
            return validation
        cartridge = validation.detail.cartridge
        code = CartridgeCode(cartridge.category, cartridge.type_index)
        return replace(validation, plan=await self._plans.rule(principal.acting_for(user_id), code))

    async def record_usage(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        user_id: str,
        session_id: str,
        uid: str,
        category: int = 0,
        type_index: int = 0,
    ) -> ResolvedCartridge:
        """Take one use off a person's cartridge for a session; repeated for the same session it takes nothing more.

        Raises:
            CartridgeNotFound: this person has not read it.
            SessionNotRecorded: a person or a reader names a session that measurement-service has not recorded for them.
            Forbidden: another service than the one that runs sessions.
            CartridgeExpired, CartridgeUsedUp, CartridgeTypeInactive, CartridgeTypeUnregistered: it may not be used.
            CartridgeTypeMismatch: it is of another type than named.
        """
        require_scope(principal, Scope.DEVICE_WRITE)
        if principal.kind is PrincipalKind.SERVICE and principal.subject != USES_RECORDED_BY:
            raise Forbidden(f"Only {USES_RECORDED_BY}-service records uses.")
        user = principal.acting_for(user_id)
        if not 1 <= len(session_id) <= MAX_ID_LENGTH or "\0" in session_id:
            raise InvalidInput(f"session_id must have 1 to {MAX_ID_LENGTH} characters.", field="session_id")
        uid = normal_uid(uid)
        cartridges = CartridgeRepository(session)
        found = await cartridges.get(uid, _owners(principal, user))
        # Everybody who counts waits for this row, so no two of them see the same remainder.
        reading = found and await cartridges.get_for_update(uid, found.owner_user_id)
        if reading is None:
            raise CartridgeNotFound(uid)
        detail = await self._detail(session, reading)
        if _mismatch(detail.cartridge, category, type_index):
            raise refused(Refusal.TYPE_MISMATCH, uid)
        recorded = await cartridges.usage(uid, session_id)
        if recorded is not None and recorded.user_id == user:
            return detail.cartridge
        if recorded is not None or not principal.is_trusted:
            raise SessionNotRecorded(session_id)
        if detail.refusal is not None:
            raise refused(detail.refusal, uid)
        reading.remaining_uses = detail.cartridge.remaining_uses - 1
        await cartridges.add_usage(
            CartridgeUsage(
                record_id=new_id(),
                cartridge_uid=uid,
                session_id=session_id,
                user_id=user,
                category=detail.cartridge.category,
                type_index=detail.cartridge.type_index,
                used_at=self.clock.now(),
            )
        )
        return replace(detail.cartridge, remaining_uses=reading.remaining_uses)

    async def usage_history(
        self, session: AsyncSession, principal: Principal, *, user_id: str, limit: int, offset: int
    ) -> tuple[Sequence[tuple[CartridgeUsage, str]], int]:
        """A page of a person's uses with the Korean name of their type, newest first, and how many there are.

        Raises:
            Forbidden: another person's; a reader, which has no business with what its owner uses elsewhere.
        """
        if principal.kind is PrincipalKind.DEVICE:
            raise Forbidden("A reader cannot list what its owner has used; this needs an access token.")
        require_scope(principal, Scope.DEVICE_READ)
        user = principal.acting_for(user_id)
        limit, offset = page_limit(limit, offset)
        return await CartridgeRepository(session).usages_of(user, limit=limit, offset=offset)

    async def get(self, session: AsyncSession, principal: Principal, uid: str, *, user_id: str = "") -> CartridgeDetail:
        """A person's reading of a cartridge.

        Args:
            user_id: whose; empty: the caller's.
        Raises:
            CartridgeNotFound: this person has not read it.
            Forbidden: the reading is another person's.
        """
        require_scope(principal, Scope.DEVICE_READ)
        owners = _owners(principal, user_id)
        reading = await CartridgeRepository(session).get(normal_uid(uid), owners)
        if reading is None:
            raise CartridgeNotFound(uid)
        return await self._detail(session, reading)

    async def details(
        self, session: AsyncSession, principal: Principal, uids: Collection[str]
    ) -> dict[str, CartridgeDetail]:
        """Those of the cartridges that the caller has read, in two statements however many they are."""
        require_scope(principal, Scope.DEVICE_READ)
        return await self._resolved(session, uids, principal.user_id or "")

    async def release(self, session: AsyncSession, principal: Principal, uid: str) -> bool:
        """End the exclusive ownership of a cartridge: the next person who shows its signed tag owns it, with the remaining uses.
        False when it has no owner.

        Raises:
            Forbidden: without the scope registry:write.
        """
        principal.require_scope(Scope.REGISTRY_WRITE)
        return await CartridgeRepository(session).release(normal_uid(uid), at=self.clock.now())

    async def drop(self, session: AsyncSession, user_id: UserId, until: datetime) -> None:
        """Take the cartridges that were read for a person until a moment away from them: an unproven holder of the account
        read them. Their counts of uses stay, under an id of no person.
        """
        await CartridgeRepository(session).drop(user_id, until=until, heir=f"unproven:{new_id()}")

    async def _detail(self, session: AsyncSession, reading: Cartridge) -> CartridgeDetail:
        await session.flush()
        return (await self._resolved(session, [reading.uid], reading.owner_user_id))[reading.uid]

    async def _resolved(self, session: AsyncSession, uids: Collection[str], owner: str) -> dict[str, CartridgeDetail]:
        found = await CartridgeRepository(session).known(uids, owner)
        categories = await RegistryRepository(session).plain_categories() if found else ()
        now = self.clock.now()
        return {
            known.cartridge.uid: CartridgeDetail(
                known.cartridge, known.type, _refusal(known.cartridge, known.type, categories, now)
            )
            for known in found
        }


def normal_uid(uid: str) -> str:
    """A cartridge id as it is stored: in upper case, because ids are compared without case.

    Raises:
        CartridgeNotFound: nothing is ever stored under such an id.
    """
    if "\0" in uid or len(uid) > MAX_ID_LENGTH:
        raise CartridgeNotFound(uid.replace("\0", ""))
    return uid.upper()


def _owners(principal: Principal, user_id: str) -> list[str]:
    """Whose readings a call is about: the person's, and for trusted callers also those without a person."""
    if principal.is_trusted:
        user = user_id or principal.owner or ""
        return [user, ""] if user else [""]
    return [principal.acting_for(user_id)]


def _mismatch(cartridge: ResolvedCartridge, category: int, type_index: int) -> bool:
    return category not in (0, cartridge.category) or type_index not in (0, cartridge.type_index)


def _refusal(
    cartridge: ResolvedCartridge, type_: CartridgeType | None, categories: Sequence[CartridgeCategory], now: datetime
) -> Refusal | None:
    category = category_of(cartridge.category, categories)
    if type_ is None or category is None:
        return Refusal.TYPE_UNKNOWN
    if not (type_.is_active and category.is_active):
        return Refusal.TYPE_INACTIVE
    if cartridge.is_expired(now):
        return Refusal.EXPIRED
    return Refusal.USED_UP if cartridge.remaining_uses <= 0 else None


def _contradiction(known: Cartridge) -> TagForged:
    return TagForged("The tag says something else than when this cartridge was read before.", cartridge_uid=known.uid)
