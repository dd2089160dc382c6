"""Composition of Apollo Federation subgraphs into a supergraph."""

from router.composition.errors import CompositionError, CompositionFailed, Hint, SourceLocation
from router.composition.pipeline import Composition, Subgraph, compose

__all__ = ["Composition", "CompositionError", "CompositionFailed", "Hint", "SourceLocation", "Subgraph", "compose"]
