"""What becomes of the forwarded headers on their way to one subgraph."""

from collections.abc import Mapping

from router.serving.client import OutgoingHeaders
from router.serving.settings import HeaderRules


class HeaderRewrite:
    """Removes, then renames, then sets, as the rules say. All names are in lower case."""

    def __init__(self, rules: HeaderRules) -> None:
        self._removed = frozenset(rules.remove)
        self._renamed = dict(rules.rename)
        self._set = {name: value.get_secret_value() for name, value in rules.set.items()}

    def __call__(self, headers: Mapping[str, str]) -> OutgoingHeaders:
        kept = {name: value for name, value in headers.items() if name not in self._removed}
        # What is renamed goes first, so that it never takes the place of a header that has the new name already.
        renamed = {self._renamed[name]: value for name, value in kept.items() if name in self._renamed}
        others = {name: value for name, value in kept.items() if name not in self._renamed}
        return OutgoingHeaders({**renamed, **others, **self._set})
