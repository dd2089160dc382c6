"""Carts and orders in GraphQL."""

# The overloads of strawberry.field for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from domain.commerce.shop import models
from domain.commerce.shop.texts import timeline_text
from domain.paging import Page, PageRequest, encode_cursor
from subgraphs.commerce.context import Info
from subgraphs.commerce.payment.schema import Payment
from subgraphs.commerce.shop.catalogue_schema import Product
from subgraphs.runtime.graphql import AUTHENTICATED, list_size
from subgraphs.runtime.relay import PageInfo, page_info

if TYPE_CHECKING:
    from subgraphs.commerce.schema import User

OrderStatus = strawberry.enum(
    models.OrderStatus, name="OrderStatus", description="State of an order, in the order it usually goes."
)
OrderKind = strawberry.enum(models.OrderKind, name="OrderKind", description="What was bought.")
CancelReason = strawberry.enum(models.CancelReason, name="OrderCancelReason", description="Why an order was given up.")
TimelineKind = strawberry.enum(
    models.TimelineKind, name="OrderTimelineKind", description="What can happen to an order."
)


@strawberry.type(description="A product in a cart.")
class CartItem:
    id: strawberry.ID = strawberry.field(description="Names the item within the cart.")
    product: Product = strawberry.field(description="What to buy, at its price of now.")
    quantity: int = strawberry.field(description="How many.")
    total_krw: int = strawberry.field(description="Price of them now, in whole won.")


@strawberry.type(description="What the caller is about to buy; nothing is reserved yet.")
class Cart:
    items: list[CartItem] = strawberry.field(
        description="One entry a product, in the order they were added.", directives=[list_size(assumed=20)]
    )
    total_krw: int = strawberry.field(description="Sum of the items now, in whole won.")

    @classmethod
    def of(cls, info: Info, cart: models.CartView) -> "Cart":
        return cls(
            items=[
                CartItem(
                    id=strawberry.ID(line.cart_item_id),
                    product=Product.of(info, line.product),
                    quantity=line.quantity,
                    total_krw=line.total_krw,
                )
                for line in cart.lines
            ],
            total_krw=cart.total_krw,
        )


@strawberry.type(description="A line of an order; name and price stay as they were when it was ordered.")
class OrderItem:
    product_id: strawberry.ID = strawberry.field(description="What was ordered; `plan-...` for a period of a plan.")
    name: str = strawberry.field(description="Its name then, in the language of the request.")
    quantity: int = strawberry.field(description="How many.")
    unit_price_krw: int = strawberry.field(description="Price of one then, in whole won.")
    total_krw: int = strawberry.field(description="Price of them then, in whole won.")

    @strawberry.field(description="The product as it is now; null for a plan.")
    async def product(self, info: Info) -> Product | None:
        return await Product.load(info, self.product_id)

    @classmethod
    def of(cls, info: Info, item: models.OrderItem) -> "OrderItem":
        return cls(
            product_id=strawberry.ID(item.product_id),
            name=item.name_in(info.context.request.locale),
            quantity=item.quantity,
            unit_price_krw=item.unit_price_krw,
            total_krw=item.total_krw,
        )


@strawberry.type(description="Something that happened to an order.")
class OrderTimelineEntry:
    at: datetime = strawberry.field(description="When it happened.")
    kind: models.TimelineKind = strawberry.field(description="What happened.")
    amount_krw: int | None = strawberry.field(description="The amount that it is about, in whole won, if any.")
    reason: str | None = strawberry.field(description="Why, as a stable name or the provider's code, if it says so.")
    text: str = strawberry.field(description="The same as a sentence, in the language of the request.")

    @classmethod
    def of(cls, info: Info, entry: models.TimelineEntry) -> "OrderTimelineEntry":
        return cls(
            at=entry.happened_at,
            kind=models.TimelineKind(entry.kind),
            amount_krw=entry.amount_krw,
            reason=entry.reason or None,
            text=timeline_text(entry, info.context.request.locale),
        )


