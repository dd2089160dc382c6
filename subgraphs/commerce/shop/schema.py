"""What can be asked of the shop in GraphQL, and what can be changed."""

# The overloads of strawberry.field and strawberry.mutation for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from typing import Annotated

import strawberry

from domain.commerce.shop import models
from domain.commerce.shop.catalogue import ProductChange, ProductDraft
from domain.commerce.terms import Tier
from domain.paging import DEFAULT_PAGE
from domain.principal import Scope
from subgraphs.commerce.context import Info
from subgraphs.commerce.shop.catalogue_schema import (
    PAGED,
    After,
    First,
    Product,
    ProductCategoryCount,
    ProductConnection,
)
from subgraphs.commerce.shop.order_schema import Cart, Order, OrderConnection
from subgraphs.runtime.graphql import AUTHENTICATED, list_size, requires_scopes
from subgraphs.runtime.relay import page_request

_READ = [AUTHENTICATED, requires_scopes(Scope.COMMERCE_READ)]
_WRITE = [AUTHENTICATED, requires_scopes(Scope.COMMERCE_WRITE)]
_ADMINISTER = [AUTHENTICATED, requires_scopes(Scope.CATALOG_WRITE)]


@strawberry.input(description="Pieces of a product to put into the cart.")
class AddToCartInput:
    product_id: strawberry.ID = strawberry.field(description="What to buy.")
    quantity: int = strawberry.field(default=1, description="How many to add, 1 to 99.")


@strawberry.input(description="A new quantity for an item of the cart.")
class UpdateCartItemInput:
    cart_item_id: strawberry.ID = strawberry.field(description="The item.")
    quantity: int = strawberry.field(description="How many are wanted, 1 to 99.")


@strawberry.input(description="Orders what is in the cart.")
class CreateOrderInput:
    shipping_address: str = strawberry.field(
        default="", description="Where to send it; needed unless nothing is sent. At most 500 characters."
    )
    payment_method: str = strawberry.field(default="card", description="How the buyer will pay, e.g. card.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="A key of the client's making: repeated with it, the same order is answered."
    )


@strawberry.input(description="What a product adds to its buyer's plan.")
class AddOnInput:
    category_code: int = strawberry.field(description="Category byte of the cartridges, 1 to 255.")
    type_index: int = strawberry.field(default=0, description="Type within the category; 0 for the whole category.")


@strawberry.input(description="A product for the catalogue.")
class CreateProductInput:
    name_ko: str = strawberry.field(description="Name in Korean, at most 120 characters.")
    name_en: str = strawberry.field(description="Name in English, at most 120 characters.")
    description_ko: str = strawberry.field(default="", description="What it is, in Korean.")
    description_en: str = strawberry.field(default="", description="What it is, in English.")
    category: models.ProductCategory = strawberry.field(description="What kind of thing it is.")
    price_krw: int = strawberry.field(description="Price of one, in whole won, tax included.")
    required_tier: Tier = strawberry.field(default=Tier.FREE, description="Lowest plan whose holders may buy it.")
    image_url: str | None = strawberry.field(default=None, description="A picture, an https address.")
    opening_stock: int = strawberry.field(default=0, description="Pieces in the warehouse.")
    add_on: AddOnInput | None = strawberry.field(default=None, description="What it adds to its buyer's plan.")
    id: strawberry.ID | None = strawberry.field(
        default=None, description="Lower-case letters, digits and hyphens; null mints one."
    )


@strawberry.input(description="What to change of a product; null leaves it as it is.")
class UpdateProductInput:
    id: strawberry.ID = strawberry.field(description="The product.")
    name_ko: str | None = strawberry.field(default=None, description="Name in Korean.")
    name_en: str | None = strawberry.field(default=None, description="Name in English.")
    description_ko: str | None = strawberry.field(default=None, description="What it is, in Korean.")
    description_en: str | None = strawberry.field(default=None, description="What it is, in English.")
    price_krw: int | None = strawberry.field(default=None, description="Price of one, in whole won.")
    required_tier: Tier | None = strawberry.field(default=None, description="Lowest plan whose holders may buy it.")
    image_url: str | None = strawberry.field(default=None, description="A picture; empty takes it away.")
    is_active: bool | None = strawberry.field(default=None, description="Whether it is on sale.")


