"""Buying, subscribing and being told, as clients in the field do it: over real sockets, with credentials and without."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
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

from tests.e2e.conftest import ChannelTo
from tests.e2e.test_flows import SignedIn, sign_in
from tests.support.platform import Platform

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]


async def until(found: Callable[[], Awaitable[Any]], *, within_s: float = 30.0) -> Any:
    """What `found` answers as soon as it is true.

    Raises:
        AssertionError: it is not in time.
    """
    deadline = time.monotonic() + within_s
    while not (answer := await found()):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.05)
    return answer


async def pay_and_get_it_back(platform: Platform, channel_to: ChannelTo, person: SignedIn) -> None:
    payments = payment_pb2_grpc.PaymentServiceStub(channel_to(platform, "payment"))
    opened = await payments.CreatePayment(
        payment_pb2.CreatePaymentRequest(
            user_id=person.user_id,
            order_id="test-order-001",
            payment_type=payment_pb2.PAYMENT_TYPE_ONE_TIME,
            amount_krw=29900,
            payment_method="card",
        ),
        metadata=person.metadata,
        timeout=20,
    )
    assert opened.payment_id
    assert opened.status == payment_pb2.PAYMENT_STATUS_PENDING
    # A key captures one payment; only clients without a credential may repeat the one that they always send.
    key = f"test-payment-key-{opened.payment_id}" if person.metadata else "test-payment-key"
    confirmed = await payments.ConfirmPayment(
        payment_pb2.ConfirmPaymentRequest(payment_id=opened.payment_id, payment_key=key, pg_provider="toss"),
        metadata=person.metadata,
        timeout=20,
    )
    assert confirmed.status == payment_pb2.PAYMENT_STATUS_COMPLETED
    assert (confirmed.order_id, confirmed.amount_krw, confirmed.pg_provider) == ("test-order-001", 29900, "toss")
    assert confirmed.pg_transaction_id
    found = await payments.GetPayment(
        payment_pb2.GetPaymentRequest(payment_id=opened.payment_id), metadata=person.metadata, timeout=20
    )
    assert found == confirmed
    listed = await payments.ListPayments(
        payment_pb2.ListPaymentsRequest(user_id=person.user_id, limit=10), metadata=person.metadata, timeout=20
    )
    assert opened.payment_id in [payment.payment_id for payment in listed.payments]
    refund = await payments.RefundPayment(
        payment_pb2.RefundPaymentRequest(payment_id=opened.payment_id, refund_amount_krw=0, reason="변심"),
        metadata=person.metadata,
        timeout=20,
    )
    assert refund.refund_id
    assert (refund.refund_amount_krw, refund.payment_status) == (29900, payment_pb2.PAYMENT_STATUS_REFUNDED)


async def subscribe_upgrade_and_cancel(platform: Platform, channel_to: ChannelTo, person: SignedIn) -> None:
    plans = subscription_pb2_grpc.SubscriptionServiceStub(channel_to(platform, "subscription"))
    created = await plans.CreateSubscription(
        subscription_pb2.CreateSubscriptionRequest(user_id=person.user_id, tier=common_pb2.SUBSCRIPTION_TIER_FREE),
        metadata=person.metadata,
        timeout=20,
    )
    assert created.status == subscription_pb2.SUBSCRIPTION_STATUS_ACTIVE
    updated = await plans.UpdateSubscription(
        subscription_pb2.UpdateSubscriptionRequest(
            user_id=person.user_id,
            new_tier=common_pb2.SUBSCRIPTION_TIER_PRO,
            payment_id=f"test-pay-{person.user_id}" if person.metadata else "test-pay-001",
        ),
        metadata=person.metadata,
        timeout=20,
    )
    assert updated.ai_coaching_enabled
    assert updated.tier == common_pb2.SUBSCRIPTION_TIER_PRO
    found = await plans.GetSubscription(
        subscription_pb2.GetSubscriptionDetailRequest(user_id=person.user_id), metadata=person.metadata, timeout=20
    )
    assert found == updated
    access = await plans.CheckFeatureAccess(
        subscription_pb2.CheckFeatureAccessRequest(user_id=person.user_id, feature_name="ai_coaching"),
        metadata=person.metadata,
        timeout=20,
    )
    assert access.allowed
    cancelled = await plans.CancelSubscription(
        subscription_pb2.CancelSubscriptionRequest(user_id=person.user_id, reason="test"),
        metadata=person.metadata,
        timeout=20,
    )
    assert cancelled.success
    assert cancelled.effective_until.ToDatetime().timestamp() > cancelled.cancelled_at.ToDatetime().timestamp()


async def be_told_and_read_it(platform: Platform, channel_to: ChannelTo, person: SignedIn) -> None:
    notifications = notification_pb2_grpc.NotificationServiceStub(channel_to(platform, "notification"))
    sent = await notifications.SendNotification(
        notification_pb2.SendNotificationRequest(
            user_id=person.user_id,
            type=notification_pb2.NOTIFICATION_TYPE_HEALTH_ALERT,
            title="건강 경고",
            body="혈당이 높습니다.",
            priority=notification_pb2.NOTIFICATION_PRIORITY_HIGH,
            channel=notification_pb2.NOTIFICATION_CHANNEL_IN_APP,
        ),
        metadata=person.metadata,
        timeout=20,
    )
    assert sent.notification_id
    asked = notification_pb2.GetUnreadCountRequest(user_id=person.user_id)
    unread = await notifications.GetUnreadCount(asked, metadata=person.metadata, timeout=20)
    assert unread.count >= 1
    listed = await notifications.ListNotifications(
        notification_pb2.ListNotificationsRequest(user_id=person.user_id, limit=10),
        metadata=person.metadata,
        timeout=20,
    )
    (found,) = [n for n in listed.notifications if n.notification_id == sent.notification_id]
    assert (found.title, found.is_read) == ("건강 경고", False)
    marked = await notifications.MarkAsRead(
        notification_pb2.MarkAsReadRequest(notification_id=sent.notification_id), metadata=person.metadata, timeout=20
    )
    assert marked.success
    after = await notifications.GetUnreadCount(asked, metadata=person.metadata, timeout=20)
    assert after.count == unread.count - 1


FLOWS = (pay_and_get_it_back, subscribe_upgrade_and_cancel, be_told_and_read_it)


@pytest.mark.parametrize("flow", FLOWS)
async def test_a_signed_in_person(platform: Platform, channel_to: ChannelTo, flow: Any) -> None:
    await flow(platform, channel_to, await sign_in(platform, channel_to))


@pytest.mark.parametrize("flow", FLOWS)
async def test_an_existing_client_without_credentials_on_a_development_network(
    open_platform: Platform, channel_to: ChannelTo, flow: Any
) -> None:
    await flow(open_platform, channel_to, await sign_in(open_platform, channel_to, with_token=False))


async def test_what_is_ordered_over_grpc_is_paid_and_told(platform: Platform, channel_to: ChannelTo) -> None:
    person = await sign_in(platform, channel_to)
    shop = shop_pb2_grpc.ShopServiceStub(channel_to(platform, "shop"))
    payments = payment_pb2_grpc.PaymentServiceStub(channel_to(platform, "payment"))
    call: Any = {"metadata": person.metadata, "timeout": 20}
    products = await shop.ListProducts(shop_pb2.ListProductsRequest(limit=100), **call)
    product = next(p for p in products.products if p.stock > 1 and "Glucose" in p.name + p.description)
    cart = await shop.AddToCart(shop_pb2.AddToCartRequest(product_id=product.product_id, quantity=2), **call)
    assert cart.total_price_krw == 2 * product.price_krw
    order = await shop.CreateOrder(
        shop_pb2.CreateOrderRequest(shipping_address="서울특별시 중구 세종대로 110", payment_method="card"), **call
    )
    assert order.status == shop_pb2.ORDER_STATUS_PENDING

    async def pending_payment() -> Any:
        listed = await payments.ListPayments(payment_pb2.ListPaymentsRequest(), **call)
        return next((p for p in listed.payments if p.order_id == order.order_id), None)

    payment = await until(pending_payment)
    assert (payment.amount_krw, payment.status) == (order.total_price_krw, payment_pb2.PAYMENT_STATUS_PENDING)
    await payments.ConfirmPayment(
        payment_pb2.ConfirmPaymentRequest(payment_id=payment.payment_id, payment_key=f"test-cart-{payment.payment_id}"),
        **call,
    )

    async def is_paid() -> bool:
        found = await shop.GetOrder(shop_pb2.GetOrderRequest(order_id=order.order_id), **call)
        return found.status == shop_pb2.ORDER_STATUS_PAID and found.payment_id == payment.payment_id

    await until(is_paid)
    notifications = notification_pb2_grpc.NotificationServiceStub(channel_to(platform, "notification"))

    async def is_told() -> bool:
        listed = await notifications.ListNotifications(notification_pb2.ListNotificationsRequest(limit=50), **call)
        return any(payment.payment_id in n.data.values() for n in listed.notifications)

    await until(is_told)


async def test_nobody_sees_or_pays_what_is_another_persons(platform: Platform, channel_to: ChannelTo) -> None:
    owner, stranger = await sign_in(platform, channel_to), await sign_in(platform, channel_to)
    payments = payment_pb2_grpc.PaymentServiceStub(channel_to(platform, "payment"))
    notifications = notification_pb2_grpc.NotificationServiceStub(channel_to(platform, "notification"))
    plans = subscription_pb2_grpc.SubscriptionServiceStub(channel_to(platform, "subscription"))
    mine: Any = {"metadata": owner.metadata, "timeout": 20}
    theirs: Any = {"metadata": stranger.metadata, "timeout": 20}
    payment = await payments.CreatePayment(
        payment_pb2.CreatePaymentRequest(
            order_id="order-of-the-owner",
            payment_type=payment_pb2.PAYMENT_TYPE_ONE_TIME,
            amount_krw=29900,
            payment_method="card",
        ),
        **mine,
    )
    note = await notifications.SendNotification(
        notification_pb2.SendNotificationRequest(
            user_id=owner.user_id,
            type=notification_pb2.NOTIFICATION_TYPE_SYSTEM,
            title="mine",
            body="mine",
            channel=notification_pb2.NOTIFICATION_CHANNEL_IN_APP,
        ),
        **mine,
    )
    attempts: list[tuple[Any, grpc.StatusCode]] = [
        (
            lambda: payments.GetPayment(payment_pb2.GetPaymentRequest(payment_id=payment.payment_id), **theirs),
            grpc.StatusCode.NOT_FOUND,
        ),
        (
            lambda: payments.ConfirmPayment(
                payment_pb2.ConfirmPaymentRequest(payment_id=payment.payment_id, payment_key="test-payment-key"),
                **theirs,
            ),
            grpc.StatusCode.NOT_FOUND,
        ),
        (
            lambda: notifications.MarkAsRead(
                notification_pb2.MarkAsReadRequest(notification_id=note.notification_id), **theirs
            ),
            grpc.StatusCode.NOT_FOUND,
        ),
        (
            lambda: notifications.ListNotifications(
                notification_pb2.ListNotificationsRequest(user_id=owner.user_id), **theirs
            ),
            grpc.StatusCode.PERMISSION_DENIED,
        ),
        (
            lambda: plans.UpdateSubscription(
                subscription_pb2.UpdateSubscriptionRequest(
                    user_id=owner.user_id, new_tier=common_pb2.SUBSCRIPTION_TIER_CLINICAL
                ),
                **theirs,
            ),
            grpc.StatusCode.PERMISSION_DENIED,
        ),
    ]
    for attempt, status in attempts:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await attempt()
        assert refused.value.code() is status, refused.value.details()
    await plans.CreateSubscription(
        subscription_pb2.CreateSubscriptionRequest(tier=common_pb2.SUBSCRIPTION_TIER_FREE), **theirs
    )
    for payment_id in (payment.payment_id, "nothing-of-the-kind"):
        with pytest.raises(grpc.aio.AioRpcError):
            await plans.UpdateSubscription(
                subscription_pb2.UpdateSubscriptionRequest(
                    new_tier=common_pb2.SUBSCRIPTION_TIER_PRO, payment_id=payment_id
                ),
                **theirs,
            )
    kept = await plans.GetSubscription(subscription_pb2.GetSubscriptionDetailRequest(), **theirs)
    assert kept.tier == common_pb2.SUBSCRIPTION_TIER_FREE
