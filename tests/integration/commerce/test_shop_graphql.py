"""The shop in the commerce subgraph: from a search to an order's story, in the caller's language."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
from sqlalchemy import event

from domain.commerce.terms import Tier
from domain.principal import ANONYMOUS, Principal
from subgraphs.commerce.context import CommerceContext
from subgraphs.commerce.schema import schema
from subgraphs.runtime.context import Locale, RequestContext
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce
from tests.integration.commerce.shop_scene import (
    ADDRESS,
    GLUCOSE,
    Messenger,
    confirm,
    order_pieces,
)
from tests.integration.commerce.test_saga import subscribe

PRODUCTS = """
query ($search: String! = "", $category: ProductCategory, $first: Int! = 20, $after: String) {
  products(search: $search, category: $category, first: $first, after: $after) {
    totalCount pageInfo { hasNextPage endCursor }
    edges { node { id name nameEn priceKrw stock requiredTier canOrder category imageUrl addOn { categoryCode } } }
  }
}
"""
ADD = """
mutation ($product: ID!, $quantity: Int!) {
  addToCart(input: {productId: $product, quantity: $quantity}) {
    totalKrw items { id quantity totalKrw product { id name } }
  }
}
"""
ORDER = """
mutation ($address: String!, $key: String) {
  createOrder(input: {shippingAddress: $address, idempotencyKey: $key}) {
    id kind status totalKrw shippingAddress expiresAt items { productId name quantity unitPriceKrw totalKrw product { id } }
  }
}
"""
STORY = """
query ($id: ID!) {
  order(id: $id) {
    status cancelReason refundedKrw buyer { id } payment { id status amountKrw order { id } }
    timeline { at kind amountKrw reason text }
  }
}
"""
ORDERS_OF_PEOPLE = """
query ($people: [_Any!]!, $first: Int! = 20, $after: String) {
  _entities(representations: $people) {
    ... on User {
      id
      orders(first: $first, after: $after) {
        totalCount pageInfo { hasNextPage endCursor }
        edges { node { id status items { name product { id requiredTier } } payment { id } timeline { kind } } }
      }
    }
  }
}
"""


async def run(
    commerce: Commerce, query: str, who: Principal = ALICE, *, locale: Locale = "en", **variables: object
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    request = RequestContext(principal=who, locale=locale)
    result = await schema.execute(
        query,
        variable_values=deepcopy(variables),  # strawberry takes representations apart
        context_value=CommerceContext.of(request, commerce.services, commerce.database),
    )
    return result.data or {}, [dict(error.extensions or {}) for error in result.errors or []]


async def done(commerce: Commerce, query: str, who: Principal = ALICE, **variables: Any) -> dict[str, Any]:
    data, errors = await run(commerce, query, who, **variables)
    assert errors == []
    return data


@contextmanager
def statements(commerce: Commerce) -> Iterator[list[str]]:
    """The statements that are sent meanwhile, without those that open a transaction."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SET TRANSACTION"):
            sent.append(statement)

    engine = commerce.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", record)


