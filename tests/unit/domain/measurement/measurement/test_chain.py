"""The hash chain of frames, and the bytes that it covers."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.measurement.measurement import chain
from domain.measurement.measurement.chain import ChainedFrame
from domain.measurement.measurement.frames import Reading, decode_frame, encode_frame, from_us, to_us

SESSION = "018f0000-0000-7000-8000-000000000009"
contents = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8)


def chained(payloads: list[bytes]) -> list[ChainedFrame]:
    head, frames = chain.genesis(SESSION), []
    for sequence, content in enumerate(payloads, start=1):
        head = chain.link(head, content)
        frames.append(ChainedFrame(sequence, content, head))
    return frames


@given(contents)
def test_an_untouched_chain_holds(payloads: list[bytes]) -> None:
    report = chain.verify(SESSION, chained(payloads))
    assert report.holds
    assert report.frames == len(payloads)


@given(contents, st.data())
def test_the_first_changed_frame_is_named(payloads: list[bytes], data: st.DataObject) -> None:
    frames = chained(payloads)
    position = data.draw(st.integers(0, len(frames) - 1))
    content = frames[position].content
    assert content is not None
    frames[position] = dataclasses.replace(frames[position], content=bytes([content[0] ^ 1]) + content[1:])
    assert chain.verify(SESSION, frames).first_broken == position + 1


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=2, max_size=8, unique=True), st.data())
def test_removing_or_swapping_frames_shows(payloads: list[bytes], data: st.DataObject) -> None:
    frames = chained(payloads)
    position = data.draw(st.integers(0, len(frames) - 2))
    assert chain.verify(SESSION, frames[:position] + frames[position + 1 :]).first_broken == position + 1
    swapped = [*frames]
    swapped[position], swapped[position + 1] = swapped[position + 1], swapped[position]
    assert not chain.verify(SESSION, swapped).holds


def test_frames_of_another_session_do_not_continue_the_chain() -> None:
    assert chain.verify("another", chained([b"a"])).first_broken == 1


def test_a_frame_that_does_not_open_breaks_the_chain() -> None:
    frames = chained([b"a", b"b"])
    frames[1] = dataclasses.replace(frames[1], content=None)
    assert chain.verify(SESSION, frames).first_broken == 2


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(finite, min_size=1, max_size=50),
    st.integers(-(2**62), 2**62),
    st.integers(0, 2**32 - 1),
    finite,
    finite,
    st.floats(0, 1),
)
def test_a_frame_survives_its_encoding_exactly(
    raw: list[float], measured_at_us: int, sequence: int, s_det: float, value: float, trust: float
) -> None:
    reading = Reading(measured_at_us, np.array(raw), s_det, 0.5, 0.9, 25, 50, 101.3, 1.0)
    content = encode_frame(
        reading, sequence=sequence, received_at_us=7, alpha=0.95, primary_value=value, confidence=trust
    )
    frame = decode_frame(content)
    assert np.array_equal(frame.raw, raw)
    assert (frame.measured_at_us, frame.sequence, frame.received_at_us) == (measured_at_us, sequence, 7)
    assert (frame.s_det, frame.s_ref, frame.alpha) == (s_det, 0.5, 0.95)
    assert (frame.primary_value, frame.confidence) == (value, trust)
    for broken in (content[:-1], content + b"\0", b"\7" + content[1:], b""):
        with pytest.raises(ValueError, match="frame"):
            decode_frame(broken)


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_are_exact_to_the_microsecond(moment_us: int) -> None:
    assert to_us(from_us(moment_us)) == moment_us
    assert math.isfinite(moment_us)
