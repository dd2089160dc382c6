"""Reading supergraphs, of every version of the join specification."""

import pytest
from graphql import OperationDefinitionNode, parse, validate

from router.errors import InvalidSupergraph
from router.planning.operation import normalize
from router.planning.planner import Planner
from router.supergraph.read import read_supergraph

OWNED = """
schema @core(feature: "https://specs.apollo.dev/core/v0.1") @core(feature: "https://specs.apollo.dev/join/v0.1") { query: Query }
enum join__Graph { A @join__graph(name: "a" url: "http://a") B @join__graph(name: "b" url: "http://b") }
type Query { user: User @join__field(graph: A) }
type User @join__owner(graph: A) @join__type(graph: A, key: "id") @join__type(graph: B, key: "id") {
  id: ID! @join__field(graph: A)
  name: String @join__field(graph: A)
  address: Address @join__field(graph: B)
}
type Address { street: String }
"""

LABELLED = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.5") { query: Query }
enum join__Graph { A @join__graph(name: "a", url: "") B @join__graph(name: "b", url: "") }
type Query @join__type(graph: A) @join__type(graph: B) {
  feed: Int @join__field(graph: A, overrideLabel: "new") @join__field(graph: B, override: "a", overrideLabel: "new")
}
"""

HIDDEN = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.3")
  @link(url: "https://specs.apollo.dev/inaccessible/v0.2", for: SECURITY) { query: Query }
enum join__Graph { A @join__graph(name: "a", url: "") }
type Query @join__type(graph: A) { open: Int  closed: Int @inaccessible  of(secret: Int @inaccessible, shown: Int): Hidden @inaccessible }
type Hidden @join__type(graph: A) @inaccessible { id: ID }
enum Mood @join__type(graph: A) { GOOD BAD @inaccessible }
"""


def _plan(sdl: str, query: str, labels: frozenset[str] = frozenset()) -> str:
    supergraph = read_supergraph(sdl)
    document = parse(query)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return str(Planner(supergraph, labels).plan(normalize(supergraph, document, operation, variables={})).plan)


def test_a_federation_1_supergraph_is_planned_by_owners() -> None:
    plan = _plan(OWNED, "{ user { name address { street } } }")
    assert plan.index('Fetch(service: "a")') < plan.index('Flatten(path: "user")') < plan.index('Fetch(service: "b")')


def test_a_progressive_override_follows_its_label() -> None:
    assert 'service: "a"' in _plan(LABELLED, "{ feed }")
    assert 'service: "b"' in _plan(LABELLED, "{ feed }", frozenset({"new"}))


def test_what_is_inaccessible_is_not_in_the_api() -> None:
    schema = read_supergraph(HIDDEN).api_schema
    assert schema.query_type is not None
    assert list(schema.query_type.fields) == ["open"]
    assert "Hidden" not in schema.type_map
    assert list(getattr(schema.type_map["Mood"], "values", {})) == ["GOOD"]


@pytest.mark.parametrize("sdl", ["", "type {", "type Query { a: Int }", "enum join__Graph { A }"])
def test_what_is_no_supergraph_is_refused_with_a_reason(sdl: str) -> None:
    with pytest.raises(InvalidSupergraph, match="supergraph"):
        read_supergraph(sdl)


@pytest.mark.parametrize("broken", ["f: Missing", "f: [Missing!]!", "f(a: Missing): Int", "f: Hidden"])
def test_a_reference_to_no_type_is_told_when_the_supergraph_is_read(broken: str) -> None:
    sdl = HIDDEN.replace("of(secret", f"{broken} of(secret")
    with pytest.raises(InvalidSupergraph, match=r"Query refers to no type '(Missing|Hidden)'"):
        read_supergraph(sdl)


def test_an_inaccessible_mutation_type_leaves_an_api_without_mutations() -> None:
    hidden = "type Mutation @join__type(graph: A) @inaccessible { m: Int }"
    schema = read_supergraph(HIDDEN.replace("query: Query }", "query: Query mutation: Mutation }") + hidden).api_schema
    assert schema.mutation_type is None
    assert validate(schema, parse("mutation { m }"))
    with pytest.raises(InvalidSupergraph, match="query type is inaccessible"):
        read_supergraph(
            HIDDEN.replace("type Query @join__type(graph: A)", "type Query @join__type(graph: A) @inaccessible")
        )


def test_types_make_their_fields_when_something_asks_for_them() -> None:
    types = read_supergraph(OWNED).api_schema.type_map
    assert not [
        name for name, found in types.items() if name in ("Query", "User", "Address") and "fields" in vars(found)
    ]
    assert list(getattr(types["User"], "fields", ())) == ["id", "name", "address"]
