"""Tables and values of the shop."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from domain.commerce.base import Base
from domain.commerce.terms import Tier

Locale = Literal["ko", "en"]


class ProductCategory(StrEnum):
    """What kind of thing a product is."""

    CARTRIDGE = "cartridge"
    READER = "reader"
    ACCESSORY = "accessory"
    BUNDLE = "bundle"


class OrderStatus(StrEnum):
    """State of an order, in the order it usually goes."""

    PENDING = "pending"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


class OrderKind(StrEnum):
    """What was bought: things from the shop, or a period of a plan."""

    GOODS = "goods"
    SUBSCRIPTION = "subscription"


class CancelReason(StrEnum):
    """Why an order was given up; as `shop.order_cancelled` tells it."""

    PAYMENT_FAILED = "payment_failed"
    TIMED_OUT = "timed_out"
    BY_CUSTOMER = "by_customer"
    REFUNDED = "refunded"
    ACCOUNT_PROVEN = "account_proven"  # an unproven holder of the account ordered it


class MovementKind(StrEnum):
    """Why a product's stock changed."""

    OPENING = "opening"
    RESTOCK = "restock"  # by an administrator; negative for what was lost or miscounted
    RESERVED = "reserved"
    RELEASED = "released"


class TimelineKind(StrEnum):
    """What happened to an order."""

    CREATED = "created"
    PAYMENT_OPENED = "payment_opened"
    PAID = "paid"
    PAYMENT_FAILED = "payment_failed"
    CANCELLED = "cancelled"
    REFUND_REQUESTED = "refund_requested"
    REFUNDED = "refunded"
    SHIPPED = "shipped"
    DELIVERED = "delivered"


_MOMENT = DateTime(timezone=True)
SEARCH_EXPRESSION = "to_tsvector('simple', name_ko || ' ' || name_en || ' ' || description_ko || ' ' || description_en)"
"""`simple` neither stems nor drops words, so it treats Korean and English alike."""


class Product(Base):
    """Something on sale. `stock` is what can be ordered now; the ledger says how it came about.

    `cartridge_*` name the cartridge type that a pack contains; `addon_*` the types that it opens for its buyer
    (`addon_type_index` 0: the whole category).
    """

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("stock >= 0", name="stock"),
        CheckConstraint("price_krw > 0", name="price_krw"),
        CheckConstraint("(addon_category_code IS NULL) = (addon_type_index IS NULL)", name="addon"),
        Index("ix_products_listed", "created_at", "product_id", postgresql_where=text("is_active")),
        Index("ix_products_search", "search", postgresql_using="gin"),
    )

    product_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    category: Mapped[ProductCategory] = mapped_column(String(16))
    name_ko: Mapped[str] = mapped_column(String(120))
    name_en: Mapped[str] = mapped_column(String(120))
    description_ko: Mapped[str] = mapped_column(String(1000))
    description_en: Mapped[str] = mapped_column(String(1000))
    price_krw: Mapped[int] = mapped_column(Integer)
    stock: Mapped[int] = mapped_column(Integer)
    required_tier: Mapped[Tier] = mapped_column(String(16))
    image_url: Mapped[str] = mapped_column(String(500))
    is_active: Mapped[bool] = mapped_column(Boolean)
    cartridge_category_code: Mapped[int | None] = mapped_column(SmallInteger)
    cartridge_type_index: Mapped[int | None] = mapped_column(SmallInteger)
    addon_category_code: Mapped[int | None] = mapped_column(SmallInteger)
    addon_type_index: Mapped[int | None] = mapped_column(SmallInteger)
    created_at: Mapped[datetime] = mapped_column(_MOMENT)
    updated_at: Mapped[datetime] = mapped_column(_MOMENT)
    search: Mapped[str] = mapped_column(TSVECTOR, Computed(SEARCH_EXPRESSION, persisted=True), deferred=True)

    def name_in(self, locale: Locale) -> str:
        return self.name_ko if locale == "ko" else self.name_en

    def description_in(self, locale: Locale) -> str:
        return self.description_ko if locale == "ko" else self.description_en

    @property
    def is_add_on(self) -> bool:
        """Whether it is a right to use cartridges, which nobody has to send."""
        return self.addon_category_code is not None


class StockMovement(Base):
    """A line of the stock ledger: a product's stock is the sum of its lines.

    An order reserves a product once and releases it at most once; the unique key sees to that.
    """

    __tablename__ = "stock_movements"
    __table_args__ = (
        CheckConstraint("quantity <> 0", name="quantity"),
        UniqueConstraint("order_id", "product_id", "kind"),
        Index("ix_stock_movements_product", "product_id", "movement_id"),
    )

    movement_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    product_id: Mapped[str] = mapped_column(ForeignKey("products.product_id"))
    kind: Mapped[MovementKind] = mapped_column(String(16))
    quantity: Mapped[int] = mapped_column(Integer)
    order_id: Mapped[str | None] = mapped_column(String(36))
    note: Mapped[str] = mapped_column(String(200))
    recorded_by: Mapped[str] = mapped_column(String(64))
    recorded_at: Mapped[datetime] = mapped_column(_MOMENT)


class Cart(Base):
    """One a person; its row is what commands on the cart lock."""

    __tablename__ = "carts"

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    updated_at: Mapped[datetime] = mapped_column(_MOMENT)


