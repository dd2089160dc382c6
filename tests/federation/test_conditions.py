"""The printed plan of an operation whose conditions are open."""

from collections.abc import Mapping

import pytest
from graphql import OperationDefinitionNode, parse

from router.errors import ClientError
from router.planning.conditions import MAX_CONDITION_VARIABLES, print_undecided
from router.planning.operation import condition_variables, normalize
from router.planning.plan import QueryPlan
from router.planning.planner import Planner
from tests.federation.shop import shop


def _printed(query: str) -> str:
    supergraph = shop().engine.supergraph
    document = parse(query)
    (operation,) = (d for d in document.definitions if isinstance(d, OperationDefinitionNode))

    def plan(values: Mapping[str, bool]) -> QueryPlan:
        return Planner(supergraph).plan(normalize(supergraph, document, operation, variables=values)).plan

    return print_undecided(plan, condition_variables(document))


def test_without_conditions_it_is_the_plan() -> None:
    query = "{ topProduct { name inStock } me { name } }"
    assert _printed(query) == shop().plan(query)


@pytest.mark.parametrize(("directive", "node"), [("@include", "Include"), ("@skip", "Skip")])
def test_what_happens_on_one_condition_alone_is_inside_of_it(directive: str, node: str) -> None:
    text = _printed(f"query($x: Boolean!) {{ me {directive}(if: $x) {{ name }} }}")
    assert text.splitlines()[:3] == ["QueryPlan {", f'  {node}(if: "$x") {{', '    Fetch(service: "people") {']


def test_what_two_plans_have_in_common_is_outside_of_the_condition() -> None:
    text = _printed("query($x: Boolean!) { me { name } topProduct @include(if: $x) { name } }")
    assert [line for line in text.splitlines() if "Fetch" in line or "Include" in line or "Parallel" in line] == [
        "  Parallel {",
        '    Fetch(service: "people") {',
        '    Include(if: "$x") {',
        '      Fetch(service: "catalog") {',
    ]


def test_a_sequence_that_ends_alike_has_the_condition_at_its_beginning_only() -> None:
    text = _printed("query($x: Boolean!) { topProduct { inStock name @include(if: $x) } }")
    assert text.count('service: "catalog"') == 2
    assert text.count('service: "stock"') == 1
    assert text.index("} Else {") < text.index('service: "stock"')


def test_a_plan_that_differs_either_way_shows_both() -> None:
    text = _printed("query($x: Boolean!) { me { name @include(if: $x) id @skip(if: $x) } }")
    assert text.splitlines()[1:3] == ['  Condition(if: "$x") {', "    Then {"]
    assert text.count("Fetch(") == 2


def test_a_variable_that_changes_nothing_is_not_shown() -> None:
    assert "$x" not in _printed("query($x: Boolean!) { me { name name @include(if: $x) } }")


def test_too_many_variables_have_to_be_decided() -> None:
    names = [f"v{n}" for n in range(MAX_CONDITION_VARIABLES + 1)]
    definitions = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name}: me @include(if: ${name}) {{ name }}" for name in names)
    with pytest.raises(ClientError, match="--variables"):
        _printed(f"query({definitions}) {{ {fields} }}")
