"""`@defer`: which fetches wait, what comes in which part, and that all parts together are the whole answer."""

import asyncio
import random
from textwrap import dedent

import pytest
from graphql import get_operation_ast, parse

from router.errors import ClientError
from router.execution.errors import SubgraphFailure
from router.planning.operation import normalize
from router.planning.planner import Planner
from router.serving.engine import GraphQLRequest, RequestError
from router.serving.identity import ANONYMOUS
from router.serving.incremental import PartsForm
from router.supergraph.read import read_supergraph
from tests.federation.deferring import (
    announced,
    ask_in_parts,
    deferring,
    errors_of,
    monolith_in_parts,
    together,
    together_as_of_2022,
)
from tests.federation.graph import Federation
from tests.federation.markets import markets
from tests.federation.operations import everything
from tests.federation.random_graph import RandomGraph
from tests.federation.shop import SHOP, shop, universe

_MODEL = read_supergraph(SHOP)
_SCHEMA = _MODEL.api_schema


def _plan(query: str, variables: dict[str, object] | None = None) -> str:
    federation = shop()
    request = GraphQLRequest(query, None, variables or {}, in_parts=True)
    return str(asyncio.run(federation.engine.prepare(request, ANONYMOUS)).compiled.plan)


def _assert_plan(query: str, expected: str) -> None:
    assert _plan(query) == dedent(expected).strip()


# -- plans -------------------------------------------------------------------------------------------------------------


def test_deferred_fields_are_asked_again_by_key_also_of_the_subgraph_that_has_the_object() -> None:
    _assert_plan(
        '{ topProduct { name ... @defer(label: "more") { price inStock } } }',
        """
        QueryPlan {
          Defer {
            Primary {
              {
                topProduct {
                  name
                }
              }:
              Fetch(service: "catalog", id: 0) {
                {
                  topProduct {
                    __typename
                    name
                    upc
                  }
                }
              },
            }, [
              Deferred(depends: [0], path: "topProduct", label: "more") {
                {
                  price
                  inStock
                }:
                Parallel {
                  Flatten(path: "topProduct") {
                    Fetch(service: "catalog") {
                      {
                        ... on Product {
                          __typename
                          upc
                        }
                      } =>
                      {
                        ... on Product {
                          price
                        }
                      }
                    },
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
                          inStock
                        }
                      }
                    },
                  },
                },
              },
            ]
          },
        }
        """,
    )


def test_what_has_no_key_comes_with_its_object_and_is_delivered_later() -> None:
    _assert_plan(
        "{ topProduct { dimensions { size ... @defer { unit { name } } } } }",
        """
        QueryPlan {
          Defer {
            Primary {
              {
                topProduct {
                  dimensions {
                    size
                  }
                }
              }:
              Fetch(service: "catalog") {
                {
                  topProduct {
                    dimensions {
                      size
                      unit {
                        name
                      }
                    }
                  }
                }
              },
            }, [
              Deferred(depends: [], path: "topProduct.dimensions") {
                {
                  unit {
                    name
                  }
                }
              },
            ]
          },
        }
        """,
    )


def test_deferred_root_fields_are_requests_of_their_own() -> None:
    plan = _plan("{ me { name } ... @defer { topProduct { name } } }")
    primary, deferred = plan.split("}, [")
    assert 'Fetch(service: "people")' in primary
    assert "topProduct" not in primary
    assert 'Deferred(depends: [], path: "")' in deferred
    assert 'Fetch(service: "catalog")' in deferred


def test_an_inner_fragment_depends_on_the_fetch_of_the_outer_one() -> None:
    plan = _plan(
        '{ me { name ... @defer(label: "a") { email friends { name ... @defer(label: "b") { role } } } } }'
    ).splitlines()
    assert [line.strip() for line in plan if "Deferred(" in line or ", id: " in line] == [
        'Fetch(service: "people", id: 0) {',
        'Deferred(depends: [0], path: "me", label: "a") {',
        'Fetch(service: "people", id: 1) {',
        'Deferred(depends: [1], path: "me.friends.@", label: "b") {',
    ]


def test_what_a_deferred_field_requires_is_deferred_with_it() -> None:
    primary, _ = _plan("{ topProduct { name ... @defer { shipping } } }").split("}, [")
    assert "weight" not in primary


def test_a_value_type_shared_between_subgraphs_is_completed_from_the_object_around_it() -> None:
    _assert_plan(
        "{ settings { currency ... @defer { language } } }",
        """
        QueryPlan {
          Defer {
            Primary {
              {
                settings {
                  currency
                }
              }:
              Fetch(service: "catalog") {
                {
                  settings {
                    currency
                  }
                }
              },
            }, [
              Deferred(depends: [], path: "settings") {
                {
                  language
                }:
                Fetch(service: "people") {
                  {
                    settings {
                      language
                    }
                  }
                },
              },
            ]
          },
        }
        """,
    )


