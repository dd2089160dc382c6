"""shop-service over real gRPC: every method of the contract, in both languages, and what nobody sends in good faith."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from manpasik.v1 import shop_pb2 as pb
from manpasik.v1.shop_pb2_grpc import ShopServiceStub

from subgraphs.commerce.shop.faces import shop_faces
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.settings import ServiceSettings
from tests.integration.commerce.conftest import Commerce
from tests.integration.commerce.shop_scene import ADDRESS, CASE, GLUCOSE, Messenger, confirm, set_stock
from tests.security.messages import Garbage
from tests.support.trust import service_tokens

KOREAN = (("accept-language", "ko"),)


@asynccontextmanager
async def serving(commerce: Commerce, *, permissive: bool = True) -> AsyncIterator[grpc.aio.Channel]:
    settings = ServiceSettings(grpc_auth="permissive" if permissive else "strict")
    faces = shop_faces(commerce.services, commerce.database)
    authenticator = Authenticator({}, services=service_tokens(), devices=None)
    access = access_of(faces.name, faces.servicers, authenticator, settings)
    server = GrpcServer("127.0.0.1:0", faces.servicers, access, settings)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


async def test_every_method_of_the_contract(commerce: Commerce) -> None:
    async with serving(commerce) as channel:
        shop = ShopServiceStub(channel)
        listed = await shop.ListProducts(pb.ListProductsRequest(category=pb.PRODUCT_CATEGORY_CARTRIDGE, limit=3))
        assert listed.total_count == 30
        assert [product.name for product in listed.products] == [
            "Glucose cartridge",
            "Lipid panel cartridge",
            "HbA1c cartridge",
        ]
        assert (await shop.ListProducts(pb.ListProductsRequest())).total_count == 57
        product = await shop.GetProduct(pb.GetProductRequest(product_id=GLUCOSE), metadata=KOREAN)
        assert (product.name, product.price_krw, product.stock, product.is_active) == (
            "혈당 카트리지",
            15_900,
            500,
            True,
        )
        await shop.AddToCart(pb.AddToCartRequest(user_id="alice", product_id=GLUCOSE, quantity=1))
        await shop.AddToCart(pb.AddToCartRequest(user_id="alice", product_id=CASE, quantity=1))
        cart = await shop.AddToCart(pb.AddToCartRequest(user_id="alice", product_id=GLUCOSE, quantity=2))
        assert [(item.product_id, item.quantity, item.total_price_krw) for item in cart.items] == [
            (GLUCOSE, 3, 47_700),
            (CASE, 1, 29_000),
        ]
        assert cart == await shop.GetCart(pb.GetCartRequest(user_id="alice"))
        cart = await shop.RemoveFromCart(
            pb.RemoveFromCartRequest(user_id="alice", cart_item_id=cart.items[1].cart_item_id)
        )
        assert (len(cart.items), cart.total_price_krw) == (1, 47_700)
        order = await shop.CreateOrder(
            pb.CreateOrderRequest(user_id="alice", shipping_address=ADDRESS, payment_method="card")
        )
        assert (order.status, order.total_price_krw, order.payment_id) == (pb.ORDER_STATUS_PENDING, 47_700, "")
        assert order.shipping_address == ADDRESS
        assert (await shop.GetCart(pb.GetCartRequest(user_id="alice"))).items == []
        messenger = Messenger(commerce)
        await messenger.deliver()
        payment = await confirm(commerce, order.order_id)
        await messenger.deliver()
        paid = await shop.GetOrder(pb.GetOrderRequest(order_id=order.order_id))
        assert (paid.status, paid.payment_id) == (pb.ORDER_STATUS_PAID, payment.payment_id)
        assert paid.items[0].total_price_krw == 47_700
        orders = await shop.ListOrders(pb.ListOrdersRequest(user_id="alice"))
        assert orders.total_count == 1
        assert orders.orders[0] == paid


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        (
            lambda shop: shop.CreateOrder(pb.CreateOrderRequest(user_id="alice", shipping_address=ADDRESS)),
            grpc.StatusCode.FAILED_PRECONDITION,
            "The cart is empty",
        ),
        (
            lambda shop: shop.AddToCart(pb.AddToCartRequest(user_id="alice", product_id=GLUCOSE, quantity=3)),
            grpc.StatusCode.FAILED_PRECONDITION,
            "2 of Glucose cartridge are left",
        ),
        (
            lambda shop: shop.AddToCart(pb.AddToCartRequest(user_id="alice", product_id=GLUCOSE)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "quantity is 0",
        ),
        (
            lambda shop: shop.GetProduct(pb.GetProductRequest(product_id="nothing")),
            grpc.StatusCode.NOT_FOUND,
            "no such product",
        ),
        (
            lambda shop: shop.ListProducts(pb.ListProductsRequest(category=77)),  # type: ignore[arg-type]  # any number
            grpc.StatusCode.INVALID_ARGUMENT,
            "no such category",
        ),
        (
            lambda shop: shop.ListProducts(pb.ListProductsRequest(limit=-1)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "must not be negative",
        ),
        (
            lambda shop: shop.GetOrder(pb.GetOrderRequest(order_id="nothing")),
            grpc.StatusCode.NOT_FOUND,
            "no such order",
        ),
    ],
)
async def test_a_refusal_says_why(
    commerce: Commerce, call: Callable[[ShopServiceStub], Any], code: grpc.StatusCode, says: str
) -> None:
    await set_stock(commerce, 2)
    async with serving(commerce) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match=says) as refusal:
            await call(ShopServiceStub(channel))
    assert refusal.value.code() is code


async def test_nobody_without_a_credential_comes_in(commerce: Commerce) -> None:
    async with serving(commerce, permissive=False) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ShopServiceStub(channel).ListProducts(pb.ListProductsRequest())
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("seed", range(4))
async def test_no_message_is_answered_with_a_bug(commerce: Commerce, seed: int) -> None:
    known: dict[str, Sequence[object]] = {
        "user_id": ["alice"],
        "product_id": [GLUCOSE, CASE],
        "quantity": [1, 2],
        "shipping_address": [ADDRESS],
    }
    garbage = Garbage(seed, known)
    ends: list[tuple[grpc.StatusCode, str, Message]] = []
    async with serving(commerce) as channel:
        for method in pb.DESCRIPTOR.services_by_name["ShopService"].methods:
            call = getattr(ShopServiceStub(channel), method.name)
            for _ in range(15):
                message = GetMessageClass(method.input_type)()
                garbage.fill(message)
                try:
                    await call(message)
                except grpc.aio.AioRpcError as refusal:
                    ends.append((refusal.code(), method.name, message))
    assert len(ends) > 30
    assert [end for end in ends if end[0] in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)] == []
