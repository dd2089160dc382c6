"""Which labels of progressive `@override`s are active for one request.

A label `percent(x)` is active for x in a hundred requests; other labels are what the settings say, and inactive where they
say nothing. Someone who can be told apart (by a header or the subject of a token) always gets the same: the label and the
name are hashed, each label by itself, so that two labels do not meet the same people.

Source: Apollo Federation, "Incremental migration with progressive override".
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

from router.planning.operation import Operation
from router.serving.identity import Identity
from router.serving.settings import LabelFromHeader, RouterSettings
from router.supergraph.model import Supergraph
from router.supergraph.selection import Field, Selection

_PERCENT = re.compile(r"percent\((\d{1,3}(?:\.\d{1,8})?)\)")


class OverrideLabels:
    """The labels of one supergraph."""

    def __init__(self, supergraph: Supergraph, settings: RouterSettings) -> None:
        self._sticky_header = settings.override_sticky_header
        self._rules: dict[str, bool | float | LabelFromHeader] = {}
        self._by_field: dict[str, set[str]] = {}
        self._always: set[str] = set()
        for name, label in _labelled(supergraph):
            self._rules[label] = settings.override_labels.get(label, _percentage(label))
            self._by_field.setdefault(name, set()).add(label)
        if self._rules:
            for name in _named_in_field_sets(supergraph):
                self._always |= self._by_field.get(name, set())

    def touched_by(self, operation: Operation) -> tuple[str, ...]:
        """The labels that may decide how an operation is planned, sorted; mostly none.

        They are found by the names of its fields, and those in keys and requirements are always among them. One too many
        costs an entry in the cache of plans, one too few a wrong plan.
        """
        if not self._rules:
            return ()
        found = set(self._always)
        for name in _names(operation.selection):
            found |= self._by_field.get(name, set())
        return tuple(sorted(found))

    def active(self, labels: Iterable[str], headers: Mapping[str, str], identity: Identity) -> frozenset[str]:
        """Those of the labels that are active for a request with these headers (names in lower case)."""
        subject = headers.get(self._sticky_header) if self._sticky_header is not None else None
        subject = subject or identity.subject
        return frozenset(label for label in labels if _is_active(label, self._rules[label], headers, subject))


def _is_active(
    label: str, rule: bool | float | LabelFromHeader, headers: Mapping[str, str], subject: str | None
) -> bool:
    if isinstance(rule, bool):
        return rule
    if isinstance(rule, LabelFromHeader):
        return label in (given.strip() for given in headers.get(rule.header, "").split(","))
    drawn = random.random() if subject is None else _share(label, subject)  # noqa: S311  nothing is secret here
    return drawn * 100 < rule


def _share(label: str, subject: str) -> float:
    """Evenly spread over [0, 1), and always the same for one label and subject."""
    digest = blake2b(f"{label}\0{subject}".encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _percentage(label: str) -> bool | float:
    match = _PERCENT.fullmatch(label)
    return float(match[1]) if match is not None else False


def _labelled(supergraph: Supergraph) -> Iterator[tuple[str, str]]:
    """Names of fields with each of their labels."""
    for subgraph in supergraph.subgraphs.values():
        for view in subgraph.types.values():
            for field in view.fields.values():
                for label in (field.override_label, field.unless_label):
                    if label is not None:
                        yield field.name, label


def _named_in_field_sets(supergraph: Supergraph) -> Iterator[str]:
    """What is fetched without that an operation names it."""
    for subgraph in supergraph.subgraphs.values():
        for view in subgraph.types.values():
            for key in view.keys:
                yield from _names(key.selection)
            for field in view.fields.values():
                if field.requires is not None:
                    yield from _names(field.requires)
                for context in field.context_arguments:
                    yield from _names(context.selection)


def _names(selection: Selection) -> Iterator[str]:
    for item in selection.items:
        if isinstance(item, Field):
            yield item.name
        if item.selection is not None:
            yield from _names(item.selection)