@strawberry.input(description="Pieces that came into the warehouse, or were lost.")
class RestockProductInput:
    id: strawberry.ID = strawberry.field(description="The product.")
    quantity: int = strawberry.field(description="Pieces to add; negative for what was lost.")
    note: str = strawberry.field(default="", description="Why, for the ledger.")


@strawberry.type
class ShopQuery:
    @strawberry.field(
        description="Products on sale; with a search, those that have a word beginning with each of its words.",
        directives=[PAGED],
    )
    async def products(
        self,
        info: Info,
        category: Annotated[
            models.ProductCategory | None, strawberry.argument(description="Only this category.")
        ] = None,
        search: Annotated[str, strawberry.argument(description="Words in Korean or English.")] = "",
        first: First = DEFAULT_PAGE,
        after: After = None,
    ) -> ProductConnection:
        request = page_request(first, after)
        async with info.context.database.read() as session:
            page = await info.context.services.shop.catalogue.page(session, request, category=category, search=search)
        return ProductConnection.of(info, page, request)

    @strawberry.field(description="A product by its id, also one that is not on sale any more; null without any.")
    async def product(self, info: Info, id: strawberry.ID) -> Product | None:
        return await Product.load(info, id)

    @strawberry.field(
        description="The categories of the catalogue, each with its number of products on sale.",
        directives=[list_size(assumed=4)],
    )
    async def product_categories(self, info: Info) -> list[ProductCategoryCount]:
        async with info.context.database.read() as session:
            counts = await info.context.services.shop.catalogue.categories(session)
        return [ProductCategoryCount(category=row.category, product_count=row.products) for row in counts]

    @strawberry.field(description="The caller's cart; an empty one without anything in it.", directives=_READ)
    async def cart(self, info: Info) -> Cart:
        async with info.context.database.read() as session:
            cart = await info.context.services.shop.carts.get(session, info.context.principal, user_id="")
        return Cart.of(info, cart)

    @strawberry.field(
        description="An order by its id; null when there is none that the caller may see.", directives=_READ
    )
    async def order(self, info: Info, id: strawberry.ID) -> Order | None:
        info.context.principal.require_authenticated()
        return await Order.load(info, id)


