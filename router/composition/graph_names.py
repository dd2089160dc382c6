"""Subgraph names as values of the `join__Graph` enum."""

import re
from collections.abc import Sequence


def graph_names(subgraphs: Sequence[str]) -> dict[str, str]:
    """Subgraph name to enum value: upper case, `_` for what an enum value cannot hold, numbered where two would meet.

    A sanitized name that already ends in `_1` gets another `_`, so that numbering cannot produce it by accident.
    """
    by_sanitized: dict[str, list[str]] = {}
    for name in subgraphs:
        by_sanitized.setdefault(_sanitized(name), []).append(name)
    return {
        name: sanitized if len(group) == 1 else f"{sanitized}_{number}"
        for sanitized, group in by_sanitized.items()
        for number, name in enumerate(group, start=1)
    }


def _sanitized(name: str) -> str:
    upper = re.sub(r"[^A-Z0-9_]", "_", name.upper())
    if upper[:1].isdigit():
        upper = f"_{upper}"
    return f"{upper}_" if re.search(r"_\d+$", upper) else upper
