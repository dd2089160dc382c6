"""The line through reference points: exact where the points lie on one, and honest where they do not."""

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.hardware.calibration.least_squares import MAX_RESIDUAL_SHARE, MIN_R2, fit_line

VALUES = st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 3)), min_size=3, max_size=30, unique=True)
NOISY = st.lists(
    st.tuples(st.floats(0, 500).map(lambda v: round(v, 2)), st.floats(0, 500).map(lambda v: round(v, 2))),
    min_size=3,
    max_size=30,
)


def varied(points: list[tuple[float, float]]) -> bool:
    return len({m for m, _ in points}) > 1 and len({r for _, r in points}) > 1


@given(VALUES, st.floats(0.05, 20), st.floats(-1e3, 1e3))
def test_points_on_a_line_give_that_line(measured: list[float], gain: float, offset: float) -> None:
    line = fit_line(measured, [gain * m + offset for m in measured])
    scale = max(abs(m) for m in measured) * gain + abs(offset)
    assert math.isclose(line.gain, gain, rel_tol=1e-5)
    assert math.isclose(line.offset, offset, rel_tol=1e-5, abs_tol=1e-6 * scale)
    assert line.r_squared > 0.999999
    assert line.objection() is None


@given(NOISY, st.randoms())
def test_the_order_of_the_points_does_not_matter(points: list[tuple[float, float]], shuffler: random.Random) -> None:
    assume(varied(points))
    shuffled = list(points)
    shuffler.shuffle(shuffled)
    one, other = (fit_line([m for m, _ in p], [r for _, r in p]) for p in (points, shuffled))
    assert math.isclose(one.gain, other.gain, rel_tol=1e-7, abs_tol=1e-7)
    assert math.isclose(one.r_squared, other.r_squared, rel_tol=1e-7, abs_tol=1e-7)


@given(NOISY, st.floats(0.01, 1), st.floats(-5, 5))
def test_no_other_line_has_a_smaller_sum_of_squares(
    points: list[tuple[float, float]], gain_change: float, offset_change: float
) -> None:
    assume(varied(points))
    line = fit_line([m for m, _ in points], [r for _, r in points])

    def loss(gain: float, offset: float) -> float:
        return sum((r - gain * m - offset) ** 2 for m, r in points)

    best = loss(line.gain, line.offset)
    tolerance = 1e-6 * (1 + best)
    assert best <= loss(line.gain + gain_change, line.offset + offset_change) + tolerance
    assert best <= loss(line.gain - gain_change, line.offset + offset_change) + tolerance


@given(NOISY, st.floats(0.5, 100))
def test_another_unit_of_the_references_scales_the_line_and_leaves_the_verdict(
    points: list[tuple[float, float]], factor: float
) -> None:
    assume(varied(points))
    measured, reference = [m for m, _ in points], [r for _, r in points]
    line, scaled = fit_line(measured, reference), fit_line(measured, [factor * r for r in reference])
    assert math.isclose(scaled.gain, factor * line.gain, rel_tol=1e-7, abs_tol=1e-7)
    assert math.isclose(scaled.residual_share, line.residual_share, rel_tol=1e-6, abs_tol=1e-9)
    assert 0 <= line.r_squared <= 1


def test_the_figures_are_those_of_a_textbook_example() -> None:
    # Anscombe (1973), first data set: y = 3.00 + 0.500 x, R2 = 0.67 (American Statistician 27: 17-21).
    x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    line = fit_line(x, y)
    assert (round(line.offset, 2), round(line.gain, 3), round(line.r_squared, 2)) == (3.00, 0.500, 0.67)
    assert line.objection() == "R2 is 0.6665; at least 0.95 is needed."


def test_a_stray_point_is_refused_although_r2_is_high() -> None:
    measured = [float(v) for v in range(0, 400, 10)]
    reference = list(measured)
    reference[20] += 45.0
    line = fit_line(measured, reference)
    assert line.r_squared > MIN_R2
    assert line.residual_share > MAX_RESIDUAL_SHARE
    assert "largest residual" in (line.objection() or "")


def test_a_reader_that_shows_less_where_there_is_more_is_refused() -> None:
    assert "gain" in (fit_line([3.0, 2.0, 1.0], [1.0, 2.0, 3.0]).objection() or "")


@pytest.mark.parametrize(
    ("measured", "reference"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 2.0, 3.0], [1.0, 2.0]),
        ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [1.0, math.inf, 3.0]),
        ([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]),
        ([1e308, -1e308, 0.0], [1.0, 2.0, 3.0]),
    ],
)
def test_points_without_a_line_are_refused(measured: list[float], reference: list[float]) -> None:
    with pytest.raises(ValueError, match=r"points|values|finite"):
        fit_line(measured, reference)
