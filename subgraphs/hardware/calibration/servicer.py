"""calibration-service over gRPC."""

from typing import Any

import grpc.aio
from manpasik.v1 import calibration_pb2 as pb
from manpasik.v1 import calibration_pb2_grpc as pb_grpc

from domain.hardware.calibration.models import Calibration, CalibrationKind, CalibrationStatus
from domain.hardware.calibration.service import FactoryValues, ReferencePoints
from domain.hardware.calibration.texts import status_message
from domain.hardware.codes import CartridgeCode
from subgraphs.hardware.services import HardwareServices
from subgraphs.hardware.wire import timestamp
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database

_Context = grpc.aio.ServicerContext[Any, Any]

UNIT_METADATA = "x-calibration-unit"
"""Unit (UCUM) of the values of a new calibration: the messages of the wire have no field for it. Needed only where the
type has had more than one unit."""

_KIND_TO_WIRE = {
    CalibrationKind.FACTORY: pb.CALIBRATION_TYPE_FACTORY,
    CalibrationKind.FIELD: pb.CALIBRATION_TYPE_FIELD,
    CalibrationKind.AUTO: pb.CALIBRATION_TYPE_AUTO,
}
_STATUS_TO_WIRE = {
    CalibrationStatus.VALID: pb.CALIBRATION_STATUS_VALID,
    CalibrationStatus.EXPIRING: pb.CALIBRATION_STATUS_EXPIRING,
    CalibrationStatus.EXPIRED: pb.CALIBRATION_STATUS_EXPIRED,
    CalibrationStatus.NEEDED: pb.CALIBRATION_STATUS_NEEDED,
}


class CalibrationServicer(pb_grpc.CalibrationServiceServicer):
    """manpasik.v1.CalibrationService."""

    def __init__(self, services: HardwareServices, database: Database) -> None:
        self._calibrations = services.calibrations
        self._database = database

    async def RegisterFactoryCalibration(  # noqa: N802 - the name of the wire
        self, request: pb.RegisterFactoryCalibrationRequest, context: _Context
    ) -> pb.CalibrationRecord:
        values = FactoryValues(
            alpha=request.alpha,
            channel_offsets=request.channel_offsets,
            channel_gains=request.channel_gains,
            temp_coefficient=request.temp_coefficient,
            humidity_coefficient=request.humidity_coefficient,
            reference_standard=request.reference_standard,
            calibrated_by=request.calibrated_by,
            unit=_unit(context),
        )
        async with self._database.transaction() as session:
            calibration = await self._calibrations.register_factory(
                session, current().principal, device_id=request.device_id, code=_code(request), values=values
            )
        return self._record(calibration)

    async def PerformFieldCalibration(  # noqa: N802 - the name of the wire
        self, request: pb.PerformFieldCalibrationRequest, context: _Context
    ) -> pb.CalibrationRecord:
        points = ReferencePoints(
            reference=list(request.reference_values),
            measured=list(request.measured_values),
            temp_c=request.temperature_c,
            humidity_pct=request.humidity_pct,
            unit=_unit(context),
        )
        async with self._database.transaction() as session:
            calibration = await self._calibrations.perform_field(
                session,
                current().principal,
                device_id=request.device_id,
                user_id=request.user_id,
                code=_code(request),
                points=points,
            )
        return self._record(calibration)

    async def GetCalibration(  # noqa: N802 - the name of the wire
        self, request: pb.GetCalibrationRequest, _context: object
    ) -> pb.CalibrationRecord:
        async with self._database.read() as session:
            calibration = await self._calibrations.in_force(
                session, current().principal, device_id=request.device_id, code=_code(request)
            )
        return self._record(calibration)

    async def ListCalibrationHistory(  # noqa: N802 - the name of the wire
        self, request: pb.ListCalibrationHistoryRequest, _context: object
    ) -> pb.ListCalibrationHistoryResponse:
        async with self._database.read() as session:
            calibrations, total = await self._calibrations.history(
                session, current().principal, device_id=request.device_id, limit=request.limit, offset=request.offset
            )
        return pb.ListCalibrationHistoryResponse(
            records=[self._record(calibration) for calibration in calibrations], total_count=total
        )

    async def CheckCalibrationStatus(  # noqa: N802 - the name of the wire
        self, request: pb.CheckCalibrationStatusRequest, _context: object
    ) -> pb.CalibrationStatusResponse:
        async with self._database.read() as session:
            report = await self._calibrations.status(
                session, current().principal, device_id=request.device_id, code=_code(request)
            )
        newest = report.newest
        return pb.CalibrationStatusResponse(
            status=_STATUS_TO_WIRE[report.status],
            device_id=report.device_id,
            message=status_message(report, current().locale),
            last_calibrated_at=timestamp(newest.calibrated_at) if newest else None,
            expires_at=timestamp(newest.expires_at) if newest else None,
            days_until_expiry=report.days_until_expiry,
            latest_record=self._record(newest) if newest else None,
        )

    async def ListCalibrationModels(  # noqa: N802 - the name of the wire
        self, _request: pb.ListCalibrationModelsRequest, _context: object
    ) -> pb.ListCalibrationModelsResponse:
        async with self._database.read() as session:
            models = await self._calibrations.models(session)
        return pb.ListCalibrationModelsResponse(
            models=[
                pb.CalibrationModel(
                    model_id=model.model_id,
                    cartridge_category=model.category,
                    cartridge_type_index=model.type_index,
                    name=model.name,
                    version=model.version,
                    default_alpha=model.default_alpha,
                    validity_days=model.validity_days,
                    description=model.description,
                    created_at=timestamp(model.created_at),
                )
                for model in models
            ]
        )

    def _record(self, calibration: Calibration) -> pb.CalibrationRecord:
        return pb.CalibrationRecord(
            calibration_id=calibration.calibration_id,
            device_id=calibration.device_id,
            cartridge_category=calibration.category,
            cartridge_type_index=calibration.type_index,
            calibration_type=_KIND_TO_WIRE[CalibrationKind(calibration.kind)],
            alpha=calibration.alpha,
            channel_offsets=calibration.channel_offsets,
            channel_gains=calibration.channel_gains,
            temp_coefficient=calibration.temp_coefficient,
            humidity_coefficient=calibration.humidity_coefficient,
            accuracy_score=calibration.accuracy_score,
            reference_standard=calibration.reference_standard,
            calibrated_by=calibration.calibrated_by,
            calibrated_at=timestamp(calibration.calibrated_at),
            expires_at=timestamp(calibration.expires_at),
            status=_STATUS_TO_WIRE[self._calibrations.status_of(calibration)],
        )


def _code(
    request: pb.RegisterFactoryCalibrationRequest
    | pb.PerformFieldCalibrationRequest
    | pb.GetCalibrationRequest
    | pb.CheckCalibrationStatusRequest,
) -> CartridgeCode:
    return CartridgeCode(request.cartridge_category, request.cartridge_type_index)


def _unit(context: _Context) -> str:
    """The unit that a call names in its metadata; empty when it names none."""
    given = [value for key, value in context.invocation_metadata() or () if key == UNIT_METADATA]
    return given[0] if given and isinstance(given[0], str) else ""
