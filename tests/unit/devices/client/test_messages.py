from hypothesis import given

from devices.client.messages import timestamp_us_of, to_measurement_data
from devices.frame import RawFrame
from devices.packet import Packet, decode_packet, encode_packet
from tests.unit.devices.client.registered import frames
from tests.unit.devices.strategies import raw_frames


@given(raw_frames())
def test_a_message_carries_the_frame_whole(frame: RawFrame) -> None:
    message = to_measurement_data("s-1", frame)
    assert message.session_id == "s-1"
    assert list(message.raw_channels) == frame.raw_channels.tolist()
    assert timestamp_us_of(message) == frame.timestamp_us
    assert (message.differential.s_det, message.differential.s_ref) == (frame.s_det, frame.s_ref)
    assert message.differential.alpha == frame.alpha
    assert message.env_meta.temp_c == frame.temp_c
    assert message.env_meta.humidity_pct == frame.humidity_pct
    assert message.env_meta.pressure_kpa == frame.pressure_kpa


def test_a_packet_becomes_the_same_message_as_its_frame() -> None:
    packet = decode_packet(encode_packet(Packet("s-1", 0, frames(1)[0])))
    assert to_measurement_data(packet.session_id, packet.frame) == to_measurement_data("s-1", frames(1)[0])


def test_the_reader_states_its_own_correction() -> None:
    assert abs(to_measurement_data("s-1", frames(1)[0]).differential.s_corrected - 1.2226) < 1e-12
