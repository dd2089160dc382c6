"""From a glucose value to the raw electrode currents of a reader, and what a factory calibration would know of it.

A reader has an array of working electrodes (detectors) and one reference electrode without enzyme. An amperometric
enzyme electrode gives a current proportional to glucose in its working range [1, 2]; the electrode without enzyme sees
the same background (electroactive interference, double layer, electronics) and the same slow drift, which is why it is
subtracted. Units: currents in nanoampere (nA), glucose in mg/dL, temperature in degrees Celsius, humidity in %.

Forward, for glucose g and electrode i:

    env(T, RH)   = (1 + k_T * (T - 25)) * (1 + k_H * (RH - 50))
    s_ref        = background + drift(t) + noise
    s_analyte_i  = (g * (1 + e_strip) - offset_i) / gain_i * env(T, RH)
    raw_i        = s_analyte_i + alpha * s_ref + white_i + pink_i + mains + spike_i        (a living electrode)
    raw_i        = alpha * s_ref + white_i + pink_i + mains + spike_i                      (a dead electrode)
    s_det        = mean of raw_i over electrodes that neither are dead nor spike

Inverse, what the platform does with the frame:

    s_corrected_i = raw_i - alpha * s_ref
    value_i       = gain_i * s_corrected_i / env(T, RH) + offset_i        [mg/dL]
    g_frame       = a robust location (median, trimmed mean) of value_i over the electrodes
    g_session     = median of g_frame over the frames of the session

What the inverse cannot remove, and what therefore makes the error: e_strip (one draw per reading: sample volume,
enzyme load), the errors of the calibration record, the errors of the ambient sensors, mains, and what is left of the
electrode noise after averaging. Dead and spiking electrodes are outliers that only a robust location survives.

The terms: white noise of the amplifier; low-frequency noise of the electrode interface [3] as a first-order
autoregressive process, the form also found for errors of glucose sensors [4]; a small remainder of 60 Hz mains, equal
in all electrodes; drift as a linear trend plus a mean-reverting (Ornstein-Uhlenbeck) walk; ambient temperature and
humidity as a daily wave plus such a walk, bounded. Electrode gains are log-normal and offsets normal around the design.
The default magnitudes are design choices of this simulator, not measurements of a product.

Sources:
    [1] Wang J (2008) Electrochemical glucose biosensors. Chem Rev 108(2): 814-825. doi:10.1021/cr068123a
    [2] Heller A, Feldman B (2008) Electrochemical glucose sensors and their applications in diabetes management.
        Chem Rev 108(7): 2482-2505. doi:10.1021/cr068069y
    [3] Hassibi A, Navid R, Dutton RW, Lee TH (2004) Comprehensive study of noise processes in electrode electrolyte
        interfaces. J Appl Phys 96(2): 1074-1082. doi:10.1063/1.1755429
    [4] Breton M, Kovatchev B (2008) Analysis, modeling, and simulation of the accuracy of continuous glucose sensors.
        J Diabetes Sci Technol 2(5): 853-862. doi:10.1177/193229680800200517
"""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from devices.errors import DeviceError
from devices.frame import FloatArray, RawFrame, to_timestamp_us
from devices.simulator.traces import GlucoseTrace

CHANNEL_COUNTS = (88, 448, 896, 1792)
REFERENCE_TEMP_C = 25.0
REFERENCE_HUMIDITY_PCT = 50.0

_SEA_LEVEL_KPA = 101.325
# Below this the electrode would hardly answer any more, and dividing by env would only blow up the noise.
_MIN_ENV = 0.2


class ForwardModelInvalid(DeviceError):
    """A parameter of the model is out of its range."""

    def __init__(self, parameter: str, value: object, rule: str) -> None:
        super().__init__(f"forward model parameter {parameter} is {value!r}: {rule}")
        self.parameter = parameter
        self.value = value


