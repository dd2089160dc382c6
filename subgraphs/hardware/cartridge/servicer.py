"""cartridge-service over gRPC: the contract with readers and apps, and the registry for the platform's own services."""

from typing import Any

import grpc.aio
from manpasik.internal.v1 import cartridge_registry_pb2 as registry_pb
from manpasik.internal.v1 import cartridge_registry_pb2_grpc as registry_grpc
from manpasik.v1 import cartridge_pb2 as pb
from manpasik.v1 import cartridge_pb2_grpc as pb_grpc
from manpasik.v1 import common_pb2

from domain.hardware.cartridge.errors import CartridgeTypeNotFound
from domain.hardware.cartridge.models import UNVERIFIED_MESSAGES, CartridgeDetail, CartridgeType, PlanLevel
from domain.hardware.codes import CartridgeCode
from subgraphs.hardware.services import HardwareServices
from subgraphs.hardware.wire import timestamp
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database

Context = grpc.aio.ServicerContext[Any, Any]

UNLIMITED = -1
"""Of uses left by the person's plan: recording one asks nobody else, CheckCartridgeAccess tells what is left."""


_LEVEL_TO_WIRE = {
    PlanLevel.INCLUDED: common_pb2.CARTRIDGE_ACCESS_INCLUDED,
    PlanLevel.LIMITED: common_pb2.CARTRIDGE_ACCESS_LIMITED,
    PlanLevel.ADD_ON: common_pb2.CARTRIDGE_ACCESS_ADD_ON,
    PlanLevel.RESTRICTED: common_pb2.CARTRIDGE_ACCESS_RESTRICTED,
    PlanLevel.BETA: common_pb2.CARTRIDGE_ACCESS_BETA,
}


