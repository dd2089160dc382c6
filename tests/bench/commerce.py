"""Orders through the graph until they are paid, and notifications from an event to the inbox."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import uuid4

import aiohttp
import numpy as np
import psutil

from domain.catalog import Group
from domain.commerce.payment.events import PaymentCompleted
from domain.ids import new_id
from domain.messaging import Outbox
from subgraphs.runtime.database import Database
from subgraphs.runtime.settings import Settings
from tests.bench.load import WARM_UP_S, Result, closed_loop, cpu_seconds

PRODUCT = '{ products(search: "혈당", category: CARTRIDGE, first: 1) { edges { node { id } } } }'
RESTOCK = "mutation ($id: ID!) { restockProduct(input: {id: $id, quantity: 500000}) { stock } }"
ORDER = """mutation ($product: ID!) { addToCart(input: {productId: $product, quantity: 1}) { totalKrw }
  createOrder(input: {shippingAddress: "서울특별시 중구 세종대로 110"}) { id totalKrw } }"""
PAY = """mutation ($order: ID!, $amount: Int!) { createPayment(input: {orderId: $order, amountKrw: $amount}) { id } }"""
CONFIRM = """mutation ($payment: ID!, $key: String!) {
  confirmPayment(input: {id: $payment, paymentKey: $key}) { status } }"""
_LOOK_EVERY_S = 0.01
_ON_THEIR_WAY = 64


class Buyer:
    """Somebody who orders, pays, and waits until the order is paid; then again."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str, product: str, paid: "PaidOrders") -> None:
        self._http = http
        self._paid = paid
        self._url = url
        self._headers = {"authorization": f"Bearer {token}"}
        self._product = product

    async def ask(self, query: str, **variables: object) -> dict[str, object]:
        body = {"query": query, "variables": variables}
        async with self._http.post(self._url, json=body, headers=self._headers) as response:
            answer = await response.json()
        if answer.get("errors"):
            raise RuntimeError(f"the router answered with errors: {answer['errors']}")
        data: dict[str, object] = answer["data"]
        return data

    async def buy(self) -> None:
        """One order from the cart to PAID: three requests, and a wait until the event of the payment has arrived."""
        made: dict[str, object] = (await self.ask(ORDER, product=self._product))["createOrder"]  # type: ignore[assignment]
        order, amount = made["id"], made["totalKrw"]
        payment: dict[str, object] = (await self.ask(PAY, order=order, amount=amount))["createPayment"]  # type: ignore[assignment]
        await self.ask(CONFIRM, payment=payment["id"], key=f"test-bench-{payment['id']}")
        await self._paid.wait_for(str(order))


class PaidOrders:
    """Tells when orders become paid, by looking into the shop's table: a look through the graph would be what is measured."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, asyncio.Event] = {}

    async def wait_for(self, order_id: str) -> None:
        event = self._waiting[order_id] = asyncio.Event()
        await event.wait()

    async def look(self) -> None:
        """Until cancelled."""
        while True:
            async with self._database.raw() as connection:
                rows = await connection.fetch(
                    "SELECT order_id FROM orders WHERE status = 'paid' AND order_id = ANY($1)", list(self._waiting)
                )
            for row in rows:
                self._waiting.pop(row["order_id"]).set()
            await asyncio.sleep(_LOOK_EVERY_S)


async def orders(
    url: str, settings: Settings, *, tokens: list[str], admin: str, seconds: float, processes: list[psutil.Process]
) -> list[Result]:
    """Orders per second from the cart to PAID: every buyer waits for the last one before the next."""
    database = Database(settings.database, Group.COMMERCE, max_connections=2)
    paid = PaidOrders(database)
    looking = asyncio.create_task(paid.look())
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            keeper = Buyer(http, url, admin, "", paid)
            found: dict[str, list[dict[str, dict[str, str]]]] = (await keeper.ask(PRODUCT))["products"]  # type: ignore[assignment]
            product = found["edges"][0]["node"]["id"]
            await keeper.ask(RESTOCK, id=product)
            buyers = [Buyer(http, url, token, product, paid) for token in tokens]
            await buyers[0].buy()  # consumer groups take some seconds to form
            steps: list[Callable[[], Awaitable[None]]] = [buyer.buy for buyer in buyers]
            return [await closed_loop("orders, cart to paid", steps, seconds=seconds, processes=processes)]
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await database.close()


async def notifications(settings: Settings, *, seconds: float, processes: list[psutil.Process]) -> list[Result]:
    """Notifications per second from the commit of an event to the row in the inbox, each to another person; 64 on their way."""
    commerce = Database(settings.database, Group.COMMERCE, max_connections=4)
    operations = Database(settings.database, Group.OPERATIONS, max_connections=4)
    on_their_way: dict[str, float] = {}
    lags: list[float] = []
    measuring = asyncio.Event()
    room = asyncio.Semaphore(_ON_THEIR_WAY)

    async def tell() -> None:
        for number in itertools.count():
            await room.acquire()
            user_id = f"bench-{uuid4().hex}-{number}"
            on_their_way[user_id] = time.perf_counter()
            async with commerce.transaction() as session:
                await Outbox(session).add(_completed(user_id))

    async def look() -> None:
        while True:
            async with operations.raw() as connection:
                rows = await connection.fetch(
                    "SELECT user_id FROM notifications WHERE user_id = ANY($1)", list(on_their_way)
                )
            for row in rows:
                lag = time.perf_counter() - on_their_way.pop(row["user_id"])
                room.release()
                if measuring.is_set():
                    lags.append(lag)
            await asyncio.sleep(0.005)

    work = [asyncio.create_task(tell()) for _ in range(4)] + [asyncio.create_task(look())]
    try:
        await asyncio.sleep(WARM_UP_S + 6)  # consumer groups take some seconds to form
        measuring.set()
        started, cpu = time.perf_counter(), cpu_seconds(processes)
        await asyncio.sleep(seconds)
        measuring.clear()
        elapsed, cpu = time.perf_counter() - started, cpu_seconds(processes) - cpu
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await commerce.close()
        await operations.close()
    p50, p99 = (float(q) * 1000 for q in np.percentile(lags, [50, 99])) if lags else (float("nan"),) * 2
    return [Result("notifications, event to inbox", len(lags), elapsed, p50, p99, _ON_THEIR_WAY, cpu)]


def _completed(user_id: str) -> PaymentCompleted:
    return PaymentCompleted(
        payment_id=new_id(),
        user_id=user_id,
        order_id="",
        subscription_id="",
        payment_type="one_time",
        amount_krw=29_900,
        payment_method="card",
        pg_provider="toss",
        pg_transaction_id="bench",
        completed_at=datetime.now(UTC),
    )
