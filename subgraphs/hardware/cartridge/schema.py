"""Cartridges and their registry in GraphQL."""

# The overloads of strawberry.field and strawberry.mutation for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from datetime import date
from typing import Annotated

import strawberry

from domain.hardware.cartridge import models
from domain.hardware.cartridge.nfc_tag import MAX_BYTES
from domain.hardware.cartridge.registry import CategoryDefinition, TypeDefinition
from domain.hardware.cartridge.service import normal_uid
from domain.hardware.codes import CartridgeCode
from domain.principal import Scope
from subgraphs.hardware.context import Info
from subgraphs.hardware.encoding import from_base64
from subgraphs.runtime.context import Locale
from subgraphs.runtime.graphql import AUTHENTICATED, list_size, requires_scopes

CartridgeRefusal = strawberry.enum(
    models.Refusal, name="CartridgeRefusal", description="Why a cartridge may not be used."
)


@strawberry.federation.type(keys=["id"], description="What cartridges of one kind measure, and how.")
class CartridgeType:
    id: strawberry.ID = strawberry.field(description="Category and index as four hexadecimal digits, such as 0101.")
    category_code: int = strawberry.field(description="Category byte of the tag, 1 to 255.")
    type_index: int = strawberry.field(description="Type within the category, 1 to 255.")
    legacy_code: int | None = strawberry.field(description="Type code of version 1 tags.")
    name_en: str = strawberry.field(description="Name in English.")
    name_ko: str = strawberry.field(description="Name in Korean.")
    description: str = strawberry.field(description="What it measures.")
    required_channels: int = strawberry.field(description="Electrode channels of a frame: 88, 448, 896 or 1792.")
    measurement_seconds: int = strawberry.field(description="How long a measurement takes.")
    unit: str = strawberry.field(description="Unit of the result (UCUM); 1 for plain numbers.")
    loinc_code: str | None = strawberry.field(description="LOINC code of the result.")
    reference_range: str = strawberry.field(description="Normal range as text; empty when there is none.")
    reference_low: float | None = strawberry.field(description="Lowest normal value, in the unit.")
    reference_high: float | None = strawberry.field(description="Highest normal value, in the unit.")
    critical_low: float | None = strawberry.field(description="A result below this raises an alert.")
    critical_high: float | None = strawberry.field(description="A result above this raises an alert.")
    source: str = strawberry.field(description="Where the limits stand; empty when there are none.")
    measuring_low: float | None = strawberry.field(
        description="Lower limit of the measuring range; a result below it is told as below range."
    )
    measuring_high: float | None = strawberry.field(
        description="Upper limit of the measuring range; a result above it is told as above range."
    )
    min_confidence: float = strawberry.field(description="Least confidence of a result, 0 to 1.")
    decimal_places: int = strawberry.field(description="Digits after the point that a result has.")
    measuring_source: str = strawberry.field(description="Where the measuring range stands; empty without one.")
    version: int = strawberry.field(
        description="Version, from 1. Another unit is another version; what was calibrated in the one before stays in it."
    )
    manufacturer: str = strawberry.field(description="Who makes it.")
    is_active: bool = strawberry.field(description="Whether cartridges of this type may be used.")
    is_beta: bool = strawberry.field(description="Whether it is only for people in the beta programme.")

    @classmethod
    def of(cls, row: models.CartridgeType) -> "CartridgeType":
        return cls(
            id=strawberry.ID(f"{row.category:02X}{row.type_index:02X}"),
            category_code=row.category,
            type_index=row.type_index,
            legacy_code=row.legacy_code,
            name_en=row.name_en,
            name_ko=row.name_ko,
            description=row.description,
            required_channels=row.required_channels,
            measurement_seconds=row.measurement_s,
            unit=row.unit,
            loinc_code=row.loinc_code,
            reference_range=row.reference_range,
            reference_low=row.reference_low,
            reference_high=row.reference_high,
            critical_low=row.critical_low,
            critical_high=row.critical_high,
            source=row.source,
            measuring_low=row.measuring_low,
            measuring_high=row.measuring_high,
            min_confidence=row.min_confidence,
            decimal_places=row.decimal_places,
            measuring_source=row.measuring_source,
            version=row.version,
            manufacturer=row.manufacturer,
            is_active=row.is_active,
            is_beta=row.is_beta,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "CartridgeType | None":
        """The type of a reference from another subgraph; None when the registry has none."""
        code = _code_of(id)
        row = await info.context.cartridges.type_by_code.load(code) if code else None
        return cls.of(row) if row else None


@strawberry.type(description="A family of cartridge types.")
class CartridgeCategory:
    code: int = strawberry.field(description="Category byte of the tag; of a range, its first.")
    last_code: int = strawberry.field(description="Last byte of the range; the same as code for a single one.")
    name_en: str = strawberry.field(description="Name in English.")
    name_ko: str = strawberry.field(description="Name in Korean.")
    description: str = strawberry.field(description="What its cartridges are for.")
    type_count: int = strawberry.field(description="How many types are registered in it.")
    is_active: bool = strawberry.field(description="Whether its cartridges may be used.")

    @classmethod
    def of(cls, row: models.CartridgeCategory, type_count: int) -> "CartridgeCategory":
        return cls(
            code=row.code,
            last_code=row.last_code,
            name_en=row.name_en,
            name_ko=row.name_ko,
            description=row.description,
            type_count=type_count,
            is_active=row.is_active,
        )


@strawberry.federation.type(keys=["id"], description="A cartridge, as the caller has read it.")
class Cartridge:
    id: strawberry.ID = strawberry.field(description="Id from the tag, 16 upper-case hexadecimal digits.")
    category_code: int = strawberry.field(description="Category byte of the tag.")
    type_index: int = strawberry.field(description="Type within the category.")
    type: CartridgeType | None = strawberry.field(description="Its type; null when the registry does not know it.")
    lot_id: str = strawberry.field(description="Production lot; empty when none is known.")
    expires_on: date | None = strawberry.field(description="Last day of use; null when none is known.")
    remaining_uses: int = strawberry.field(description="Uses left, by the platform's count.")
    max_uses: int = strawberry.field(description="Uses when new.")
    alpha: float | None = strawberry.field(
        description="Factor of the reference electrode; null when unverified: the default of the type applies."
    )
    verified: bool = strawberry.field(
        description="Whether it is verified, by a signed tag or the factory's registry; if not, results are unverified."
    )
    is_valid: bool = strawberry.field(description="Whether it can be used now.")
    refusal: models.Refusal | None = strawberry.field(description="Why it cannot be used; null when it can.")
    validation_message: str | None = strawberry.field(
        description="The same, or that it is unverified, as a sentence in the language of the request."
    )

    @classmethod
    def of(cls, info: Info, detail: models.CartridgeDetail) -> "Cartridge":
        row, refusal = detail.cartridge, detail.refusal
        return cls(
            id=strawberry.ID(row.uid),
            category_code=row.category,
            type_index=row.type_index,
            type=CartridgeType.of(detail.type) if detail.type else None,
            lot_id=row.lot_id,
            expires_on=row.expires_on,
            remaining_uses=row.remaining_uses,
            max_uses=row.max_uses,
            alpha=row.alpha,
            verified=row.verified,
            is_valid=refusal is None,
            refusal=refusal,
            validation_message=_message(detail, info.context.request.locale),
        )

    @classmethod
    async def load(cls, info: Info, uid: str) -> "Cartridge | None":
        """The cartridge with an id; None when the caller never read it."""
        detail = await info.context.cartridges.by_uid.load(normal_uid(uid))
        return cls.of(info, detail) if detail else None

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "Cartridge | None":
        """The cartridge of a reference from another subgraph; None when the caller never read it."""
        return await cls.load(info, id)


@strawberry.input(description="The raw content of an NFC tag.")
class ReadCartridgeInput:
    tag_base64: str = strawberry.field(description="Tag memory as read, in base64.")
    tag_version: int = strawberry.field(default=0, description="1 or 2; 0 takes it from the tag.")
    device_id: strawberry.ID | None = strawberry.field(default=None, description="The device that holds it, if any.")


@strawberry.input(description="A cartridge type to register, or to replace.")
class CartridgeTypeInput:
    category_code: int = strawberry.field(description="Category byte, 1 to 255; a category must cover it.")
    type_index: int = strawberry.field(description="Type within the category, 1 to 255.")
    name_en: str = strawberry.field(description="Name in English.")
    name_ko: str = strawberry.field(description="Name in Korean.")
    required_channels: int = strawberry.field(description="88, 448, 896 or 1792.")
    measurement_seconds: int = strawberry.field(description="How long a measurement takes, 1 to 255.")
    unit: str = strawberry.field(description="Unit of the result (UCUM); 1 for plain numbers.")
    legacy_code: int | None = strawberry.field(default=None, description="Type code of version 1 tags.")
    description: str = strawberry.field(default="", description="What it measures.")
    loinc_code: str | None = strawberry.field(default=None, description="LOINC code of the result.")
    reference_low: float | None = strawberry.field(default=None, description="Lowest normal value.")
    reference_high: float | None = strawberry.field(default=None, description="Highest normal value.")
    reference_note: str = strawberry.field(default="", description="For whom the range holds.")
    critical_low: float | None = strawberry.field(default=None, description="A result below this raises an alert.")
    critical_high: float | None = strawberry.field(default=None, description="A result above this raises an alert.")
    source: str = strawberry.field(default="", description="Where the limits stand; needed when there are any.")
    measuring_low: float | None = strawberry.field(
        default=None, description="Lower limit of the measuring range; without a range, results are preliminary."
    )
    measuring_high: float | None = strawberry.field(default=None, description="Upper limit of the measuring range.")
    min_confidence: float = strawberry.field(default=0.5, description="Least confidence of a result, above 0 to 1.")
    decimal_places: int = strawberry.field(default=2, description="Digits after the point of a result, 0 to 6.")
    measuring_source: str = strawberry.field(
        default="", description="Where the measuring range stands; needed when there is one."
    )
    version: int | None = strawberry.field(
        default=None,
        description="The version that this describes: the current one, which null means, or the next, which may have another unit.",
    )
    default_uses: int = strawberry.field(default=1, description="Uses of a cartridge with a version 1 tag.")
    manufacturer: str = strawberry.field(default="ManPaSik", description="Who makes it.")
    is_active: bool = strawberry.field(default=True, description="Whether cartridges of this type may be used.")
    is_beta: bool = strawberry.field(default=False, description="Whether it is only for the beta programme.")

    def definition(self) -> TypeDefinition:
        """The type as the registry takes it."""
        return TypeDefinition(
            category=self.category_code,
            type_index=self.type_index,
            name_en=self.name_en,
            name_ko=self.name_ko,
            required_channels=self.required_channels,
            measurement_s=self.measurement_seconds,
            unit=self.unit,
            legacy_code=self.legacy_code,
            description=self.description,
            loinc_code=self.loinc_code,
            reference_low=self.reference_low,
            reference_high=self.reference_high,
            reference_note=self.reference_note,
            critical_low=self.critical_low,
            critical_high=self.critical_high,
            source=self.source,
            measuring_low=self.measuring_low,
            measuring_high=self.measuring_high,
            min_confidence=self.min_confidence,
            decimal_places=self.decimal_places,
            measuring_source=self.measuring_source,
            version=self.version,
            default_uses=self.default_uses,
            manufacturer=self.manufacturer,
            is_active=self.is_active,
            is_beta=self.is_beta,
        )


@strawberry.input(description="A cartridge category to register, or to replace.")
class CartridgeCategoryInput:
    code: int = strawberry.field(description="Category byte, 1 to 255.")
    name_en: str = strawberry.field(description="Name in English.")
    name_ko: str = strawberry.field(description="Name in Korean.")
    last_code: int | None = strawberry.field(default=None, description="Last byte, for a range of codes.")
    description: str = strawberry.field(default="", description="What its cartridges are for.")
    is_active: bool = strawberry.field(default=True, description="Whether its cartridges may be used.")


@strawberry.type
class CartridgeQuery:
    @strawberry.field(
        description="A cartridge by its id; null when the caller never read it.", directives=[AUTHENTICATED]
    )
    async def cartridge(self, info: Info, id: strawberry.ID) -> Cartridge | None:
        return await Cartridge.load(info, id)

    @strawberry.field(
        description="The types of the registry, by category and index.", directives=[list_size(assumed=50)]
    )
    async def cartridge_types(
        self,
        info: Info,
        category_code: Annotated[int | None, strawberry.argument(description="Only types of this category.")] = None,
    ) -> list[CartridgeType]:
        async with info.context.database.read() as session:
            rows = await info.context.services.registry.types(session, category=category_code)
        return [CartridgeType.of(row) for row in rows]

    @strawberry.field(description="The categories of the registry, by code.", directives=[list_size(assumed=20)])
    async def cartridge_categories(self, info: Info) -> list[CartridgeCategory]:
        async with info.context.database.read() as session:
            summaries = await info.context.services.registry.categories(session)
        return [CartridgeCategory.of(summary.category, summary.type_count) for summary in summaries]


@strawberry.type
class CartridgeMutation:
    @strawberry.mutation(
        description="Decode a tag and keep its cartridge; one that is expired or used up is answered as not valid.",
        directives=[AUTHENTICATED],
    )
    async def read_cartridge(self, info: Info, input: ReadCartridgeInput) -> Cartridge:
        tag = from_base64(input.tag_base64, field="tagBase64", max_bytes=MAX_BYTES)
        async with info.context.database.transaction() as session:
            detail = await info.context.services.cartridges.read(
                session,
                info.context.principal,
                tag=tag,
                tag_version=input.tag_version,
                device_id=input.device_id or "",
            )
        return Cartridge.of(info, detail)

    @strawberry.mutation(
        description="Add a cartridge type, or replace what it says.",
        directives=[requires_scopes(Scope.REGISTRY_WRITE)],
    )
    async def upsert_cartridge_type(self, info: Info, input: CartridgeTypeInput) -> CartridgeType:
        async with info.context.database.transaction() as session:
            row = await info.context.services.registry.upsert_type(session, info.context.principal, input.definition())
        return CartridgeType.of(row)

    @strawberry.mutation(
        description="Add a cartridge category, or replace what it says.",
        directives=[requires_scopes(Scope.REGISTRY_WRITE)],
    )
    async def upsert_cartridge_category(self, info: Info, input: CartridgeCategoryInput) -> CartridgeCategory:
        definition = CategoryDefinition(
            code=input.code,
            last_code=input.code if input.last_code is None else input.last_code,
            name_en=input.name_en,
            name_ko=input.name_ko,
            description=input.description,
            is_active=input.is_active,
        )
        async with info.context.database.transaction() as session:
            services = info.context.services
            row = await services.registry.upsert_category(session, info.context.principal, definition)
            summaries = await services.registry.categories(session)
        counts = {summary.category.code: summary.type_count for summary in summaries}
        return CartridgeCategory.of(row, counts.get(row.code, 0))


def _message(detail: models.CartridgeDetail, locale: Locale) -> str | None:
    if detail.refusal is not None:
        return detail.refusal.message(locale)
    return None if detail.cartridge.verified else models.UNVERIFIED_MESSAGES[locale]


def _code_of(type_id: str) -> CartridgeCode | None:
    try:
        raw = bytes.fromhex(type_id)
    except ValueError:
        return None
    return CartridgeCode(raw[0], raw[1]) if len(raw) == 2 and raw[0] and raw[1] else None