@strawberry.type
class ShopMutation:
    @strawberry.mutation(
        description="Put pieces of a product into the cart; more of what is in it adds up.", directives=_WRITE
    )
    async def add_to_cart(self, info: Info, input: AddToCartInput) -> Cart:
        async with info.context.database.transaction() as session:
            cart = await info.context.services.shop.carts.add(
                session,
                info.context.principal,
                user_id="",
                product_id=input.product_id,
                quantity=input.quantity,
            )
        return Cart.of(info, cart)

    @strawberry.mutation(description="Set how many pieces of an item are wanted.", directives=_WRITE)
    async def update_cart_item(self, info: Info, input: UpdateCartItemInput) -> Cart:
        async with info.context.database.transaction() as session:
            cart = await info.context.services.shop.carts.change(
                session,
                info.context.principal,
                user_id="",
                cart_item_id=input.cart_item_id,
                quantity=input.quantity,
            )
        return Cart.of(info, cart)

    @strawberry.mutation(description="Take an item out of the cart.", directives=_WRITE)
    async def remove_from_cart(self, info: Info, cart_item_id: strawberry.ID) -> Cart:
        async with info.context.database.transaction() as session:
            cart = await info.context.services.shop.carts.remove(
                session, info.context.principal, user_id="", cart_item_id=cart_item_id
            )
        return Cart.of(info, cart)

    @strawberry.mutation(
        description="Order what is in the cart: its stock is reserved for 30 minutes, and the cart is empty.",
        directives=_WRITE,
    )
    async def create_order(self, info: Info, input: CreateOrderInput) -> Order:
        async with info.context.database.transaction() as session:
            view = await info.context.services.shop.orders.create(
                session,
                info.context.principal,
                user_id="",
                shipping_address=input.shipping_address,
                payment_method=input.payment_method,
                idempotency_key=input.idempotency_key or "",
            )
        return Order.of(info, view)

    @strawberry.mutation(
        description="Give an order up that was not shipped; what was paid for it is paid back.",
        directives=_WRITE,
    )
    async def cancel_order(self, info: Info, id: strawberry.ID) -> Order:
        async with info.context.database.transaction() as session:
            view = await info.context.services.shop.orders.cancel(session, info.context.principal, order_id=id)
        return Order.of(info, view)

    @strawberry.mutation(description="Note that a paid order was handed to the carrier.", directives=_ADMINISTER)
    async def ship_order(self, info: Info, id: strawberry.ID) -> Order:
        async with info.context.database.transaction() as session:
            view = await info.context.services.shop.orders.ship(session, info.context.principal, order_id=id)
        return Order.of(info, view)

    @strawberry.mutation(description="Note that a shipped order has arrived.", directives=_ADMINISTER)
    async def deliver_order(self, info: Info, id: strawberry.ID) -> Order:
        async with info.context.database.transaction() as session:
            view = await info.context.services.shop.orders.deliver(session, info.context.principal, order_id=id)
        return Order.of(info, view)

    @strawberry.mutation(description="Add a product to the catalogue.", directives=_ADMINISTER)
    async def create_product(self, info: Info, input: CreateProductInput) -> Product:
        draft = ProductDraft(
            product_id=input.id or "",
            name_ko=input.name_ko,
            name_en=input.name_en,
            description_ko=input.description_ko,
            description_en=input.description_en,
            category=input.category,
            price_krw=input.price_krw,
            required_tier=input.required_tier,
            image_url=input.image_url or "",
            opening_stock=input.opening_stock,
            add_on=(input.add_on.category_code, input.add_on.type_index) if input.add_on else None,
        )
        async with info.context.database.transaction() as session:
            row = await info.context.services.shop.catalogue.create(session, info.context.principal, draft)
        return Product.of(info, row)

    @strawberry.mutation(description="Change a product, or take it off the catalogue.", directives=_ADMINISTER)
    async def update_product(self, info: Info, input: UpdateProductInput) -> Product:
        change = ProductChange(
            name_ko=input.name_ko,
            name_en=input.name_en,
            description_ko=input.description_ko,
            description_en=input.description_en,
            price_krw=input.price_krw,
            required_tier=input.required_tier,
            image_url=input.image_url,
            is_active=input.is_active,
        )
        async with info.context.database.transaction() as session:
            row = await info.context.services.shop.catalogue.change(
                session, info.context.principal, product_id=input.id, change=change
            )
        return Product.of(info, row)

    @strawberry.mutation(
        description="Add pieces to a product's stock, or take off what was lost.", directives=_ADMINISTER
    )
    async def restock_product(self, info: Info, input: RestockProductInput) -> Product:
        async with info.context.database.transaction() as session:
            row = await info.context.services.shop.catalogue.restock(
                session, info.context.principal, product_id=input.id, quantity=input.quantity, note=input.note
            )
        return Product.of(info, row)


@strawberry.type
class ShopOfUser:
    """What the service knows of a person; `id` is that of `User`."""

    id: strawberry.ID

    @strawberry.field(description="The person's orders, newest first.", directives=[*_READ, PAGED])
    async def orders(self, info: Info, first: First = DEFAULT_PAGE, after: After = None) -> OrderConnection | None:
        request = page_request(first, after)
        return OrderConnection.of(info, await info.context.shop.orders_of_user.load((self.id, request)), request)
