"""Measurement sessions and results as GraphQL shows them."""

# strawberry.field is typed as Any when it decorates.
# mypy: disable-error-code="untyped-decorator"

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Self

import strawberry
from strawberry.scalars import JSON

from domain.measurement.measurement.frames import StoredFrame, from_us
from domain.measurement.measurement.interpretation import interpretation
from domain.measurement.measurement.models import Session, SessionFilter, SessionStatus
from domain.measurement.measurement.quality import MeasuringRange, report
from domain.measurement.measurement.quantity import Quantity, quantity
from domain.measurement.measurement.start import StartRequest
from domain.paging import Page, encode_cursor
from domain.principal import Scope
from domain.quantities import digits
from domain.units import chosen_unit
from subgraphs.measurement.context import Info
from subgraphs.measurement.measurement.loaders import ListOf, PageKey
from subgraphs.runtime.graphql import AUTHENTICATED, cost, list_size, requires_scopes
from subgraphs.runtime.relay import PageInfo, cursors_of, page_info, page_request

LIVE_POLL_S = 0.25

_READ = [AUTHENTICATED, requires_scopes(Scope.MEASUREMENT_READ)]
_WRITE = [AUTHENTICATED, requires_scopes(Scope.MEASUREMENT_WRITE)]
_PAGE = [*_READ, list_size("first", sized_fields=["edges"])]

Since = Annotated[datetime | None, strawberry.argument(description="The earliest time to include.")]
Until = Annotated[datetime | None, strawberry.argument(description="The first time to leave out.")]
First = Annotated[int | None, strawberry.argument(description="How many items, 1 to 100; 20 when left out.")]
After = Annotated[str | None, strawberry.argument(description="Cursor of the last item of the page before.")]


@strawberry.enum(name="MeasurementSessionStatus", description="Where a measurement session stands.")
class StatusChoice(Enum):
    ACTIVE = strawberry.enum_value("active", description="Takes frames.")
    COMPLETED = strawberry.enum_value("completed", description="Ended with a result.")
    EMPTY = strawberry.enum_value("empty", description="Ended without a frame, so without a result.")


@strawberry.enum(name="MeasurementEndReason", description="How a measurement session came to its end.")
class EndReasonChoice(Enum):
    REQUESTED = strawberry.enum_value("requested", description="The reader or the person ended it.")
    IDLE = strawberry.enum_value("idle", description="It had no signal for too long.")


@strawberry.enum(name="MeasurementStatus", description="What a result says.")
class ResultStatusChoice(Enum):
    VALID = strawberry.enum_value("valid", description="The value lies within the measuring range.")
    BELOW_RANGE = strawberry.enum_value(
        "below_range", description="Below the measuring range: less than `value`, which is the range's lower limit."
    )
    ABOVE_RANGE = strawberry.enum_value(
        "above_range", description="Above the measuring range: more than `value`, which is the range's upper limit."
    )
    INVALID = strawberry.enum_value(
        "invalid", description="The signals cannot be trusted: there is no value. Measure again."
    )


@strawberry.enum(name="ElectrodeFault", description="What is wrong with an electrode.")
class ElectrodeFaultChoice(Enum):
    DEAD = strawberry.enum_value("dead", description="It gives no signal.")
    REVERSED = strawberry.enum_value("reversed", description="Its polarity is reversed.")
    SATURATED = strawberry.enum_value("saturated", description="It is at the end of its range.")
    STUCK = strawberry.enum_value("stuck", description="Its signal does not move.")
    OUTLIER = strawberry.enum_value("outlier", description="Its value lies far from those of the others.")


@strawberry.enum(name="MeasurementDoubt", description="Why the signals of a measurement cannot be trusted.")
class DoubtChoice(Enum):
    ELECTRODES_FAILED = strawberry.enum_value("electrodes_failed", description="Too many electrodes failed.")
    ELECTRODES_DISAGREE = strawberry.enum_value("electrodes_disagree", description="The electrodes disagree.")
    SURROUNDINGS = strawberry.enum_value("surroundings", description="It was too hot, cold, dry or humid.")
    INTERFERENCE = strawberry.enum_value("interference", description="All electrodes carry a foreign signal.")
    FRAMES_DISAGREE = strawberry.enum_value("frames_disagree", description="The signal changed while it was measured.")
    IMPLAUSIBLE = strawberry.enum_value("implausible", description="No sample gives such a signal.")
    CUT_SHORT = strawberry.enum_value("cut_short", description="The reader fell silent before it had measured enough.")


