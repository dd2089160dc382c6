"""Buying and being told, as one graph: from the catalogue to a paid order and the message about it, over the router."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from manpasik.v1 import cartridge_pb2, common_pb2

from tests.e2e.test_commerce_flows import until
from tests.support.patience import PATIENCE_S
from tests.support.platform import Platform
from tests.support.readers import Person, new_reader, sign_up, technician

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

ORDER = """
mutation ($product: ID!) {
  addToCart(input: {productId: $product, quantity: 2}) { totalKrw }
  createOrder(input: {shippingAddress: "서울특별시 중구 세종대로 110", idempotencyKey: "once"}) { id status totalKrw }
}
"""
PERSON = """
{ me { displayName
  subscription { tier status plan { monthlyPriceKrw } }
  orders(first: 5) { edges { node { id status totalKrw payment { id status } timeline { kind amountKrw text } } } }
  payments(first: 5) { edges { node { id status amountKrw order { id } } } }
  unreadNotificationCount
  notifications(first: 20) { edges { node { id type title body data } } } } }
"""


async def ok(platform: Platform, query: str, person: Person, **variables: object) -> Any:
    answer = await platform.graphql(query, variables, token=person.token)
    assert "errors" not in answer, answer["errors"]
    return answer["data"]


async def glucose_product(platform: Platform, person: Person) -> str:
    found = await ok(
        platform,
        '{ products(search: "혈당", category: CARTRIDGE, first: 5) { edges { node { id name stock requiredTier } } } }',
        person,
    )
    product = found["products"]["edges"][0]["node"]
    assert product["requiredTier"] == "FREE"
    assert product["stock"] > 2
    return str(product["id"])


async def pending_payment(platform: Platform, person: Person, order_id: str) -> Any:
    async def opened() -> Any:
        payments = (await ok(platform, PERSON, person))["me"]["payments"]["edges"]
        return next((e["node"] for e in payments if (e["node"]["order"] or {}).get("id") == order_id), None)

    return await until(opened)


@asynccontextmanager
async def following(platform: Platform, person: Person, query: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A subscription over the router's WebSocket, with the token in the first message as browsers send it."""
    url = platform.url(platform.plan.router_port, "/graphql")
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, protocols=["graphql-transport-ws"]) as socket,
    ):
        await socket.send_json({"type": "connection_init", "payload": {"authorization": f"Bearer {person.token}"}})
        assert (await socket.receive_json(timeout=PATIENCE_S))["type"] == "connection_ack"
        await socket.send_json({"id": "1", "type": "subscribe", "payload": {"query": query}})
        yield socket


async def test_an_order_is_paid_and_everything_about_it_is_one_query(platform: Platform) -> None:
    person = await sign_up(platform, "buyer")
    live = "subscription { notificationReceived { title data user { id displayName } } }"
    async with following(platform, person, live) as socket:
        await asyncio.sleep(0.5)  # the subscription has to reach the subgraph before anything is told
        ordered = await ok(platform, ORDER, person, product=await glucose_product(platform, person))
        order = ordered["createOrder"]
        assert (order["status"], order["totalKrw"]) == ("PENDING", ordered["addToCart"]["totalKrw"])
        payment = await pending_payment(platform, person, order["id"])
        assert (payment["status"], payment["amountKrw"]) == ("PENDING", order["totalKrw"])
        await ok(
            platform,
            'mutation ($id: ID!) { confirmPayment(input: {id: $id, paymentKey: "test-graph"}) { status } }',
            person,
            id=payment["id"],
        )
        told: list[Any] = []
        deadline = time.monotonic() + 30
        while not any(payment["id"] in note["data"].values() for note in told):
            assert time.monotonic() < deadline
            message = await socket.receive_json(timeout=PATIENCE_S)
            if message["type"] == "next":
                assert "errors" not in message["payload"], message
                told.append(message["payload"]["data"]["notificationReceived"])
    # The name comes from identity: the router joined it to each event.
    assert {(note["user"]["id"], note["user"]["displayName"]) for note in told} == {(person.user_id, "buyer")}

    async def whole() -> Any:
        me = (await ok(platform, PERSON, person))["me"]
        kinds = [entry["kind"] for entry in me["orders"]["edges"][0]["node"]["timeline"]]
        return me if me["orders"]["edges"][0]["node"]["status"] == "PAID" and "PAYMENT_OPENED" in kinds else None

    me = await until(whole)
    node = me["orders"]["edges"][0]["node"]
    assert [entry["kind"] for entry in node["timeline"]] == ["CREATED", "PAYMENT_OPENED", "PAID"]
    assert node["payment"] == {"id": payment["id"], "status": "COMPLETED"}
    assert me["subscription"] is None
    assert me["unreadNotificationCount"] == len(me["notifications"]["edges"]) >= 2


