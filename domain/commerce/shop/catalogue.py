"""The catalogue: what is on sale, for everybody to see and for administrators to change."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.shop import fields
from domain.commerce.shop.errors import ProductAlreadyExists, ProductNotFound, ShopFieldInvalid
from domain.commerce.shop.models import CategoryCount, MovementKind, Product, ProductCategory, StockMovement
from domain.commerce.shop.repository import ProductRepository
from domain.commerce.terms import Tier
from domain.ids import new_id
from domain.paging import Page, PageRequest, page_limit
from domain.principal import Principal, Scope

MAX_SEARCH_LENGTH = 200
_BYTE = 255


@dataclass(frozen=True, slots=True)
class ProductDraft:
    """A product as an administrator describes it. `add_on`: category code and type index (0: all) that it opens."""

    name_ko: str
    name_en: str
    description_ko: str
    description_en: str
    category: ProductCategory
    price_krw: int
    required_tier: Tier
    image_url: str = ""
    product_id: str = ""
    opening_stock: int = 0
    add_on: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ProductChange:
    """What to change of a product; None leaves it as it is."""

    name_ko: str | None = None
    name_en: str | None = None
    description_ko: str | None = None
    description_en: str | None = None
    price_krw: int | None = None
    required_tier: Tier | None = None
    image_url: str | None = None
    is_active: bool | None = None


class Catalogue:
    """Queries and commands about products."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def list(
        self, session: AsyncSession, *, category: ProductCategory | None, limit: int, offset: int
    ) -> tuple[Sequence[Product], int]:
        """Products on sale, oldest first, and how many there are in all.

        Raises:
            InvalidInput: a negative limit or offset.
        """
        limit, offset = page_limit(limit, offset)
        return await ProductRepository(session).list(category=category, search="", limit=limit, offset=offset)

    async def page(
        self, session: AsyncSession, page: PageRequest, *, category: ProductCategory | None, search: str
    ) -> Page[Product]:
        """Products on sale in which every word of the search begins a word of a name or description.

        Raises:
            ShopFieldInvalid: a search of more than 200 characters.
        """
        if len(search) > MAX_SEARCH_LENGTH:
            raise ShopFieldInvalid(f"search exceeds {MAX_SEARCH_LENGTH} characters.", field="search")
        return await ProductRepository(session).page(page, category=category, search=search)

    async def get(self, session: AsyncSession, product_id: str) -> Product:
        """A product, also one that is not on sale any more: orders refer to it.

        Raises:
            ProductNotFound.
        """
        product = await ProductRepository(session).get(product_id)
        if product is None:
            raise ProductNotFound(product_id)
        return product

    async def by_ids(self, session: AsyncSession, product_ids: Collection[str]) -> dict[str, Product]:
        """Those of the named products that exist."""
        return await ProductRepository(session).by_ids(product_ids)

    async def categories(self, session: AsyncSession) -> Sequence[CategoryCount]:
        """Every category, with how many products of it are on sale."""
        counted = {row.category: row for row in await ProductRepository(session).counts()}
        return [counted.get(category, CategoryCount(category, 0)) for category in ProductCategory]

    async def create(self, session: AsyncSession, principal: Principal, draft: ProductDraft) -> Product:
        """Add a product to the catalogue, with an opening stock.

        Raises:
            ShopFieldInvalid: a text, price, stock or code that a product cannot have.
            ProductAlreadyExists: its id is taken.
        """
        principal.require_scope(Scope.CATALOG_WRITE)
        now = self._clock.now()
        opening = fields.within(draft.opening_stock, 0, fields.MAX_STOCK, field="opening_stock")
        addon_category, addon_type = _add_on(draft.add_on)
        product = Product(
            product_id=fields.product_id(draft.product_id or new_id()),
            category=draft.category,
            name_ko=fields.line(draft.name_ko, field="name_ko", longest=120),
            name_en=fields.line(draft.name_en, field="name_en", longest=120),
            description_ko=fields.line(draft.description_ko, field="description_ko", longest=1000, shortest=0),
            description_en=fields.line(draft.description_en, field="description_en", longest=1000, shortest=0),
            price_krw=fields.price_krw(draft.price_krw),
            stock=opening,
            required_tier=draft.required_tier,
            image_url=fields.image_url(draft.image_url),
            is_active=True,
            addon_category_code=addon_category,
            addon_type_index=addon_type,
            created_at=now,
            updated_at=now,
        )
        products = ProductRepository(session)
        if not await products.add(product):
            raise ProductAlreadyExists("A product has this id already.", product_id=product.product_id)
        if opening:
            await products.record(self._movement(product.product_id, MovementKind.OPENING, opening, principal, note=""))
        return product

    async def change(
        self, session: AsyncSession, principal: Principal, *, product_id: str, change: ProductChange
    ) -> Product:
        """Change a product. Orders keep the name and price that it had.

        Raises:
            ProductNotFound; ShopFieldInvalid: a value that a product cannot have.
        """
        product = await self._for_update(session, principal, product_id)
        if change.name_ko is not None:
            product.name_ko = fields.line(change.name_ko, field="name_ko", longest=120)
        if change.name_en is not None:
            product.name_en = fields.line(change.name_en, field="name_en", longest=120)
        if change.description_ko is not None:
            product.description_ko = fields.line(
                change.description_ko, field="description_ko", longest=1000, shortest=0
            )
        if change.description_en is not None:
            product.description_en = fields.line(
                change.description_en, field="description_en", longest=1000, shortest=0
            )
        if change.price_krw is not None:
            product.price_krw = fields.price_krw(change.price_krw)
        if change.image_url is not None:
            product.image_url = fields.image_url(change.image_url)
        product.required_tier = change.required_tier or product.required_tier
        product.is_active = product.is_active if change.is_active is None else change.is_active
        product.updated_at = self._clock.now()
        await session.flush()
        return product

    async def restock(
        self, session: AsyncSession, principal: Principal, *, product_id: str, quantity: int, note: str
    ) -> Product:
        """Add pieces to the stock, or take off (negative) what was lost; a line in the ledger says why.

        Raises:
            ProductNotFound; ShopFieldInvalid: 0, or a stock that would be negative or beyond 1,000,000.
        """
        product = await self._for_update(session, principal, product_id)
        if quantity == 0:
            raise ShopFieldInvalid("quantity is 0; nothing would change.", field="quantity")
        left = fields.within(quantity, -fields.MAX_STOCK, fields.MAX_STOCK, field="quantity") + product.stock
        product.stock = fields.within(left, 0, fields.MAX_STOCK, field="stock")
        product.updated_at = self._clock.now()
        await session.flush()
        movement = self._movement(
            product_id,
            MovementKind.RESTOCK,
            quantity,
            principal,
            note=fields.line(note, field="note", longest=200, shortest=0),
        )
        await ProductRepository(session).record(movement)
        return product

    async def _for_update(self, session: AsyncSession, principal: Principal, product_id: str) -> Product:
        principal.require_scope(Scope.CATALOG_WRITE)
        product = await ProductRepository(session).get_for_update(product_id)
        if product is None:
            raise ProductNotFound(product_id)
        return product

    def _movement(
        self, product_id: str, kind: MovementKind, quantity: int, principal: Principal, *, note: str
    ) -> StockMovement:
        return StockMovement(
            product_id=product_id,
            kind=kind,
            quantity=quantity,
            note=note,
            recorded_by=principal.subject[:64],
            recorded_at=self._clock.now(),
        )


def _add_on(add_on: tuple[int, int] | None) -> tuple[int | None, int | None]:
    if add_on is None:
        return None, None
    category, type_index = add_on
    return (
        fields.within(category, 1, _BYTE, field="addon_category_code"),
        fields.within(type_index, 0, _BYTE, field="addon_type_index"),
    )
