"""The text of `@fromContext(field: "$name { selection }")`."""

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"^[\s,]*\$[\s,]*(?P<context>[A-Za-z_]\w*)(?P<selection>[\s\S]*)$")


@dataclass(frozen=True, slots=True)
class FromContext:
    context: str
    selection: str
    """What follows the name, with its braces."""


def parse_from_context(text: str) -> FromContext | None:
    """The parts, or None where no context is named."""
    match = _PATTERN.match(text)
    return FromContext(match["context"], match["selection"]) if match else None
