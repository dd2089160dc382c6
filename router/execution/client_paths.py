"""From places in the answer tree to places in the client's answer.

The tree holds some fields under other keys than the client's, and keys or required fields that the client never asked for.
"""

from collections.abc import Iterator, Mapping, Sequence

from router.execution.projection import Renamed
from router.execution.values import ClientPath
from router.planning.fetch_graph import Path
from router.supergraph.selection import Field, Selection


class ClientPaths:
    """The paths of one operation's answer.

    Args:
        selection: what was planned; its paths tell apart what the client asks of sibling types under one key.
        apart: the client's keys for those of its keys that are not the client's.
    """

    def __init__(self, selection: Selection, renamed: Renamed, apart: Mapping[str, str] | None = None) -> None:
        self._selection = selection
        self._apart = apart or {}
        # A new key is handed out once in an operation: with its place, it needs no type to be told apart.
        self._renamed = {(_fields_of(path), stored): key for (path, _, key), stored in renamed.items()}

    def of(self, path: Sequence[object]) -> ClientPath | None:
        """The client's path, up to where the client asked for nothing more; None when nothing is left of it."""
        below: tuple[Selection, ...] = (self._selection,)
        place: Path = ()
        found: list[str | int] = []
        for step in path:
            if isinstance(step, str):
                key = self._renamed.get((place, step), step)
                same = [field for selection in below for field in _fields(selection) if field.key == key]
                if not same:
                    break
                below = tuple(field.selection for field in same if field.selection is not None)
                place = (*place, step)
                found.append(self._apart.get(key, key))
            elif type(step) is int:
                found.append(step)
            else:
                break
        return tuple(found) or None

    def before_list(self, path: Path) -> ClientPath | None:
        """Of a plan's path, the part that is the same for all its objects."""
        return self.of(path[: path.index("@")] if "@" in path else path)


def _fields(selection: Selection) -> Iterator[Field]:
    for item in selection.items:
        if isinstance(item, Field):
            yield item
        else:
            yield from _fields(item.selection)


def _fields_of(path: Path) -> Path:
    return tuple(step for step in path if step != "@")
