"""Versions of firmware: Semantic Versioning, where readers may leave out the patch number and prefix a `v`.

Source: Semantic Versioning 2.0.0, sections 2, 9, 10 and 11 (precedence).
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Self

from domain.errors import InvalidInput

MAX_LENGTH = 32
_FORMAT = re.compile(
    r"v?(?P<major>0|[1-9][0-9]{0,8})\.(?P<minor>0|[1-9][0-9]{0,8})(?:\.(?P<patch>0|[1-9][0-9]{0,8}))?"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


class FirmwareVersionInvalid(InvalidInput):
    """Not a version such as 1.4.2."""

    reason = "FIRMWARE_VERSION_INVALID"


@total_ordering
@dataclass(frozen=True, slots=True)
class FirmwareVersion:
    """A version; `text` is what was given, and takes no part in comparisons beyond precedence."""

    text: str
    numbers: tuple[int, int, int]
    prerelease: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: FirmwareVersionInvalid: not MAJOR.MINOR[.PATCH][-pre][+build], or longer than 32 characters."""
        found = _FORMAT.match(text) if len(text) <= MAX_LENGTH else None
        if found is None:
            raise FirmwareVersionInvalid(
                f"{text[:MAX_LENGTH]!r} is not a firmware version such as 1.4.2.", field="firmware_version"
            )
        numbers = (int(found["major"]), int(found["minor"]), int(found["patch"] or 0))
        prerelease = tuple(found["pre"].split(".")) if found["pre"] else ()
        return cls(text=text, numbers=numbers, prerelease=prerelease)

    @property
    def _precedence(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
        # A release ranks above its pre-releases; numeric identifiers rank below others and compare as numbers.
        identifiers = tuple((not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in self.prerelease)
        return self.numbers, not self.prerelease, identifiers

    def __lt__(self, other: Self) -> bool:
        return self._precedence < other._precedence

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FirmwareVersion) and self._precedence == other._precedence

    def __hash__(self) -> int:
        return hash(self._precedence)
