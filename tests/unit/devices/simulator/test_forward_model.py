import datetime as dt
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from devices.simulator.forward_model import (
    CHANNEL_COUNTS,
    Ambient,
    CalibrationError,
    ForwardModel,
    ForwardModelInvalid,
    Noise,
    replay,
)
from devices.simulator.traces import load_trace, packaged_subjects
from tests.unit.devices.simulator.recovery import recover_mg_dl, recovered_mard

NOON = dt.datetime.fromisoformat("2026-01-01T12:00:00")
SILENT = Noise(
    white_na=0,
    pink_na=0,
    mains_amplitude_na=0,
    spike_probability=0,
    dead_fraction=0,
    strip_cv=0,
    reference_na=0,
    temp_sensor_c=0,
    humidity_sensor_pct=0,
)
EXACT = CalibrationError(alpha=0, common_gain_cv=0, channel_gain_cv=0, channel_offset_mg_dl=0, coefficient_cv=0)


@pytest.mark.parametrize("channels", CHANNEL_COUNTS)
@pytest.mark.parametrize("alpha", [-0.3, 0.0, 0.95, 1.4])
@pytest.mark.parametrize("temp_c", [6.0, 25.0, 44.0])
def test_without_noise_the_inverse_gives_the_glucose_back_exactly(channels: int, alpha: float, temp_c: float) -> None:
    model = ForwardModel(
        channels=channels, alpha=alpha, ambient=Ambient(temp_c=temp_c), noise=SILENT, calibration_error=EXACT, seed=3
    )
    reader = model.reader()
    for hours, glucose in enumerate([40.0, 93.0, 180.0, 400.0]):
        (frame,) = reader.measure(glucose, NOON + dt.timedelta(hours=5 * hours), frames=1)
        got = recover_mg_dl(frame, model.calibration(), model.temp_coefficient, model.humidity_coefficient)
        assert got == pytest.approx(glucose, rel=1e-9)


@pytest.mark.parametrize("subject", packaged_subjects())
def test_mard_stays_under_5_percent_over_the_whole_trace_of_each_subject(subject: str) -> None:
    assert recovered_mard(ForwardModel(seed=11), load_trace(subject)) < 5.0


@pytest.mark.parametrize(
    ("number", "channels", "alpha", "temp_c"),
    [(n, *case) for n, case in enumerate(itertools.product(CHANNEL_COUNTS, [0.5, 0.95, 1.2], [8.0, 23.0, 38.0]))],
)
def test_mard_stays_under_5_percent_for_other_alphas_temperatures_and_channel_counts(
    number: int, channels: int, alpha: float, temp_c: float
) -> None:
    subject = list(packaged_subjects())[number % 3]
    model = ForwardModel(channels=channels, alpha=alpha, ambient=Ambient(temp_c=temp_c), seed=number)
    assert recovered_mard(model, load_trace(subject).part(37 * number, 150)) < 5.0


def test_the_noise_is_felt_so_that_recovery_has_something_to_do() -> None:
    trace = load_trace("2133-018").part(0, 200)
    assert recovered_mard(ForwardModel(seed=1), trace) > 0.5


def test_a_recovery_that_skips_a_step_misses_the_target() -> None:
    # Guards the tests above: were a term of the model idle, leaving its correction out would cost nothing.
    model = ForwardModel(ambient=Ambient(temp_c=38.0), seed=5)
    calibration = model.calibration()
    k = (model.temp_coefficient, model.humidity_coefficient)
    (frame,) = model.reader().measure(100.0, NOON, frames=1)
    assert recover_mg_dl(frame, calibration, *k) == pytest.approx(100.0, rel=0.1)
    assert recover_mg_dl(frame, calibration, 0.0, 0.0) > 110.0
    mean = np.mean(frame.raw_channels) / model.sensitivity_na_per_mg_dl
    assert abs(mean - 100.0) > 10.0


