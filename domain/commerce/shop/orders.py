"""Orders, as their buyers and administrators see and change them."""

from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.shop import fields, stock
from domain.commerce.shop.errors import CartEmpty, OrderMoveRefused, OrderNotFound, PaymentUnderWay, TierTooLow
from domain.commerce.shop.lifecycle import OrderLifecycle
from domain.commerce.shop.models import (
    CancelReason,
    CartLine,
    Order,
    OrderItem,
    OrderKind,
    OrderStatus,
    OrderView,
    Product,
    TimelineEntry,
    TimelineKind,
    shipping_context,
)
from domain.commerce.shop.ports import Payments, Plans
from domain.commerce.shop.repository import CartRepository, OrderRepository, TimelineRepository
from domain.commerce.shop.saga import PAY_WITHIN
from domain.commerce.shop.states import may_move
from domain.commerce.terms import REFUND_WINDOW, Cancellation, Tier
from domain.errors import Forbidden
from domain.ids import UserId, new_id
from domain.paging import Page, PageRequest, page_limit
from domain.principal import Principal, Role, Scope
from domain.sealing import Sealer


class Orders:
    """Queries and commands about orders. Somebody else's order is not found, except by administrators and services."""

    def __init__(
        self, clock: Clock, sealer: Sealer, lifecycle: OrderLifecycle, *, payments: Payments, plans: Plans
    ) -> None:
        self._clock = clock
        self._sealer = sealer
        self._lifecycle = lifecycle
        self._payments = payments
        self._plans = plans

    async def create(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        user_id: str,
        shipping_address: str,
        payment_method: str,
        idempotency_key: str = "",
    ) -> OrderView:
        """Order what is in the cart at the prices of this moment, reserve the stock and empty the cart.

        Args:
            shipping_address: may be empty only for what nobody sends (add-ons).
            idempotency_key: the order that was made with it before is answered again.
        Raises:
            CartEmpty; OutOfStock, ProductNotOnSale: name the product.
            TierTooLow: a product that the buyer's plan does not let them buy.
            ShopFieldInvalid: an address, method or key that cannot be.
        """
        principal.require_scope(Scope.COMMERCE_WRITE)
        buyer = fields.user_id(principal.acting_for(user_id))
        method = fields.payment_method(payment_method)
        key = fields.idempotency_key(idempotency_key) if idempotency_key else None
        carts = CartRepository(session)
        await carts.lock(buyer, at=self._clock.now())
        if key and (before := await OrderRepository(session).by_request(buyer, key)):
            return (await self._views(session, [before]))[before.order_id]
        lines = await carts.lines(buyer)
        if not lines:
            raise CartEmpty("The cart is empty; there is nothing to order.")
        address = fields.address(shipping_address, needed=not all(line.product.is_add_on for line in lines))
        order, items = await self._reserve(session, buyer, lines)
        order.payment_method = method
        order.idempotency_key = key
        order.shipping_address = self._sealer.seal(address.encode(), context=shipping_context(order.order_id))
        await self._lifecycle.open(session, order, items)
        await carts.clear(buyer)
        return OrderView(order, items, address)

    async def _reserve(
        self, session: AsyncSession, buyer: UserId, lines: Sequence[CartLine]
    ) -> tuple[Order, tuple[OrderItem, ...]]:
        now = self._clock.now()
        order_id = new_id()
        tier = await self._plans.tier_of(session, buyer)
        taken = await stock.reserve(
            session,
            {line.product.product_id: line.quantity for line in lines},
            order_id=order_id,
            by=buyer,
            at=now,
        )
        for product in taken.values():
            _require_tier(product, tier)
        items = tuple(
            _item(order_id, position, taken[line.product.product_id], line.quantity)
            for position, line in enumerate(lines)
        )
        order = Order(
            order_id=order_id,
            user_id=buyer,
            kind=OrderKind.GOODS,
            status=OrderStatus.PENDING,
            total_krw=sum(item.quantity * item.unit_price_krw for item in items),
            subscription_id="",
            refunded_krw=0,
            created_at=now,
            updated_at=now,
            expires_at=now + PAY_WITHIN,
            due_check_at=now + PAY_WITHIN,
        )
        return order, items

    async def cancel(self, session: AsyncSession, principal: Principal, *, order_id: str) -> OrderView:
        """Give an order up that was not shipped; what was paid for it is paid back. Repeated, it changes nothing.

        Raises:
            OrderNotFound.
            OrderMoveRefused: it was shipped, is for a plan that is paid, or for add-ons that were used for too long.
            PaymentUnderWay: the payment is being captured at this moment.
        """
        order = await self._for_update(session, principal, order_id)
        over = order.status in (OrderStatus.CANCELLED, OrderStatus.REFUNDED)
        if not over:
            if order.status == OrderStatus.PENDING:
                await self._give_payment_up(session, order)
            else:
                await self._require_may_take_back(session, principal, order)
            await self._lifecycle.cancel(session, order, CancelReason.BY_CUSTOMER)
        return (await self._views(session, [order]))[order.order_id]

    async def _require_may_take_back(self, session: AsyncSession, principal: Principal, order: Order) -> None:
        """Let goods be given up until they are shipped; add-ons, which are in use since they were paid, for some days."""
        if principal.is_trusted or principal.role is Role.ADMIN:
            return
        items = (await OrderRepository(session).items_of([order.order_id]))[order.order_id]
        if any(item.addon_category_code is None for item in items):
            return
        settled = await self._payments.settled_for_order(session, order.order_id)
        if settled is not None and self._clock.now() - settled.completed_at > REFUND_WINDOW:
            raise OrderMoveRefused(
                f"An add-on can be taken back within {REFUND_WINDOW.days} days.", order_id=order.order_id
            )

    async def _give_payment_up(self, session: AsyncSession, order: Order) -> None:
        outcome = await self._payments.cancel_open(session, order_id=order.order_id)
        if outcome is Cancellation.IN_FLIGHT:
            raise PaymentUnderWay("The order is being paid at this moment; try again in a minute.")
        if outcome is not Cancellation.COMPLETED:
            return
        # It was captured, and its event is on its way: take note of it now, so that it is paid back.
        settled = await self._payments.settled_for_order(session, order.order_id)
        if settled is None or not may_move(OrderKind(order.kind), OrderStatus.PAID, OrderStatus.CANCELLED):
            raise PaymentUnderWay("The order was paid a moment ago; try again in a minute.")
        order.payment_id = settled.payment_id
        order.refunded_krw = settled.refunded_krw
        await self._lifecycle.tell(
            session,
            order,
            TimelineKind.PAID,
            reference=settled.payment_id,
            amount_krw=settled.amount_krw,
            at=settled.completed_at,
        )

    async def ship(self, session: AsyncSession, principal: Principal, *, order_id: str) -> OrderView:
        """Note that a paid order was handed to the carrier; repeated, it changes nothing.

        Raises:
            OrderNotFound; OrderMoveRefused: it is not paid, is being paid back, or is for a plan.
        """
        order = await self._administered(session, principal, order_id)
        if order.status != OrderStatus.SHIPPED:
            # Its refund may be in hand, and the event of it on its way.
            if order.payment_id is not None and await self._payments.is_given_back(session, order.payment_id):
                raise OrderMoveRefused("The order is being paid back.", order_id=order_id)
            await self._lifecycle.ship(session, order)
        return (await self._views(session, [order]))[order.order_id]

    async def deliver(self, session: AsyncSession, principal: Principal, *, order_id: str) -> OrderView:
        """Note that a shipped order has arrived; repeated, it changes nothing.

        Raises:
            OrderNotFound; OrderMoveRefused: it was not shipped.
        """
        order = await self._administered(session, principal, order_id)
        if order.status != OrderStatus.DELIVERED:
            await self._lifecycle.deliver(session, order)
        return (await self._views(session, [order]))[order.order_id]

    async def get(self, session: AsyncSession, principal: Principal, order_id: str) -> OrderView:
        """Raises: OrderNotFound: there is none that the caller may see."""
        principal.require_scope(Scope.COMMERCE_READ)
        order = await OrderRepository(session).get(order_id)
        if order is None or not _may_see(principal, order):
            raise OrderNotFound(order_id)
        return (await self._views(session, [order]))[order_id]

    async def visible(
        self, session: AsyncSession, principal: Principal, order_ids: Collection[str]
    ) -> dict[str, OrderView]:
        """Those of the named orders that exist and that the caller may see; for references from other subgraphs."""
        principal.require_scope(Scope.COMMERCE_READ)
        found = await OrderRepository(session).by_ids(order_ids)
        return await self._views(session, [order for order in found.values() if _may_see(principal, order)])

    async def list(
        self, session: AsyncSession, principal: Principal, *, user_id: str, limit: int, offset: int
    ) -> tuple[Sequence[OrderView], int]:
        """A person's orders, newest first, and how many they have in all.

        Raises:
            InvalidInput: a negative limit or offset.
        """
        principal.require_scope(Scope.COMMERCE_READ)
        owner = fields.user_id(principal.acting_for(user_id))
        limit, offset = page_limit(limit, offset)
        orders, total = await OrderRepository(session).list(owner, limit=limit, offset=offset)
        views = await self._views(session, orders)
        return [views[order.order_id] for order in orders], total

    async def pages_of(
        self, session: AsyncSession, principal: Principal, *, user_ids: Collection[str], page: PageRequest
    ) -> dict[str, Page[OrderView]]:
        """A page of orders for each person, newest first.

        Raises:
            Forbidden: one of them is somebody else.
        """
        principal.require_scope(Scope.COMMERCE_READ)
        owners = [fields.user_id(principal.acting_for(user_id)) for user_id in user_ids]
        pages = await OrderRepository(session).pages_of(owners, page)
        views = await self._views(session, [order for found in pages.values() for order in found.items])
        return {
            owner: Page([views[order.order_id] for order in found.items], has_next=found.has_next, total=found.total)
            for owner, found in pages.items()
        }

    async def timelines(
        self, session: AsyncSession, order_ids: Collection[str]
    ) -> dict[str, tuple[TimelineEntry, ...]]:
        """What happened to each order, oldest first; for orders that the caller was shown."""
        return await TimelineRepository(session).of_orders(order_ids)

    async def _views(self, session: AsyncSession, orders: Sequence[Order]) -> dict[str, OrderView]:
        items = await OrderRepository(session).items_of([order.order_id for order in orders])
        return {order.order_id: OrderView(order, items[order.order_id], self._address(order)) for order in orders}

    def _address(self, order: Order) -> str:
        if order.shipping_address is None:
            return ""
        return self._sealer.open(order.shipping_address, context=shipping_context(order.order_id)).decode()

    async def _for_update(self, session: AsyncSession, principal: Principal, order_id: str) -> Order:
        principal.require_scope(Scope.COMMERCE_WRITE)
        order = await OrderRepository(session).get_for_update(order_id)
        if order is None or not _may_see(principal, order):
            raise OrderNotFound(order_id)
        return order

    async def _administered(self, session: AsyncSession, principal: Principal, order_id: str) -> Order:
        principal.require_scope(Scope.CATALOG_WRITE)
        order = await OrderRepository(session).get_for_update(order_id)
        if order is None:
            raise OrderNotFound(order_id)
        if order.kind != OrderKind.GOODS:
            raise OrderMoveRefused("A plan is not shipped.", order_id=order_id)
        return order


def _require_tier(product: Product, tier: Tier) -> None:
    required = Tier(product.required_tier)
    if tier.rank < required.rank:
        raise TierTooLow(
            f"{product.name_en} is sold from the plan {required} on; yours is {tier}.",
            product_id=product.product_id,
            required_tier=required,
        )


def _item(order_id: str, position: int, product: Product, quantity: int) -> OrderItem:
    return OrderItem(
        order_id=order_id,
        position=position,
        product_id=product.product_id,
        name_ko=product.name_ko,
        name_en=product.name_en,
        quantity=quantity,
        unit_price_krw=product.price_krw,
        addon_category_code=product.addon_category_code,
        addon_type_index=product.addon_type_index,
    )


def _may_see(principal: Principal, order: Order) -> bool:
    try:
        principal.acting_for(order.user_id)
    except Forbidden:
        return False
    return True
