"""shop-service over gRPC."""

from manpasik.v1 import shop_pb2 as pb
from manpasik.v1 import shop_pb2_grpc as pb_grpc

from domain.commerce.shop.errors import ShopFieldInvalid
from domain.commerce.shop.models import CartView, OrderItem, OrderStatus, OrderView, Product, ProductCategory
from domain.commerce.shop.service import ShopService
from subgraphs.commerce.wire import timestamp
from subgraphs.runtime.context import Locale, current
from subgraphs.runtime.database import Database

CATEGORY_TO_WIRE = {
    ProductCategory.CARTRIDGE: pb.PRODUCT_CATEGORY_CARTRIDGE,
    ProductCategory.READER: pb.PRODUCT_CATEGORY_READER,
    ProductCategory.ACCESSORY: pb.PRODUCT_CATEGORY_ACCESSORY,
    ProductCategory.BUNDLE: pb.PRODUCT_CATEGORY_BUNDLE,
}
CATEGORY_FROM_WIRE: dict[pb.ProductCategory.ValueType, ProductCategory | None] = {
    pb.PRODUCT_CATEGORY_UNKNOWN: None,
    **{wire: category for category, wire in CATEGORY_TO_WIRE.items()},
}
STATUS_TO_WIRE = {
    OrderStatus.PENDING: pb.ORDER_STATUS_PENDING,
    OrderStatus.PAID: pb.ORDER_STATUS_PAID,
    OrderStatus.SHIPPED: pb.ORDER_STATUS_SHIPPED,
    OrderStatus.DELIVERED: pb.ORDER_STATUS_DELIVERED,
    OrderStatus.CANCELLED: pb.ORDER_STATUS_CANCELLED,
    OrderStatus.REFUNDED: pb.ORDER_STATUS_REFUNDED,
}


class ShopServicer(pb_grpc.ShopServiceServicer):
    """manpasik.v1.ShopService."""

    def __init__(self, shop: ShopService, database: Database) -> None:
        self._shop = shop
        self._database = database

    async def ListProducts(  # noqa: N802 - the name of the wire
        self, request: pb.ListProductsRequest, _context: object
    ) -> pb.ListProductsResponse:
        category = _category_of(request.category)
        async with self._database.read() as session:
            products, total = await self._shop.catalogue.list(
                session, category=category, limit=request.limit, offset=request.offset
            )
        locale = current().locale
        return pb.ListProductsResponse(products=[_product(product, locale) for product in products], total_count=total)

    async def GetProduct(  # noqa: N802 - the name of the wire
        self, request: pb.GetProductRequest, _context: object
    ) -> pb.Product:
        async with self._database.read() as session:
            return _product(await self._shop.catalogue.get(session, request.product_id), current().locale)

    async def AddToCart(  # noqa: N802 - the name of the wire
        self, request: pb.AddToCartRequest, _context: object
    ) -> pb.Cart:
        async with self._database.transaction() as session:
            cart = await self._shop.carts.add(
                session,
                current().principal,
                user_id=request.user_id,
                product_id=request.product_id,
                quantity=request.quantity,
            )
        return _cart(cart, current().locale)

    async def GetCart(  # noqa: N802 - the name of the wire
        self, request: pb.GetCartRequest, _context: object
    ) -> pb.Cart:
        async with self._database.read() as session:
            cart = await self._shop.carts.get(session, current().principal, user_id=request.user_id)
        return _cart(cart, current().locale)

    async def RemoveFromCart(  # noqa: N802 - the name of the wire
        self, request: pb.RemoveFromCartRequest, _context: object
    ) -> pb.Cart:
        async with self._database.transaction() as session:
            cart = await self._shop.carts.remove(
                session, current().principal, user_id=request.user_id, cart_item_id=request.cart_item_id
            )
        return _cart(cart, current().locale)

    async def CreateOrder(  # noqa: N802 - the name of the wire
        self, request: pb.CreateOrderRequest, _context: object
    ) -> pb.Order:
        async with self._database.transaction() as session:
            order = await self._shop.orders.create(
                session,
                current().principal,
                user_id=request.user_id,
                shipping_address=request.shipping_address,
                payment_method=request.payment_method,
            )
        return _order(order, current().locale)

    async def GetOrder(  # noqa: N802 - the name of the wire
        self, request: pb.GetOrderRequest, _context: object
    ) -> pb.Order:
        async with self._database.read() as session:
            order = await self._shop.orders.get(session, current().principal, request.order_id)
        return _order(order, current().locale)

    async def ListOrders(  # noqa: N802 - the name of the wire
        self, request: pb.ListOrdersRequest, _context: object
    ) -> pb.ListOrdersResponse:
        async with self._database.read() as session:
            orders, total = await self._shop.orders.list(
                session,
                current().principal,
                user_id=request.user_id,
                limit=request.limit,
                offset=request.offset,
            )
        locale = current().locale
        return pb.ListOrdersResponse(orders=[_order(order, locale) for order in orders], total_count=total)


def _category_of(wire: pb.ProductCategory.ValueType) -> ProductCategory | None:
    """Raises: ShopFieldInvalid: a number that this release does not know."""
    if wire not in CATEGORY_FROM_WIRE:
        raise ShopFieldInvalid(f"category is {wire}; there is no such category.", field="category")
    return CATEGORY_FROM_WIRE[wire]


def _product(product: Product, locale: Locale) -> pb.Product:
    return pb.Product(
        product_id=product.product_id,
        name=product.name_in(locale),
        description=product.description_in(locale),
        category=CATEGORY_TO_WIRE[ProductCategory(product.category)],
        price_krw=product.price_krw,
        stock=product.stock,
        image_url=product.image_url,
        is_active=product.is_active,
        created_at=timestamp(product.created_at),
    )


def _cart(cart: CartView, locale: Locale) -> pb.Cart:
    return pb.Cart(
        user_id=cart.user_id,
        items=[
            pb.CartItem(
                cart_item_id=line.cart_item_id,
                product_id=line.product.product_id,
                product_name=line.product.name_in(locale),
                quantity=line.quantity,
                unit_price_krw=line.product.price_krw,
                total_price_krw=line.total_krw,
            )
            for line in cart.lines
        ],
        total_price_krw=cart.total_krw,
    )


def _order(view: OrderView, locale: Locale) -> pb.Order:
    order = view.order
    return pb.Order(
        order_id=order.order_id,
        user_id=order.user_id,
        items=[_order_item(item, locale) for item in view.items],
        total_price_krw=order.total_krw,
        status=STATUS_TO_WIRE[OrderStatus(order.status)],
        shipping_address=view.shipping_address,
        payment_id=order.payment_id or "",
        created_at=timestamp(order.created_at),
        updated_at=timestamp(order.updated_at),
    )


def _order_item(item: OrderItem, locale: Locale) -> pb.OrderItem:
    return pb.OrderItem(
        product_id=item.product_id,
        product_name=item.name_in(locale),
        quantity=item.quantity,
        unit_price_krw=item.unit_price_krw,
        total_price_krw=item.total_krw,
    )
