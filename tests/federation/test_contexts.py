"""Arguments that take values of the objects around an entity (`@context`, `@fromContext`)."""

from textwrap import dedent

import pytest

from router.execution.errors import SubgraphFailure
from router.supergraph.read import read_supergraph
from tests.federation.graph import Contextual
from tests.federation.markets import markets, markets_sdl
from tests.federation.operations import everything


async def _assert_same(query: str) -> None:
    federation = markets()
    expected = federation.monolith(query)

    answer = await federation.ask(query)

    assert answer["data"] == expected["data"], federation.plan(query)
    assert not answer.get("errors")


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("{ shops { offers { price } } }", id="different values for one entity in several lists"),
        pytest.param("{ places { offers { price(times: 2) } best { p: price } } }", id="a selection for each type"),
        pytest.param("{ mixed { ... on Place { best { price } } } }", id="union with an interface condition"),
        pytest.param("{ mixed { ... on Shop { best { price } } ... on Stall { best { price } } } }", id="by fragments"),
        pytest.param("{ stall { best { price } offers { price(times: 1) } } }", id="a field below the setting object"),
        pytest.param("{ shops { branch { branch { best { price } } best { price } } best { price } } }", id="nearest"),
        pytest.param("{ shops { currency: id best { price currency: name } } }", id="its response key is taken"),
        pytest.param("{ shops { best { parts { taxed next { taxed next { taxed } } } } } }", id="from the root"),
        pytest.param("{ shops { offers { parts { label next { label } } } } }", id="with required fields"),
        pytest.param("{ shops { best { weight: name parts { size: id label taxed } price } } }", id="all at once"),
        pytest.param("{ places { best { contextual_0: price } } }", id="a client's alias like the variable"),
    ],
)
async def test_the_nearest_object_around_gives_the_value(query: str) -> None:
    await _assert_same(query)


@pytest.mark.parametrize("seed", range(60))
async def test_a_random_operation_gets_the_monoliths_answer(seed: int) -> None:
    schema = read_supergraph(markets_sdl()).api_schema
    await _assert_same(everything(schema, "Query", depth=3 + seed % 3, chance=0.4 + (seed % 4) / 10, seed=seed))


async def test_entities_with_equal_values_are_one_list_of_one_request() -> None:
    federation = markets()

    await federation.ask("{ shops { offers { price } } }")

    sent = federation.sent[-1]
    assert [s.subgraph for s in federation.sent] == ["sales", "pricing", "sales"]
    assert [sent.variables[f"contextual_0_{n}"] for n in range(3)] == ["KRW", "EUR", None]
    assert [len(sent.variables[f"representations_{n}"]) for n in range(3)] == [2, 3, 1]


async def test_with_one_value_the_request_is_as_short_as_any() -> None:
    federation = markets()

    await federation.ask("query Tax { stall { offers { parts { taxed } } } }")

    assert federation.sent[1].query == (
        "query Tax($representations:[_Any!]!,$contextual_0:Int)"
        "{_entities(representations:$representations){...on Part{taxed(rate: $contextual_0)}}}"
    )
    assert federation.sent[1].variables["contextual_0"] == 7


def test_the_plan_shows_where_the_value_is_read() -> None:
    assert (
        markets().plan("{ shops { best { price(times: 3) } } }")
        == dedent(
            """
        QueryPlan {
          Sequence {
            Fetch(service: "sales") {
              {
                shops {
                  __typename
                  best {
                    __typename
                    id
                  }
                  id
                }
              }
            },
            Flatten(path: "shops.@") {
              Fetch(service: "pricing") {
                {
                  ... on Shop {
                    __typename
                    id
                  }
                } =>
                {
                  ... on Shop {
                    currency
                  }
                }
              },
            },
            Flatten(path: "shops.@.best") {
              Fetch(service: "sales") {
                Context($contextual_0: String) {
                  "shops.@" {
                    ... on Shop {
                      currency
                    }
                  }
                },
                {
                  ... on Offer {
                    __typename
                    id
                  }
                } =>
                {
                  ... on Offer {
                    price(in: $contextual_0, times: 3)
                  }
                }
              },
            },
          },
        }
        """
        ).strip()
    )


async def test_a_value_that_could_not_be_fetched_is_null_and_the_failure_is_told() -> None:
    federation = markets()
    federation.broken["pricing"] = SubgraphFailure("is down.", code="SUBGRAPH_UNREACHABLE")

    answer = await federation.ask("{ shops { best { price } } }")

    assert [shop["best"]["price"] for shop in answer["data"]["shops"]] == [
        f"offer{n} in None times None" for n in range(3)
    ]
    assert answer["errors"][0]["path"] == ["shops"]


async def test_a_contextual_arguments_error_is_told_at_the_entity_that_it_is_about() -> None:
    def fail(_of: object, _arguments: object) -> None:
        raise ValueError("no price today")

    federation = markets()
    offers = [e for e in federation.universe.entities if e["__typename"] == "Offer"]
    offers[1]["price"] = Contextual(fail, {})

    answer = await federation.ask("query($n: Int) { shops { best { price(times: $n) } } }", {"n": 4})

    assert [shop["best"]["price"] for shop in answer["data"]["shops"]] == [
        "offer0 in KRW times 4",
        None,
        "offer2 in None times 4",
    ]
    assert [error["path"] for error in answer["errors"]] == [["shops", 1, "best", "price"]]
