"""The rules of cartridges: what a reading stores, when a cartridge may be used, and that a use counts once.

A cartridge belongs to whoever holds it: several people of a household may use one, as they may one box of strips. Who
read it first is kept for the record only.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import Forbidden, InvalidInput
from domain.hardware.access import require_scope
from domain.hardware.cartridge.errors import CartridgeNotFound, CartridgeTypeNotFound, refused
from domain.hardware.cartridge.models import (
    Cartridge,
    CartridgeCategory,
    CartridgeDetail,
    CartridgeType,
    CartridgeUsage,
    Refusal,
    Validation,
)
from domain.hardware.cartridge.nfc_tag import TagForged, TagV1, TagV2, decode
from domain.hardware.cartridge.ports import Plans, ReaderSlot
from domain.hardware.cartridge.registry import category_of
from domain.hardware.cartridge.repository import CartridgeRepository, RegistryRepository
from domain.hardware.codes import CartridgeCode
from domain.ids import new_id
from domain.paging import page_limit
from domain.principal import Principal, PrincipalKind, Scope

MAX_ID_LENGTH = 64
_HEX_UID_LENGTH = 16


@dataclass(frozen=True, slots=True)
class _TagContent:
    """What a tag says, of either version, with the type that it names."""

    version: int
    uid: str
    category: int
    type_index: int
    legacy_code: int | None
    remaining_uses: int
    max_uses: int
    lot_id: str = ""
    expires_on: date | None = None
    required_channels: int | None = None
    measurement_s: int | None = None
    flags: int = 0
    alpha: float | None = None
    temp_coefficient: float | None = None
    humidity_coefficient: float | None = None
    extended_calibration: bytes = b""

    @property
    def fixed(self) -> dict[str, object]:
        """What the maker writes once: columns of `Cartridge` that readers never change on a tag."""
        return {
            "tag_version": self.version,
            "legacy_code": self.legacy_code,
            "lot_id": self.lot_id,
            "expires_on": self.expires_on,
            "max_uses": self.max_uses,
            "required_channels": self.required_channels,
            "measurement_s": self.measurement_s,
            "alpha": self.alpha,
            "temp_coefficient": self.temp_coefficient,
            "humidity_coefficient": self.humidity_coefficient,
        }


class CartridgeService:
    """Commands and queries about cartridges."""

    def __init__(self, clock: Clock, reader_slot: ReaderSlot, plans: Plans) -> None:
        self.clock = clock
        self._reader_slot = reader_slot
        self._plans = plans

    async def read(
        self, session: AsyncSession, principal: Principal, *, tag: bytes, tag_version: int = 0, device_id: str = ""
    ) -> CartridgeDetail:
        """Decode a tag and keep the cartridge; an expired or used-up one is answered with its refusal.

        The platform's count is the truth: a tag can lower it, and never raise it. The rest of a tag is written once by
        its maker: until the first use a cartridge may be read with corrected values that take nothing back (a later
        expiry, more uses, another type); after it, a tag that says something else than before is a forgery.

        Args:
            tag_version: 1 or 2; 0 takes it from the tag.
            device_id: the reader that holds the cartridge; a reader that calls needs not name itself.
        Raises:
            TagInvalid and its kinds: the tag is too short, damaged or forged.
            CartridgeTypeNotFound: no type has the legacy code of a version 1 tag.
            DeviceNotFound, Forbidden: `device_id` is not registered, or not the caller's.
        """
        require_scope(principal, Scope.DEVICE_WRITE)
        if principal.kind is PrincipalKind.DEVICE:
            device_id = device_id or principal.subject
        content = await self._content(session, decode(tag, tag_version))
        cartridge = await self._keep(session, principal, content)
        if device_id:
            await self._reader_slot.cartridge_inserted(
                session,
                principal,
                device_id=device_id,
                uid=cartridge.uid,
                category=cartridge.category,
                type_index=cartridge.type_index,
                lot_id=cartridge.lot_id,
            )
        return await self._detail(session, cartridge)

    async def _content(self, session: AsyncSession, tag: TagV1 | TagV2) -> _TagContent:
        if isinstance(tag, TagV2):
            return _TagContent(
                version=2,
                uid=tag.cartridge_uid,
                category=tag.category,
                type_index=tag.type_index,
                legacy_code=tag.legacy_code or None,
                lot_id=tag.lot_id,
                expires_on=tag.expires_on,
                remaining_uses=tag.remaining_uses,
                max_uses=tag.max_uses,
                required_channels=tag.required_channels,
                measurement_s=tag.measurement_s,
                flags=tag.flags,
                alpha=tag.alpha,
                temp_coefficient=tag.temp_coefficient,
                humidity_coefficient=tag.humidity_coefficient,
                extended_calibration=tag.extended_calibration,
            )
        type_ = await RegistryRepository(session).type_of_legacy_code(tag.legacy_code)
        if type_ is None:
            raise CartridgeTypeNotFound(f"No cartridge type has the legacy code 0x{tag.legacy_code:02X}.")
        return _TagContent(
            version=1,
            uid=tag.cartridge_uid,
            category=type_.category,
            type_index=type_.type_index,
            legacy_code=tag.legacy_code,
            remaining_uses=type_.default_uses,
            max_uses=type_.default_uses,
        )

    async def _keep(self, session: AsyncSession, principal: Principal, content: _TagContent) -> Cartridge:
        now = self.clock.now()
        cartridges = CartridgeRepository(session)
        values = {
            **content.fixed,
            "uid": content.uid,
            "category": content.category,
            "type_index": content.type_index,
            "remaining_uses": content.remaining_uses,
            "flags": content.flags,
            "extended_calibration": content.extended_calibration,
            "first_read_by": principal.user_id,
            "first_read_at": now,
            "last_read_at": now,
        }
        added = await cartridges.add(values)
        cartridge = await cartridges.get_for_update(content.uid)
        if cartridge is None:  # rows of cartridges are never deleted
            raise CartridgeNotFound(content.uid)
        if not added:
            await self._merge(cartridges, cartridge, content)
            cartridge.last_read_at = now
            await session.flush()
        return cartridge

    @staticmethod
    async def _merge(cartridges: CartridgeRepository, known: Cartridge, content: _TagContent) -> None:
        changed = {name: value for name, value in content.fixed.items() if getattr(known, name) != value}
        if (known.category, known.type_index) != (content.category, content.type_index):
            raise _contradiction(known)
        if changed:
            extends = content.max_uses > known.max_uses or (
                known.expires_on is not None and (content.expires_on is None or content.expires_on > known.expires_on)
            )
            if extends or await cartridges.has_usages(known.uid):
                raise _contradiction(known)
            for name, value in changed.items():
                setattr(known, name, value)
        known.remaining_uses = min(known.remaining_uses, content.remaining_uses)
        known.flags = content.flags
        known.extended_calibration = content.extended_calibration

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
        """Whether a cartridge may be used now, whatever the person's plan says; `under_plan` adds that.

        Args:
            category, type_index: what the caller takes it for; 0 means whatever it is.
        """
        require_scope(principal, Scope.DEVICE_READ)
        principal.acting_for(user_id)
        cartridge = await CartridgeRepository(session).get(normal_uid(uid))
        if cartridge is None:
            return Validation(Refusal.UNKNOWN, None)
        detail = await self._detail(session, cartridge)
        mismatch = _mismatch(cartridge, category, type_index)
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
    ) -> Cartridge:
        """Take one use off a cartridge for a session; repeated for the same session it takes nothing more.

        Raises:
            CartridgeNotFound: it was never read.
            CartridgeExpired, CartridgeUsedUp, CartridgeTypeInactive, CartridgeTypeUnregistered: it may not be used.
            CartridgeTypeMismatch: it is of another type than named.
        """
        require_scope(principal, Scope.DEVICE_WRITE)
        user = principal.acting_for(user_id)
        if not 1 <= len(session_id) <= MAX_ID_LENGTH or "\0" in session_id:
            raise InvalidInput(f"session_id must have 1 to {MAX_ID_LENGTH} characters.", field="session_id")
        uid = normal_uid(uid)
        cartridges = CartridgeRepository(session)
        # Everybody who counts waits for this row, so no two of them see the same remainder.
        cartridge = await cartridges.get_for_update(uid)
        if cartridge is None:
            raise CartridgeNotFound(uid)
        if _mismatch(cartridge, category, type_index):
            raise refused(Refusal.TYPE_MISMATCH, uid)
        if await cartridges.usage(uid, session_id) is not None:
            return cartridge
        detail = await self._detail(session, cartridge)
        if detail.refusal is not None:
            raise refused(detail.refusal, uid)
        cartridge.remaining_uses -= 1
        await cartridges.add_usage(
            CartridgeUsage(
                record_id=new_id(),
                cartridge_uid=uid,
                session_id=session_id,
                user_id=user,
                category=cartridge.category,
                type_index=cartridge.type_index,
                used_at=self.clock.now(),
            )
        )
        return cartridge

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

    async def get(self, session: AsyncSession, principal: Principal, uid: str) -> CartridgeDetail:
        """Raises: CartridgeNotFound: it was never read."""
        found = await self.details(session, principal, [normal_uid(uid)])
        if not found:
            raise CartridgeNotFound(uid)
        return found[normal_uid(uid)]

    async def details(
        self, session: AsyncSession, principal: Principal, uids: Collection[str]
    ) -> dict[str, CartridgeDetail]:
        """Those of the cartridges that were read, in two statements however many they are."""
        require_scope(principal, Scope.DEVICE_READ)
        found = await CartridgeRepository(session).by_uids(uids)
        categories = await RegistryRepository(session).plain_categories() if found else ()
        now = self.clock.now()
        return {
            uid: CartridgeDetail(cartridge, type_, _refusal(cartridge, type_, categories, now))
            for uid, (cartridge, type_) in found.items()
        }

    async def _detail(self, session: AsyncSession, cartridge: Cartridge) -> CartridgeDetail:
        registry = RegistryRepository(session)
        type_ = await registry.type(cartridge.category, cartridge.type_index)
        categories = await registry.plain_categories()
        return CartridgeDetail(cartridge, type_, _refusal(cartridge, type_, categories, self.clock.now()))


def normal_uid(uid: str) -> str:
    """A cartridge id as it is stored: the 16 hexadecimal digits of a tag in upper case, others as they are.

    Raises:
        CartridgeNotFound: nothing is ever stored under such an id.
    """
    if "\0" in uid or len(uid) > MAX_ID_LENGTH:
        raise CartridgeNotFound(uid.replace("\0", ""))
    is_hex = len(uid) == _HEX_UID_LENGTH and all(c in "0123456789abcdefABCDEF" for c in uid)
    return uid.upper() if is_hex else uid


def _mismatch(cartridge: Cartridge, category: int, type_index: int) -> bool:
    return category not in (0, cartridge.category) or type_index not in (0, cartridge.type_index)


def _refusal(
    cartridge: Cartridge, type_: CartridgeType | None, categories: Sequence[CartridgeCategory], now: datetime
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
