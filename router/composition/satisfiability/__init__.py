"""Whether every query that the API allows can be answered by the subgraphs together."""

from router.composition.satisfiability.check import Satisfiability, check_satisfiability

__all__ = ["Satisfiability", "check_satisfiability"]