async def test_a_refused_card_cancels_the_order_and_frees_its_stock(platform: Platform) -> None:
    person = await sign_up(platform, "refused")
    product = await glucose_product(platform, person)
    ordered = (await ok(platform, ORDER, person, product=product))["createOrder"]
    payment = await pending_payment(platform, person, ordered["id"])
    refused = await platform.graphql(
        'mutation ($id: ID!) { confirmPayment(input: {id: $id, paymentKey: "test-decline"}) { status } }',
        {"id": payment["id"]},
        token=person.token,
    )
    assert refused["errors"][0]["extensions"]["reason"] == "PAYMENT_DECLINED"

    async def given_up() -> Any:
        node = (await ok(platform, PERSON, person))["me"]["orders"]["edges"][0]["node"]
        return node if node["status"] == "CANCELLED" else None

    node = await until(given_up)
    assert [entry["kind"] for entry in node["timeline"]] == [
        "CREATED",
        "PAYMENT_OPENED",
        "PAYMENT_FAILED",
        "CANCELLED",
    ]


async def test_a_plan_is_bought_through_an_order_and_opens_cartridges(platform: Platform) -> None:
    person = await sign_up(platform, "subscriber")
    access = """query ($id: ID!) { cartridge(id: $id) { type { nameEn }
        access { allowed level remainingDaily currentTier } } }"""

    async def access_now() -> Any:
        cartridge = (await ok(platform, access, person, id=reader.cartridge_uid))["cartridge"]
        assert cartridge["type"]["nameEn"] == "Glucose"
        return cartridge["access"]

    async with platform.reader_side() as side:
        reader = await new_reader(side, person, await technician(platform))
        free = {"allowed": True, "level": "LIMITED", "remainingDaily": 3, "currentTier": "FREE"}
        assert await access_now() == free
        async with reader.client.session(reader.plan) as session:
            for frame in reader.frames(100.0, 2):
                await session.send(frame)

    async def counted() -> bool:
        return bool(await access_now() == free | {"remainingDaily": 2})

    await until(counted)  # measurement tells of the use, commerce counts it
    async with platform.reader_side() as side:
        valid = await side.cartridges.ValidateCartridge(
            cartridge_pb2.ValidateCartridgeRequest(cartridge_uid=reader.cartridge_uid),
            metadata=person.metadata,
            timeout=20,
        )
    assert (valid.is_valid, valid.access_level) == (True, common_pb2.CARTRIDGE_ACCESS_LIMITED)
    bought = await ok(
        platform, "mutation { subscribe(input: {tier: PRO}) { subscription { id tier } due { amountKrw } } }", person
    )
    assert bought["subscribe"]["subscription"]["tier"] == "FREE"  # nothing is in force that is not paid for
    assert bought["subscribe"]["due"]["amountKrw"] == 29900

    async def opened() -> Any:
        payments = (await ok(platform, PERSON, person))["me"]["payments"]["edges"]
        return payments[0]["node"] if payments else None

    payment = await until(opened)
    assert payment["amountKrw"] == 29900
    await ok(
        platform,
        'mutation ($id: ID!) { confirmPayment(input: {id: $id, paymentKey: "test-plan"}) { status } }',
        person,
        id=payment["id"],
    )

    async def in_force() -> Any:
        me = (await ok(platform, PERSON, person))["me"]
        orders = [edge["node"]["status"] for edge in me["orders"]["edges"]]
        return me if (me["subscription"] or {}).get("tier") == "PRO" and orders == ["PAID"] else None

    me = await until(in_force)
    assert me["subscription"]["status"] == "ACTIVE"
    assert await access_now() == {"allowed": True, "level": "INCLUDED", "remainingDaily": None, "currentTier": "PRO"}
    # The profile shows it too, told by an event from group to group.
    profile = "{ me { subscriptionTier } }"

    async def shown() -> bool:
        return bool((await ok(platform, profile, person))["me"]["subscriptionTier"] == "PRO")

    await until(shown)


async def test_the_plan_of_the_whole_query_asks_each_group_once(platform: Platform) -> None:
    person = await sign_up(platform)
    await ok(platform, PERSON, person)
    before = await platform.subgraph_requests()
    await ok(platform, PERSON, person)
    after = await platform.subgraph_requests()
    asked = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert asked == {"identity": 1, "commerce": 1, "operations": 1}, json.dumps(asked)
