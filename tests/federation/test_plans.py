"""Operation in, printed plan out."""

from textwrap import dedent

import pytest

from tests.federation.shop import shop


def _assert_plan(query: str, expected: str, variables: dict[str, object] | None = None) -> None:
    assert shop().plan(query, variables) == dedent(expected).strip()


def test_fields_of_one_subgraph_are_one_fetch() -> None:
    _assert_plan(
        "{ products { name weight } me { name } }",
        """
        QueryPlan {
          Parallel {
            Fetch(service: "catalog") {
              {
                products {
                  name
                  weight
                }
              }
            },
            Fetch(service: "people") {
              {
                me {
                  name
                }
              }
            },
          },
        }
        """,
    )


def test_required_fields_are_fetched_before_the_field_that_needs_them_under_a_name_of_their_own() -> None:
    _assert_plan(
        '{ topProduct { price(currency: "EUR") shipping } }',
        """
        QueryPlan {
          Sequence {
            Fetch(service: "catalog") {
              {
                topProduct {
                  __typename
                  price(currency: "EUR")
                  _0_price: price(currency: "USD")
                  weight
                  upc
                }
              }
            },
            Flatten(path: "topProduct") {
              Fetch(service: "stock") {
                {
                  ... on Product {
                    __typename
                    upc
                    _0_price: price(currency: "USD")
                    weight
                  }
                } =>
                {
                  ... on Product {
                    shipping
                  }
                }
              },
            },
          },
        }
        """,
    )


def test_a_key_that_only_a_third_subgraph_knows_is_fetched_on_the_way() -> None:
    _assert_plan(
        "{ topProduct { rating } }",
        """
        QueryPlan {
          Sequence {
            Fetch(service: "catalog") {
              {
                topProduct {
                  __typename
                  upc
                }
              }
            },
            Flatten(path: "topProduct") {
              Fetch(service: "stock") {
                {
                  ... on Product {
                    __typename
                    upc
                  }
                } =>
                {
                  ... on Product {
                    sku {
                      code
                    }
                  }
                }
              },
            },
            Flatten(path: "topProduct") {
              Fetch(service: "reviews") {
                {
                  ... on Product {
                    __typename
                    sku {
                      code
                    }
                  }
                } =>
                {
                  ... on Product {
                    rating
                  }
                }
              },
            },
          },
        }
        """,
    )


def test_entities_of_several_types_at_one_path_are_one_fetch() -> None:
    _assert_plan(
        "{ search { ... on Product { inStock } ... on Book { copies } } }",
        """
        QueryPlan {
          Sequence {
            Fetch(service: "catalog") {
              {
                search {
                  __typename
                  ... on Book {
                    __typename
                    id
                  }
                  ... on Product {
                    __typename
                    upc
                  }
                }
              }
            },
            Flatten(path: "search.@") {
              Fetch(service: "stock") {
                {
                  ... on Book {
                    __typename
                    id
                  }
                  ... on Product {
                    __typename
                    upc
                  }
                } =>
                {
                  ... on Book {
                    copies
                  }
                  ... on Product {
                    inStock
                  }
                }
              },
            },
          },
        }
        """,
    )


def test_the_real_type_behind_an_interface_object_is_asked_of_the_interfaces_subgraph() -> None:
    _assert_plan(
        "{ reviews { media { stars ... on Movie { minutes } } } }",
        """
        QueryPlan {
          Sequence {
            Fetch(service: "reviews") {
              {
                reviews {
                  media {
                    __typename
                    stars
                    id
                  }
                }
              }
            },
            Flatten(path: "reviews.@.media") {
              Fetch(service: "catalog") {
                {
                  ... on Media {
                    __typename
                    id
                  }
                } =>
                {
                  ... on Media {
                    __typename
                    ... on Movie {
                      minutes
                    }
                  }
                }
              },
            },
          },
        }
        """,
    )


def test_what_is_provided_is_not_asked_of_its_owner() -> None:
    _assert_plan(
        "{ reviews { author { name } } }",
        """
        QueryPlan {
          Fetch(service: "reviews") {
            {
              reviews {
                author {
                  name
                }
              }
            }
          },
        }
        """,
    )