@strawberry.enum(name="MeasurementTimeBasis", description="What the time of a result is based on.")
class TimeBasisChoice(Enum):
    READER = strawberry.enum_value("reader", description="The reader's clock, which can be believed.")
    UNKNOWN = strawberry.enum_value(
        "unknown", description="The reader's clock is not set or wrong: measured at some time before it came in."
    )


@strawberry.type(description="Electrodes with the same fault.")
class FailedElectrodes:
    fault: ElectrodeFaultChoice = strawberry.field(description="What is wrong with them.")
    numbers: list[int] = strawberry.field(
        description="Their numbers, from 1, in ascending order.", directives=[list_size(assumed=88)]
    )


@strawberry.input(description="Which sessions of a list are wanted by what their cartridge measures.")
class CartridgeTypeFilter:
    category_code: int = strawberry.field(description="Category byte of the tag, such as 1 for health biomarkers.")
    type_index: int | None = strawberry.field(default=None, description="Type within the category; null for all.")


@strawberry.type(description="A measurement in the unit that was asked for; all of it is in `unit`.")
class MeasurementQuantity:
    value: float | None = strawberry.field(
        description="With the digits that it has in this unit; the limit of the measuring range for a result outside it."
    )
    comparator: str | None = strawberry.field(description="`<` or `>`, to be shown before the value; else null.")
    text: str | None = strawberry.field(description="Comparator and value as people read them, such as 9.3 or <1.1.")
    unit: str = strawberry.field(description="UCUM unit of the value and the limits.")
    spread: float | None = strawberry.field(description="Robust standard deviation of the frames' values.")
    reference_low: float | None = strawberry.field(description="Lowest normal value.")
    reference_high: float | None = strawberry.field(description="Highest normal value.")
    loinc_code: str | None = strawberry.field(description="LOINC code of the result in this unit.")

    @classmethod
    def of(cls, found: Quantity) -> Self:
        return cls(
            value=found.value,
            comparator=found.comparator or None,
            text=found.text,
            unit=found.unit,
            spread=found.spread,
            reference_low=found.reference_low,
            reference_high=found.reference_high,
            loinc_code=found.loinc_code or None,
        )