def test_without_the_clients_consent_the_plan_is_the_ordinary_one() -> None:
    federation = shop()
    deferring_query = "{ topProduct { name ... @defer { inStock } } }"
    assert federation.plan(deferring_query) == federation.plan("{ topProduct { name inStock } }")


def test_the_same_operation_has_the_same_plan() -> None:
    query = deferring(everything(_SCHEMA, "Query", depth=3), random.Random(1))
    assert _plan(query) == _plan(query)


# -- conditions and validation -----------------------------------------------------------------------------------------


async def test_the_if_argument_decides_and_each_decision_has_its_plan() -> None:
    federation = shop()
    query = "query($later: Boolean!) { me { id ... @defer(if: $later) { name } } }"
    for later, answers in ((True, 2), (False, 1), (True, 2)):
        parts = await ask_in_parts(federation, query, {"later": later})
        assert len(parts) == answers
        assert together(parts) == {"me": {"id": "u1", "name": "Ada"}}


async def test_a_default_value_and_a_literal_decide_as_well() -> None:
    assert len(await ask_in_parts(shop(), "query($l: Boolean = false) { me { ... @defer(if: $l) { name } } }")) == 1
    assert len(await ask_in_parts(shop(), "{ me { ... @defer(if: false) { name } } }")) == 1
    assert len(await ask_in_parts(shop(), "{ me { ... @defer(if: true) { name } } }")) == 2


async def test_a_skipped_fragment_is_not_deferred_and_an_included_one_is() -> None:
    query = "query($on: Boolean!) { me { id ... @include(if: $on) @defer { name } ...Role @skip(if: $on) @defer } } fragment Role on User { role }"
    assert together(await ask_in_parts(shop(), query, {"on": True})) == {"me": {"id": "u1", "name": "Ada"}}
    assert together(await ask_in_parts(shop(), query, {"on": False})) == {"me": {"id": "u1", "role": "EDITOR"}}


@pytest.mark.parametrize(
    "query",
    [
        "query($l: String) { me { ... @defer(label: $l) { name } } }",
        '{ me { ... @defer(label: "a") { name } ... @defer(label: "a") { role } } }',
        'mutation { ... @defer { rename(name: "x") { name } } }',
        "{ me @defer { name } }",
        "{ me { ... @defer @defer { name } } }",
        "{ me { ... @defer(unless: true) { name } } }",
    ],
)
async def test_a_deferral_that_the_specification_forbids_is_refused(query: str) -> None:
    with pytest.raises(RequestError) as refused:
        await ask_in_parts(shop(), query)
    assert refused.value.code == "GRAPHQL_VALIDATION_FAILED"


def test_the_api_offers_the_directive() -> None:
    directive = _SCHEMA.get_directive("defer")
    assert directive is not None
    assert {location.name for location in directive.locations} == {"FRAGMENT_SPREAD", "INLINE_FRAGMENT"}
    assert {name: str(argument.type) for name, argument in directive.args.items()} == {
        "if": "Boolean!",
        "label": "String",
    }


# -- what comes when ---------------------------------------------------------------------------------------------------


async def test_each_object_of_a_list_has_a_part_of_its_own() -> None:
    answers = await ask_in_parts(shop(), '{ products { upc ... @defer(label: "x") { rating } } }')
    assert answers[0]["pending"] == [{"id": str(n), "path": ["products", n], "label": "x"} for n in range(3)]
    assert [each["data"] for each in answers[1]["incremental"]] == [{"rating": 0.5}, {"rating": 1.0}, {"rating": 1.5}]


async def test_an_inner_part_is_announced_with_the_outer_one() -> None:
    federation = shop()
    query = '{ me { name ... @defer(label: "a") { friends { name ... @defer(label: "b") { role } } } } }'
    answers = await ask_in_parts(federation, query)
    assert [each["label"] for each in answers[0]["pending"]] == ["a"]
    assert [each["label"] for answer in answers[1:] for each in answer.get("pending", ())] == ["b", "b"]
    assert together(answers) == federation.monolith("{ me { name friends { name role } } }")["data"]


async def test_a_null_has_no_parts() -> None:
    answers = await ask_in_parts(shop(), '{ product(upc: "none") { ... @defer { name } } me { id } }')
    assert answers == [{"data": {"product": None, "me": {"id": "u1"}}}]


