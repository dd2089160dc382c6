"""What a client gets when all is well, and what when a subgraph is not."""

import orjson
import pytest

from router.execution.errors import SubgraphFailure
from router.serving.settings import RouterSettings
from tests.federation.graph import Federation
from tests.federation.shop import SHOP, shop, universe


async def test_equal_representations_are_sent_once() -> None:
    federation = shop()

    await federation.ask("{ reviews { product { name } } }")

    entities = [sent for sent in federation.sent if "representations" in sent.variables]
    assert [r["upc"] for sent in entities if sent.subgraph == "catalog" for r in sent.variables["representations"]] == [
        "p1",
        "p3",
    ]


async def test_response_keys_that_mean_two_things_in_two_places_come_back_as_asked() -> None:
    answer = await shop().ask("{ topProduct { upc: name id: upc rating } }")
    assert answer == {"data": {"topProduct": {"upc": "Product 2", "id": "p2", "rating": 1.0}}}


async def test_only_variables_that_a_fetch_uses_are_sent_to_it() -> None:
    federation = shop()

    answer = await federation.ask(
        "query($upc: ID!, $in: String) { product(upc: $upc) { price(currency: $in) inStock } }",
        {"upc": "p3", "in": "USD"},
    )

    assert answer == {"data": {"product": {"price": 3, "inStock": True}}}
    assert [set(sent.variables) for sent in federation.sent] == [{"upc", "in"}, {"representations"}]


async def test_typename_is_answered_on_every_kind_of_type() -> None:
    answer = await shop().ask(
        "{ __typename me { kind: __typename } latest { __typename } reviews { media { __typename } } }"
    )
    assert answer["data"]["__typename"] == "Query"
    assert answer["data"]["me"] == {"kind": "User"}
    assert answer["data"]["latest"] == {"__typename": "Movie"}
    assert [r and r["media"] and r["media"]["__typename"] for r in answer["data"]["reviews"]] == [
        "Book",
        "Movie",
        None,
        "Book",
        None,
    ]


async def test_introspection_needs_no_subgraph() -> None:
    federation = shop()

    answer = await federation.ask('{ __schema { queryType { name } } __type(name: "Role") { enumValues { name } } }')

    assert answer == {
        "data": {
            "__schema": {"queryType": {"name": "Query"}},
            "__type": {"enumValues": [{"name": "READER"}, {"name": "EDITOR"}]},
        }
    }
    assert federation.sent == []


async def test_the_api_schema_shows_nothing_of_composition() -> None:
    answer = await shop().ask("{ __schema { types { name } directives { name } } }")
    names = {t["name"] for t in answer["data"]["__schema"]["types"]}
    assert not any(name.startswith(("join__", "link__", "_")) and not name.startswith("__") for name in names)
    directives = {d["name"] for d in answer["data"]["__schema"]["directives"]}
    assert not any(name.startswith(("join", "link", "core")) for name in directives)


async def test_a_broken_subgraph_nulls_only_what_it_owns_and_is_named() -> None:
    federation = shop()
    federation.broken["stock"] = SubgraphFailure("it did not answer in time.", code="SUBGRAPH_TIMEOUT")

    answer = await federation.ask("{ topProduct { name inStock } me { name } }")

    assert answer["data"] == {"topProduct": {"name": "Product 2", "inStock": None}, "me": {"name": "Ada"}}
    assert answer["errors"] == [
        {
            "message": "Subgraph 'stock': it did not answer in time.",
            "path": ["topProduct"],
            "extensions": {"code": "SUBGRAPH_TIMEOUT", "serviceName": "stock"},
        }
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>oops</html>",
        b"",
        b"[]",
        b"42",
        b'{"data": []}',
        b'{"data": {"_entities": 1}}',
        b'{"data":{"_entities":[]}}',
        b"{}",
    ],
)
async def test_an_answer_of_the_wrong_shape_is_an_error_and_not_a_crash(body: bytes) -> None:
    federation = shop()
    federation.broken["stock"] = body

    answer = await federation.ask("{ products { upc inStock } }")

    assert [product["inStock"] for product in answer["data"]["products"]] == [None, None, None]
    assert answer["errors"][0]["extensions"] == {"code": "SUBGRAPH_MALFORMED_RESPONSE", "serviceName": "stock"}


