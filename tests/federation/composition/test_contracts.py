"""Contracts: which part of the API is left, and that the supergraph keeps what the router needs."""

import pytest
from graphql import GraphQLEnumType, GraphQLObjectType, GraphQLSchema

from router.composition import CompositionFailed, Subgraph, compose

LINK = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.5", import: ["@key", "@tag"])\n'
SHOP = Subgraph(
    "shop",
    "http://shop",
    LINK
    + """
    type Query {
      product: Product @tag(name: "public")
      audit: Audit @tag(name: "internal")
      search(text: String, debug: Boolean @tag(name: "internal")): [Result] @tag(name: "public")
    }
    type Product @key(fields: "id") {
      id: ID! @tag(name: "internal")
      name: String @tag(name: "public")
      margin: Int @tag(name: "internal")
      state: State
    }
    type Audit { at: String }
    enum State { SHOWN @tag(name: "public") HIDDEN @tag(name: "internal") }
    union Result @tag(name: "public") = Product
    """,
)


def members(schema: GraphQLSchema, name: str) -> list[str]:
    found = schema.type_map[name]
    assert isinstance(found, GraphQLObjectType | GraphQLEnumType)
    return list(found.fields if isinstance(found, GraphQLObjectType) else found.values)


def test_excluding_a_tag_hides_fields_values_arguments_and_the_types_left_behind() -> None:
    api = compose([SHOP], exclude_tags=["internal"]).api_schema
    query = api.query_type
    assert query is not None
    assert sorted(query.fields) == ["product", "search"]
    assert list(query.fields["search"].args) == ["text"]
    assert members(api, "Product") == ["name", "state"]
    assert members(api, "State") == ["SHOWN"]
    assert "Audit" not in api.type_map


def test_including_a_tag_keeps_only_what_carries_it() -> None:
    api = compose([SHOP], include_tags=["public"]).api_schema
    query = api.query_type
    assert query is not None
    assert sorted(query.fields) == ["product", "search"]
    assert members(api, "Product") == ["name"]
    assert "State" not in api.type_map, "no visible field leads to it"


def test_a_contract_keeps_hidden_keys_in_the_supergraph() -> None:
    sdl = compose([SHOP], exclude_tags=["internal"]).supergraph_sdl
    assert '@join__type(graph: SHOP, key: "id")' in sdl
    assert 'id: ID! @tag(name: "internal") @inaccessible' in sdl
    assert '@link(url: "https://specs.apollo.dev/inaccessible/v0.2", for: SECURITY)' in sdl


def test_without_tags_nothing_is_hidden() -> None:
    assert "@inaccessible" not in compose([SHOP]).supergraph_sdl


def test_a_contract_that_leaves_no_query_is_refused() -> None:
    with pytest.raises(CompositionFailed) as failed:
        compose([SHOP], include_tags=["nobody"])
    assert {error.code for error in failed.value.errors} == {"ONLY_INACCESSIBLE_CHILDREN"}
