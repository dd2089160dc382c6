"""Carts: what a person is about to buy. Nothing is reserved before it is ordered."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.shop import fields, stock
from domain.commerce.shop.errors import CartFull, CartItemNotFound
from domain.commerce.shop.models import CartItem, CartLine, CartView
from domain.commerce.shop.repository import CartRepository, ProductRepository
from domain.ids import UserId, new_id
from domain.principal import Principal, Scope


class Carts:
    """Queries and commands about carts; each answers the cart as it is after it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def get(self, session: AsyncSession, principal: Principal, *, user_id: str) -> CartView:
        """A person's cart; an empty one when nothing is in it."""
        principal.require_scope(Scope.COMMERCE_READ)
        owner = fields.user_id(principal.acting_for(user_id))
        return CartView(owner, await CartRepository(session).lines(owner))

    async def add(
        self, session: AsyncSession, principal: Principal, *, user_id: str, product_id: str, quantity: int
    ) -> CartView:
        """Put pieces of a product into the cart; more of what is in it adds up.

        Raises:
            ShopFieldInvalid: not 1 to 99 pieces, also together with those that are in the cart.
            ProductNotFound, ProductNotOnSale, OutOfStock: fewer are left than would be in the cart.
            CartFull: more than 200 pieces in all.
        """
        fields.quantity(quantity)
        owner = await self._lock(session, principal, user_id)
        cart = await self._view(session, owner)
        there = next((line for line in cart.lines if line.product.product_id == product_id), None)
        return await self._put(
            session,
            cart,
            cart_item_id=there.cart_item_id if there else new_id(),
            product_id=product_id,
            quantity=quantity + (there.quantity if there else 0),
        )

    async def change(
        self, session: AsyncSession, principal: Principal, *, user_id: str, cart_item_id: str, quantity: int
    ) -> CartView:
        """Set how many pieces of an item are wanted.

        Raises:
            CartItemNotFound; else as `add`.
        """
        fields.quantity(quantity)
        owner = await self._lock(session, principal, user_id)
        cart = await self._view(session, owner)
        there = next((line for line in cart.lines if line.cart_item_id == cart_item_id), None)
        if there is None:
            raise CartItemNotFound(cart_item_id)
        return await self._put(
            session, cart, cart_item_id=cart_item_id, product_id=there.product.product_id, quantity=quantity
        )

    async def remove(self, session: AsyncSession, principal: Principal, *, user_id: str, cart_item_id: str) -> CartView:
        """Take an item out, whatever its quantity.

        Raises:
            CartItemNotFound: it is in no cart, or in somebody else's.
        """
        owner = await self._lock(session, principal, user_id)
        if "\0" in cart_item_id or not await CartRepository(session).remove(owner, cart_item_id):
            raise CartItemNotFound(cart_item_id)
        return await self._view(session, owner)

    async def _lock(self, session: AsyncSession, principal: Principal, user_id: str) -> UserId:
        principal.require_scope(Scope.COMMERCE_WRITE)
        owner = fields.user_id(principal.acting_for(user_id))
        await CartRepository(session).lock(owner, at=self._clock.now())
        return owner

    async def _put(
        self, session: AsyncSession, cart: CartView, *, cart_item_id: str, product_id: str, quantity: int
    ) -> CartView:
        """Set the quantity of a product in the locked cart; the cart after it, in which what is new stands last."""
        fields.quantity(quantity)
        others = sum(line.quantity for line in cart.lines if line.product.product_id != product_id)
        if others + quantity > fields.MAX_CART_PIECES:
            raise CartFull(f"A cart takes {fields.MAX_CART_PIECES} pieces; this would be {others + quantity}.")
        product = await ProductRepository(session).get(product_id)
        if product is None or not product.is_active or product.stock < quantity:
            raise stock.refusal(product, product_id, wanted=quantity)
        item = CartItem(
            cart_item_id=cart_item_id,
            user_id=cart.user_id,
            product_id=product_id,
            quantity=quantity,
            added_at=self._clock.now(),
        )
        await CartRepository(session).put(item)
        line = CartLine(cart_item_id, quantity, product)
        lines = tuple(line if old.cart_item_id == cart_item_id else old for old in cart.lines)
        return CartView(cart.user_id, lines if line in lines else (*lines, line))

    @staticmethod
    async def _view(session: AsyncSession, owner: UserId) -> CartView:
        return CartView(owner, await CartRepository(session).lines(owner))