def test_skipped_fields_cost_no_fetch() -> None:
    query = "query($with: Boolean!) { me { name wishes @include(if: $with) { name } } }"
    _assert_plan(
        query,
        """
        QueryPlan {
          Fetch(service: "people") {
            {
              me {
                name
              }
            }
          },
        }
        """,
        {"with": False},
    )
    assert 'service: "catalog"' in shop().plan(query, {"with": True})


def test_mutations_run_in_order_and_wait_for_what_belongs_to_the_one_before() -> None:
    _assert_plan(
        'mutation { a: rename(name: "x") { name } b: rename(name: "y") { inStock } c: review(body: "z") { body } }',
        """
        QueryPlan {
          Sequence {
            Fetch(service: "catalog") {
              {
                a: rename(name: "x") {
                  name
                }
                b: rename(name: "y") {
                  __typename
                  upc
                }
              }
            },
            Flatten(path: "b") {
              Fetch(service: "stock") {
                {
                  ... on Product {
                    __typename
                    upc
                  }
                } =>
                {
                  ... on Product {
                    inStock
                  }
                }
              },
            },
            Fetch(service: "reviews") {
              {
                c: review(body: "z") {
                  body
                }
              }
            },
          },
        }
        """,
    )


def test_equal_operations_have_equal_plans() -> None:
    query = "{ products { name shipping rating related { name owner { name reviews { body } } } } media { stars } }"
    assert len({shop().plan(query) for _ in range(3)}) == 1


def test_equal_selections_at_several_paths_are_one_request_with_one_list_of_entities() -> None:
    _assert_plan(
        "{ topProduct { inStock } products { inStock } }",
        """
        QueryPlan {
          Sequence {
            Fetch(service: "catalog") {
              {
                topProduct {
                  __typename
                  upc
                }
                products {
                  __typename
                  upc
                }
              }
            },
            BatchFetch(service: "stock") {
              _entities(paths: ["topProduct", "products.@"]) {
                {
                  ... on Product {
                    __typename
                    upc
                  }
                } =>
                {
                  ... on Product {
                    inStock
                  }
                }
              },
            },
          },
        }
        """,
    )


async def test_different_selections_at_several_paths_are_one_request_with_aliases() -> None:
    federation = shop()

    answer = await federation.ask(
        "{ topProduct { inStock } latest { ... on Book { copies } } products { sku { code } } }"
    )

    assert answer["data"]["topProduct"] == {"inStock": False}
    assert answer["data"]["products"][2] == {"sku": {"code": "s3"}}
    assert [sent.subgraph for sent in federation.sent] == ["catalog", "stock"]
    assert "_e0:_entities(representations:$representations0)" in federation.sent[1].query


async def test_a_field_that_nothing_waits_for_travels_with_a_later_fetch_to_its_subgraph() -> None:
    federation = shop()

    await federation.ask("{ reviews { product { inStock shipping } } }")

    assert [sent.subgraph for sent in federation.sent] == ["reviews", "catalog", "stock"]


async def test_a_fetch_waits_for_a_later_one_to_its_subgraph_if_no_chain_gets_longer() -> None:
    federation = shop()

    await federation.ask("{ products { inStock } reviews { author { wishes { inStock } } } }")

    assert [sent.subgraph for sent in federation.sent] == ["catalog", "reviews", "people", "catalog", "stock"]


@pytest.mark.parametrize(
    "query",
    [
        "query($representations: ID!) { product(upc: $representations) { inStock } }",
        "query($representations0: String) { topProduct { shipping price(currency: $representations0) inStock } }",
        "query($representations: String) { reviews { product { price(currency: $representations) inStock } } }",
    ],
)
async def test_a_clients_variable_may_have_the_name_of_one_of_the_plans_own(query: str) -> None:
    federation = shop()
    variables = {"representations": "p1", "representations0": "p1"}

    answer = await federation.ask(query, variables)

    assert answer == {"data": federation.monolith(query, variables)["data"]}