def env_factor(temp_c: float, humidity_pct: float, k_t: float, k_h: float) -> float:
    """Relative sensitivity at these ambient conditions; 1 at 25 degrees Celsius and 50 % relative humidity."""
    return (1.0 + k_t * (temp_c - REFERENCE_TEMP_C)) * (1.0 + k_h * (humidity_pct - REFERENCE_HUMIDITY_PCT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """The air around the reader: a wave over the day (warmest at 15:00, driest then too) plus a bounded walk."""

    temp_c: float = 23.0
    temp_day_amplitude_c: float = 2.5
    temp_walk_sd_c: float = 1.0
    humidity_pct: float = 45.0
    humidity_day_amplitude_pct: float = 6.0
    humidity_walk_sd_pct: float = 5.0
    walk_time_h: float = 2.0
    temp_limits_c: tuple[float, float] = (5.0, 45.0)
    humidity_limits_pct: tuple[float, float] = (10.0, 95.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Magnitudes of what disturbs a signal. All standard deviations; currents in nA."""

    white_na: float = 0.4
    pink_na: float = 0.3
    pink_correlation: float = 0.9
    mains_amplitude_na: float = 0.05
    spike_probability: float = 0.002
    spike_na: float = 30.0
    dead_fraction: float = 0.01
    strip_cv: float = 0.02
    reference_na: float = 0.02
    drift_na_per_h: float = 0.01
    drift_walk_na: float = 1.0
    drift_time_h: float = 6.0
    temp_sensor_c: float = 0.1
    humidity_sensor_pct: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationError:
    """How far a factory calibration is from the truth. Standard deviations; ``*_cv`` are relative."""

    alpha: float = 0.001
    common_gain_cv: float = 0.005
    channel_gain_cv: float = 0.01
    channel_offset_mg_dl: float = 0.5
    coefficient_cv: float = 0.02


@dataclass(frozen=True, slots=True)
class FactoryCalibration:
    """What the factory records of a device. Arrays of shape (channels,); gains in mg/dL per nA, offsets in mg/dL."""

    alpha: float
    channel_gains: FloatArray
    channel_offsets: FloatArray
    temp_coefficient: float
    humidity_coefficient: float


@dataclass(frozen=True, slots=True)
class Electrodes:
    """The true properties of one reader's array. Shape (channels,) each; gains in mg/dL per nA, offsets in mg/dL."""

    gains: FloatArray
    offsets: FloatArray
    dead: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardModel:
    """One reader with one kind of cartridge. Equal parameters give equal frames: all chance comes from ``seed``.

    Args:
        channels: one of 88, 448, 896, 1792.
        alpha: share of the reference signal that a detector sees.
        temp_coefficient: k_T per degree Celsius. humidity_coefficient: k_H per percent relative humidity.
        sensitivity_na_per_mg_dl: design sensitivity of an electrode; 0.2 nA per mg/dL is 3.6 nA per mmol/L.
        gain_cv, offset_sd_mg_dl: spread between the electrodes of an array.
        background_na: what the reference electrode shows at the start.
    Raises:
        ForwardModelInvalid: a parameter is out of range, or env could fall below 0.2 within the ambient limits.
    """

    channels: int = 88
    alpha: float = 0.95
    temp_coefficient: float = 0.012
    humidity_coefficient: float = 0.001
    sensitivity_na_per_mg_dl: float = 0.2
    gain_cv: float = 0.06
    offset_sd_mg_dl: float = 3.0
    background_na: float = 4.0
    ambient: Ambient = field(default_factory=Ambient)
    noise: Noise = field(default_factory=Noise)
    calibration_error: CalibrationError = field(default_factory=CalibrationError)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.channels not in CHANNEL_COUNTS:
            raise ForwardModelInvalid("channels", self.channels, f"must be one of {CHANNEL_COUNTS}")
        for name in ("alpha", "temp_coefficient", "humidity_coefficient", "background_na"):
            if not math.isfinite(getattr(self, name)):
                raise ForwardModelInvalid(name, getattr(self, name), "must be finite")
        if not 0 < self.sensitivity_na_per_mg_dl < math.inf:
            raise ForwardModelInvalid("sensitivity_na_per_mg_dl", self.sensitivity_na_per_mg_dl, "must be positive")
        for name in ("gain_cv", "offset_sd_mg_dl"):
            _check_not_negative(name, getattr(self, name))
        if self.seed < 0:
            raise ForwardModelInvalid("seed", self.seed, "must not be negative")
        for group in (self.noise, self.calibration_error):
            for parameter in fields(group):
                _check_not_negative(parameter.name, getattr(group, parameter.name))
        _check_noise(self.noise)
        _check_ambient(self.ambient)
        corners = [(t, h) for t in self.ambient.temp_limits_c for h in self.ambient.humidity_limits_pct]
        lowest = min(env_factor(t, h, self.temp_coefficient, self.humidity_coefficient) for t, h in corners)
        if lowest < _MIN_ENV:
            rule = f"env falls to {lowest:.2f} within the ambient limits, must stay above {_MIN_ENV}"
            raise ForwardModelInvalid("temp_coefficient, humidity_coefficient", self._coefficients, rule)

    @property
    def _coefficients(self) -> tuple[float, float]:
        return (self.temp_coefficient, self.humidity_coefficient)

    def electrodes(self) -> Electrodes:
        """The array as it left production; the same at every call."""
        rng = self._rng("electrodes")
        spread = rng.normal(0.0, self.gain_cv, self.channels)
        return Electrodes(
            gains=np.exp(spread) / self.sensitivity_na_per_mg_dl,
            offsets=rng.normal(0.0, self.offset_sd_mg_dl, self.channels),
            dead=rng.random(self.channels) < self.noise.dead_fraction,
        )

    def calibration(self) -> FactoryCalibration:
        """What the factory found for this device; the same at every call.

        Electrodes that die later were alive then, so the record shows nothing of them.
        """
        rng = self._rng("calibration")
        error = self.calibration_error
        electrodes = self.electrodes()
        common = 1.0 + rng.normal(0.0, error.common_gain_cv)
        return FactoryCalibration(
            alpha=self.alpha + float(rng.normal(0.0, error.alpha)),
            channel_gains=electrodes.gains * common * (1.0 + rng.normal(0.0, error.channel_gain_cv, self.channels)),
            channel_offsets=electrodes.offsets + rng.normal(0.0, error.channel_offset_mg_dl, self.channels),
            temp_coefficient=self.temp_coefficient * (1.0 + float(rng.normal(0.0, error.coefficient_cv))),
            humidity_coefficient=self.humidity_coefficient * (1.0 + float(rng.normal(0.0, error.coefficient_cv))),
        )

    def reader(self) -> "SimulatedReader":
        """A freshly switched-on reader; two of them give the same frames for the same readings."""
        return SimulatedReader(self, self._rng("signal"))

    def _rng(self, purpose: str) -> np.random.Generator:
        # Separate streams: a change in how frames are drawn must not change the device that draws them.
        return np.random.default_rng([self.seed, *purpose.encode()])


class SimulatedReader:
    """The electronics of one reader over time: carries drift, ambient walk and electrode noise between readings."""

    def __init__(self, model: ForwardModel, rng: np.random.Generator) -> None:
        self._model = model
        self._rng = rng
        self._electrodes = model.electrodes()
        self._pink = rng.normal(0.0, model.noise.pink_na, model.channels)
        # Stationary walks in units of their standard deviation: temperature, humidity, drift.
        self._walks = rng.standard_normal(3)
        self._started_at: dt.datetime | None = None
        self._now: dt.datetime | None = None

    def measure(
        self, glucose_mg_dl: float, at: dt.datetime, *, frames: int = 5, frame_interval_s: float = 1.0
    ) -> list[RawFrame]:
        """The frames of one reading, the first taken at ``at``.

        Args:
            glucose_mg_dl: the true value, held through the reading.
            at: naive (local wall clock) or with zone; decides the time of day and how far drift has come. A naive
                time is stamped on the frames as if it were UTC.
        Raises:
            ForwardModelInvalid: glucose is not positive, no frames are asked for, or time runs backwards.
        """
        if not 0 < glucose_mg_dl < math.inf:
            raise ForwardModelInvalid("glucose_mg_dl", glucose_mg_dl, "must be positive")
        if frames < 1:
            raise ForwardModelInvalid("frames", frames, "must be at least 1")
        if frame_interval_s < 1e-6:
            raise ForwardModelInvalid("frame_interval_s", frame_interval_s, "must be at least a microsecond")
        if self._now is not None and at < self._now:
            raise ForwardModelInvalid("at", at, f"must not be before {self._now}")
        if self._started_at is None:
            self._started_at = at
        applied_mg_dl = glucose_mg_dl * (1.0 + float(self._rng.normal(0.0, self._model.noise.strip_cv)))
        interval = dt.timedelta(seconds=frame_interval_s)
        return [self._frame(applied_mg_dl, at + number * interval) for number in range(frames)]

    def _frame(self, applied_mg_dl: float, at: dt.datetime) -> RawFrame:
        model, noise, rng, electrodes = self._model, self._model.noise, self._rng, self._electrodes
        self._advance(at)
        temp_c, humidity_pct = self._ambient(at)
        env = env_factor(temp_c, humidity_pct, model.temp_coefficient, model.humidity_coefficient)
        s_ref = model.background_na + self._drift_na(at)
        analyte = np.where(electrodes.dead, 0.0, (applied_mg_dl - electrodes.offsets) / electrodes.gains * env)
        # Mains is not locked to the frame clock, so every frame catches it at another phase.
        mains = noise.mains_amplitude_na * math.sin(2.0 * math.pi * rng.random())
        spiking = rng.random(model.channels) < noise.spike_probability
        spikes = np.where(spiking, rng.normal(0.0, noise.spike_na, model.channels), 0.0)
        white = rng.normal(0.0, noise.white_na, model.channels)
        raw = analyte + model.alpha * s_ref + white + self._pink + mains + spikes
        sound = ~(electrodes.dead | spiking)
        return RawFrame(
            timestamp_us=to_timestamp_us(at if at.tzinfo else at.replace(tzinfo=dt.UTC)),
            raw_channels=raw,
            s_det=float(raw[sound].mean()) if sound.any() else float(np.median(raw)),
            s_ref=s_ref + float(rng.normal(0.0, noise.reference_na)),
            alpha=model.alpha,
            temp_c=temp_c + float(rng.normal(0.0, noise.temp_sensor_c)),
            humidity_pct=min(100.0, max(0.0, humidity_pct + float(rng.normal(0.0, noise.humidity_sensor_pct)))),
            pressure_kpa=_SEA_LEVEL_KPA,
        )

    def _advance(self, at: dt.datetime) -> None:
        """Move the slow processes to ``at``; exact for any step, so gaps in a trace cost nothing."""
        elapsed_h = 0.0 if self._now is None else (at - self._now).total_seconds() / 3600.0
        self._now = at
        ambient, noise = self._model.ambient, self._model.noise
        times_h = np.array([ambient.walk_time_h, ambient.walk_time_h, noise.drift_time_h])
        kept = np.exp(-elapsed_h / times_h)
        self._walks = kept * self._walks + np.sqrt(1.0 - kept**2) * self._rng.standard_normal(3)
        fresh = self._rng.normal(0.0, noise.pink_na, self._model.channels)
        self._pink = noise.pink_correlation * self._pink + math.sqrt(1.0 - noise.pink_correlation**2) * fresh

    def _ambient(self, at: dt.datetime) -> tuple[float, float]:
        ambient = self._model.ambient
        hour = at.hour + at.minute / 60.0 + at.second / 3600.0
        wave = math.cos(2.0 * math.pi * (hour - 15.0) / 24.0)
        temp = ambient.temp_c + ambient.temp_day_amplitude_c * wave + ambient.temp_walk_sd_c * self._walks[0]
        humidity = (
            ambient.humidity_pct
            - ambient.humidity_day_amplitude_pct * wave
            + ambient.humidity_walk_sd_pct * self._walks[1]
        )
        return _clip(temp, ambient.temp_limits_c), _clip(humidity, ambient.humidity_limits_pct)

    def _drift_na(self, at: dt.datetime) -> float:
        noise = self._model.noise
        # The trend levels off after a day of use: an array that went on for a year of a trace would leave its range.
        hours = 24.0 * math.tanh((at - (self._started_at or at)).total_seconds() / 86_400.0)
        return noise.drift_na_per_h * hours + noise.drift_walk_na * float(self._walks[2])


def replay(
    model: ForwardModel, trace: GlucoseTrace, *, frames_per_reading: int = 5, frame_interval_s: float = 1.0
) -> Iterator[tuple[float, list[RawFrame]]]:
    """For each reading of a trace, in order: the true value in mg/dL and its frames."""
    reader = model.reader()
    for reading in trace.readings:
        frames = reader.measure(
            reading.glucose_mg_dl, reading.measured_at, frames=frames_per_reading, frame_interval_s=frame_interval_s
        )
        yield reading.glucose_mg_dl, frames


def _clip(value: float, limits: tuple[float, float]) -> float:
    return float(min(limits[1], max(limits[0], value)))


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ForwardModelInvalid(name, value, "must be finite and not negative")


def _check_noise(noise: Noise) -> None:
    for name in ("spike_probability", "dead_fraction"):
        if getattr(noise, name) >= 0.5:
            raise ForwardModelInvalid(name, getattr(noise, name), "must be below 0.5, or no robust location survives")
    if noise.pink_correlation >= 1:
        raise ForwardModelInvalid("pink_correlation", noise.pink_correlation, "must be below 1")
    if noise.drift_time_h == 0:
        raise ForwardModelInvalid("drift_time_h", noise.drift_time_h, "must be positive")


def _check_ambient(ambient: Ambient) -> None:
    for parameter in fields(ambient):
        values = np.atleast_1d(getattr(ambient, parameter.name))
        if not np.isfinite(values).all():
            raise ForwardModelInvalid(parameter.name, getattr(ambient, parameter.name), "must be finite")
    if ambient.walk_time_h <= 0:
        raise ForwardModelInvalid("walk_time_h", ambient.walk_time_h, "must be positive")
    for name in ("temp_limits_c", "humidity_limits_pct"):
        low, high = getattr(ambient, name)
        if low >= high:
            raise ForwardModelInvalid(name, (low, high), "must be (low, high)")
    # The walk is clipped to the limits; a mean outside would silently become a limit.
    for name, limits in (("temp_c", ambient.temp_limits_c), ("humidity_pct", ambient.humidity_limits_pct)):
        if not limits[0] <= getattr(ambient, name) <= limits[1]:
            raise ForwardModelInvalid(name, getattr(ambient, name), f"must be within {limits}")
