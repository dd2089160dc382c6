"""What every part of the merge shares: the subgraphs, the facts about them, and where findings are put."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from router.composition.errors import CompositionError, Hint, SourceLocation
from router.composition.model import SubgraphSchema
from router.composition.overrides import Overrides
from router.composition.ownership import Ownership

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """What one subgraph says about an element."""

    schema: SubgraphSchema
    value: T


@dataclass(frozen=True, slots=True)
class Prepared:
    """A validated subgraph with its derived facts."""

    schema: SubgraphSchema
    ownership: Ownership


@dataclass(slots=True)
class MergeContext:
    subgraphs: Sequence[Prepared]
    overrides: Overrides
    composed_directives: Mapping[str, str]
    """Directives that reach the supergraph: name in the subgraphs' models to name in the supergraph."""
    repeatable: frozenset[str]
    """Which of the composed directives may be applied more than once to one element."""
    subtypes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Abstract type to everything that may stand for it, over all subgraphs."""
    input_types: frozenset[str] = frozenset()
    output_types: frozenset[str] = frozenset()
    errors: list[CompositionError] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    _ownership: dict[str, Ownership] = field(init=False)

    def __post_init__(self) -> None:
        self._ownership = {prepared.schema.name: prepared.ownership for prepared in self.subgraphs}

    def error(self, code: str, message: str, sources: Iterable[Source[T]] = ()) -> None:
        sources = tuple(sources)
        self.errors.append(CompositionError(code, message, subgraph_names(sources), locations(sources)))

    def hint(self, code: str, message: str, sources: Iterable[Source[T]] = ()) -> None:
        sources = tuple(sources)
        self.hints.append(Hint(code, message, subgraph_names(sources), locations(sources)))

    def is_possible(self, abstract: str, name: str) -> bool:
        return name in self.subtypes.get(abstract, ())

    def ownership(self, subgraph: str) -> Ownership:
        return self._ownership[subgraph]


def subgraph_names(sources: Iterable[Source[T]]) -> tuple[str, ...]:
    return tuple(source.schema.name for source in sources)


def locations(sources: Iterable[Source[T]]) -> tuple[SourceLocation, ...]:
    places = (getattr(source.value, "at", None) for source in sources)
    return tuple(place for place in places if place is not None)
