import pytest

from devices.simulator.mard import MardUndefined, mard_percent


def test_mard_is_the_mean_of_the_relative_distances_in_percent() -> None:
    assert mard_percent([110.0, 180.0], [100.0, 200.0]) == pytest.approx(10.0)
    assert mard_percent([100.0], [100.0]) == 0.0


@pytest.mark.parametrize(
    ("measured", "reference"),
    [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), ([float("nan")], [1.0]), ([1.0], [0.0]), ([1.0], [-5.0])],
)
def test_pairs_without_a_mard_are_refused(measured: list[float], reference: list[float]) -> None:
    with pytest.raises(MardUndefined):
        mard_percent(measured, reference)