async def test_from_a_search_to_a_paid_order(commerce: Commerce) -> None:
    found = await done(commerce, PRODUCTS, locale="ko", search="혈당 카트리지 10개")
    [edge] = found["products"]["edges"]
    assert edge["node"] == {
        "id": GLUCOSE,
        "name": "혈당 카트리지",
        "nameEn": "Glucose cartridge",
        "priceKrw": 15_900,
        "stock": 500,
        "requiredTier": "FREE",
        "canOrder": True,
        "category": "CARTRIDGE",
        "imageUrl": None,
        "addOn": None,
    }
    cart = (await done(commerce, ADD, product=GLUCOSE, quantity=2))["addToCart"]
    assert (cart["totalKrw"], cart["items"][0]["product"]["name"]) == (31_800, "Glucose cartridge")
    order = (await done(commerce, ORDER, address=ADDRESS, key="click"))["createOrder"]
    again = (await done(commerce, ORDER, address=ADDRESS, key="click"))["createOrder"]
    assert again["id"] == order["id"]
    assert (order["kind"], order["status"], order["totalKrw"], order["shippingAddress"]) == (
        "GOODS",
        "PENDING",
        31_800,
        ADDRESS,
    )
    assert order["items"] == [
        {
            "productId": GLUCOSE,
            "name": "Glucose cartridge",
            "quantity": 2,
            "unitPriceKrw": 15_900,
            "totalKrw": 31_800,
            "product": {"id": GLUCOSE},
        }
    ]
    messenger = Messenger(commerce)
    await messenger.deliver()
    payment = await confirm(commerce, order["id"])
    await messenger.deliver()
    story = (await done(commerce, STORY, locale="ko", id=order["id"]))["order"]
    assert (story["status"], story["buyer"]) == ("PAID", {"id": "alice"})
    assert story["payment"] == {
        "id": payment.payment_id,
        "status": "COMPLETED",
        "amountKrw": 31_800,
        "order": {"id": order["id"]},
    }
    assert [(entry["kind"], entry["text"]) for entry in story["timeline"]] == [
        ("CREATED", "주문이 접수되었습니다: 31,800원."),
        ("PAYMENT_OPENED", "결제를 기다립니다: 31,800원."),
        ("PAID", "결제가 완료되었습니다: 31,800원."),
    ]


