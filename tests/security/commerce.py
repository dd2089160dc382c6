"""What calls about plans, orders, payments and notifications can be about: a person who has some of each."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from manpasik.v1 import (
    common_pb2,
    notification_pb2,
    notification_pb2_grpc,
    payment_pb2,
    payment_pb2_grpc,
    shop_pb2,
    shop_pb2_grpc,
    subscription_pb2,
    subscription_pb2_grpc,
)

from tests.support.platform import Platform
from tests.support.readers import Person

ADDRESS = "7781 Quinquefolium Street"
"""Stands nowhere but in the victim's order."""

TITLE = "Quinquefolium result 7781"
"""Stands nowhere but in the victim's notification."""


@dataclass(frozen=True, slots=True)
class Purchases:
    """Ids of a person's things."""

    user_id: str
    product_id: str
    cart_item_id: str
    order_id: str
    payment_id: str
    notification_id: str


async def purchases_of(platform: Platform, person: Person) -> Purchases:
    """A person with a plan, a full cart, an order that waits for its payment, and a notification."""
    call: Any = {"metadata": person.metadata, "timeout": 20}
    async with platform.channel("shop") as channel:
        shop = shop_pb2_grpc.ShopServiceStub(channel)
        products = await shop.ListProducts(shop_pb2.ListProductsRequest(limit=100), **call)
        product_id = next(
            p.product_id for p in products.products if p.stock > 10 and "Glucose" in p.name + p.description
        )
        await shop.AddToCart(shop_pb2.AddToCartRequest(product_id=product_id, quantity=1), **call)
        order = await shop.CreateOrder(
            shop_pb2.CreateOrderRequest(shipping_address=ADDRESS, payment_method="card"), **call
        )
        cart = await shop.AddToCart(shop_pb2.AddToCartRequest(product_id=product_id, quantity=1), **call)
    async with platform.channel("subscription") as channel:
        await subscription_pb2_grpc.SubscriptionServiceStub(channel).CreateSubscription(
            subscription_pb2.CreateSubscriptionRequest(tier=common_pb2.SUBSCRIPTION_TIER_FREE), **call
        )
    async with platform.channel("payment") as channel:
        payment_id = await _payment_of(payment_pb2_grpc.PaymentServiceStub(channel), order.order_id, call)
    async with platform.channel("notification") as channel:
        sent = await notification_pb2_grpc.NotificationServiceStub(channel).SendNotification(
            notification_pb2.SendNotificationRequest(
                user_id=person.user_id,
                type=notification_pb2.NOTIFICATION_TYPE_HEALTH_ALERT,
                title=TITLE,
                body=TITLE,
                channel=notification_pb2.NOTIFICATION_CHANNEL_IN_APP,
            ),
            **call,
        )
    return Purchases(
        person.user_id, product_id, cart.items[0].cart_item_id, order.order_id, payment_id, sent.notification_id
    )


