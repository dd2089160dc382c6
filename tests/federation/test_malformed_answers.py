"""Subgraphs whose answers are JSON of any shape: never an exception, never a value of the wrong kind, always a code."""

from functools import cache
from typing import Any

import orjson
import pytest
from graphql import execute_sync, parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.federation.graph import Federation
from tests.federation.shop import shop

_QUERY = """{
  topProduct { upc name price related { upc inStock reviews { id body author { name role } } } }
  again: topProduct { related { name price(currency: "USD") sku { code } } }
  search { __typename ... on Product { name shipping } ... on Book { id stars copies critic { name } } }
  media { id title stars critic { email } }
  me { id name friends { email wishes { upc parcel } } }
}"""

_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
_KEYS = st.sampled_from(
    (
        "upc",
        "name",
        "related",
        "__typename",
        "id",
        "_entities",
        "_e0",
        "_e1",
        "sku",
        "code",
        "email",
        "friends",
        "stars",
    )
)
_JSON = st.recursive(
    st.one_of(_LEAVES, st.sampled_from(("Product", "Book", "User", "Media"))),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=12,
)
_ROOTS = st.dictionaries(
    st.sampled_from(("topProduct", "again", "search", "media", "me", "_entities", "_e0", "_e1")), _JSON, max_size=5
)
_ERRORS = st.one_of(
    st.none(),
    _JSON,
    st.lists(
        st.fixed_dictionaries(
            {"message": _JSON},
            optional={
                "path": st.lists(st.one_of(_KEYS, st.integers(-2, 3), _LEAVES), max_size=5),
                "extensions": st.one_of(_JSON, st.fixed_dictionaries({"code": _JSON})),
            },
        ),
        max_size=3,
    ),
)
_BODIES = st.one_of(
    _JSON.map(orjson.dumps),
    st.fixed_dictionaries({"data": st.one_of(_ROOTS, _JSON)}, optional={"errors": _ERRORS}).map(orjson.dumps),
    st.sampled_from((b"", b"{", b'{"data": NaN}', b'{"data": 1e999}', b"[" * 2000 + b"]" * 2000, b"\xff")),
)


@given(broken=st.dictionaries(st.sampled_from(("catalog", "stock", "reviews", "people")), _BODIES, min_size=1))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
async def test_whatever_subgraphs_answer_the_client_gets_graphql(broken: dict[str, bytes]) -> None:
    federation = _served()
    federation.broken = dict(broken)

    for _ in range(2):  # the second answer is projected by compiled functions where that is possible
        answer = await federation.ask(_QUERY)

        assert _is_valid(federation, answer["data"])
        for error in answer.get("errors", ()):
            assert isinstance(error["message"], str)
            assert isinstance(error["extensions"]["code"], str)
            assert all(type(step) in (str, int) for step in error.get("path", ()))
        orjson.dumps(answer)


@cache
def _served() -> Federation:
    """One for all examples: their operation is planned once, and served by compiled functions from then on."""
    return shop()


def _is_valid(federation: Federation, data: Any) -> bool:
    """Whether a plain server could have answered so: its values are taken as they are, and completed without an error."""
    if data is None:
        return True
    schema = federation.engine.supergraph.api_schema
    names = {name: [t.name for t in schema.get_possible_types(schema.type_map[name])] for name in ("Media", "Hit")}  # type: ignore[arg-type]

    def type_of(value: Any, _: Any, abstract: Any) -> str:
        return value.get("__typename") or names[abstract.name][0]

    result = execute_sync(
        schema,
        parse(_QUERY),
        root_value=data,
        field_resolver=lambda source, info, **_: source.get(info.path.key),
        type_resolver=type_of,
    )
    return not result.errors


@pytest.mark.parametrize(
    ("entities", "errors"),
    [
        ([{"inStock": True}], 1),
        ([{"inStock": True}] * 4, 1),
        ([{"inStock": True}, 3, [{"inStock": True}]], 0),
        ({"0": {"inStock": True}}, 1),
        ("abc", 1),
    ],
)
async def test_an_entity_for_each_representation_or_none_at_all(entities: Any, errors: int) -> None:
    federation = shop()
    federation.broken["stock"] = orjson.dumps({"data": {"_entities": entities}})

    answer = await federation.ask("{ products { upc inStock } }")

    told = [product["inStock"] for product in answer["data"]["products"]]
    assert told == ([None, None, None] if errors else [True, None, None])
    assert [e["extensions"]["code"] for e in answer.get("errors", ())] == ["SUBGRAPH_MALFORMED_RESPONSE"] * errors


@pytest.mark.parametrize("told", [["Product"], {"a": 1}, 3, None, "User", "Nothing"])
async def test_an_object_that_does_not_say_what_it_is_is_not_asked_for(told: Any) -> None:
    federation = shop()
    product = {"__typename": told, "upc": "p1", "price": 1, "weight": 1, "dimensions": {"__typename": told}}
    federation.broken["catalog"] = orjson.dumps({"data": {"products": [product, product], "topProduct": product}})

    answer = await federation.ask("{ products { upc inStock shipping parcel } topProduct { __typename } }")

    assert [p["inStock"] for p in answer["data"]["products"]] == [None, None]
    assert answer["data"]["topProduct"] == (None if told is not None else {"__typename": "Product"})
    assert not any("representations" in sent.variables for sent in federation.sent)


async def test_an_error_is_told_under_the_clients_keys_and_where_the_client_asked() -> None:
    federation = shop()
    messages = {
        "renamed": ["_entities", 0, "name"],
        "internal": ["_entities", 1, "upc"],
        "negative": ["_entities", -1, "name"],
        "elsewhere": ["_entities", 99, "name"],
        "garbage": ["nothing", {"a": 1}],
    }
    federation.broken["catalog"] = orjson.dumps(
        {
            "data": {"_entities": [{"name": None}, None]},
            "errors": [{"message": message, "path": path} for message, path in messages.items()],
        }
    )

    answer = await federation.ask("{ reviews { thing: product { name } } }")

    told = {error["message"]: error["path"] for error in answer["errors"]}
    assert told == {
        "renamed": ["reviews", 1, "thing", "name"],  # told at every place of that entity, of which this is the last
        "internal": ["reviews", 2, "thing"],
        "negative": ["reviews"],
        "elsewhere": ["reviews"],
        "garbage": ["reviews"],
    }


async def test_the_same_error_of_two_requests_is_told_once() -> None:
    federation = shop()
    failing = {"message": "down", "extensions": {"code": "DOWN"}}
    federation.broken["reviews"] = orjson.dumps({"data": None, "errors": [failing, failing]})

    answer = await federation.ask("{ reviews { id } ratings { id } }")

    assert [error["message"] for error in answer["errors"]] == ["down"]
