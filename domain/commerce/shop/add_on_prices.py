"""What subscription asks of the catalogue: what cartridges cost that a plan leaves to be bought apart."""

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.shop.models import Product


async def add_on_prices(session: AsyncSession) -> Mapping[tuple[int, int], int]:
    """The lowest price in whole won of each add-on on sale, by category code and type index (0: the whole category)."""
    rows = await session.execute(
        select(Product.addon_category_code, Product.addon_type_index, func.min(Product.price_krw))
        .where(Product.is_active, Product.addon_category_code.is_not(None), Product.addon_type_index.is_not(None))
        .group_by(Product.addon_category_code, Product.addon_type_index)
    )
    return {
        (category, type_index): price_krw
        for category, type_index, price_krw in rows
        if category is not None and type_index is not None
    }
