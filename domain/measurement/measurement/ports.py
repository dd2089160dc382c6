"""What measurement needs from the outside."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.measurement.measurement.correction import FloatArray
from domain.measurement.measurement.fingerprint import Fingerprints
from domain.measurement.measurement.models import Similar
from domain.measurement.measurement.quality import UNKNOWN_RANGE, MeasuringRange


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A registered reader."""

    device_id: str
    owner_user_id: str


@dataclass(frozen=True, slots=True)
class KnownType:
    """A type of the registry; limits in `unit`, None = no limit on that side (of `measuring`: the range is not known)."""

    category_code: int
    type_index: int
    name_en: str
    name_ko: str
    unit: str
    loinc_code: str
    required_channels: int
    reference_low: float | None
    reference_high: float | None
    critical_low: float | None
    critical_high: float | None
    measuring: MeasuringRange = UNKNOWN_RANGE


@dataclass(frozen=True, slots=True)
class KnownCartridge:
    """A cartridge that the person has read; a coefficient of None = the default applies.

    Args:
        verified: whether its signature or the factory's registry verifies it. If not, it has no coefficients, and results are unverified.
    """

    cartridge_uid: str
    type: KnownType
    alpha: float | None
    temp_coefficient: float | None
    humidity_coefficient: float | None
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a person may use a cartridge now.

    Args:
        refusal: why not (`CARTRIDGE_EXPIRED`); None when they may.
        message: the same for people, in the caller's language.
        required_channels: of its frames, by its tag or else its type; None = not known.
    """

    refusal: str | None = None
    message: str = ""
    required_channels: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class KnownCalibration:
    """A calibration in force; see `correction` for what its numbers mean.

    Args:
        type: the cartridge type as it is in the calibration's unit; None when the unit is not known.
    """

    alpha: float | None
    temp_coefficient: float
    humidity_coefficient: float
    gains: FloatArray
    offsets: FloatArray
    type: KnownType | None


class Hardware(Protocol):
    """Readers, cartridges and calibrations, as the group that owns them answers.

    Every method raises `Unavailable` or `TimedOut` when it does not answer. None means that it does not know.
    """

    async def device(self, device_id: str) -> KnownDevice | None: ...

    async def cartridge(self, cartridge_uid: str, *, user_id: str) -> KnownCartridge | None:
        """The cartridge as this person has read it."""
        ...

    async def permission(
        self, *, user_id: str, cartridge_uid: str, category_code: int, type_index: int
    ) -> Permission: ...

    async def calibration(self, *, device_id: str, category_code: int, type_index: int) -> KnownCalibration | None: ...

    async def record_use(
        self, *, user_id: str, session_id: str, cartridge_uid: str, category_code: int, type_index: int
    ) -> None:
        """Take one use off the cartridge; repeating it for the same session takes nothing more.

        Raises:
            AppError: the cartridge is expired or used up.
        """
        ...


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One row of frames to write."""

    session_id: str
    measured_at: datetime
    received_at: datetime
    sequence: int
    sealed: bytes
    chain_hash: bytes


class Refusal(StrEnum):
    """Why the frames of a session were not written."""

    BUSY = "busy"  # its row is locked (it is being ended, or taken over): try again soon
    SUPERSEDED = "superseded"  # a newer stream holds the lease
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class SealedFrame:
    """A stored frame as it lies in the database."""

    session_id: str
    measured_at: datetime
    sequence: int
    sealed: bytes


class FrameStore(Protocol):
    """Writes batches of frames durably."""

    async def write(
        self, leases: Mapping[str, int], records: Mapping[str, Sequence[FrameRecord]]
    ) -> Mapping[str, Refusal]:
        """Write the frames of several sessions in one transaction, durably, and answer who was refused.

        Args:
            leases: by session, the lease that its writer holds.
            records: by session, its frames in order of their sequence.

        Raises:
            FramesNotStored: the database does not answer. Nothing can be said about what was written.
            BatchRejected: the database refuses a row; nothing was written.
        """
        ...

    async def find(self, wanted: Sequence[tuple[str, datetime]]) -> Sequence[SealedFrame]:
        """The stored frames among (session, measured_at), in any order.

        Raises:
            FramesNotStored: the database does not answer.
        """
        ...


class BatchRejected(Exception):
    """The database refused a row of a batch; nothing of the batch was written."""


class FingerprintIndex(Protocol):
    """Finds sessions by the angle between their fingerprints."""

    async def add(
        self, session: AsyncSession, *, session_id: str, user_id: str, channels: int, fingerprint: Fingerprints
    ) -> None:
        """Store the fingerprint (unit norm, shape (dimension,)) of a session; once per session."""
        ...

    async def nearest(
        self, session: AsyncSession, *, session_id: str, user_id: str, limit: int
    ) -> Sequence[Similar] | None:
        """The person's other sessions nearest to one of theirs, nearest first; None when it has no fingerprint."""
        ...


class Transactions(Protocol):
    """Opens transactions, for the one command that needs two (`start.py`): each commits at the end of its block."""

    def __call__(self) -> AbstractAsyncContextManager[AsyncSession]: ...