async def test_a_story_of_trouble_is_told_in_both_languages(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    await confirm(commerce, order_id)
    await messenger.deliver()
    cancelled = await done(commerce, "mutation ($id: ID!) { cancelOrder(id: $id) { status } }", id=order_id)
    assert cancelled == {"cancelOrder": {"status": "CANCELLED"}}
    await messenger.deliver()
    told: dict[Locale, list[str]] = {}
    languages: tuple[Locale, Locale] = ("en", "ko")
    for locale in languages:
        order = (await done(commerce, STORY, locale=locale, id=order_id))["order"]
        assert (order["status"], order["cancelReason"], order["refundedKrw"]) == ("REFUNDED", "BY_CUSTOMER", 15_900)
        told[locale] = [entry["text"] for entry in order["timeline"][3:]]
    assert told["en"] == ["Cancelled as requested.", "A refund of 15,900 won was requested.", "Paid back: 15,900 won."]
    assert told["ko"] == [
        "요청에 따라 주문이 취소되었습니다.",
        "환불을 요청했습니다: 15,900원.",
        "환불되었습니다: 15,900원.",
    ]


async def test_the_cart_is_changed_and_emptied(commerce: Commerce) -> None:
    item = (await done(commerce, ADD, product=GLUCOSE, quantity=2))["addToCart"]["items"][0]["id"]
    changed = await done(
        commerce,
        "mutation ($i: ID!) { updateCartItem(input: {cartItemId: $i, quantity: 7}) { items { quantity } } }",
        i=item,
    )
    assert changed["updateCartItem"]["items"] == [{"quantity": 7}]
    assert (await done(commerce, "{ cart { totalKrw } }"))["cart"] == {"totalKrw": 7 * 15_900}
    left = await done(
        commerce, "mutation ($i: ID!) { removeFromCart(cartItemId: $i) { totalKrw items { id } } }", i=item
    )
    assert left["removeFromCart"] == {"totalKrw": 0, "items": []}


async def test_products_come_in_pages_by_category(commerce: Commerce) -> None:
    first = (await done(commerce, PRODUCTS, category="BUNDLE", first=2))["products"]
    assert (first["totalCount"], first["pageInfo"]["hasNextPage"], len(first["edges"])) == (3, True, 2)
    rest = (await done(commerce, PRODUCTS, category="BUNDLE", first=2, after=first["pageInfo"]["endCursor"]))[
        "products"
    ]
    assert [edge["node"]["id"] for edge in rest["edges"]] == ["bundle-clean-home"]
    counts = (await done(commerce, "{ productCategories { category productCount } }"))["productCategories"]
    assert {row["category"]: row["productCount"] for row in counts} == {
        "CARTRIDGE": 30,
        "READER": 2,
        "ACCESSORY": 22,
        "BUNDLE": 3,
    }


CAN_ORDER = '{ free: product(id: "cartridge-01-01") { canOrder } pro: product(id: "cartridge-04-01") { canOrder } }'


async def test_who_may_order_depends_on_the_plan(commerce: Commerce) -> None:
    def answer(free: bool, pro: bool) -> dict[str, Any]:
        return {"free": {"canOrder": free}, "pro": {"canOrder": pro}}

    assert await done(commerce, CAN_ORDER, ANONYMOUS) == answer(False, False)
    assert await done(commerce, CAN_ORDER) == answer(True, False)
    await subscribe(commerce, Messenger(commerce), Tier.PRO)
    assert await done(commerce, CAN_ORDER) == answer(True, True)


async def test_the_catalogue_is_everybodys_and_the_rest_is_not(commerce: Commerce) -> None:
    assert (await done(commerce, PRODUCTS, ANONYMOUS))["products"]["totalCount"] == 57
    for query in ("{ cart { totalKrw } }", '{ order(id: "x") { id } }'):
        _, errors = await run(commerce, query, ANONYMOUS)
        assert [error["code"] for error in errors] == ["UNAUTHENTICATED"]
    _, errors = await run(commerce, ADD, ANONYMOUS, product=GLUCOSE, quantity=1)
    assert [error["code"] for error in errors] == ["UNAUTHENTICATED"]


async def test_somebody_elses_order_is_null_and_cannot_be_cancelled(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    assert (await done(commerce, STORY, BOB, id=order_id))["order"] is None
    _, errors = await run(commerce, "mutation ($id: ID!) { cancelOrder(id: $id) { id } }", BOB, id=order_id)
    assert [(error["code"], error["reason"]) for error in errors] == [("NOT_FOUND", "ORDER_NOT_FOUND")]
    people = [{"__typename": "User", "id": "alice"}, {"__typename": "User", "id": "bob"}]
    data, errors = await run(commerce, ORDERS_OF_PEOPLE, BOB, people=people)
    assert data["_entities"][0]["orders"] is None
    assert data["_entities"][1]["orders"]["totalCount"] == 0
    assert [error["code"] for error in errors] == ["FORBIDDEN"]


async def test_orders_of_a_person_come_in_pages_newest_first(commerce: Commerce) -> None:
    made = []
    for _ in range(3):
        made.append((await order_pieces(commerce)).order.order_id)
        commerce.clock.advance(seconds=1)
    people = [{"__typename": "User", "id": "alice"}]
    page = (await done(commerce, ORDERS_OF_PEOPLE, people=people, first=2))["_entities"][0]["orders"]
    seen = [edge["node"]["id"] for edge in page["edges"]]
    after = page["pageInfo"]["endCursor"]
    page = (await done(commerce, ORDERS_OF_PEOPLE, people=people, first=2, after=after))["_entities"][0]["orders"]
    assert [*seen, *(edge["node"]["id"] for edge in page["edges"])] == made[::-1]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (3, False)


async def test_many_orders_cost_as_many_statements_as_one(commerce: Commerce) -> None:
    people = [{"__typename": "User", "id": "alice"}]
    counts = []
    for count in (1, 5):
        for _ in range(count):
            await order_pieces(commerce, cartridge_01_01=1, accessory_case=1)
        with statements(commerce) as sent:
            await done(commerce, ORDERS_OF_PEOPLE, people=people)
        counts.append(len(sent))
    assert counts[0] == counts[1] <= 6


async def test_entities_come_in_the_order_asked_with_null_for_what_is_not_there(commerce: Commerce) -> None:
    order_id = (await order_pieces(commerce)).order.order_id
    asked = [
        {"__typename": "Product", "id": GLUCOSE},
        {"__typename": "Order", "id": "nothing"},
        {"__typename": "Product", "id": "\0"},
        {"__typename": "Order", "id": order_id},
    ]
    query = """
    query ($asked: [_Any!]!) {
      _entities(representations: $asked) { ... on Product { id name } ... on Order { id status } }
    }
    """
    assert (await done(commerce, query, asked=asked))["_entities"] == [
        {"id": GLUCOSE, "name": "Glucose cartridge"},
        None,
        None,
        {"id": order_id, "status": "PENDING"},
    ]


async def test_an_administrator_keeps_the_catalogue_and_sends_orders_off(commerce: Commerce) -> None:
    created = await done(
        commerce,
        """mutation { createProduct(input: {id: "strap", nameKo: "손목 끈", nameEn: "Wrist strap", category: ACCESSORY,
           priceKrw: 7000, openingStock: 3, imageUrl: "https://images.manpasik.example/strap.png"})
           { id stock isActive imageUrl requiredTier } }""",
        ADMIN,
    )
    assert created["createProduct"] == {
        "id": "strap",
        "stock": 3,
        "isActive": True,
        "imageUrl": "https://images.manpasik.example/strap.png",
        "requiredTier": "FREE",
    }
    changed = await done(
        commerce,
        'mutation { updateProduct(input: {id: "strap", isActive: false, priceKrw: 8000}) { isActive priceKrw nameEn } }',
        ADMIN,
    )
    assert changed["updateProduct"] == {"isActive": False, "priceKrw": 8_000, "nameEn": "Wrist strap"}
    stocked = await done(
        commerce, 'mutation { restockProduct(input: {id: "strap", quantity: 4, note: "입고"}) { stock } }', ADMIN
    )
    assert stocked["restockProduct"] == {"stock": 7}
    order_id = (await order_pieces(commerce)).order.order_id
    messenger = Messenger(commerce)
    await messenger.deliver()
    await confirm(commerce, order_id)
    await messenger.deliver()
    for field, state in (("shipOrder", "SHIPPED"), ("deliverOrder", "DELIVERED")):
        moved = await done(commerce, f"mutation ($id: ID!) {{ {field}(id: $id) {{ status }} }}", ADMIN, id=order_id)
        assert moved[field] == {"status": state}


@pytest.mark.parametrize(
    "mutation",
    [
        'createProduct(input: {nameKo: "a", nameEn: "a", category: READER, priceKrw: 1}) { id }',
        f'updateProduct(input: {{id: "{GLUCOSE}", priceKrw: 1}}) {{ id }}',
        f'restockProduct(input: {{id: "{GLUCOSE}", quantity: 1}}) {{ id }}',
        'shipOrder(id: "x") { id }',
        'deliverOrder(id: "x") { id }',
    ],
)
async def test_a_customer_keeps_no_catalogue(commerce: Commerce, mutation: str) -> None:
    _, errors = await run(commerce, f"mutation {{ {mutation} }}")
    assert [error["code"] for error in errors] == ["FORBIDDEN"]


async def test_errors_tell_what_was_wrong(commerce: Commerce) -> None:
    _, errors = await run(commerce, ORDER, address=ADDRESS)
    assert [(error["code"], error["reason"]) for error in errors] == [("FAILED_PRECONDITION", "CART_EMPTY")]
    _, errors = await run(commerce, ADD, product="nothing", quantity=1)
    assert [(error["code"], error["reason"]) for error in errors] == [("NOT_FOUND", "PRODUCT_NOT_FOUND")]
    _, errors = await run(commerce, ADD, product=GLUCOSE, quantity=0)
    assert [(error["code"], error["reason"]) for error in errors] == [("BAD_USER_INPUT", "SHOP_FIELD_INVALID")]