@strawberry.federation.type(
    keys=["id"], description="Something bought, at the prices of that moment.", directives=[AUTHENTICATED]
)
class Order:
    view: strawberry.Private[models.OrderView]
    id: strawberry.ID = strawberry.field(description="Names the order.")
    kind: models.OrderKind = strawberry.field(description="What was bought.")
    status: models.OrderStatus = strawberry.field(description="State it is in.")
    cancel_reason: models.CancelReason | None = strawberry.field(description="Why it was given up; null if it was not.")
    items: list[OrderItem] = strawberry.field(description="What was ordered.", directives=[list_size(assumed=20)])
    total_krw: int = strawberry.field(description="Sum to pay, in whole won.")
    refunded_krw: int = strawberry.field(description="Paid back of it so far, in whole won.")
    shipping_address: str | None = strawberry.field(description="Where it is sent; null for what nobody sends.")
    payment_method: str | None = strawberry.field(description="How the buyer pays, e.g. card, if they said so.")
    created_at: datetime = strawberry.field(description="When it was ordered.")
    updated_at: datetime = strawberry.field(description="Last change of its state.")
    expires_at: datetime | None = strawberry.field(description="Until when it can be paid; null once that is settled.")

    @strawberry.field(description="Who ordered it.")
    def buyer(self) -> Annotated["User", strawberry.lazy("subgraphs.commerce.schema")]:
        from subgraphs.commerce.schema import User  # noqa: PLC0415 - the group's schema is put together from this one

        return User(id=strawberry.ID(self.view.order.user_id))

    @strawberry.field(description="The payment that was captured for it; null until then.")
    async def payment(self, info: Info) -> Payment | None:
        payment_id = self.view.order.payment_id
        return await Payment.load(info, payment_id) if payment_id else None

    @strawberry.field(description="What happened to it, oldest first.", directives=[list_size(assumed=10)])
    async def timeline(self, info: Info) -> list[OrderTimelineEntry]:
        return [OrderTimelineEntry.of(info, entry) for entry in await info.context.shop.timeline.load(self.id)]

    @classmethod
    def of(cls, info: Info, view: models.OrderView) -> "Order":
        order = view.order
        return cls(
            view=view,
            id=strawberry.ID(order.order_id),
            kind=models.OrderKind(order.kind),
            status=models.OrderStatus(order.status),
            cancel_reason=models.CancelReason(order.cancel_reason) if order.cancel_reason else None,
            items=[OrderItem.of(info, item) for item in view.items],
            total_krw=order.total_krw,
            refunded_krw=order.refunded_krw,
            shipping_address=view.shipping_address or None,
            payment_method=order.payment_method or None,
            created_at=order.created_at,
            updated_at=order.updated_at,
            expires_at=order.expires_at if order.status == models.OrderStatus.PENDING else None,
        )

    @classmethod
    async def load(cls, info: Info, order_id: str) -> "Order | None":
        """The order with an id; None when there is none that the caller may see."""
        view = await info.context.shop.order.load(order_id)
        return cls.of(info, view) if view else None

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "Order | None":
        """The order of a reference from another subgraph; None when there is none that the caller may see."""
        return await cls.load(info, id)


@strawberry.type(description="An order in a page, with its cursor.")
class OrderEdge:
    cursor: str = strawberry.field(description="Where it stands in the list.")
    node: Order = strawberry.field(description="The order.")


@strawberry.type(description="A page of orders, newest first.")
class OrderConnection:
    edges: list[OrderEdge] = strawberry.field(description="The orders of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")
    total_count: int = strawberry.field(description="How many there are in all.")

    @classmethod
    def of(cls, info: Info, page: Page[models.OrderView], request: PageRequest) -> "OrderConnection":
        cursors = [encode_cursor(view.order.created_at, view.order.order_id) for view in page.items]
        return cls(
            edges=[
                OrderEdge(cursor=cursor, node=Order.of(info, view))
                for cursor, view in zip(cursors, page.items, strict=True)
            ],
            page_info=page_info(cursors, has_next=page.has_next, request=request),
            total_count=page.total,
        )
