"""Small sets of subgraphs, each with what composition is known to make of it: a supergraph, or certain error codes."""

import pytest

from router.composition import CompositionFailed, compose
from tests.federation.composition.case_files import Case, essence, read_cases

CASES = read_cases()


@pytest.mark.parametrize("case", [case for case in CASES if not case.errors], ids=str)
def test_compatible_subgraphs_give_the_recorded_supergraph(case: Case) -> None:
    composed = compose(case.subgraphs)
    assert case.supergraph is not None
    assert essence(composed.supergraph_sdl) == case.supergraph
    assert composed.api_schema.query_type is not None


@pytest.mark.parametrize("case", [case for case in CASES if case.errors], ids=str)
def test_contradicting_subgraphs_are_refused_with_the_recorded_codes(case: Case) -> None:
    with pytest.raises(CompositionFailed) as failed:
        compose(case.subgraphs)
    assert sorted({error.code for error in failed.value.errors}) == sorted(case.errors)
    assert all(error.message for error in failed.value.errors)
