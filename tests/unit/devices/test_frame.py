import datetime as dt

import numpy as np
import pytest

from devices.errors import FrameInvalid
from devices.frame import FloatArray, RawFrame, to_timestamp_us


def _frame(channels: FloatArray, *, timestamp_us: int = 0, s_ref: float = 0.0) -> RawFrame:
    return RawFrame(
        timestamp_us=timestamp_us,
        raw_channels=channels,
        s_det=1.0,
        s_ref=s_ref,
        alpha=0.95,
        temp_c=25.0,
        humidity_pct=50.0,
        pressure_kpa=101.3,
    )


def test_a_frame_keeps_its_channels_when_the_caller_reuses_the_buffer() -> None:
    buffer = np.ones(88)
    frame = _frame(buffer)
    buffer[:] = 0
    assert frame.raw_channels.sum() == 88
    with pytest.raises(ValueError, match="read-only"):
        frame.raw_channels[0] = 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    channels = np.ones(88)
    channels[17] = bad
    with pytest.raises(FrameInvalid, match=r"raw_channels\[17\]"):
        _frame(channels)
    with pytest.raises(FrameInvalid, match="s_ref"):
        _frame(np.ones(88), s_ref=bad)


@pytest.mark.parametrize("channels", [np.ones(0), np.ones((2, 44)), np.ones(65536)])
def test_channels_must_be_one_row_of_a_possible_length(channels: FloatArray) -> None:
    with pytest.raises(FrameInvalid, match="raw_channels"):
        _frame(channels)


def test_times_are_exact_to_the_microsecond() -> None:
    moment = dt.datetime(2026, 11, 22, 22, 31, 58, 123457, tzinfo=dt.timezone(dt.timedelta(hours=9)))
    assert _frame(np.ones(1), timestamp_us=to_timestamp_us(moment)).taken_at == moment
    with pytest.raises(FrameInvalid, match="timestamp_us"):
        _frame(np.ones(1), timestamp_us=-1)
