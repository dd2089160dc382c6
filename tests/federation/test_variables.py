"""Variables: whatever is sent, the compiled checks say the same as graphql-core."""

from typing import Any

import pytest
from graphql import OperationDefinitionNode, VariableDefinitionNode, build_schema, get_variable_values, parse
from hypothesis import given
from hypothesis import strategies as st

from router.serving.variables import Variables

SCHEMA = build_schema(
    """
    enum Color { RED GREEN }
    scalar Json
    input Point { x: Int! y: Float label: String color: Color inner: Point tags: [String!] }
    input Counted { first: Int = 10 after: ID }
    input Choice @oneOf { id: ID name: String }
    type Query { a: Int }
    """
)
TYPES = [
    "Int",
    "Float",
    "String",
    "Boolean",
    "ID",
    "Color",
    "Json",
    "Point",
    "Counted",
    "Choice",
    "Int!",
    "Float!",
    "String!",
    "Boolean!",
    "ID!",
    "Color!",
    "Json!",
    "Point!",
    "Counted!",
    "Choice!",
    "[Int]",
    "[Int!]",
    "[Int!]!",
    "[[String!]!]",
    "[Point!]",
    "[Color]!",
    "[Choice!]",
    "[Json!]",
]

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**33), 2**33),
    st.floats(allow_nan=False),
    st.sampled_from(["RED", "BLUE", "", "1", "x"]),
)
keys = st.sampled_from(["x", "y", "label", "color", "inner", "tags", "first", "after", "id", "name", "other"])
values: st.SearchStrategy[Any] = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)), max_leaves=6
)


def definitions(text: str) -> tuple[VariableDefinitionNode, ...]:
    operation = parse(f"query({text}) {{ a }}").definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return operation.variable_definitions or ()


@pytest.mark.parametrize("default", ["", " = null"])
@given(expected=st.sampled_from(TYPES), sent=st.dictionaries(st.just("v"), values))
def test_a_value_is_taken_or_refused_as_graphql_says(default: str, expected: str, sent: dict[str, Any]) -> None:
    if default and expected.endswith("!"):
        return
    defined = definitions(f"$v: {expected}{default}")
    exact = get_variable_values(SCHEMA, defined, dict(sent), max_errors=20)
    read = Variables(SCHEMA, defined).read(sent)
    assert isinstance(read, list) == isinstance(exact, list)
    if isinstance(read, list) and isinstance(exact, list):
        assert [error.message for error in read] == [error.message for error in exact]


@pytest.mark.parametrize(
    ("text", "sent", "read"),
    [
        ("$v: Boolean = true", {}, {"v": True}),
        ("$v: Boolean = true", {"v": None}, {"v": None}),
        ("$v: Boolean! = true", {"v": False}, {"v": False}),
        ("$v: Int! = 3, $w: [Color!] = [RED]", {}, {"v": 3, "w": ["RED"]}),
        ("$v: Boolean", {}, {}),
    ],
)
def test_what_is_not_sent_has_its_default(text: str, sent: dict[str, Any], read: dict[str, Any]) -> None:
    assert Variables(SCHEMA, definitions(text)).read(sent) == read