class CartridgeServicer(pb_grpc.CartridgeServiceServicer):
    """manpasik.v1.CartridgeService."""

    def __init__(self, services: HardwareServices, database: Database, *, default_alpha: float) -> None:
        self._cartridges = services.cartridges
        self._registry = services.registry
        self._clock = services.cartridges.clock
        self._database = database
        self._default_alpha = default_alpha

    async def ReadCartridge(  # noqa: N802 - the name of the wire
        self, request: pb.ReadCartridgeRequest, context: Context
    ) -> pb.CartridgeDetail:
        async with self._database.transaction() as session:
            detail = await self._cartridges.read(
                session, current().principal, tag=request.nfc_tag_data, tag_version=request.tag_version
            )
        await context.send_initial_metadata(_verification(detail))
        return self._detail(detail)

    async def RecordUsage(  # noqa: N802 - the name of the wire
        self, request: pb.RecordUsageRequest, _context: object
    ) -> pb.RecordUsageResponse:
        async with self._database.transaction() as session:
            cartridge = await self._cartridges.record_usage(
                session,
                current().principal,
                user_id=request.user_id,
                session_id=request.session_id,
                uid=request.cartridge_uid,
                category=request.category_code,
                type_index=request.type_index,
            )
        return pb.RecordUsageResponse(
            success=True,
            remaining_uses=cartridge.remaining_uses,
            remaining_daily=UNLIMITED,
            remaining_monthly=UNLIMITED,
        )

    async def GetUsageHistory(  # noqa: N802 - the name of the wire
        self, request: pb.GetUsageHistoryRequest, _context: object
    ) -> pb.GetUsageHistoryResponse:
        async with self._database.read() as session:
            usages, total = await self._cartridges.usage_history(
                session, current().principal, user_id=request.user_id, limit=request.limit, offset=request.offset
            )
        return pb.GetUsageHistoryResponse(
            records=[
                pb.CartridgeUsageRecord(
                    record_id=usage.record_id,
                    user_id=usage.user_id,
                    session_id=usage.session_id,
                    cartridge_uid=usage.cartridge_uid,
                    category_code=usage.category,
                    type_index=usage.type_index,
                    type_name_ko=name_ko,
                    used_at=timestamp(usage.used_at),
                )
                for usage, name_ko in usages
            ],
            total_count=total,
        )

    async def GetCartridgeType(  # noqa: N802 - the name of the wire
        self, request: pb.GetCartridgeTypeRequest, _context: object
    ) -> pb.CartridgeTypeInfo:
        async with self._database.read() as session:
            return _type_info(await self._registry.type(session, request.category_code, request.type_index))

    async def ListCategories(  # noqa: N802 - the name of the wire
        self, _request: pb.ListCategoriesRequest, _context: object
    ) -> pb.ListCategoriesResponse:
        async with self._database.read() as session:
            summaries = await self._registry.categories(session)
        return pb.ListCategoriesResponse(
            categories=[
                pb.CartridgeCategoryInfo(
                    code=summary.category.code,
                    name_en=summary.category.name_en,
                    name_ko=summary.category.name_ko,
                    description=summary.category.description,
                    type_count=summary.type_count,
                    is_active=summary.category.is_active,
                )
                for summary in summaries
            ]
        )

    async def ListTypesByCategory(  # noqa: N802 - the name of the wire
        self, request: pb.ListTypesByCategoryRequest, _context: object
    ) -> pb.ListTypesByCategoryResponse:
        async with self._database.read() as session:
            types = await self._registry.types(session, category=request.category_code or None)
        return pb.ListTypesByCategoryResponse(types=[_type_info(type_) for type_ in types])

    async def GetRemainingUses(  # noqa: N802 - the name of the wire
        self, request: pb.GetRemainingUsesRequest, context: Context
    ) -> pb.GetRemainingUsesResponse:
        async with self._database.read() as session:
            detail = await self._cartridges.get(session, current().principal, request.cartridge_uid)
        await context.send_initial_metadata(_verification(detail))
        cartridge = detail.cartridge
        return pb.GetRemainingUsesResponse(
            cartridge_uid=cartridge.uid,
            remaining_uses=cartridge.remaining_uses,
            max_uses=cartridge.max_uses,
            expiry_date=cartridge.expiry_text,
            is_expired=cartridge.is_expired(self._clock.now()),
        )

    async def ValidateCartridge(  # noqa: N802 - the name of the wire
        self, request: pb.ValidateCartridgeRequest, context: Context
    ) -> pb.ValidateCartridgeResponse:
        async with self._database.read() as session:
            validation = await self._cartridges.validate(
                session,
                current().principal,
                uid=request.cartridge_uid,
                category=request.category_code,
                type_index=request.type_index,
                user_id=request.user_id,
            )
        validation = await self._cartridges.under_plan(current().principal, validation, user_id=request.user_id)
        detail = validation.detail
        if detail is not None:
            await context.send_initial_metadata(_verification(detail))
        return pb.ValidateCartridgeResponse(
            is_valid=validation.refusal is None,
            reason=validation.refusal.value if validation.refusal else "",
            remaining_uses=detail.cartridge.remaining_uses if detail else 0,
            access_level=_LEVEL_TO_WIRE[validation.plan.level]
            if validation.plan
            else common_pb2.CARTRIDGE_ACCESS_UNKNOWN,
            detail=self._detail(detail) if detail else None,
        )

    def _detail(self, detail: CartridgeDetail) -> pb.CartridgeDetail:
        cartridge, type_ = detail.cartridge, detail.type
        return pb.CartridgeDetail(
            cartridge_uid=cartridge.uid,
            category_code=cartridge.category,
            type_index=cartridge.type_index,
            legacy_code=cartridge.legacy_code or (type_.legacy_code if type_ else 0) or 0,
            name_ko=type_.name_ko if type_ else "",
            name_en=type_.name_en if type_ else "",
            lot_id=cartridge.lot_id,
            expiry_date=cartridge.expiry_text,
            remaining_uses=cartridge.remaining_uses,
            max_uses=cartridge.max_uses,
            alpha_coefficient=self._default_alpha if cartridge.alpha is None else cartridge.alpha,
            temp_coefficient=cartridge.temp_coefficient or 0.0,
            humidity_coefficient=cartridge.humidity_coefficient or 0.0,
            required_channels=cartridge.required_channels or (type_.required_channels if type_ else 0),
            measurement_secs=cartridge.measurement_s or (type_.measurement_s if type_ else 0),
            unit=type_.unit if type_ else "",
            reference_range=type_.reference_range if type_ else "",
            is_valid=detail.refusal is None,
            validation_message=_message(detail),
        )


