"""What can go wrong in the shop, besides what every command shares."""

from domain.errors import AlreadyExists, Forbidden, InvalidInput, LimitExceeded, NotFound, WrongState


class ShopFieldInvalid(InvalidInput):
    """A field of a product, cart or order has a value that it cannot have."""

    reason = "SHOP_FIELD_INVALID"


class ProductNotFound(NotFound):
    """No product has this id."""

    reason = "PRODUCT_NOT_FOUND"

    def __init__(self, product_id: str) -> None:
        super().__init__("There is no such product.", product_id=product_id[:64])


class ProductNotOnSale(WrongState):
    """It was taken off the catalogue."""

    reason = "PRODUCT_NOT_ON_SALE"


class ProductAlreadyExists(AlreadyExists):
    """The id names a product."""

    reason = "PRODUCT_ALREADY_EXISTS"


class OutOfStock(WrongState):
    """Fewer pieces are left than are wanted."""

    reason = "OUT_OF_STOCK"


class CartItemNotFound(NotFound):
    """The cart has no such item."""

    reason = "CART_ITEM_NOT_FOUND"

    def __init__(self, cart_item_id: str) -> None:
        super().__init__("The cart has no such item.", cart_item_id=cart_item_id[:64])


class CartEmpty(WrongState):
    """There is nothing to order."""

    reason = "CART_EMPTY"


class CartFull(LimitExceeded):
    """More pieces than one order may have."""

    reason = "CART_FULL"


class TierTooLow(Forbidden):
    """The product is sold from a higher plan on."""

    reason = "TIER_TOO_LOW"


class OrderNotFound(NotFound):
    """No order has this id, or it is somebody else's."""

    reason = "ORDER_NOT_FOUND"

    def __init__(self, order_id: str) -> None:
        super().__init__("There is no such order.", order_id=order_id[:64])


class OrderMoveRefused(WrongState):
    """The order's state does not allow this."""

    reason = "ORDER_STATE"


class PaymentUnderWay(WrongState):
    """The payment is being captured at this moment, or was captured a moment ago."""

    reason = "PAYMENT_UNDER_WAY"
