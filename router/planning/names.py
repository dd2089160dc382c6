"""Response keys at each path of the answer: the client's, and free ones for what the plan itself has to fetch."""

from router.planning.fetch_graph import Path
from router.supergraph.selection import Field, Fragment, Selection


class Names:
    """Response keys in use at each path, and the new names of fields that could not keep theirs."""

    def __init__(self, selection: Selection) -> None:
        self._claims: dict[Path, dict[str, set[tuple[str, str]]]] = {}
        self._renamed: dict[tuple[Path, str, str], str] = {}
        self._internal_items: dict[tuple[Path, Field | Fragment], Field | Fragment] = {}
        self._count = 0
        self._claim((), selection)

    @property
    def renamed(self) -> dict[tuple[Path, str, str], str]:
        return self._renamed

    def _claim(self, path: Path, selection: Selection) -> None:
        for item in selection.items:
            if isinstance(item, Fragment):
                self._claim(path, item.selection)
                continue
            self._claims.setdefault(path, {}).setdefault(item.key, set()).add((item.name, item.arguments_text))
            if item.selection is not None:
                self._claim((*path, item.key), item.selection)

    def internal(self, path: Path, selection: Selection) -> Selection:
        """A key or required selection under response keys that are free at this path, or already mean the same."""
        place = tuple(step for step in path if step != "@")
        items: list[Field | Fragment] = []
        for item in selection.items:
            named = self._internal_items.get((place, item))
            if named is None:
                named = self._internal_items[place, item] = self._internal(place, item)
            items.append(named)
        return Selection(tuple(items))

    def _internal(self, path: Path, item: Field | Fragment) -> Field | Fragment:
        if isinstance(item, Fragment):
            return Fragment(
                item.type_condition, Selection(tuple(self._internal(path, i) for i in item.selection.items))
            )
        meaning = (item.name, item.arguments_text)
        claims = self._claims.setdefault(path, {})
        key = item.name
        if claims.get(key, {meaning}) != {meaning}:
            same = sorted(k for k, meanings in claims.items() if meanings == {meaning} and k.startswith("_"))
            key = same[0] if same else self._fresh(item.name)
        claims.setdefault(key, set()).add(meaning)
        below = None
        if item.selection is not None:
            below = Selection(tuple(self._internal((*path, key), i) for i in item.selection.items))
        return Field(key, item.name, item.arguments, item.arguments_text, below)

    def rename(self, path: Path, type_name: str, key: str) -> str:
        """A new key for a field of one type that cannot share its key with that of another."""
        fresh = self._fresh(key)
        self._renamed[path, type_name, key] = fresh
        place = tuple(step for step in path if step != "@")
        old = (*place, key)
        for known in [p for p in self._claims if p[: len(old)] == old]:
            self._claims[*place, fresh, *known[len(old) :]] = self._claims[known]
        return fresh

    def stored(self, path: Path, type_name: str, key: str) -> str:
        return self._renamed.get((path, type_name, key), key)

    def _fresh(self, name: str) -> str:
        fresh = f"_{self._count}_{name}"
        self._count += 1
        return fresh
