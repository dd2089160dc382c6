"""Messages that nobody sends in good faith, made from descriptors; the same ones for the same seed."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

TEXTS = (
    "",
    "\0",
    "a\0b",
    "x" * 100_000,
    "'; DROP TABLE devices; --",
    "../../etc/passwd",
    "%s%n{0}",
    "\u202e\ufeff\u0000",
    "👩‍⚕️" * 50,
    "9999-12-31",
    "0001-01-01",
    "2026-02-30",
    "-1",
    "NaN",
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "1.0.0",
    "online",
    "Aa1!aaaa",
    "somebody@e2e.example",
)
DOUBLES = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1.7e308, -1.7e308, 5e-324, 0.95, 25.0)
_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_LENGTHS = (0, 1, 1, 2, 3, 4, 88)


class Garbage:
    """Fills messages with values at and beyond the edges.

    Args:
        known: what is there, such as a device's id, by the name of the field that takes it. It is used half of the time,
            so that a call gets past the first check and the other fields are looked at too.
    """

    def __init__(self, seed: int, known: Mapping[str, Sequence[object]]) -> None:
        self._random = random.Random(seed)
        self._known = known

    def fill(self, message: Message) -> None:
        """Set most of the fields, one of a oneof at most."""
        for field in message.DESCRIPTOR.fields:
            if self._random.random() < 0.25:
                continue
            if field.is_repeated:
                values = [self._value(field) for _ in range(self._random.choice(_LENGTHS))]
                target = getattr(message, field.name)
                if field.message_type is not None and field.message_type.GetOptions().map_entry:
                    continue
                for value in values:
                    if field.message_type is not None:
                        self.fill(target.add())
                    else:
                        target.append(value)
            elif field.message_type is not None:
                self._fill_one(message, field)
            else:
                setattr(message, field.name, self._value(field))

    def _fill_one(self, message: Message, field: Any) -> None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        if field.message_type.full_name == "google.protobuf.Timestamp":
            inner.seconds = self._random.choice((0, -1, 2**63 - 1, -(2**63), 253402300800, 4102444800, 1767225600))
            inner.nanos = self._random.choice((0, -1, 999_999_999, 2**31 - 1))
        else:
            self.fill(inner)

    def _value(self, field: Any) -> Any:
        known = self._known.get(field.name)
        if known and self._random.random() < 0.5:
            return self._random.choice(known)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.bytes()
        return self._maker(field.cpp_type)()

    def _maker(self, kind: int) -> Callable[[], Any]:
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return lambda: self._random.choice(DOUBLES)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return lambda: self._random.random() < 0.5
        if kind in _LIMITS:
            low, high = _LIMITS[kind]
            return lambda: self._random.choice((low, high, 0, 1, 2, 3, 10, 255, 256))
        return lambda: self._random.choice(TEXTS)

    def bytes(self) -> bytes:
        """Bytes that may or may not be a message."""
        return self._random.randbytes(self._random.choice((1, 2, 7, 80, 1000)))
