"""Equal input gives equal text, whatever order it comes in."""

from itertools import permutations

from graphql import parse, print_schema

from router.composition import Subgraph, compose
from tests.federation.composition.case_files import read_cases

THREE = next(case for case in read_cases() if case.name == "chained keys").subgraphs


def test_the_order_of_the_subgraphs_does_not_matter() -> None:
    printed = {compose(list(order)).supergraph_sdl for order in permutations(THREE)}
    assert len(printed) == 1


def test_names_that_are_no_enum_values_become_distinct_ones() -> None:
    names = ["my-graph", "my_graph", "1st", "Ünicode", "a_1"]
    composed = compose([Subgraph(name, "", f"type Query {{ f{at}: Int }}") for at, name in enumerate(names)])
    for enum, name in (
        ("MY_GRAPH_1", "my-graph"),
        ("MY_GRAPH_2", "my_graph"),
        ("_1ST", "1st"),
        ("_NICODE", "Ünicode"),
        ("A_1_", "a_1"),
    ):
        assert f'{enum} @join__graph(name: "{name}", url: "")' in composed.supergraph_sdl


def test_what_is_printed_parses() -> None:
    tricky = '''
    """
    A "quoted" \\\\ description

      with an indented line
    """
    type Query { "single" t(a: String = "x\\ny \\"z\\"", b: [In!] = [{c: 1, d: RED}]): Int @deprecated(reason: "a \\"b\\"") }
    input In { c: Int d: Colour }
    enum Colour { RED }
    '''
    composed = compose([Subgraph("a", "http://a", tricky)])
    parse(composed.supergraph_sdl)
    query = composed.api_schema.query_type
    assert query is not None
    assert 't(a: String = "x\\ny \\"z\\"", b: [In!] = [{ c: 1, d: RED }])' in print_schema(composed.api_schema)
    assert query.fields["t"].deprecation_reason == 'a "b"'
    assert query.description == 'A "quoted" \\\\ description\n\n  with an indented line'