def test_the_reference_electrode_carries_the_drift_that_the_detectors_see() -> None:
    noise = Noise(drift_na_per_h=2.0, dead_fraction=0, spike_probability=0)
    model = ForwardModel(noise=noise, seed=2)
    reader = model.reader()
    (early,) = reader.measure(100.0, NOON, frames=1)
    (late,) = reader.measure(100.0, NOON + dt.timedelta(hours=24), frames=1)
    assert late.s_ref - early.s_ref > 20.0
    k = (model.temp_coefficient, model.humidity_coefficient)
    for frame in (early, late):
        assert recover_mg_dl(frame, model.calibration(), *k) == pytest.approx(100.0, rel=0.1)


def test_s_det_is_the_mean_of_the_sound_electrodes() -> None:
    model = ForwardModel(channels=896, noise=Noise(dead_fraction=0.3, spike_probability=0), seed=9)
    (frame,) = model.reader().measure(150.0, NOON, frames=1)
    dead = model.electrodes().dead
    assert 200 < dead.sum() < 340
    assert frame.s_det == pytest.approx(frame.raw_channels[~dead].mean())
    assert frame.raw_channels[dead].mean() < 0.5 * frame.s_det


def test_equal_seeds_give_equal_frames_and_other_seeds_other_ones() -> None:
    trace = load_trace("2133-015").part(0, 3)
    first, again, other = (list(replay(ForwardModel(seed=seed), trace)) for seed in (4, 4, 5))
    assert first == again
    assert first != other
    assert np.array_equal(
        ForwardModel(seed=4).calibration().channel_gains, ForwardModel(seed=4).calibration().channel_gains
    )


def test_frames_of_a_reading_follow_each_other_at_the_interval() -> None:
    frames = ForwardModel().reader().measure(100.0, NOON, frames=4, frame_interval_s=0.25)
    times = [frame.timestamp_us for frame in frames]
    assert np.diff(times).tolist() == [250_000] * 3


def test_neighbouring_frames_share_low_frequency_noise() -> None:
    noise = Noise(white_na=0, spike_probability=0, dead_fraction=0, mains_amplitude_na=0)
    model = ForwardModel(channels=1792, noise=noise, seed=6)
    first, second, *_, last = (frame.raw_channels for frame in model.reader().measure(100.0, NOON, frames=60))
    assert np.std(first - second) < 0.6 * np.std(first - last)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: ForwardModel(channels=100), "channels"),
        (lambda: ForwardModel(alpha=float("nan")), "alpha"),
        (lambda: ForwardModel(seed=-1), "seed"),
        (lambda: ForwardModel(sensitivity_na_per_mg_dl=0), "sensitivity"),
        (lambda: ForwardModel(temp_coefficient=0.08), "temp_coefficient"),
        (lambda: ForwardModel(noise=Noise(white_na=-1)), "white_na"),
        (lambda: ForwardModel(noise=Noise(dead_fraction=0.5)), "dead_fraction"),
        (lambda: ForwardModel(noise=Noise(pink_correlation=1)), "pink_correlation"),
        (lambda: ForwardModel(ambient=Ambient(temp_c=80)), "temp_c"),
        (lambda: ForwardModel(ambient=Ambient(temp_limits_c=(10, 5))), "temp_limits_c"),
        (lambda: ForwardModel().reader().measure(0.0, NOON), "glucose_mg_dl"),
        (lambda: ForwardModel().reader().measure(90.0, NOON, frames=0), "frames"),
        (lambda: ForwardModel().reader().measure(90.0, NOON, frame_interval_s=0), "frame_interval_s"),
    ],
)
def test_a_parameter_out_of_range_is_named(build: Callable[[], object], named: str) -> None:
    with pytest.raises(ForwardModelInvalid, match=named):
        build()


def test_time_cannot_run_backwards() -> None:
    reader = ForwardModel().reader()
    reader.measure(90.0, NOON)
    with pytest.raises(ForwardModelInvalid, match="before"):
        reader.measure(90.0, NOON - dt.timedelta(minutes=5))
