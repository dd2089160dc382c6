"""Merging validated subgraphs into the supergraph's types."""

from router.composition.merge.context import MergeContext, Prepared, Source
from router.composition.merge.schema import Supergraph, merge_schemas

__all__ = ["MergeContext", "Prepared", "Source", "Supergraph", "merge_schemas"]
