"""Compares a federated answer with the monolith's where fields fail: nothing differs that no error explains."""

from collections.abc import Sequence
from typing import Any

Path = tuple[str | int, ...]


def differences(answer: Any, expected: Any, errors: Sequence[Path | None], path: Path = ()) -> list[str]:
    """What is wrong with an answer.

    A value of one's own is never replaced by another's: where the answer has a value, the monolith has the same. It may be
    null where the monolith's is not, when an error stands at, above or below that place: a subgraph that cannot answer one
    field of a request may answer none of the others. A field that shows what it was sent (`random_federation`) may show null
    for an input that may be null, when something failed; never for one that may not.
    """
    if isinstance(answer, str) and "!=None" in answer:
        return [f"{path}: computed without what cannot be null: {answer!r}"]
    if answer == expected:
        return []
    if errors and isinstance(answer, str) and ("=None" in answer or "(null)" in answer):
        return []
    if answer is None:
        return [] if any(_concerns(error, path) for error in errors) else [f"{path}: null and no error says why"]
    if isinstance(answer, dict) and isinstance(expected, dict) and list(answer) == list(expected):
        return [each for key in answer for each in differences(answer[key], expected[key], errors, (*path, key))]
    if isinstance(answer, list) and isinstance(expected, list) and len(answer) == len(expected):
        places = enumerate(zip(answer, expected, strict=True))
        return [each for n, (mine, theirs) in places for each in differences(mine, theirs, errors, (*path, n))]
    return [f"{path}: {answer!r} is not {expected!r}"]


def _concerns(error: Path | None, path: Path) -> bool:
    if error is None:
        return True
    # An error of a whole request stands before the first list on its way, where a path has no positions.
    for place in (path, tuple(step for step in path if isinstance(step, str))):
        shorter = min(len(error), len(place))
        if error[:shorter] == place[:shorter]:
            return True
    return False