class CartridgeRegistryServicer(registry_grpc.CartridgeRegistryServicer):
    """manpasik.internal.v1.CartridgeRegistry, for services only."""

    def __init__(self, services: HardwareServices, database: Database) -> None:
        self._cartridges = services.cartridges
        self._registry = services.registry
        self._calibrations = services.calibrations
        self._database = database

    async def GetType(  # noqa: N802 - the name of the wire
        self, request: registry_pb.GetTypeRequest, _context: object
    ) -> registry_pb.TypeRecord:
        async with self._database.read() as session:
            if not request.calibration_id:
                return _type_record(await self._registry.type(session, request.category_code, request.type_index))
            unit = await self._calibrations.unit_of(session, request.calibration_id)
            if unit is None:
                raise CartridgeTypeNotFound("The unit of the calibration is not known.")
            code = CartridgeCode(request.category_code, request.type_index)
            return _type_record(await self._registry.type_in(session, code, unit=unit))

    async def GetCartridge(  # noqa: N802 - the name of the wire
        self, request: registry_pb.GetCartridgeRequest, _context: object
    ) -> registry_pb.CartridgeRecord:
        async with self._database.read() as session:
            detail = await self._cartridges.get(
                session, current().principal, request.cartridge_uid, user_id=request.user_id
            )
        cartridge = detail.cartridge
        unregistered = registry_pb.TypeRecord(category_code=cartridge.category, type_index=cartridge.type_index)
        return registry_pb.CartridgeRecord(
            cartridge_uid=cartridge.uid,
            type=_type_record(detail.type) if detail.type else unregistered,
            alpha=cartridge.alpha,
            temp_coefficient=cartridge.temp_coefficient,
            humidity_coefficient=cartridge.humidity_coefficient,
            remaining_uses=cartridge.remaining_uses,
            expires_at=timestamp(cartridge.expires_at) if cartridge.expires_at else None,
            unverified=not cartridge.verified,
        )


def _message(detail: CartridgeDetail) -> str:
    """What the person who holds the cartridge should know, in their language; empty when there is nothing to say."""
    if detail.refusal is not None:
        return detail.refusal.message(current().locale)
    return "" if detail.cartridge.verified else UNVERIFIED_MESSAGES[current().locale]


def _verification(detail: CartridgeDetail) -> tuple[tuple[str, str]]:
    """The metadata that mark an answer about a cartridge: the messages of the wire have no field for it."""
    return (("x-cartridge-verified", "true" if detail.cartridge.verified else "false"),)


def _type_info(type_: CartridgeType) -> pb.CartridgeTypeInfo:
    return pb.CartridgeTypeInfo(
        category_code=type_.category,
        type_index=type_.type_index,
        legacy_code=type_.legacy_code or 0,
        name_en=type_.name_en,
        name_ko=type_.name_ko,
        description=type_.description,
        required_channels=type_.required_channels,
        measurement_secs=type_.measurement_s,
        unit=type_.unit,
        reference_range=type_.reference_range,
        is_active=type_.is_active,
        is_beta=type_.is_beta,
        manufacturer=type_.manufacturer,
    )


def _type_record(type_: CartridgeType) -> registry_pb.TypeRecord:
    return registry_pb.TypeRecord(
        category_code=type_.category,
        type_index=type_.type_index,
        name_en=type_.name_en,
        name_ko=type_.name_ko,
        unit=type_.unit,
        loinc_code=type_.loinc_code or "",
        required_channels=type_.required_channels,
        reference_low=type_.reference_low,
        reference_high=type_.reference_high,
        critical_low=type_.critical_low,
        critical_high=type_.critical_high,
        measuring_low=type_.measuring_low,
        measuring_high=type_.measuring_high,
        min_confidence=type_.min_confidence,
        decimal_places=type_.decimal_places,
    )
