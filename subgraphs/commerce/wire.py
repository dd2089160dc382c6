"""What the group's servicers share about protobuf."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(at: datetime) -> Timestamp:
    """A time with its zone as protobuf carries it (UTC)."""
    message = Timestamp()
    message.FromDatetime(at)
    return message
