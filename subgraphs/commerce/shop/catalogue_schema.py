"""Products in GraphQL."""

# The overloads of strawberry.field for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from datetime import datetime
from typing import Annotated

import strawberry

from domain.commerce.shop import models
from domain.commerce.terms import Tier
from domain.paging import Page, PageRequest, encode_cursor
from subgraphs.commerce.context import Info
from subgraphs.runtime.graphql import list_size
from subgraphs.runtime.relay import PageInfo, page_info

ProductCategory = strawberry.enum(
    models.ProductCategory, name="ProductCategory", description="What kind of thing a product is."
)

First = Annotated[int, strawberry.argument(description="How many items, 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="Cursor of the item before the page.")]
PAGED = list_size("first", sized_fields=("edges",))


@strawberry.type(description="A right to use cartridges, which a product adds to its buyer's plan.")
class AddOn:
    category_code: int = strawberry.field(description="Category byte of the cartridges.")
    type_index: int = strawberry.field(description="Type within the category; 0 for the whole category.")


@strawberry.federation.type(keys=["id"], description="Something on sale.")
class Product:
    row: strawberry.Private[models.Product]
    id: strawberry.ID = strawberry.field(description="Names the product.")
    name: str = strawberry.field(description="Name, in the language of the request.")
    name_ko: str = strawberry.field(description="Name in Korean.")
    name_en: str = strawberry.field(description="Name in English.")
    description: str = strawberry.field(description="What it is and what it fits, in the language of the request.")
    category: models.ProductCategory = strawberry.field(description="What kind of thing it is.")
    price_krw: int = strawberry.field(description="Price of one, in whole won, tax included.")
    stock: int = strawberry.field(description="Pieces that can be ordered now.")
    required_tier: Tier = strawberry.field(description="Lowest plan whose holders may buy it.")
    image_url: str | None = strawberry.field(description="A picture; null when there is none.")
    is_active: bool = strawberry.field(description="Whether it is on sale.")
    cartridge_category_code: int | None = strawberry.field(
        description="Category byte of the cartridges that it contains; null for other things."
    )
    cartridge_type_index: int | None = strawberry.field(description="Their type within the category.")
    add_on: AddOn | None = strawberry.field(description="What it adds to its buyer's plan; null for things.")
    created_at: datetime = strawberry.field(description="When it came into the catalogue.")

    @strawberry.field(
        description="Whether the caller may order it now: it is on sale and in stock, and their plan is high enough. "
        "False for who is not signed in."
    )
    async def can_order(self, info: Info) -> bool:
        person = info.context.principal.user_id
        if person is None or not self.row.is_active or self.row.stock == 0:
            return False
        tier = await info.context.shop.tier.load(person)
        return tier.rank >= self.required_tier.rank

    @classmethod
    def of(cls, info: Info, row: models.Product) -> "Product":
        locale = info.context.request.locale
        return cls(
            row=row,
            id=strawberry.ID(row.product_id),
            name=row.name_in(locale),
            name_ko=row.name_ko,
            name_en=row.name_en,
            description=row.description_in(locale),
            category=models.ProductCategory(row.category),
            price_krw=row.price_krw,
            stock=row.stock,
            required_tier=Tier(row.required_tier),
            image_url=row.image_url or None,
            is_active=row.is_active,
            cartridge_category_code=row.cartridge_category_code,
            cartridge_type_index=row.cartridge_type_index,
            add_on=(
                AddOn(category_code=row.addon_category_code, type_index=row.addon_type_index or 0)
                if row.addon_category_code is not None
                else None
            ),
            created_at=row.created_at,
        )

    @classmethod
    async def load(cls, info: Info, product_id: str) -> "Product | None":
        """The product with an id; None when there is none."""
        row = await info.context.shop.product.load(product_id)
        return cls.of(info, row) if row else None

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "Product | None":
        """The product of a reference from another subgraph; None when there is none."""
        return await cls.load(info, id)


@strawberry.type(description="A product in a page, with its cursor.")
class ProductEdge:
    cursor: str = strawberry.field(description="Where it stands in the list.")
    node: Product = strawberry.field(description="The product.")


@strawberry.type(description="A page of products, in the order of the catalogue.")
class ProductConnection:
    edges: list[ProductEdge] = strawberry.field(description="The products of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")
    total_count: int = strawberry.field(description="How many there are in all.")

    @classmethod
    def of(cls, info: Info, page: Page[models.Product], request: PageRequest) -> "ProductConnection":
        cursors = [encode_cursor(row.created_at, row.product_id) for row in page.items]
        return cls(
            edges=[
                ProductEdge(cursor=cursor, node=Product.of(info, row))
                for cursor, row in zip(cursors, page.items, strict=True)
            ],
            page_info=page_info(cursors, has_next=page.has_next, request=request),
            total_count=page.total,
        )


@strawberry.type(description="A category of the catalogue.")
class ProductCategoryCount:
    category: models.ProductCategory = strawberry.field(description="The category.")
    product_count: int = strawberry.field(description="How many products of it are on sale.")