@strawberry.federation.type(keys=["id"], description="What a measurement session amounts to. Each look is logged.")
class Measurement:
    id: strawberry.ID = strawberry.field(description="The id of its session.")
    status: ResultStatusChoice = strawberry.field(description="What the result says; read it before the value.")
    value: float | None = strawberry.field(
        description="Robust aggregate over the session's frames, in `unit`, with the digits that it has; the limit of the "
        "measuring range for a result below or above it; null for an invalid one."
    )
    comparator: str | None = strawberry.field(
        description="`<` below and `>` above the measuring range, to be shown before the value; else null."
    )
    text: str | None = strawberry.field(
        description="Comparator and value as people read them, such as 168 or <20; null for an invalid result."
    )
    unit: str = strawberry.field(description="UCUM unit of the value, such as mg/dL; [arb'U] without calibration.")
    confidence: float = strawberry.field(description="How far to trust the value, 0 to 1.")
    spread: float | None = strawberry.field(
        description="Robust standard deviation of the frames' values, in `unit`; null unless the status is VALID."
    )
    interpretation: str | None = strawberry.field(
        description="HL7 code by the limits of the cartridge type: LL, L, N, H or HH; null where there are none."
    )
    type_name_en: str = strawberry.field(description="What was measured, in English.")
    type_name_ko: str = strawberry.field(description="What was measured, in Korean.")
    loinc_code: str | None = strawberry.field(description="LOINC code of a verified, calibrated result.")
    reference_low: float | None = strawberry.field(description="Lowest normal value, in `unit`.")
    reference_high: float | None = strawberry.field(description="Highest normal value, in `unit`.")
    failed_electrodes: list[FailedElectrodes] = strawberry.field(
        description="The electrodes that were left out of most frames, by fault.", directives=[list_size(assumed=5)]
    )
    doubts: list[DoubtChoice] = strawberry.field(
        description="Why the result is invalid; empty for every other one.", directives=[list_size(assumed=3)]
    )
    measured_at: datetime = strawberry.field(
        description="When the value was true, by the reader's clock (UTC); with an unknown time, when it came in."
    )
    time_basis: TimeBasisChoice = strawberry.field(description="What `measuredAt` is based on.")
    issued_at: datetime = strawberry.field(description="When the result became known (UTC).")
    told: strawberry.Private[Session]

    @strawberry.field(
        description="The result in another unit (UCUM), such as mmol/L for glucose; null when it cannot be told in it."
    )
    def in_unit(self, unit: str) -> MeasurementQuantity | None:
        return _told_in(self.told, unit)

    @strawberry.field(
        description="The result in the kind of unit that the caller has chosen in their profile (`resultUnits`), with its "
        "limits; as it was measured where they have chosen none, or it has one kind only. Show this one to people."
    )
    async def display(self, info: Info) -> MeasurementQuantity | None:
        chosen = await info.context.units.load(info.context.principal)
        return _told_in(self.told, chosen_unit(self.loinc_code or "", self.unit, chosen))

    @classmethod
    def of(cls, session: Session) -> Self | None:
        """The result of a session; null while it has none."""
        result = session.result
        if result is None or result.times is None:
            return None
        known = session.is_judged
        return cls(
            id=strawberry.ID(session.id),
            told=session,
            status=ResultStatusChoice(result.status.value),
            value=result.value,
            comparator=result.comparator or None,
            text=None if result.value is None else result.comparator + digits(result.value, result.decimal_places),
            unit=result.unit,
            confidence=result.confidence,
            spread=result.spread,
            interpretation=interpretation(session, result),
            type_name_en=session.type_name_en,
            type_name_ko=session.type_name_ko,
            loinc_code=session.loinc_code or None if known else None,
            reference_low=session.reference_low if known else None,
            reference_high=session.reference_high if known else None,
            failed_electrodes=[
                FailedElectrodes(fault=ElectrodeFaultChoice(fault.name.lower()), numbers=list(numbers))
                for fault, numbers in result.failed.items()
            ],
            doubts=[DoubtChoice(doubt.value) for doubt in result.doubts],
            measured_at=result.times.effective_at,
            time_basis=TimeBasisChoice(result.times.basis.value),
            issued_at=result.times.issued_at,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> Self | None:
        """The result that another group refers to; null where there is none that the caller may see."""
        found = await info.context.sessions.load(id)
        return None if found is None else cls.of(found)

    @strawberry.federation.field(description="The session that gave this result.", directives=_READ)
    async def session(self, info: Info) -> Annotated["MeasurementSession", strawberry.lazy(__name__)] | None:
        found = await info.context.sessions.load(self.id)
        return None if found is None else MeasurementSession.of(found)


def _told_in(session: Session, unit: str) -> MeasurementQuantity | None:
    found = quantity(session, session.result, unit) if session.result is not None else None
    return MeasurementQuantity.of(found) if found else None


@strawberry.type(description="One result in a list.")
class MeasurementEdge:
    node: Measurement = strawberry.field(description="The result.")
    cursor: str = strawberry.field(description="Where it stands in the list.")


@strawberry.type(description="A page of results, the newest first.")
class MeasurementConnection:
    edges: list[MeasurementEdge] = strawberry.field(description="The results of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands in the list.")
    total_count: int = strawberry.field(description="How many results the whole list has.")


@strawberry.type(description="One session in a list.")
class MeasurementSessionEdge:
    node: Annotated["MeasurementSession", strawberry.lazy(__name__)] = strawberry.field(description="The session.")
    cursor: str = strawberry.field(description="Where it stands in the list.")


@strawberry.type(description="A page of sessions, the newest first.")
class MeasurementSessionConnection:
    edges: list[MeasurementSessionEdge] = strawberry.field(description="The sessions of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands in the list.")
    total_count: int = strawberry.field(description="How many sessions the whole list has.")


@strawberry.federation.type(keys=["id"], description="A person, with what measurement knows of them.")
class User:
    id: strawberry.ID = strawberry.field(description="The person's id, equal in every service.")

    @classmethod
    def resolve_reference(cls, id: strawberry.ID) -> Self:
        """Whether the caller may look is decided by each field."""
        return cls(id=id)

    @strawberry.federation.field(description="The person's results, the newest first.", directives=_PAGE)
    async def measurements(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        since: Since = None,
        until: Until = None,
        cartridge_type: CartridgeTypeFilter | None = None,
    ) -> MeasurementConnection | None:
        return await results(info, self.id, first, after, filter_of(since, until, cartridge_type))

    @strawberry.federation.field(description="The person's sessions, the newest first.", directives=_PAGE)
    async def measurement_sessions(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        since: Since = None,
        until: Until = None,
        cartridge_type: CartridgeTypeFilter | None = None,
    ) -> MeasurementSessionConnection | None:
        wanted = filter_of(since, until, cartridge_type)
        return await sessions(info, ListOf.SESSIONS_OF_USER, self.id, first, after, wanted)


@strawberry.federation.type(keys=["id"], description="A reader, with what measurement knows of it.")
class Device:
    id: strawberry.ID = strawberry.field(description="The id that the reader was registered under.")

    @classmethod
    def resolve_reference(cls, id: strawberry.ID) -> Self:
        return cls(id=id)

    @strawberry.federation.field(
        description="The caller's sessions on this reader, the newest first.", directives=_PAGE
    )
    async def sessions(
        self, info: Info, first: First = None, after: After = None, since: Since = None, until: Until = None
    ) -> MeasurementSessionConnection | None:
        wanted = filter_of(since, until, None)
        return await sessions(info, ListOf.SESSIONS_OF_DEVICE, self.id, first, after, wanted)


@strawberry.federation.type(keys=["id"], description="A cartridge, with what measurement knows of it.")
class Cartridge:
    id: strawberry.ID = strawberry.field(description="The unique id on the cartridge's tag.")

    @classmethod
    def resolve_reference(cls, id: strawberry.ID) -> Self:
        return cls(id=id)

    @strawberry.federation.field(
        description="The caller's sessions with this cartridge, the newest first.", directives=_PAGE
    )
    async def sessions(
        self, info: Info, first: First = None, after: After = None, since: Since = None, until: Until = None
    ) -> MeasurementSessionConnection | None:
        wanted = filter_of(since, until, None)
        return await sessions(info, ListOf.SESSIONS_OF_CARTRIDGE, self.id, first, after, wanted)


@strawberry.type(description="A session whose fingerprint is near another one's.")
class SimilarSession:
    session: Annotated["MeasurementSession", strawberry.lazy(__name__)] = strawberry.field(description="The session.")
    similarity: float = strawberry.field(
        description="Cosine of the angle between the fingerprints; 1 = same direction."
    )


@strawberry.federation.type(keys=["id"], description="One measurement: a reader, a cartridge, and a row of frames.")
class MeasurementSession:
    id: strawberry.ID = strawberry.field(description="The session's id.")
    status: StatusChoice = strawberry.field(description="Where the session stands.")
    end_reason: EndReasonChoice | None = strawberry.field(description="How it ended; null while it is active.")
    verified: bool = strawberry.field(description="Whether reader and cartridge were known to the platform.")
    calibrated: bool = strawberry.field(description="Whether a calibration of the reader was in force.")
    recalibrated_at: datetime | None = strawberry.field(
        description="When the reader was calibrated anew while the session ran; the session keeps what it started with."
    )
    started_at: datetime = strawberry.field(description="When it started (UTC).")
    ended_at: datetime | None = strawberry.field(description="When it ended (UTC).")
    frame_count: int = strawberry.field(description="Frames stored, each counted once.")
    device: Device | None = strawberry.field(description="The reader; it may be unknown to the platform.")
    cartridge: Cartridge | None = strawberry.field(description="The cartridge; it may be unknown to the platform.")
    user: User | None = strawberry.field(description="The person who was measured.")
    result: Measurement | None = strawberry.field(description="What it amounts to; null until it completed.")

    @classmethod
    def of(cls, session: Session) -> Self:
        return cls(
            id=strawberry.ID(session.id),
            status=StatusChoice(session.status.value),
            end_reason=EndReasonChoice(session.end_reason.value) if session.end_reason else None,
            verified=session.verified,
            calibrated=session.calibrated,
            recalibrated_at=session.recalibrated_at,
            started_at=session.started_at,
            ended_at=session.ended_at,
            frame_count=session.frame_count,
            device=Device(id=strawberry.ID(session.device_id)),
            cartridge=Cartridge(id=strawberry.ID(session.cartridge_uid)),
            user=User(id=strawberry.ID(session.user_id)),
            result=Measurement.of(session),
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> Self | None:
        """The session that another group refers to; null where there is none that the caller may see."""
        found = await info.context.sessions.load(id)
        return None if found is None else cls.of(found)

    @strawberry.federation.field(
        description="Whether the stored frames are those that were received, in their order (hash chain).",
        directives=[*_READ, cost(20)],
    )
    async def chain_verified(self, info: Info) -> bool | None:
        async with info.context.database.read() as session:
            report = await info.context.service.verify_chain(session, info.context.principal, self.id)
        return report.holds

    @strawberry.federation.field(
        description="The person's sessions with the nearest fingerprints, nearest first.",
        directives=[*_READ, cost(10), list_size("first")],
    )
    async def similar(
        self, info: Info, first: Annotated[int, strawberry.argument(description="How many, 1 to 50.")] = 5
    ) -> list[SimilarSession] | None:
        async with info.context.database.transaction() as session:  # not `read`: the look is logged
            found = await info.context.service.similar(session, info.context.principal, self.id, limit=first)
        return [SimilarSession(session=MeasurementSession.of(near), similarity=cosine) for near, cosine in found]

    @strawberry.federation.field(
        description="The result as an HL7 FHIR R4 Bundle with one Observation.", directives=[*_READ, cost(5)]
    )
    async def fhir_bundle(self, info: Info) -> JSON | None:
        async with info.context.database.transaction() as session:
            return JSON(await info.context.service.export_one(session, info.context.principal, self.id))


@strawberry.type(description="One frame of a running session.")
class MeasurementFrame:
    sequence: int = strawberry.field(description="Its number within the session, from 1.")
    measured_at: datetime = strawberry.field(description="When it was taken, by the reader's clock (UTC).")
    status: ResultStatusChoice = strawberry.field(description="What the value says; read it before the value.")
    value: float | None = strawberry.field(
        description="Its value, in `unit`; the limit outside the measuring range, null when it cannot be trusted."
    )
    unit: str = strawberry.field(description="UCUM unit of the value.")
    confidence: float = strawberry.field(description="How far to trust the value, 0 to 1.")

    @classmethod
    def of(cls, frame: StoredFrame, unit: str, within: MeasuringRange) -> Self:
        shown = report(frame.primary_value, frame.confidence, within)
        return cls(
            sequence=frame.sequence,
            measured_at=from_us(frame.measured_at_us),
            status=ResultStatusChoice(shown.status.value),
            value=shown.value,
            unit=unit,
            confidence=frame.confidence,
        )


@strawberry.input(description="What is about to be measured, by whom and with what.")
class StartMeasurementSessionInput:
    device_id: strawberry.ID = strawberry.field(description="The reader that will send the frames.")
    cartridge_id: strawberry.ID = strawberry.field(description="The inserted cartridge, by the id on its tag.")
    user_id: strawberry.ID | None = strawberry.field(default=None, description="Who is measured; default: the caller.")
    category_code: int = strawberry.field(default=0, description="Category of the tag; 0 = as the cartridge says.")
    type_index: int = strawberry.field(default=0, description="Type of the tag; 0 = as the cartridge says.")


@strawberry.type(description="The session as it is now.")
class MeasurementSessionPayload:
    session: MeasurementSession = strawberry.field(description="The session.")


@strawberry.type(name="Query")
class MeasurementQuery:
    @strawberry.federation.field(description="A session of the caller's; an error for any other.", directives=_READ)
    async def measurement_session(self, info: Info, id: strawberry.ID) -> MeasurementSession | None:
        async with info.context.database.transaction() as session:
            return MeasurementSession.of(await info.context.service.get(session, info.context.principal, id))

    @strawberry.federation.field(description="A person's results, the newest first.", directives=_PAGE)
    async def measurements(
        self,
        info: Info,
        user_id: Annotated[strawberry.ID | None, strawberry.argument(description="Default: the caller.")] = None,
        first: First = None,
        after: After = None,
        since: Since = None,
        until: Until = None,
        cartridge_type: CartridgeTypeFilter | None = None,
    ) -> MeasurementConnection | None:
        owner = info.context.principal.acting_for(user_id or "")
        return await results(info, owner, first, after, filter_of(since, until, cartridge_type))

    @strawberry.federation.field(
        description="A person's results of a period as an HL7 FHIR R4 Bundle of Observations.",
        directives=[*_READ, cost(50)],
    )
    async def measurements_fhir_bundle(
        self,
        info: Info,
        user_id: Annotated[strawberry.ID | None, strawberry.argument(description="Default: the caller.")] = None,
        from_date: Annotated[str, strawberry.argument(description="First day, ISO 8601 (UTC); empty: the first.")] = "",
        to_date: Annotated[str, strawberry.argument(description="Last day, included; empty: today.")] = "",
    ) -> JSON | None:
        async with info.context.database.transaction() as session:
            bundle = await info.context.service.export_range(
                session, info.context.principal, user_id=user_id or "", from_date=from_date, to_date=to_date
            )
        return JSON(bundle)


@strawberry.type(name="Mutation")
class MeasurementMutation:
    @strawberry.federation.field(description="Check reader and cartridge, and open a session.", directives=_WRITE)
    async def start_measurement_session(
        self, info: Info, input: StartMeasurementSessionInput
    ) -> MeasurementSessionPayload:
        request = StartRequest(
            device_id=input.device_id,
            cartridge_uid=input.cartridge_id,
            user_id=input.user_id or "",
            category_code=input.category_code,
            type_index=input.type_index,
        )
        started = await info.context.starter.start(info.context.principal, request)
        async with info.context.database.transaction() as session:
            found = await info.context.service.get(session, info.context.principal, started.id)
        return MeasurementSessionPayload(session=MeasurementSession.of(found))

    @strawberry.federation.field(
        description="End a session and fix its result. Repeating it answers the same.", directives=_WRITE
    )
    async def end_measurement_session(self, info: Info, session_id: strawberry.ID) -> MeasurementSessionPayload:
        async with info.context.database.transaction() as session:
            ended = await info.context.service.end(session, info.context.principal, session_id)
        return MeasurementSessionPayload(session=MeasurementSession.of(ended))


@strawberry.type(name="Subscription")
class MeasurementSubscription:
    @strawberry.subscription(
        description="The frames of a session as they are stored, from the next one on, until it ends.",
        directives=_READ,
    )
    async def measurement_frames(self, info: Info, session_id: strawberry.ID) -> AsyncIterator[MeasurementFrame]:
        context = info.context
        async with context.database.transaction() as session:
            found = await context.service.watch(session, context.principal, session_id)
        sequence = found.frame_count
        while True:
            # Read from the table rather than told by the writer: the stream may be served by another process.
            async with context.database.read() as session:
                state, frames = await context.service.frames_after(session, context.principal, session_id, sequence)
            for frame in frames:
                sequence = frame.sequence
                yield MeasurementFrame.of(frame, state.unit, state.within)
            if not frames:
                if state.status is not SessionStatus.ACTIVE:
                    return
                await asyncio.sleep(LIVE_POLL_S)


async def results(
    info: Info, user_id: str, first: int | None, after: str | None, wanted: SessionFilter
) -> MeasurementConnection:
    """A page of a person's results."""
    request = page_request(first, after)
    page = await info.context.pages.load(PageKey(ListOf.RESULTS_OF_USER, user_id, wanted, request))
    # A result brings its whole session along, and this look at it is logged: `Measurement.session` needs no other one.
    info.context.sessions.prime_many({item.id: item for item in page.items})
    cursors = cursors_of(page.items, lambda s: encode_cursor(_effective_at(s), s.id))
    nodes = [found for item in page.items if (found := Measurement.of(item)) is not None]
    return MeasurementConnection(
        edges=[MeasurementEdge(node=node, cursor=cursor) for node, cursor in zip(nodes, cursors, strict=True)],
        page_info=page_info(cursors, has_next=page.has_next, request=request),
        total_count=page.total,
    )


def _effective_at(session: Session) -> datetime:
    times = session.result.times if session.result is not None else None
    return session.started_at if times is None else times.effective_at


async def sessions(
    info: Info, kind: ListOf, owner_id: str, first: int | None, after: str | None, wanted: SessionFilter
) -> MeasurementSessionConnection:
    """A page of somebody's or something's sessions."""
    request = page_request(first, after)
    page: Page[Session] = await info.context.pages.load(PageKey(kind, owner_id, wanted, request))
    cursors = cursors_of(page.items, lambda s: encode_cursor(s.started_at, s.id))
    return MeasurementSessionConnection(
        edges=[
            MeasurementSessionEdge(node=MeasurementSession.of(item), cursor=cursor)
            for item, cursor in zip(page.items, cursors, strict=True)
        ],
        page_info=page_info(cursors, has_next=page.has_next, request=request),
        total_count=page.total,
    )


def filter_of(
    since: datetime | None, until: datetime | None, cartridge_type: CartridgeTypeFilter | None
) -> SessionFilter:
    """The filter of a list; times without a zone are UTC."""
    return SessionFilter(
        since=_utc(since),
        until=_utc(until),
        category_code=cartridge_type.category_code if cartridge_type else None,
        type_index=cartridge_type.type_index if cartridge_type else None,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