async def test_what_is_also_asked_at_once_is_not_deferred() -> None:
    federation = shop()
    answers = await ask_in_parts(
        federation, "{ me { name ... @defer { name role } ...N @defer } } fragment N on User { name }"
    )
    assert answers[0]["data"] == {"me": {"name": "Ada"}}
    assert [answer.get("incremental") for answer in answers[1:]] == [[{"id": "0", "data": {"role": "EDITOR"}}]]


async def test_a_fragment_deferred_twice_is_delivered_once() -> None:
    answers = await ask_in_parts(
        shop(), '{ me { ...R @defer(label: "a") ...R @defer(label: "b") } } fragment R on User { role }'
    )
    assert len(answers[0]["pending"]) == 2
    assert [each["data"] for each in answers[1]["incremental"]] == [{"role": "EDITOR"}]
    assert len(answers[1]["completed"]) == 2


async def test_fields_below_what_was_answered_say_where_they_belong() -> None:
    answers = await ask_in_parts(shop(), "{ me { friends { name } ... @defer { friends { role } } } }")
    assert [(each.get("subPath"), each["data"]) for each in answers[1]["incremental"]] == [
        (["friends", 0], {"role": "READER"}),
        (["friends", 1], {"role": None}),
    ]


async def test_the_form_of_august_2022_holds_the_whole_fragment() -> None:
    query = '{ me { name friends { name } ... @defer(label: "a") { name friends { role } } } }'
    answers = await ask_in_parts(shop(), query, form=PartsForm.AUGUST_2022)
    assert answers == [
        {"data": {"me": {"name": "Ada", "friends": [{"name": "Bob"}, {"name": None}]}}, "hasNext": True},
        {
            "incremental": [
                {
                    "path": ["me"],
                    "label": "a",
                    "data": {"name": "Ada", "friends": [{"role": "READER"}, {"role": None}]},
                }
            ],
            "hasNext": False,
        },
    ]


async def test_a_mutation_defers_below_its_fields() -> None:
    federation = shop()
    answers = await ask_in_parts(federation, 'mutation { rename(name: "new") { name ... @defer { inStock } } }')
    assert answers[0]["data"] == {"rename": {"name": "new"}}
    assert together(answers) == {"rename": {"name": "new", "inStock": True}}
    assert sum("rename" in sent.query for sent in federation.sent) == 1


async def test_an_introspected_field_is_answered_at_once() -> None:
    query = '{ me { id } ... @defer { __type(name: "Role") { ... @defer { name } ...K @defer } } } fragment K on __Type { kind }'
    expected = {"me": {"id": "u1"}, "__type": {"name": "Role", "kind": "ENUM"}}
    assert together(await ask_in_parts(shop(), query)) == expected
    assert (await shop().ask(query))["data"] == expected


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_an_error_in_a_part_is_told_in_that_part() -> None:
    federation = shop()
    federation.broken["reviews"] = SubgraphFailure("it hung up.", code="SERVICE_UNAVAILABLE")

    answers = await ask_in_parts(federation, "{ products { name ... @defer { rating } } }")

    assert "errors" not in answers[0]
    for position, part in enumerate(answers[1]["incremental"]):
        assert part["data"] == {"rating": None}
        assert [(error["path"], error["extensions"]["serviceName"]) for error in part["errors"]] == [
            (["products", position], "reviews")
        ]


async def test_a_null_where_none_may_be_ends_in_its_part() -> None:
    federation = shop()
    federation.broken["people"] = SubgraphFailure("it hung up.", code="SERVICE_UNAVAILABLE")
    query = "{ reviews { author { id ... @defer { email } } } }"

    answers = await ask_in_parts(federation, query)

    assert answers[0]["data"]["reviews"][0] == {"author": {"id": "u1"}}
    assert "incremental" not in answers[1]
    assert [[error["extensions"]["code"] for error in each["errors"]] for each in answers[1]["completed"]] == [
        ["SERVICE_UNAVAILABLE"]
    ] * 3
    older = await ask_in_parts(federation, query, form=PartsForm.AUGUST_2022)
    assert [(each["path"], each["data"]) for each in older[1]["incremental"]] == [
        (["reviews", n, "author"], None) for n in range(3)
    ]


async def test_nothing_follows_a_part_that_failed() -> None:
    federation = shop()
    federation.broken["people"] = SubgraphFailure("it hung up.", code="SERVICE_UNAVAILABLE")
    query = "{ reviews { author { id ... @defer { email reviews { id ... @defer { body } } } } } }"
    answers = await ask_in_parts(federation, query)
    assert len(answers) == 2
    assert "pending" not in answers[1]


async def test_a_failure_of_the_primary_answer_leaves_nothing_to_follow() -> None:
    federation = shop()
    federation.broken["people"] = SubgraphFailure("it hung up.", code="SERVICE_UNAVAILABLE")
    answers = await ask_in_parts(federation, "{ me { name ... @defer { role } } }")
    assert len(answers) == 1
    assert answers[0]["data"] == {"me": None}
    assert len(answers[0]["errors"]) == 1


