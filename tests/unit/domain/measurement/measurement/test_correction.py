"""The arithmetic from raw signals to values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from devices.simulator.forward_model import ForwardModel, replay
from devices.simulator.mard import mard_percent
from devices.simulator.traces import load_trace, packaged_subjects
from domain.measurement.measurement.aggregate import aggregate, weighted_median
from domain.measurement.measurement.correction import FloatArray, calibrate, differential, environment_factor
from domain.measurement.measurement.electrodes import Examined, Fault, Signals, examine
from domain.measurement.measurement.frame_values import Calibrations, compute
from domain.measurement.measurement.frames import Reading
from domain.measurement.measurement.quality import UNKNOWN_RANGE, MeasuringRange

signals = arrays(np.float64, st.tuples(st.integers(1, 4), st.sampled_from([88, 448])), elements=st.floats(-1e6, 1e6))
rates = st.floats(-0.01, 0.01)


def examined(
    values: FloatArray, *, temp: float = 25.0, humidity: float = 50.0, within: MeasuringRange = UNKNOWN_RANGE
) -> Examined:
    """Signals that are their values already: gain 1, offset 0, no background."""
    count = len(values)
    return examine(
        Signals(
            raw=values,
            corrected=values,
            gains=np.ones_like(values),
            offsets=np.zeros_like(values),
            env=np.ones(count),
            temp_c=np.full(count, temp),
            humidity_pct=np.full(count, humidity),
            zero=np.full(count, within.zero),
            implausible=np.full(count, within.implausible),
            scale=np.full(count, within.scale),
            least_error=np.full(count, within.allowed_error(0.0)),
        )
    )


def test_the_example_of_the_contract() -> None:
    assert math.isclose(float(differential(np.float64(1.234), 0.012, 0.95)), 1.2226)  # type: ignore[arg-type]


def test_the_environment_factor_is_one_at_reference_conditions_and_follows_the_formula() -> None:
    assert environment_factor(25, 50, 0.5, 0.5) == 1
    assert math.isclose(environment_factor(30, 60, 0.01, -0.002), 1.05 * 0.98)


@given(signals, st.floats(0.1, 10), st.floats(-1000, 1000), rates, rates, st.floats(0, 50), st.floats(0, 100))
def test_calibration_inverts_the_forward_model(
    true: FloatArray, gain: float, offset: float, k_temp: float, k_humidity: float, temp: float, humidity: float
) -> None:
    env = environment_factor(temp, humidity, k_temp, k_humidity)
    raw = (true - offset) / gain * env + 0.95 * 3.0
    corrected = differential(raw, 3.0, 0.95)
    found = calibrate(corrected, np.full(len(true), env), np.float64(gain), np.float64(offset))  # type: ignore[arg-type]
    assert np.allclose(found, true, rtol=1e-9, atol=1e-5)


@given(signals, st.randoms(use_true_random=False))
def test_the_location_does_not_depend_on_the_order_of_the_channels(values: FloatArray, random: object) -> None:
    order = np.random.default_rng(random.randrange(2**32)).permutation(values.shape[1])  # type: ignore[attr-defined]
    one, other = examined(values), examined(values[:, order])
    assert np.allclose(one.value, other.value, rtol=1e-9, atol=1e-9)
    assert np.array_equal(one.faults[:, order], other.faults)


@given(signals)
def test_the_location_lies_among_the_channels_and_confidence_within_its_bounds(values: FloatArray) -> None:
    found = examined(values)
    assert (found.value >= values.min(axis=1) - 1e-9).all()
    assert (found.value <= values.max(axis=1) + 1e-9).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


@given(st.floats(1, 1000), st.integers(0, 30), st.sampled_from([0.0, -1e4, 1e5]))
def test_a_third_of_wrong_electrodes_hardly_moves_the_location(level: float, wrong: int, wrong_value: float) -> None:
    values = level * (1 + np.random.default_rng(3).normal(0, 0.01, (1, 88)))
    values[0, :wrong] = wrong_value
    assert abs(examined(values).value[0] / level - 1) < 0.02


def test_each_row_is_located_by_itself() -> None:
    values = np.random.default_rng(0).normal(100, 3, (20, 88))
    together = examined(values)
    assert np.array_equal(together.value, [examined(row[np.newaxis, :]).value[0] for row in values])


@pytest.mark.parametrize(
    ("temp", "humidity", "share"),
    [(25, 50, 1), (42.5, 50, 0.75), (5, 50, 2 / 3), (4.9, 50, 0), (45.1, 50, 0), (25, 9, 0), (25, 96, 0)],
)
def test_confidence_falls_with_the_surroundings_and_ends_outside_the_operating_conditions(
    temp: float, humidity: float, share: float
) -> None:
    found = examined(np.full((1, 88), 7.0), temp=temp, humidity=humidity)
    assert math.isclose(found.confidence[0], share)


def test_a_signal_of_zero_is_trusted_not_at_all() -> None:
    found = examined(np.zeros((1, 88)))
    assert found.confidence[0] == 0
    assert (found.faults == Fault.DEAD).all()


def test_confidence_falls_with_dispersion_and_with_failed_electrodes() -> None:
    rng = np.random.default_rng(1)
    trusts = [examined(100 + rng.normal(0, sd, (1, 896))).confidence[0] for sd in (0.1, 5.0, 20.0, 60.0)]
    assert trusts == sorted(trusts, reverse=True)
    dead, spiking = np.full((1, 88), 100.0), np.full((1, 88), 100.0)
    dead[0, :22], spiking[0, :22] = 0, 5_000
    assert math.isclose(examined(dead).confidence[0], 0.7)
    assert math.isclose(examined(spiking).confidence[0], 0.5)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.001, 1)), min_size=1, max_size=30))
def test_the_weighted_median_has_half_of_the_weight_on_either_side(pairs: list[tuple[float, float]]) -> None:
    values, weights = np.array(pairs).T
    middle = weighted_median(values, weights)
    half = weights.sum() / 2 * (1 + 1e-9)
    assert weights[values < middle].sum() <= half
    assert weights[values > middle].sum() <= half


def test_the_aggregate_is_the_plain_median_for_equal_confidence_and_for_none() -> None:
    values = np.array([1.0, 9.0, 2.0, 4.0])
    assert aggregate(values, np.full(4, 0.5)).value == 3.0
    assert aggregate(values, np.zeros(4)).value == 3.0
    with pytest.raises(ValueError, match="frames"):
        aggregate(np.array([]), np.array([]))


@pytest.mark.parametrize("channels", [88, 448, 896, 1792])
@pytest.mark.parametrize(("alpha", "temp", "humidity"), [(0.95, 0.012, 0.001), (0.8, -0.01, 0.004)])
def test_real_glucose_traces_are_recovered_within_five_percent(
    channels: int, alpha: float, temp: float, humidity: float
) -> None:
    model = ForwardModel(
        channels=channels, alpha=alpha, temp_coefficient=temp, humidity_coefficient=humidity, seed=channels
    )
    known = model.calibration()
    trace = load_trace(next(iter(packaged_subjects()))).part(0, 60)
    true, found = [], []
    for glucose, frames in replay(model, trace):
        readings = [
            Reading(
                f.timestamp_us,
                f.raw_channels,
                f.s_det,
                f.s_ref,
                f.alpha,
                f.temp_c,
                f.humidity_pct,
                f.pressure_kpa,
                environment_factor(f.temp_c, f.humidity_pct, known.temp_coefficient, known.humidity_coefficient),
            )
            for f in frames
        ]
        rows = len(readings)
        by = Calibrations(
            alpha=np.full(rows, known.alpha),
            gains=np.tile(known.channel_gains, (rows, 1)),
            offsets=np.tile(known.channel_offsets, (rows, 1)),
            within=[MeasuringRange(20, 600)] * rows,
        )
        results = compute(readings, by, 896)
        true.append(glucose)
        found.append(aggregate(np.array([r[0] for r in results]), np.array([r[1] for r in results])).value)
    assert mard_percent(found, true) < 5.0
