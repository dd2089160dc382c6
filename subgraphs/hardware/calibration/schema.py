"""Calibrations in GraphQL."""

# The overloads of strawberry.field and strawberry.mutation for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from datetime import datetime

import strawberry

from domain.hardware.calibration import models
from domain.hardware.calibration.service import ReferencePoints
from domain.hardware.codes import CartridgeCode
from domain.paging import Page, PageRequest, encode_cursor
from subgraphs.hardware.context import Info
from subgraphs.runtime.graphql import AUTHENTICATED, list_size
from subgraphs.runtime.relay import PageInfo, page_info

CalibrationKind = strawberry.enum(
    models.CalibrationKind, name="CalibrationKind", description="How a calibration came about."
)
CalibrationStatus = strawberry.enum(
    models.CalibrationStatus, name="CalibrationStatus", description="Whether a calibration can be relied on."
)


@strawberry.federation.type(
    keys=["id"],
    description="One calibration of one device for one cartridge type: "
    "value = gain * (signal - alpha * reference) / env + offset.",
)
class Calibration:
    id: strawberry.ID = strawberry.field(description="Names the calibration.")
    category_code: int = strawberry.field(description="Category byte of the cartridge type.")
    type_index: int = strawberry.field(description="Type within the category.")
    kind: models.CalibrationKind = strawberry.field(description="How it came about.")
    status: models.CalibrationStatus = strawberry.field(description="Whether it holds now; expired when replaced.")
    alpha: float = strawberry.field(description="Factor of the reference electrode.")
    channel_offsets: list[float] = strawberry.field(
        description="Added to each channel; a single entry holds for all.", directives=[list_size(assumed=88)]
    )
    channel_gains: list[float] = strawberry.field(
        description="Factor on each channel; a single entry holds for all.", directives=[list_size(assumed=88)]
    )
    temp_coefficient: float = strawberry.field(description="Relative change per degree Celsius away from 25.")
    humidity_coefficient: float = strawberry.field(description="Relative change per percentage point away from 50 %.")
    unit: str | None = strawberry.field(
        description="Unit (UCUM) of the values that it gives; null when its cartridge type was not registered."
    )
    accuracy_score: float = strawberry.field(description="How well it fits, 0 to 1: R2 of a field fit.")
    reference_standard: str = strawberry.field(description="What it was measured against.")
    calibrated_at: datetime = strawberry.field(description="When it was done.")
    expires_at: datetime = strawberry.field(description="When it stops being valid.")

    @classmethod
    def of(cls, info: Info, row: models.Calibration) -> "Calibration":
        return cls(
            id=strawberry.ID(row.calibration_id),
            category_code=row.category,
            type_index=row.type_index,
            kind=models.CalibrationKind(row.kind),
            status=info.context.services.calibrations.status_of(row),
            alpha=row.alpha,
            channel_offsets=row.channel_offsets,
            channel_gains=row.channel_gains,
            temp_coefficient=row.temp_coefficient,
            humidity_coefficient=row.humidity_coefficient,
            unit=row.unit,
            accuracy_score=row.accuracy_score,
            reference_standard=row.reference_standard,
            calibrated_at=row.calibrated_at,
            expires_at=row.expires_at,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "Calibration | None":
        """The calibration of a reference; None when there is none that the caller may see."""
        row = await info.context.calibrations.by_id.load(id)
        return cls.of(info, row) if row else None


@strawberry.type(description="A calibration in a page, with its cursor.")
class CalibrationEdge:
    cursor: str = strawberry.field(description="Where it stands in the list.")
    node: Calibration = strawberry.field(description="The calibration.")


@strawberry.type(description="A page of calibrations, newest first.")
class CalibrationConnection:
    edges: list[CalibrationEdge] = strawberry.field(description="The calibrations of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")
    total_count: int = strawberry.field(description="How many there are in all.")

    @classmethod
    def of(cls, info: Info, page: Page[models.Calibration], request: PageRequest) -> "CalibrationConnection":
        cursors = [encode_cursor(row.calibrated_at, row.calibration_id) for row in page.items]
        return cls(
            edges=[
                CalibrationEdge(cursor=cursor, node=Calibration.of(info, row))
                for cursor, row in zip(cursors, page.items, strict=True)
            ],
            page_info=page_info(cursors, has_next=page.has_next, request=request),
            total_count=page.total,
        )


@strawberry.type(description="How devices are calibrated for a cartridge type.")
class CalibrationModel:
    id: strawberry.ID = strawberry.field(description="Names the model.")
    category_code: int = strawberry.field(description="Category byte of the cartridge type.")
    type_index: int = strawberry.field(description="Type within the category.")
    name: str = strawberry.field(description="Name to show.")
    version: str = strawberry.field(description="Version of the model.")
    default_alpha: float = strawberry.field(description="Alpha where neither cartridge nor calibration gives one.")
    validity_days: int = strawberry.field(description="Days a calibration by this model is valid.")
    description: str = strawberry.field(description="How the model works.")

    @classmethod
    def of(cls, row: models.CalibrationModel) -> "CalibrationModel":
        return cls(
            id=strawberry.ID(row.model_id),
            category_code=row.category,
            type_index=row.type_index,
            name=row.name,
            version=row.version,
            default_alpha=row.default_alpha,
            validity_days=row.validity_days,
            description=row.description,
        )


@strawberry.input(description="Reference points measured at the place of use; at least three.")
class FieldCalibrationInput:
    device_id: strawberry.ID = strawberry.field(description="Device to calibrate.")
    category_code: int = strawberry.field(description="Category byte of the cartridge type.")
    type_index: int = strawberry.field(description="Type within the category.")
    reference_values: list[float] = strawberry.field(description="True values, in the type's unit.")
    measured_values: list[float] = strawberry.field(description="What the device showed for each, in their order.")
    temperature_c: float = strawberry.field(description="Ambient temperature, degrees Celsius.")
    humidity_pct: float = strawberry.field(description="Relative humidity, 0 to 100 %.")
    unit: str = strawberry.field(
        default="", description="Unit of both (UCUM); needed only where the type has had more than one."
    )


@strawberry.type
class CalibrationQuery:
    @strawberry.field(
        description="How devices are calibrated, by category and type.", directives=[list_size(assumed=50)]
    )
    async def calibration_models(self, info: Info) -> list[CalibrationModel]:
        async with info.context.database.read() as session:
            rows = await info.context.services.calibrations.models(session)
        return [CalibrationModel.of(row) for row in rows]


@strawberry.type
class CalibrationMutation:
    @strawberry.mutation(
        description="Fit gain and offset to reference points; refused when R2 or a residual is beyond its limit.",
        directives=[AUTHENTICATED],
    )
    async def perform_field_calibration(self, info: Info, input: FieldCalibrationInput) -> Calibration:
        points = ReferencePoints(
            reference=input.reference_values,
            measured=input.measured_values,
            temp_c=input.temperature_c,
            humidity_pct=input.humidity_pct,
            unit=input.unit,
        )
        principal = info.context.principal
        async with info.context.database.transaction() as session:
            row = await info.context.services.calibrations.perform_field(
                session,
                principal,
                device_id=input.device_id,
                user_id="",
                code=CartridgeCode(input.category_code, input.type_index),
                points=points,
            )
        return Calibration.of(info, row)
