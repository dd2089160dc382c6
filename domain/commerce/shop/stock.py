"""Stock: conditional updates that can never go below zero, each with its line in the ledger."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.shop.errors import OutOfStock, ProductNotFound, ProductNotOnSale
from domain.commerce.shop.models import MovementKind, Product, StockMovement
from domain.commerce.shop.repository import ProductRepository


async def reserve(
    session: AsyncSession, quantities: Mapping[str, int], *, order_id: str, by: str, at: datetime
) -> dict[str, Product]:
    """Take pieces for an order, by product id; the products as they are after it.

    In the order of the ids, so that two orders of the same products wait for one another and never each for the other.

    Raises:
        OutOfStock, ProductNotOnSale, ProductNotFound: names the product; the transaction has to be rolled back.
    """
    products = ProductRepository(session)
    taken: dict[str, Product] = {}
    for product_id in sorted(quantities):
        quantity = quantities[product_id]
        product = await products.take(product_id, quantity)
        if product is None:
            raise refusal(await products.get(product_id), product_id, wanted=quantity)
        await products.record(
            StockMovement(
                product_id=product_id,
                kind=MovementKind.RESERVED,
                quantity=-quantity,
                order_id=order_id,
                note="",
                recorded_by=by,
                recorded_at=at,
            )
        )
        taken[product_id] = product
    return taken


async def release(session: AsyncSession, order_id: str, *, by: str, at: datetime) -> None:
    """Give back what an order had reserved; repeated, it does nothing."""
    products = ProductRepository(session)
    released = await products.release(order_id, by=by, at=at)
    for product_id in sorted(released):
        await products.put_back(product_id, released[product_id])


def refusal(
    product: Product | None, product_id: str, *, wanted: int
) -> ProductNotFound | ProductNotOnSale | OutOfStock:
    """Why so many pieces of a product cannot be had."""
    if product is None:
        return ProductNotFound(product_id)
    if not product.is_active:
        return ProductNotOnSale(f"{product.name_en} is not on sale any more.", product_id=product_id)
    return OutOfStock(
        f"{product.stock} of {product.name_en} are left; {wanted} are wanted.",
        product_id=product_id,
        left=product.stock,
        wanted=wanted,
    )
