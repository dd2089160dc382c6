"""Texts with variables: `{name}` stands for a value, `{{` and `}}` for braces. Nothing else is special.

Not `str.format`: that reaches attributes and items of what it is given, and a format specification such as `{n:>9999999}`
makes megabytes of one value. A value is put in as it is and never read as a template again.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

from domain.operations.notification.errors import InvalidTemplate, TemplateVariableMissing

_PIECE = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]{0,39})\}|[{}]", re.ASCII)
_WHITE = re.compile(r"\s+")


def variables_of(text: str, *, field: str) -> frozenset[str]:
    """The names of the variables in a text.

    Raises:
        InvalidTemplate: a brace that belongs to no variable.
    """
    names = set()
    for piece in _PIECE.finditer(text):
        if piece[1]:
            names.add(piece[1])
        elif piece[0] in ("{", "}"):
            raise InvalidTemplate(
                field,
                f"has a lone {piece[0]} at {piece.start()}: write {{name}} for a variable, {piece[0] * 2} for a brace",
            )
    return frozenset(names)


def render(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables replaced.

    Raises:
        TemplateVariableMissing: naming the first variable that has no value.
    """
    return _replaced(text, values)


def render_line(text: str, values: Mapping[str, str]) -> str:
    """As `render`, on one line: for headlines, which become a mail's subject."""
    return _WHITE.sub(" ", _replaced(text, values)).strip()


def render_url(text: str, values: Mapping[str, str]) -> str:
    """As `render`, with each value percent-encoded, so that it stays within its segment of the path or its parameter."""
    return _replaced(text, {name: quote(value, safe="") for name, value in values.items()})


def _replaced(text: str, values: Mapping[str, str]) -> str:
    def value_of(piece: re.Match[str]) -> str:
        name = piece[1]
        if name is None:
            return piece[0][0]
        if name not in values:
            raise TemplateVariableMissing(name)
        return values[name]

    return _PIECE.sub(value_of, text)
