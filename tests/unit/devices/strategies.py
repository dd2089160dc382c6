"""Generated tags and frames."""

import datetime as dt

import numpy as np
from hypothesis import strategies as st

from devices.frame import MAX_TIMESTAMP_US, RawFrame
from devices.nfc_tag import TagV2

_finite = st.floats(allow_nan=False, allow_infinity=False)
_finite_f32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
_byte = st.integers(0, 255)
_word = st.integers(0, 65535)


@st.composite
def tags_v2(draw: st.DrawFn) -> TagV2:
    max_uses = draw(_word)
    return TagV2(
        cartridge_uid=draw(st.binary(min_size=8, max_size=8)).hex().upper(),
        category=draw(_byte),
        type_index=draw(_byte),
        legacy_code=draw(_byte),
        lot_id=draw(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8)),
        expires_on=draw(st.dates(min_value=dt.date(1000, 1, 1))),
        remaining_uses=draw(st.integers(0, max_uses)),
        max_uses=max_uses,
        required_channels=draw(st.integers(1, 65535)),
        measurement_s=draw(_byte),
        flags=draw(_byte),
        alpha=draw(_finite),
        temp_coefficient=draw(_finite),
        humidity_coefficient=draw(_finite),
        extended_calibration=draw(st.binary(min_size=16, max_size=200)),
    )


@st.composite
def raw_frames(draw: st.DrawFn, *, f32: bool = False) -> RawFrame:
    return RawFrame(
        timestamp_us=draw(st.integers(0, MAX_TIMESTAMP_US)),
        raw_channels=np.array(draw(st.lists(_finite_f32 if f32 else _finite, min_size=1, max_size=40))),
        s_det=draw(_finite),
        s_ref=draw(_finite),
        alpha=draw(_finite),
        temp_c=draw(_finite_f32),
        humidity_pct=draw(_finite_f32),
        pressure_kpa=draw(_finite_f32),
    )


session_ids = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda value: str(value).upper()),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=32),
)
