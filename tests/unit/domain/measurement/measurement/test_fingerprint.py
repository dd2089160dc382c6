"""Fingerprints: unit vectors of one dimension from any width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from domain.measurement.measurement.correction import FloatArray
from domain.measurement.measurement.fingerprint import fingerprints, mean_direction

signals = arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.sampled_from([88, 448, 896, 1792])),
    elements=st.floats(-1e300, 1e300, allow_subnormal=False),
)


@given(signals, st.sampled_from([88, 128, 896]))
def test_every_fingerprint_has_length_one_or_is_zero_for_a_signal_of_zeros(corrected: FloatArray, dim: int) -> None:
    found = fingerprints(corrected, dim)
    assert found.shape == (len(corrected), dim)
    assert found.dtype == np.float32
    norms = np.linalg.norm(found.astype(np.float64), axis=1)
    assert all(norm == 0 or abs(norm - 1) < 1e-5 for norm in norms)


@given(st.floats(1e-6, 1e6))
def test_the_strength_of_a_signal_does_not_matter(strength: float) -> None:
    raw = np.random.default_rng(0).normal(0, 1, (2, 448))
    assert np.allclose(fingerprints(raw * strength, 896), fingerprints(raw, 896), atol=1e-6)


def test_few_channels_are_padded_and_many_are_averaged_in_neighbouring_pairs() -> None:
    narrow = fingerprints(np.full((1, 88), 3.0), 896)[0]
    assert np.allclose(narrow[:88], 1 / np.sqrt(88))
    assert not narrow[88:].any()
    wide = np.tile([1.0, 3.0], 896)[np.newaxis, :]
    assert np.allclose(fingerprints(wide, 896)[0], 1 / np.sqrt(896))
    assert np.allclose(fingerprints(np.tile([1.0, -1.0], 896)[np.newaxis, :], 896), 0)


@pytest.mark.parametrize("channels", [88, 1792])
def test_a_signal_of_zeros_gives_the_zero_vector(channels: int) -> None:
    assert not fingerprints(np.zeros((1, channels)), 896).any()
    assert not mean_direction(np.zeros(896)).any()


def test_each_row_is_a_fingerprint_by_itself() -> None:
    raw = np.random.default_rng(2).normal(0, 1, (5, 1792))
    assert np.array_equal(fingerprints(raw, 896), np.vstack([fingerprints(row[np.newaxis], 896) for row in raw]))
