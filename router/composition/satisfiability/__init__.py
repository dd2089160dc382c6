"""Whether every query that the API allows can be answered by the subgraphs together."""

from router.composition.satisfiability.check import check_satisfiability
from router.composition.satisfiability.runtime_types import check_runtime_types

__all__ = ["check_runtime_types", "check_satisfiability"]
