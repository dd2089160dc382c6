"""What composition tells people: paths that cannot be resolved, source lines, and hints."""

import pytest

from router.composition import CompositionFailed, SourceLocation, Subgraph, compose

LINK = (
    'extend schema @link(url: "https://specs.apollo.dev/federation/v2.5", '
    'import: ["@key", "@shareable", "@external", "@requires"])\n'
)


def errors_of(*subgraphs: str) -> CompositionFailed:
    with pytest.raises(CompositionFailed) as failed:
        compose([Subgraph(name, f"http://{name}", LINK + sdl) for name, sdl in zip("abc", subgraphs, strict=False)])
    return failed.value


def test_an_unsatisfiable_field_is_shown_by_a_query_that_needs_it() -> None:
    failed = errors_of(
        "type Query { shop(id: ID!): Shop } type Shop { owner: Person @shareable } type Person { id: ID! @shareable }",
        "type Query { people: [Person] } type Person { id: ID! @shareable phone: String }",
    )
    (error,) = failed.errors
    assert error.code == "SATISFIABILITY_ERROR"
    assert (
        error.message
        == """The following supergraph API query:
{
  shop(...) {
    owner {
      phone
    }
  }
}
cannot be satisfied by the subgraphs because:
- from subgraph "a":
  - cannot find field "Person.phone".
  - cannot move to subgraph "b", which has field "Person.phone", because type "Person" has no @key defined in \
subgraph "b"."""
    )


def test_requirements_that_need_each_other_are_refused_on_both_sides() -> None:
    failed = errors_of(
        'type Query { t: T } type T @key(fields: "id") { id: ID! x: Int @requires(fields: "y") y: Int @external }',
        'type T @key(fields: "id") { id: ID! y: Int @requires(fields: "x") x: Int @external }',
    )
    assert [error.code for error in failed.errors] == ["SATISFIABILITY_ERROR"] * 2
    assert 'cannot satisfy @requires conditions on field "T.x"' in failed.errors[0].message


def test_an_error_carries_the_line_and_column_in_each_subgraph() -> None:
    failed = errors_of("type Query {\n  t: Int\n}", "type Query {\n\n    t: Int\n}")
    (error,) = failed.errors
    assert error.code == "INVALID_FIELD_SHARING"
    assert error.subgraphs == ("a", "b")
    assert error.locations == (SourceLocation("a", 3, 3), SourceLocation("b", 4, 5))
    assert "(a:3:3, b:4:5)" in str(failed)


def test_errors_of_all_subgraphs_are_reported_together() -> None:
    failed = errors_of("type Query { t: Nope }", "type Query { u: }", "type Query { v: Int } type T @key { id: ID! }")
    assert {error.subgraphs for error in failed.errors} == {("a",), ("b",), ("c",)}
    assert {error.code for error in failed.errors} == {"INVALID_GRAPHQL"}


def test_two_subgraphs_of_one_name_are_refused() -> None:
    one = Subgraph("a", "http://a", "type Query { t: Int }")
    with pytest.raises(CompositionFailed, match="already exists"):
        compose([one, one])


def test_hints_name_what_the_supergraph_leaves_out() -> None:
    composed = compose(
        [
            Subgraph("a", "http://a", LINK + "type Query @shareable { t(x: Int, y: Int): Int }"),
            Subgraph("b", "http://b", LINK + "type Query @shareable { t(x: Int): Int }"),
        ]
    )
    (hint,) = composed.hints
    assert hint.code == "INCONSISTENT_ARGUMENT_PRESENCE"
    assert '"Query.t(y:)"' in hint.message
