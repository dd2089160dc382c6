"""Frames as messages of the wire contract."""

from google.protobuf.timestamp_pb2 import Timestamp
from manpasik.v1 import measurement_pb2

from devices.frame import RawFrame


def to_measurement_data(session_id: str, frame: RawFrame) -> measurement_pb2.MeasurementData:
    """The frame as `StreamMeasurement` takes it. Equal frames give equal messages, so a resent one is recognised."""
    seconds, micros = divmod(frame.timestamp_us, 1_000_000)
    return measurement_pb2.MeasurementData(
        session_id=session_id,
        raw_channels=frame.raw_channels.tolist(),
        differential=measurement_pb2.DifferentialCorrection(
            s_det=frame.s_det,
            s_ref=frame.s_ref,
            alpha=frame.alpha,
            s_corrected=frame.s_det - frame.alpha * frame.s_ref,
        ),
        env_meta=measurement_pb2.EnvironmentMeta(
            temp_c=frame.temp_c, humidity_pct=frame.humidity_pct, pressure_kpa=frame.pressure_kpa
        ),
        timestamp=Timestamp(seconds=seconds, nanos=micros * 1000),
    )


def timestamp_us_of(message: measurement_pb2.MeasurementData) -> int:
    """Microseconds since the epoch at which the frame was taken."""
    return message.timestamp.seconds * 1_000_000 + message.timestamp.nanos // 1000
