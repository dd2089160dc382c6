"""Money under failures: the process is killed, the broker is away. Nothing is charged twice, and every order gets its end."""

import asyncio
import json
import urllib.request
from collections.abc import Sequence
from typing import Any

import pytest
from manpasik.v1 import payment_pb2, payment_pb2_grpc

from domain.catalog import Group
from domain.commerce.books import check_books
from subgraphs.runtime.database import Database
from subgraphs.runtime.settings import Settings
from tests.e2e.fragile import Fragile
from tests.e2e.test_commerce_flows import until
from tests.e2e.test_commerce_graph import ORDER, PERSON, glucose_product, ok
from tests.support.platform import Platform
from tests.support.readers import Person, sign_up

pytestmark = [pytest.mark.xdist_group("e2e-failures"), pytest.mark.timeout(600)]

RECOVERY_S = 180.0
"""A broker that comes back empty has to form every group anew and gets all retained events again: seconds when the machine
is quiet, a minute and more when it is not."""

CONFIRM = "mutation ($id: ID!, $key: String!) { confirmPayment(input: {id: $id, paymentKey: $key}) { status } }"


async def check_that_the_books_balance(fragile: Fragile) -> None:
    """By our rows, and by what the provider has captured and paid back."""
    settings = Settings.load(fragile.platform.plan.external)
    database = Database(settings.database, Group.COMMERCE, max_connections=2)

    async def balanced() -> bool:
        async with database.read() as session:
            return await check_books(session) == []

    try:
        await until(balanced, within_s=60)
    except AssertionError:
        async with database.read() as session:
            assert await check_books(session) == []
    finally:
        await database.close()
    rows = await fragile.rows("commerce", "SELECT payment_id, amount_krw FROM payments WHERE completed_at IS NOT NULL")
    charged = {order: (taken["captures"], taken["captured"]) for order, taken in (await ledger(fragile)).items()}
    assert charged == {row["payment_id"]: (1, row["amount_krw"]) for row in rows}


async def ledger(fragile: Fragile) -> dict[str, Any]:
    """What the provider has captured, by our reference."""

    def ask() -> Any:
        url = f"{fragile.platform.url(fragile.platform.plan.toss_port, '/sandbox/ledger')}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    found: dict[str, Any] = (await asyncio.to_thread(ask))["orders"]
    return found


async def order_of(platform: Platform, person: Person) -> tuple[str, str]:
    """An order that waits for its payment, and that payment."""
    order = (await ok(platform, ORDER, person, product=await glucose_product(platform, person)))["createOrder"]
    return order["id"], await payment_of(platform, person, order["id"])


async def payment_of(platform: Platform, person: Person, order_id: str) -> str:
    async def opened() -> Any:
        edges = (await ok(platform, PERSON, person))["me"]["payments"]["edges"]
        return next((e["node"]["id"] for e in edges if (e["node"]["order"] or {}).get("id") == order_id), None)

    return str(await until(opened, within_s=RECOVERY_S))


async def wait_until_paid(platform: Platform, people: Sequence[Person], *, within_s: float) -> None:
    for person in people:

        async def paid(person: Person = person) -> bool:
            edges = (await ok(platform, PERSON, person))["me"]["orders"]["edges"]
            return [edge["node"]["status"] for edge in edges] == ["PAID"]

        await until(paid, within_s=within_s)


async def test_a_process_killed_between_the_provider_and_the_commit_charges_once(fragile: Fragile) -> None:
    platform = fragile.platform
    person = await sign_up(platform, "killed")
    _, payment_id = await order_of(platform, person)
    # The provider captures at once, and its answer never comes: whoever asked is gone by then.
    confirming = asyncio.create_task(
        platform.ask(CONFIRM, {"id": payment_id, "key": "test-timeout-kill"}, token=person.token)
    )

    async def captured() -> bool:
        return payment_id in await ledger(fragile)

    await until(captured)
    await platform.kill_services()
    assert "errors" in (await confirming).json
    await platform.start_services()
    rows = await fragile.rows("commerce", "SELECT status FROM payments WHERE payment_id = $1", payment_id)
    assert [row["status"] for row in rows] == ["confirming"]  # it was not guessed
    # The lease of the killed process need not run out by the clock.
    await fragile.rows("commerce", "UPDATE payment_attempts SET settle_after = now() WHERE payment_id = $1", payment_id)
    await wait_until_paid(platform, [person], within_s=180)
    await check_that_the_books_balance(fragile)


async def test_fifty_clients_confirm_one_payment(fragile: Fragile) -> None:
    platform = fragile.platform
    person = await sign_up(platform, "fifty")
    _, payment_id = await order_of(platform, person)
    async with platform.channel("payment") as channel:
        stub = payment_pb2_grpc.PaymentServiceStub(channel)
        answers = await asyncio.gather(
            *(
                stub.ConfirmPayment(
                    payment_pb2.ConfirmPaymentRequest(payment_id=payment_id, payment_key="test-late-fifty"),
                    metadata=person.metadata,
                    timeout=60,
                )
                for _ in range(50)
            )
        )
    assert {answer.status for answer in answers} == {payment_pb2.PAYMENT_STATUS_COMPLETED}
    assert len({answer.pg_transaction_id for answer in answers}) == 1
    assert (await ledger(fragile))[payment_id]["captures"] == 1
    await wait_until_paid(platform, [person], within_s=30)
    await check_that_the_books_balance(fragile)


async def test_orders_are_paid_while_the_broker_is_away_and_told_when_it_is_back(fragile: Fragile) -> None:
    platform = fragile.platform
    people = [await sign_up(platform, f"away-{number}") for number in range(6)]
    before, during = people[:3], people[3:]
    payments = {person.user_id: (await order_of(platform, person))[1] for person in before}
    await fragile.broker.stop()
    try:
        for person in before:
            done = await ok(platform, CONFIRM, person, id=payments[person.user_id], key=f"test-away-{person.user_id}")
            assert done["confirmPayment"]["status"] == "COMPLETED"
        orders = {
            person.user_id: (await ok(platform, ORDER, person, product=await glucose_product(platform, person)))[
                "createOrder"
            ]["id"]
            for person in during
        }
        await asyncio.sleep(10)
    finally:
        await fragile.broker.start()
    await wait_until_paid(platform, before, within_s=RECOVERY_S)
    for person in during:
        payment_id = await payment_of(platform, person, orders[person.user_id])
        await ok(platform, CONFIRM, person, id=payment_id, key=f"test-after-{person.user_id}")
        payments[person.user_id] = payment_id
    await wait_until_paid(platform, during, within_s=RECOVERY_S)
    for person in people:

        async def told(person: Person = person) -> list[str]:
            edges = (await ok(platform, PERSON, person))["me"]["notifications"]["edges"]
            return [e["node"]["title"] for e in edges if payments[person.user_id] in e["node"]["data"].values()]

        assert len(await until(told, within_s=RECOVERY_S)) >= 1
        await asyncio.sleep(0.5)
        titles = await told()
        assert len(titles) == len(set(titles)), "somebody was told the same twice"
    await check_that_the_books_balance(fragile)