class CartItem(Base):
    """A product in a cart; its price is that of the product, until it is ordered."""

    __tablename__ = "cart_items"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity"),
        UniqueConstraint("user_id", "product_id"),
    )

    cart_item_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("carts.user_id", ondelete="CASCADE"))
    product_id: Mapped[str] = mapped_column(ForeignKey("products.product_id"))
    quantity: Mapped[int] = mapped_column(Integer)
    added_at: Mapped[datetime] = mapped_column(_MOMENT)


class Order(Base):
    """Something bought.

    Args:
        charge_key: of an order for a plan, which charge it is for; an order for each.
        shipping_address: sealed; its context is `shipping_context`.
        payment_id: the captured payment; empty until there is one.
        refunded_krw: paid back of that payment so far.
        due_check_at: when the sweep looks at it next; null once it is settled.
    """

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("total_krw > 0", name="total_krw"),
        CheckConstraint("refunded_krw BETWEEN 0 AND total_krw", name="refunded_krw"),
        CheckConstraint("(kind = 'subscription') = (subscription_id <> '')", name="subscription_id"),
        Index("ix_orders_user", "user_id", "created_at", "order_id"),
        Index("ix_orders_subscription", "subscription_id", postgresql_where=text("subscription_id <> ''")),
        Index("ix_orders_due", "due_check_at", postgresql_where=text("status = 'pending'")),
        # Partial, so that a change of them locks no key of the row: payment writes timeline entries while it holds a
        # payment, and must not wait for who holds the order and waits for the payment.
        Index(
            "uq_orders_request",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("uq_orders_charge_key", "charge_key", unique=True, postgresql_where=text("charge_key IS NOT NULL")),
        Index("uq_orders_payment_id", "payment_id", unique=True, postgresql_where=text("payment_id IS NOT NULL")),
    )

    order_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[OrderKind] = mapped_column(String(16))
    status: Mapped[OrderStatus] = mapped_column(String(16))
    total_krw: Mapped[int] = mapped_column(Integer)
    payment_method: Mapped[str] = mapped_column(String(32))
    shipping_address: Mapped[bytes | None] = mapped_column(LargeBinary)
    subscription_id: Mapped[str] = mapped_column(String(64), default="")
    charge_key: Mapped[str | None] = mapped_column(String(80))
    idempotency_key: Mapped[str | None] = mapped_column(String(64))
    payment_id: Mapped[str | None] = mapped_column(String(64))
    refunded_krw: Mapped[int] = mapped_column(Integer, default=0)
    cancel_reason: Mapped[CancelReason | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(_MOMENT)
    updated_at: Mapped[datetime] = mapped_column(_MOMENT)
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    due_check_at: Mapped[datetime | None] = mapped_column(_MOMENT)


class OrderItem(Base):
    """A line of an order; names and price stay as they were. `product_id` of a plan names no product (`plan-pro`)."""

    __tablename__ = "order_items"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity"),)

    order_id: Mapped[str] = mapped_column(ForeignKey("orders.order_id"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    product_id: Mapped[str] = mapped_column(String(64))
    name_ko: Mapped[str] = mapped_column(String(120))
    name_en: Mapped[str] = mapped_column(String(120))
    quantity: Mapped[int] = mapped_column(Integer)
    unit_price_krw: Mapped[int] = mapped_column(Integer)
    addon_category_code: Mapped[int | None] = mapped_column(SmallInteger)
    addon_type_index: Mapped[int | None] = mapped_column(SmallInteger)

    def name_in(self, locale: Locale) -> str:
        return self.name_ko if locale == "ko" else self.name_en

    @property
    def total_krw(self) -> int:
        return self.quantity * self.unit_price_krw


class TimelineEntry(Base):
    """Something that happened to an order; told once, however often the event comes.

    Args:
        reference: what tells two entries of a kind apart: a payment, a refund; empty otherwise.
        reason: why, as a stable name or code.
    """

    __tablename__ = "order_timeline"
    __table_args__ = (UniqueConstraint("order_id", "kind", "reference"),)

    entry_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.order_id"))
    kind: Mapped[TimelineKind] = mapped_column(String(24))
    reference: Mapped[str] = mapped_column(String(64))
    amount_krw: Mapped[int | None] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(String(64))
    happened_at: Mapped[datetime] = mapped_column(_MOMENT)


@dataclass(frozen=True, slots=True)
class CartLine:
    """A product in a cart, as it is now."""

    cart_item_id: str
    quantity: int
    product: Product

    @property
    def total_krw(self) -> int:
        return self.quantity * self.product.price_krw


@dataclass(frozen=True, slots=True)
class CartView:
    """A person's cart, in the order in which things were added."""

    user_id: str
    lines: tuple[CartLine, ...]

    @property
    def total_krw(self) -> int:
        return sum(line.total_krw for line in self.lines)


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order with its lines, its address in clear."""

    order: Order
    items: tuple[OrderItem, ...]
    shipping_address: str


@dataclass(frozen=True, slots=True)
class CategoryCount:
    """How many products of a category are on sale."""

    category: ProductCategory
    products: int


def shipping_context(order_id: str) -> str:
    """The context under which an order's address is sealed."""
    return f"orders.shipping_address:{order_id}"