async def test_values_of_the_wrong_type_are_null_with_an_error_at_their_place() -> None:
    federation = shop()
    federation.broken["catalog"] = orjson.dumps({"data": {"products": [{"name": 7, "weight": "heavy"}, "no object"]}})

    answer = await federation.ask("{ products { name weight } }")

    assert answer["data"] is None
    assert {tuple(error["path"]) for error in answer["errors"]} == {
        ("products", 0, "name"),
        ("products", 0, "weight"),
        ("products", 1),
    }


async def test_an_entity_error_is_told_at_every_place_of_that_entity() -> None:
    federation = shop()
    failing = {"message": "no such shelf", "path": ["_entities", 0, "name"], "extensions": {"code": "NOT_FOUND"}}
    federation.broken["catalog"] = orjson.dumps(
        {"data": {"_entities": [{"name": None}, {"name": "P3"}]}, "errors": [failing]}
    )

    answer = await federation.ask("{ reviews { product { name } } }")

    assert [error["path"] for error in answer["errors"]] == [
        ["reviews", 0, "product", "name"],
        ["reviews", 1, "product", "name"],
    ]
    assert answer["errors"][0]["extensions"] == {"code": "NOT_FOUND", "serviceName": "catalog"}
    assert answer["data"]["reviews"][2]["product"] == {"name": "P3"}


async def test_a_null_that_may_not_be_null_nulls_its_nearest_nullable_parent() -> None:
    federation = shop()
    federation.broken["people"] = orjson.dumps(
        {"data": {"me": {"name": "Ada", "friends": [{"email": "a"}, {"email": None}]}}}
    )

    answer = await federation.ask("{ me { name friends { email } } }")

    assert answer["data"] == {"me": {"name": "Ada", "friends": None}}
    assert answer["errors"][0]["path"] == ["me", "friends", 1, "email"]


async def test_a_missing_entity_leaves_its_fields_null() -> None:
    federation = shop()
    federation.broken["stock"] = orjson.dumps({"data": {"_entities": [None, {"inStock": True}, None]}})

    answer = await federation.ask("{ products { inStock } }")

    assert answer == {"data": {"products": [{"inStock": None}, {"inStock": True}, {"inStock": None}]}}


async def test_redaction_hides_the_inside_but_keeps_the_code() -> None:
    federation = Federation(SHOP, universe(), RouterSettings(redact_errors=True))
    federation.broken["stock"] = orjson.dumps(
        {"errors": [{"message": "SELECT failed at 10.0.0.7", "extensions": {"stacktrace": []}}]}
    )
    federation.broken["people"] = orjson.dumps(
        {
            "data": {"me": None},
            "errors": [{"message": "No such user.", "path": ["me"], "extensions": {"code": "NOT_FOUND"}}],
        }
    )

    answer = await federation.ask("{ topProduct { inStock } me { name } }")

    assert answer["errors"] == [
        {"message": "No such user.", "path": ["me"], "extensions": {"code": "NOT_FOUND"}},
        {
            "message": "The service could not answer.",
            "path": ["topProduct"],
            "extensions": {"code": "DOWNSTREAM_SERVICE_ERROR"},
        },
    ]


async def test_errors_of_a_batch_are_told_where_their_part_of_it_belongs() -> None:
    federation = shop()
    federation.broken["stock"] = orjson.dumps(
        {
            "data": {"_e0": [{"inStock": True}], "_e1": [None, {"sku": None}, None]},
            "errors": [{"message": "gone", "path": ["_e1", 0], "extensions": {"code": "NOT_FOUND"}}],
        }
    )

    answer = await federation.ask("{ topProduct { inStock } products { sku { code } } }")

    assert answer["data"]["topProduct"] == {"inStock": True}
    assert [error["path"] for error in answer["errors"]] == [["products", 0]]


async def test_an_entity_asked_for_in_two_places_may_have_one_key_mean_two_things() -> None:
    query = """{
      a: topProduct { related { upc price(currency: "USD") } }
      b: topProduct { related { upc price(currency: "KRW") } }
      products { upc related { upc price } }
    }"""
    federation = shop()

    answer = await federation.ask(query)

    assert answer["data"] == federation.monolith(query)["data"]
