"""Bounds that every protobuf message from outside meets before anything else looks at it: texts, lists, numbers and times.

They are the widest that any field of the platform needs. A command has narrower ones of its own (`domain/validation.py`); these
hold for every field of every method, those of services to come included, so that no rule has to read megabytes to refuse them.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from domain.errors import InvalidInput
from domain.validation import NumberOutOfRange, TextTooLong, TooManyItems

MAX_TEXT = 5_000
"""Characters of a text: the longest field of the platform, the body of a notification, has 4,000."""

MAX_TOKEN = 16_384
MAX_ITEMS = 2_048
"""Entries of a list: a frame of the largest fingerprint has 1,792 channels."""

MAX_ENTRIES = 256
"""Entries of a map."""

MAX_NESTED = 8
"""Levels of messages within messages."""

_LONGER_TEXTS: Mapping[str, int] = {
    "id_token": MAX_TOKEN,
    "access_token": MAX_TOKEN,
    "refresh_token": MAX_TOKEN,
}
"""Tokens of identity providers carry claims, and their length is not ours to decide."""

_TIMESTAMP = "google.protobuf.Timestamp"
_DAY_S = 86_400
_FIRST_S = -62_135_596_800 + _DAY_S  # 0001-01-02: every zone still has a date for it
_LAST_S = 253_402_300_799 - _DAY_S  # 9999-12-30

Check = Callable[[Any, str, int], None]


class TimeOutOfRange(InvalidInput):
    """A time lies outside of the years 1 to 9999, or its fraction of a second is none."""

    reason = "TIME_OUT_OF_RANGE"


class NestedTooDeep(InvalidInput):
    """Values within values, deeper than any that the platform takes."""

    reason = "NESTED_TOO_DEEP"


def check_message(message: Message) -> None:
    """Raises: InvalidInput: the first field of the message, or of one within it, that is out of bounds."""
    _check(message, "", MAX_NESTED)


def check_text(value: str, field: str, limit: int = MAX_TEXT) -> None:
    """Raises: TextTooLong: more than `limit` characters."""
    if len(value) > limit:
        raise TextTooLong(field, f"has {len(value)} characters; at most {limit} are taken")


def check_count(count: int, field: str, limit: int = MAX_ITEMS) -> None:
    """Raises: TooManyItems: more than `limit` entries."""
    if count > limit:
        raise TooManyItems(field, f"has {count} entries; at most {limit} are taken")


def check_finite(value: float, field: str) -> None:
    """Raises: NumberOutOfRange: not a number, or infinite."""
    if not math.isfinite(value):
        raise NumberOutOfRange(field, "must be a finite number")


def limit_of(field: str) -> int:
    """How many characters a text may have, by the name of its field in snake case."""
    return _LONGER_TEXTS.get(field, MAX_TEXT)


def _check(message: Message, path: str, levels: int) -> None:
    if levels == 0:
        raise NestedTooDeep(f"{path.rstrip('.')} is nested too deep.", field=path.rstrip("."))
    descriptor = message.DESCRIPTOR
    if descriptor.full_name == _TIMESTAMP:
        _check_time(message, path.rstrip("."))
        return
    for name, check in _checks_of(descriptor):
        check(message, path + name, levels)


def _check_time(timestamp: Any, path: str) -> None:
    if not _FIRST_S <= timestamp.seconds <= _LAST_S or not 0 <= timestamp.nanos < 1_000_000_000:
        raise TimeOutOfRange(f"{path} is not a time within the years 1 to 9999.", field=path)


@cache
def _checks_of(descriptor: Descriptor) -> tuple[tuple[str, Check], ...]:
    """What is to be checked of messages of a type, by field: fields that cannot be out of bounds are left out."""
    found = ((field.name, _check_of(field)) for field in descriptor.fields)
    return tuple((name, check) for name, check in found if check is not None)


def _check_of(field: FieldDescriptor) -> Check | None:
    name = field.name
    one = _check_of_value(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_check(name, _check_of_value(field.message_type.fields_by_name["value"]))
    if field.is_repeated:
        return _list_check(name, one)
    if one is None:
        return None
    if field.message_type is not None:

        def nested(message: Any, path: str, levels: int) -> None:
            if message.HasField(name):
                one(getattr(message, name), path, levels)

        return nested

    def single(message: Any, path: str, levels: int) -> None:
        one(getattr(message, name), path, levels)

    return single


def _check_of_value(field: FieldDescriptor) -> Check | None:
    """The check of one value of a field's type; None where every value of the type is within bounds."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        # The length of bytes is bounded by their message; those of a field are its command's to bound.
        limit = limit_of(field.name)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return None
        return lambda value, path, _: check_text(value, path, limit)
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return lambda value, path, _: check_finite(value, path)
    if field.message_type is not None:
        return lambda value, path, levels: _check(value, path + ".", levels - 1)
    return None


def _list_check(name: str, one: Check | None) -> Check:
    def listed(message: Any, path: str, levels: int) -> None:
        values = getattr(message, name)
        check_count(len(values), path)
        if one is not None:
            _each(values, one, path, levels)

    return listed


def _map_check(name: str, one: Check | None) -> Check:
    def mapped(message: Any, path: str, levels: int) -> None:
        values = getattr(message, name)
        check_count(len(values), path, MAX_ENTRIES)
        _each((key for key in values if isinstance(key, str)), lambda key, at, _: check_text(key, at), path, levels)
        if one is not None:
            _each(values.values(), one, path, levels)

    return mapped


def _each(values: Iterable[Any], one: Check, path: str, levels: int) -> None:
    for value in values:
        one(value, path, levels)
