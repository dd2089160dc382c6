"""The registry of cartridge categories and types: open, so that a new type needs neither a deploy nor a new client."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import AlreadyExists
from domain.hardware.cartridge.errors import CartridgeTypeNotFound, RegistryEntryInvalid
from domain.hardware.cartridge.models import VERSIONED, CartridgeCategory, CartridgeType, CategorySummary
from domain.hardware.cartridge.repository import RegistryRepository
from domain.hardware.codes import CHANNEL_COUNTS, CartridgeCode, VersionedUnit
from domain.principal import Principal, Scope
from domain.quantities import MAX_DECIMAL_PLACES
from domain.units import fits

MAX_MEASUREMENT_S = 255
"""The tag has one byte for it."""

_UNIT = re.compile(r"[!-~]{1,24}\Z")
_LOINC = re.compile(r"([1-9][0-9]{0,6})-([0-9])\Z")


class LegacyCodeTaken(AlreadyExists):
    """Another type has this legacy code."""

    reason = "LEGACY_CODE_TAKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDefinition:
    """A type as it is registered. Limits are in `unit`; None means that side has none.

    Args:
        unit: UCUM, case sensitive; `1` for plain numbers.
        source: where the limits stand; needed when there are any.
        measuring_low, measuring_high: measuring range; results of a type without one are preliminary.
        min_confidence: least confidence of a result, above 0 and at most 1.
        decimal_places: digits after the point that a result has.
        measuring_source: where the measuring range stands; needed when there is one.
        version: which version of the type this is: the current one, or the next, which may have another unit. None: the
            current one, and 1 of a new type.
        default_uses: how often a cartridge with a version 1 tag can be used, as its tag does not say.
    """

    category: int
    type_index: int
    name_en: str
    name_ko: str
    required_channels: int
    measurement_s: int
    unit: str
    legacy_code: int | None = None
    description: str = ""
    loinc_code: str | None = None
    reference_low: float | None = None
    reference_high: float | None = None
    reference_note: str = ""
    critical_low: float | None = None
    critical_high: float | None = None
    source: str = ""
    measuring_low: float | None = None
    measuring_high: float | None = None
    min_confidence: float = 0.5
    decimal_places: int = 2
    measuring_source: str = ""
    version: int | None = None
    default_uses: int = 1
    manufacturer: str = "ManPaSik"
    is_active: bool = True
    is_beta: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryDefinition:
    """A category as it is registered; `last_code` above `code` makes it cover a range of codes."""

    code: int
    last_code: int
    name_en: str
    name_ko: str
    description: str = ""
    is_active: bool = True


def category_of(code: int, categories: Sequence[CartridgeCategory]) -> CartridgeCategory | None:
    """The narrowest category that covers a code: one of its own before the range that it lies in."""
    covering = [category for category in categories if category.code <= code <= category.last_code]
    return min(covering, key=lambda category: category.last_code - category.code, default=None)


def is_loinc(code: str) -> bool:
    """Whether a text is a LOINC code with a check digit that fits. Source: LOINC Users' Guide, Appendix C (mod 10)."""
    found = _LOINC.match(code)
    if found is None:
        return False
    digits = [int(digit) for digit in reversed(found[1])]
    doubled = [digit * 2 - 9 * (digit > 4) if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    return -sum(doubled) % 10 == int(found[2])


class RegistryService:
    """Queries and changes of the registry; anybody may read it."""

    async def type(self, session: AsyncSession, category: int, type_index: int) -> CartridgeType:
        """Raises: CartridgeTypeNotFound: the codes name none."""
        found = await RegistryRepository(session).type(category, type_index)
        if found is None:
            raise CartridgeTypeNotFound(f"There is no cartridge type {category}/{type_index}.")
        return found

    async def type_in(self, session: AsyncSession, code: CartridgeCode, *, unit: str) -> CartridgeType:
        """A type as its newest version with this unit has it: what interprets results that are calibrated in the unit.

        Raises:
            CartridgeTypeNotFound: the code names none, or no version of it has this unit.
        """
        current = await self.type(session, code.category, code.type_index)
        if current.unit == unit:
            return current
        kept = await RegistryRepository(session).newest_version_in(code, unit)
        if kept is None:
            raise CartridgeTypeNotFound(f"No version of the cartridge type {code} is in {unit[:24]}.")
        names = [column.key for column in CartridgeType.__table__.columns]
        return CartridgeType(
            **{name: getattr(kept if name in (*VERSIONED, "version") else current, name) for name in names}
        )

    async def unit_of(self, session: AsyncSession, code: CartridgeCode) -> VersionedUnit | None:
        """The unit of a type now; None when the code names none."""
        found = await RegistryRepository(session).type(code.category, code.type_index)
        return VersionedUnit(found.version, found.unit) if found else None

    async def types_by_codes(
        self, session: AsyncSession, codes: Collection[CartridgeCode]
    ) -> dict[CartridgeCode, CartridgeType]:
        """Those of the named types that there are."""
        return await RegistryRepository(session).types_by_codes(codes)

    async def types(self, session: AsyncSession, *, category: int | None) -> Sequence[CartridgeType]:
        """Types of a category, or all of them; by category and index.

        Raises:
            CartridgeTypeNotFound: no category has this code.
        """
        registry = RegistryRepository(session)
        if category is not None and category_of(category, await registry.plain_categories()) is None:
            raise CartridgeTypeNotFound(f"There is no cartridge category {category}.")
        return await registry.types(category)

    async def categories(self, session: AsyncSession) -> Sequence[CategorySummary]:
        """All categories by code, with the number of their types."""
        return await RegistryRepository(session).categories()

    async def upsert_type(
        self, session: AsyncSession, principal: Principal, definition: TypeDefinition
    ) -> CartridgeType:
        """Add a type, replace what its current version says, or make its next version. Versions before are kept.

        Raises:
            Forbidden: without the scope registry:write.
            RegistryEntryInvalid: a value that no type can have; limits without a source.
            CartridgeTypeNotFound: no category covers its code.
            LegacyCodeTaken: another type has its legacy code.
        """
        principal.require_scope(Scope.REGISTRY_WRITE)
        code = CartridgeCode(definition.category, definition.type_index)
        _check_type(definition)
        registry = RegistryRepository(session)
        if category_of(definition.category, await registry.plain_categories()) is None:
            raise CartridgeTypeNotFound(f"There is no cartridge category {definition.category}.")
        await registry.lock(code)
        known = await registry.type(definition.category, definition.type_index)
        version = _version_of(definition, known)
        if definition.legacy_code is not None:
            holder = await registry.type_of_legacy_code(definition.legacy_code)
            if holder is not None and CartridgeCode(holder.category, holder.type_index) != code:
                raise LegacyCodeTaken(f"The legacy code 0x{definition.legacy_code:02X} is that of {holder.name_en}.")
        if known is not None and version > known.version:
            await registry.keep_version(known)
        return await registry.upsert_type(asdict(definition) | {"version": version})

    async def upsert_category(
        self, session: AsyncSession, principal: Principal, definition: CategoryDefinition
    ) -> CartridgeCategory:
        """Add a category, or replace what it says; a maker's own code in 0xF0 to 0xFD is named like this.

        Raises:
            Forbidden: without the scope registry:write.
            RegistryEntryInvalid: codes outside 1 to 255 or in the wrong order, or an empty name.
        """
        principal.require_scope(Scope.REGISTRY_WRITE)
        _need(1 <= definition.code <= definition.last_code <= 0xFF, "code", "codes must be within 1 to 255, in order")
        _check_texts(definition.name_en, definition.name_ko, definition.description)
        return await RegistryRepository(session).upsert_category(asdict(definition))


def _version_of(given: TypeDefinition, known: CartridgeType | None) -> int:
    """The version that a definition describes."""
    if known is None:
        _need(given.version in (None, 1), "version", "the first version of a type is 1")
        return 1
    version = known.version if given.version is None else given.version
    following = known.version + 1
    _need(
        version in (known.version, following),
        "version",
        f"the version must be the current one, {known.version}, or the next, {following}",
    )
    # Calibrations hold gains in the unit of their version: changed in place, 101 mg/dL would read 101 mmol/L.
    _need(
        given.unit == known.unit or version == following,
        "unit",
        f"version {known.version} of this type is in {known.unit}, as are its calibrations and results: "
        f"another unit is version {following}",
    )
    return version


def _check_type(given: TypeDefinition) -> None:
    _check_texts(given.name_en, given.name_ko, given.description)
    _need(
        given.legacy_code is None or 1 <= given.legacy_code <= 0xFF, "legacy_code", "the legacy code must be 1 to 255"
    )
    _need(given.required_channels in CHANNEL_COUNTS, "required_channels", f"channels must be one of {CHANNEL_COUNTS}")
    _need(1 <= given.measurement_s <= MAX_MEASUREMENT_S, "measurement_s", "a measurement takes 1 to 255 seconds")
    _need(_UNIT.match(given.unit) is not None, "unit", "the unit must be a UCUM code of up to 24 characters")
    _need(given.loinc_code is None or is_loinc(given.loinc_code), "loinc_code", "this is not a LOINC code")
    _need(
        given.loinc_code is None or fits(given.loinc_code, given.unit),
        "loinc_code",
        f"the LOINC code {given.loinc_code} is not for results in {given.unit}",
    )
    _need(1 <= given.default_uses <= 0xFFFF, "default_uses", "uses must be 1 to 65535")
    _need(1 <= len(given.manufacturer) <= 80, "manufacturer", "the maker's name must have 1 to 80 characters")
    _need(len(given.reference_note) <= 120, "reference_note", "the note must have at most 120 characters")
    limits = (given.reference_low, given.reference_high, given.critical_low, given.critical_high)
    _need(all(value is None or math.isfinite(value) for value in limits), "limits", "limits must be finite numbers")
    _need(
        given.reference_low is None or given.reference_high is None or given.reference_low <= given.reference_high,
        "reference_low",
        "the reference limits are in the wrong order",
    )
    _need(
        given.critical_low is None or given.critical_high is None or given.critical_low < given.critical_high,
        "critical_low",
        "the critical limits are in the wrong order",
    )
    _check_measuring_range(given)
    has_limits = any(value is not None for value in limits)
    _need(not has_limits or len(given.source.strip()) >= 10, "source", "limits need the source that they stand in")
    _need(len(given.source) <= 500, "source", "the source must have at most 500 characters")


def _check_measuring_range(given: TypeDefinition) -> None:
    low, high = given.measuring_low, given.measuring_high
    _need((low is None) == (high is None), "measuring_low", "a measuring range has two limits")
    if low is not None and high is not None:
        _need(0 <= low < high < math.inf, "measuring_low", "the measuring range must be two numbers from 0, in order")
        _need(len(given.measuring_source.strip()) >= 10, "measuring_source", "a measuring range needs its source")
    _need(len(given.measuring_source) <= 500, "measuring_source", "the source must have at most 500 characters")
    _need(0 < given.min_confidence <= 1, "min_confidence", "the minimum confidence must be above 0 and at most 1")
    _need(
        0 <= given.decimal_places <= MAX_DECIMAL_PLACES,
        "decimal_places",
        f"decimal places must be 0 to {MAX_DECIMAL_PLACES}",
    )


def _check_texts(name_en: str, name_ko: str, description: str) -> None:
    for field, name in (("name_en", name_en), ("name_ko", name_ko)):
        _need(1 <= len(name.strip()) <= 80 and name.isprintable(), field, "a name must have 1 to 80 characters")
    _need(len(description) <= 500, "description", "the description must have at most 500 characters")


def _need(holds: bool, field: str, rule: str) -> None:
    if not holds:
        raise RegistryEntryInvalid(f"{rule[0].upper()}{rule[1:]}.", field=field)