async def _payment_of(payments: Any, order_id: str, call: Any) -> str:
    """The payment that the event of an order has opened."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        listed = await payments.ListPayments(payment_pb2.ListPaymentsRequest(), **call)
        for payment in listed.payments:
            if payment.order_id == order_id:
                return str(payment.payment_id)
        await asyncio.sleep(0.1)
    raise AssertionError("no payment was opened for the order")


ABOUT_PURCHASES: dict[str, Callable[[Purchases], Message]] = {
    "manpasik.v1.PaymentService.CreatePayment": lambda p: payment_pb2.CreatePaymentRequest(
        user_id=p.user_id,
        order_id=p.order_id,
        payment_type=payment_pb2.PAYMENT_TYPE_ONE_TIME,
        amount_krw=1000,
        payment_method="card",
    ),
    "manpasik.v1.PaymentService.ConfirmPayment": lambda p: payment_pb2.ConfirmPaymentRequest(
        payment_id=p.payment_id, payment_key="test-payment-key"
    ),
    "manpasik.v1.PaymentService.GetPayment": lambda p: payment_pb2.GetPaymentRequest(payment_id=p.payment_id),
    "manpasik.v1.PaymentService.ListPayments": lambda p: payment_pb2.ListPaymentsRequest(user_id=p.user_id),
    "manpasik.v1.PaymentService.RefundPayment": lambda p: payment_pb2.RefundPaymentRequest(
        payment_id=p.payment_id, reason="mine"
    ),
    "manpasik.v1.SubscriptionService.CreateSubscription": lambda p: subscription_pb2.CreateSubscriptionRequest(
        user_id=p.user_id, tier=common_pb2.SUBSCRIPTION_TIER_CLINICAL
    ),
    "manpasik.v1.SubscriptionService.GetSubscription": lambda p: subscription_pb2.GetSubscriptionDetailRequest(
        user_id=p.user_id
    ),
    "manpasik.v1.SubscriptionService.UpdateSubscription": lambda p: subscription_pb2.UpdateSubscriptionRequest(
        user_id=p.user_id, new_tier=common_pb2.SUBSCRIPTION_TIER_CLINICAL, payment_id="test-pay-001"
    ),
    "manpasik.v1.SubscriptionService.CancelSubscription": lambda p: subscription_pb2.CancelSubscriptionRequest(
        user_id=p.user_id
    ),
    "manpasik.v1.SubscriptionService.CheckFeatureAccess": lambda p: subscription_pb2.CheckFeatureAccessRequest(
        user_id=p.user_id, feature_name="ai_coaching"
    ),
    "manpasik.v1.SubscriptionService.CheckCartridgeAccess": lambda p: subscription_pb2.CheckCartridgeAccessRequest(
        user_id=p.user_id, category_code=1, type_index=1
    ),
    "manpasik.v1.SubscriptionService.ListAccessibleCartridges": lambda p: (
        subscription_pb2.ListAccessibleCartridgesRequest(user_id=p.user_id)
    ),
    "manpasik.v1.ShopService.AddToCart": lambda p: shop_pb2.AddToCartRequest(
        user_id=p.user_id, product_id=p.product_id, quantity=1
    ),
    "manpasik.v1.ShopService.GetCart": lambda p: shop_pb2.GetCartRequest(user_id=p.user_id),
    "manpasik.v1.ShopService.RemoveFromCart": lambda p: shop_pb2.RemoveFromCartRequest(
        user_id=p.user_id, cart_item_id=p.cart_item_id
    ),
    "manpasik.v1.ShopService.CreateOrder": lambda p: shop_pb2.CreateOrderRequest(
        user_id=p.user_id, shipping_address="elsewhere", payment_method="card"
    ),
    "manpasik.v1.ShopService.GetOrder": lambda p: shop_pb2.GetOrderRequest(order_id=p.order_id),
    "manpasik.v1.ShopService.ListOrders": lambda p: shop_pb2.ListOrdersRequest(user_id=p.user_id),
    "manpasik.v1.NotificationService.SendNotification": lambda p: notification_pb2.SendNotificationRequest(
        user_id=p.user_id, type=notification_pb2.NOTIFICATION_TYPE_SYSTEM, title="x", body="x"
    ),
    "manpasik.v1.NotificationService.ListNotifications": lambda p: notification_pb2.ListNotificationsRequest(
        user_id=p.user_id
    ),
    "manpasik.v1.NotificationService.MarkAsRead": lambda p: notification_pb2.MarkAsReadRequest(
        notification_id=p.notification_id
    ),
    "manpasik.v1.NotificationService.MarkAllAsRead": lambda p: notification_pb2.MarkAllAsReadRequest(user_id=p.user_id),
    "manpasik.v1.NotificationService.GetUnreadCount": lambda p: notification_pb2.GetUnreadCountRequest(
        user_id=p.user_id
    ),
    "manpasik.v1.NotificationService.UpdateNotificationPreferences": lambda p: (
        notification_pb2.UpdateNotificationPreferencesRequest(user_id=p.user_id)
    ),
    "manpasik.v1.NotificationService.GetNotificationPreferences": lambda p: (
        notification_pb2.GetNotificationPreferencesRequest(user_id=p.user_id)
    ),
    "manpasik.v1.NotificationService.SendFromTemplate": lambda p: notification_pb2.SendFromTemplateRequest(
        user_id=p.user_id, template_key="measurement_completed"
    ),
}
"""What neither strangers may call, nor the person's own reader."""

OF_THE_SHOP_WINDOW = {
    "manpasik.v1.SubscriptionService.ListSubscriptionPlans",
    "manpasik.v1.ShopService.ListProducts",
    "manpasik.v1.ShopService.GetProduct",
}
"""For everybody who is signed in."""
