"""Strings and lists of strings as SDL."""

import json


def sdl_text(value: str | list[str] | list[list[str]]) -> str:
    """The value as a GraphQL literal. JSON's strings and lists are GraphQL's; letters of any script stay as they are."""
    return json.dumps(value, ensure_ascii=False)
