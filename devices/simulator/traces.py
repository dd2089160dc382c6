"""The packaged glucose traces of real people; `devices/simulator/data/README.md` has source and licence.

Timestamps are local wall clock without zone, as published: right for the time of day and for differences within a
trace, useless as instants. A replay therefore gives its frames the time at which it runs.
"""

import csv
import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np

from devices.errors import DeviceError
from devices.frame import FloatArray

_DATA = "devices.simulator.data"


class TraceInvalid(DeviceError):
    """A trace file breaks the format of the data folder."""

    def __init__(self, subject: str, line: int, problem: str) -> None:
        super().__init__(f"trace {subject}, line {line}: {problem}")
        self.subject = subject
        self.line = line
        self.problem = problem


class UnknownSubject(DeviceError):
    """No trace of this subject is packaged."""

    def __init__(self, subject: str, known: Iterable[str]) -> None:
        super().__init__(f"no trace of subject {subject!r}; packaged are {', '.join(known)}")
        self.subject = subject


@dataclass(frozen=True, slots=True)
class GlucoseReading:
    """One reading. ``measured_at`` is local wall clock without zone."""

    measured_at: dt.datetime
    glucose_mg_dl: float


@dataclass(frozen=True, slots=True)
class GlucoseTrace:
    """The readings of one person in order of time."""

    subject: str
    diagnosis: str
    readings: tuple[GlucoseReading, ...]

    @property
    def glucose_mg_dl(self) -> FloatArray:
        """Shape (readings,), mg/dL."""
        return np.array([reading.glucose_mg_dl for reading in self.readings])

    def part(self, start: int, count: int) -> "GlucoseTrace":
        """At most ``count`` readings from position ``start``."""
        return GlucoseTrace(self.subject, self.diagnosis, self.readings[start : start + count])


def parse_trace(subject: str, diagnosis: str, lines: Iterable[str]) -> GlucoseTrace:
    """A trace from CSV lines with the columns ``measured_at`` and ``glucose_mg_dl``; others are ignored.

    Raises:
        TraceInvalid: a column is missing, a value cannot be read, or time does not move forward.
    """
    readings: list[GlucoseReading] = []
    for number, row in enumerate(csv.DictReader(lines), start=2):
        try:
            reading = GlucoseReading(dt.datetime.fromisoformat(row["measured_at"]), float(row["glucose_mg_dl"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TraceInvalid(subject, number, f"cannot be read: {error}") from error
        if reading.measured_at.tzinfo is not None:
            raise TraceInvalid(subject, number, "has a time zone; times are local wall clock")
        if not 0 < reading.glucose_mg_dl < float("inf"):
            raise TraceInvalid(subject, number, f"{reading.glucose_mg_dl} mg/dL is not a glucose value")
        readings.append(reading)
    for number, (before, after) in enumerate(pairwise(readings), start=3):
        if after.measured_at <= before.measured_at:
            raise TraceInvalid(subject, number, "is not later than the line before")
    return GlucoseTrace(subject, diagnosis, tuple(readings))


@cache
def packaged_subjects() -> dict[str, str]:
    """Diagnosis by subject, in the order of the file."""
    with files(_DATA).joinpath("subjects.csv").open(encoding="utf-8") as lines:
        return {row["subject"]: row["diagnosis"] for row in csv.DictReader(lines)}


@cache
def load_trace(subject: str) -> GlucoseTrace:
    """The packaged trace of a subject.

    Raises:
        UnknownSubject: the data folder has no such trace.
    """
    known = packaged_subjects()
    if subject not in known:
        raise UnknownSubject(subject, known)
    with files(_DATA).joinpath(f"{subject}.csv").open(encoding="utf-8") as lines:
        return parse_trace(subject, known[subject], lines)
