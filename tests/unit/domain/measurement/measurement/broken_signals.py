"""Frames of a simulated reader, broken in a way that a test names, and what the platform concludes from them."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from devices.simulator.forward_model import ForwardModel
from domain.measurement.measurement.conclusion import Conclusion, Examination
from domain.measurement.measurement.correction import FloatArray, environment_factor
from domain.measurement.measurement.electrodes import examine
from domain.measurement.measurement.frame_values import Calibrations, signals_of
from domain.measurement.measurement.frames import Reading
from domain.measurement.measurement.quality import MeasuringRange, report

GLUCOSE = MeasuringRange(low=20, high=600, min_confidence=0.5, decimal_places=0)


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """What a reader sends: shape (frames, channels) and (frames,)."""

    raw: FloatArray
    s_ref: FloatArray
    temp_c: FloatArray
    humidity_pct: FloatArray

    def with_raw(self, raw: FloatArray) -> "Raw":
        return replace(self, raw=raw)


Fault = Callable[[Raw, np.random.Generator], Raw]


def sound(given: Raw, _rng: np.random.Generator) -> Raw:
    """Nothing is broken."""
    return given


def conclude(model: ForwardModel, glucose_mg_dl: float, fault: Fault = sound, *, frames: int = 5) -> Conclusion:
    """The conclusion from the frames of one reading, broken before they are sent."""
    taken = model.reader().measure(glucose_mg_dl, dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), frames=frames)
    given = fault(
        Raw(
            np.array([frame.raw_channels for frame in taken]),
            np.array([frame.s_ref for frame in taken]),
            np.array([frame.temp_c for frame in taken]),
            np.array([frame.humidity_pct for frame in taken]),
        ),
        np.random.default_rng([model.seed, 7]),
    )
    known, rows = model.calibration(), len(given.raw)
    readings = [
        Reading(
            measured_at_us=number,
            raw=given.raw[number],
            s_det=0.0,
            s_ref=float(given.s_ref[number]),
            reader_alpha=model.alpha,
            temp_c=float(given.temp_c[number]),
            humidity_pct=float(given.humidity_pct[number]),
            pressure_kpa=101.3,
            env=environment_factor(
                float(given.temp_c[number]),
                float(given.humidity_pct[number]),
                known.temp_coefficient,
                known.humidity_coefficient,
            ),
        )
        for number in range(rows)
    ]
    by = Calibrations(
        alpha=np.full(rows, known.alpha),
        gains=np.tile(known.channel_gains, (rows, 1)),
        offsets=np.tile(known.channel_offsets, (rows, 1)),
        within=[GLUCOSE] * rows,
    )
    examination = Examination(GLUCOSE, known.channel_gains)
    examination.add(examine(signals_of(readings, by)), given.raw)
    return examination.conclude()


def iso_15197_tolerance(glucose_mg_dl: float) -> float:
    """Of a blood-glucose value, mg/dL. Source: ISO 15197:2013, system accuracy (PMC4525642, Table 1)."""
    return max(15.0, 0.15 * glucose_mg_dl)


def is_safe(found: Conclusion, glucose_mg_dl: float) -> bool:
    """Whether what is shown is right, truly beyond the range (within the tolerance), or nothing."""
    tolerance = iso_15197_tolerance(glucose_mg_dl)
    shown = report(found.value, found.confidence, GLUCOSE)
    if shown.value is None:
        return True
    match shown.comparator:
        case "<":
            return glucose_mg_dl - tolerance < shown.value
        case ">":
            return glucose_mg_dl + tolerance > shown.value
        case _:
            return abs(shown.value - glucose_mg_dl) <= tolerance
