"""Everything checked in a subgraph on its own."""

from router.composition.errors import CompositionError
from router.composition.model import SubgraphSchema
from router.composition.ownership import Ownership
from router.composition.validate.context import check_contexts
from router.composition.validate.cost import check_cost
from router.composition.validate.field_sets import check_field_sets
from router.composition.validate.placement import check_placement
from router.composition.validate.report import Report
from router.composition.validate.values import check_values


def check_subgraph(schema: SubgraphSchema, ownership: Ownership) -> tuple[CompositionError, ...]:
    """What is wrong with the subgraph's use of federation directives."""
    report = Report(schema)
    check_values(report)
    if report.errors:
        return tuple(report.errors)
    check_field_sets(report, ownership)
    check_placement(report, ownership)
    check_contexts(report, ownership)
    check_cost(report)
    return tuple(report.errors)