GUARDED = SHOP.replace(
    "  role: Role @join__field(graph: PEOPLE)", "  role: Role @join__field(graph: PEOPLE) @authenticated"
)


async def test_a_refused_field_is_told_of_in_its_part_and_not_asked_for() -> None:
    sdl = (
        GUARDED.replace(
            "for: EXECUTION) {",
            'for: EXECUTION) @link(url: "https://specs.apollo.dev/authenticated/v0.1", for: SECURITY) {',
            1,
        )
        + "\ndirective @authenticated on FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM\n"
    )
    federation = Federation(sdl, universe())

    answers = await ask_in_parts(federation, "{ me { name ... @defer { role email } } }")

    assert answers[0] == {
        "data": {"me": {"name": "Ada"}},
        "pending": [{"id": "0", "path": ["me"]}],
        "hasNext": True,
    }
    (part,) = answers[1]["incremental"]
    assert part["data"] == {"role": None, "email": "ada@x"}
    assert [(error["path"], error["extensions"]["code"]) for error in part["errors"]] == [
        (["me", "role"], "UNAUTHENTICATED")
    ]
    assert not any("role" in sent.query for sent in federation.sent)


# -- equivalence -------------------------------------------------------------------------------------------------------


async def _assert_same(federation: Federation, query: str, seed: int) -> None:
    expected = federation.monolith(query)["data"]
    deferred = deferring(query, random.Random(seed))

    answers = await ask_in_parts(federation, deferred)

    assert together(answers) == expected, deferred
    assert not errors_of(answers)
    monolith = await monolith_in_parts(federation, deferred)
    assert answers[0]["data"] == monolith[0]["data"], deferred
    # Objects of an interface object may turn out to be of a type of which a part asks nothing.
    assert set(announced(answers[:1])) >= set(announced(monolith[:1])), deferred
    older = await ask_in_parts(federation, deferred, form=PartsForm.AUGUST_2022)
    assert together_as_of_2022(older) == expected, deferred


@pytest.mark.parametrize("seed", range(50))
async def test_all_parts_of_a_random_operation_are_the_whole_answer(seed: int) -> None:
    query = everything(_SCHEMA, "Query", depth=2 + seed % 3, chance=0.2 + (seed % 5) / 10, seed=seed)
    await _assert_same(shop(), query, seed)


@pytest.mark.parametrize("seed", range(30))
async def test_all_parts_are_the_whole_answer_on_a_random_supergraph(seed: int) -> None:
    federation = RandomGraph(seed).federation()
    schema = federation.engine.supergraph.api_schema
    query = everything(schema, "Query", depth=3 + seed % 2, chance=0.5, seed=seed)
    await _assert_same(federation, query, seed)


@pytest.mark.parametrize("seed", range(0, 40, 2))
async def test_all_parts_are_the_whole_answer_where_fields_take_values_of_objects_around_them(seed: int) -> None:
    federation = markets()
    schema = federation.engine.supergraph.api_schema
    query = everything(schema, "Query", depth=2 + seed % 4, chance=0.3 + (seed % 5) / 10, seed=seed)
    await _assert_same(federation, query, seed)


async def test_a_fragment_is_found_again_inside_of_each_type_around_it() -> None:
    federation = markets()
    fragments = (
        "... on Stall {s} {{ offers {{ parts {{ id size }} }} }}",
        "... on Shop {s} {{ offers {{ price ... {s} {{ parts {{ id ... {s} {{ size }} }} }} }} }}",
    )
    deferred, plain = (
        "{ mixed { " + " ".join(f.format(s=s) for f in fragments) + " } }" for s in ("@defer", "@include(if: true)")
    )
    assert together(await ask_in_parts(federation, deferred)) == federation.monolith(plain)["data"]


def test_a_subscription_cannot_defer() -> None:
    sdl = SHOP.replace("  mutation: Mutation\n", "  mutation: Mutation\n  subscription: Subscription\n", 1)
    sdl += "type Subscription @join__type(graph: PEOPLE) { came: User @join__field(graph: PEOPLE) }"
    model = read_supergraph(sdl)
    document = parse("subscription($later: Boolean!) { came { id ... @defer(if: $later) { name } } }")
    operation = get_operation_ast(document)
    assert operation is not None
    with pytest.raises(ClientError):
        normalize(model, document, operation, variables={"later": True}, defer=True)
    later = normalize(model, document, operation, variables={"later": False}, defer=True)
    assert "Defer" not in str(Planner(model).plan(later).plan)
