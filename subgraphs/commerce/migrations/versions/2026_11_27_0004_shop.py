"""The tables of shop, and the catalogue that it opens with."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from domain.commerce.shop.catalogue_data import products

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_OPENED_AT = datetime(2026, 11, 27, tzinfo=UTC)
_SEARCH = "to_tsvector('simple', name_ko || ' ' || name_en || ' ' || description_ko || ' ' || description_en)"


def upgrade() -> None:
    """Create the tables and load the catalogue."""
    catalogue = _create_products()
    ledger = _create_stock_movements()
    _create_carts()
    _create_orders()
    _create_order_parts()
    seeds = list(products())
    op.bulk_insert(
        catalogue,
        [
            {
                "product_id": seed.product_id,
                "category": seed.category.value,
                "name_ko": seed.name_ko,
                "name_en": seed.name_en,
                "description_ko": seed.description_ko,
                "description_en": seed.description_en,
                "price_krw": seed.price_krw,
                "stock": seed.opening_stock,
                "required_tier": seed.required_tier.value,
                "image_url": "",
                "is_active": True,
                "cartridge_category_code": seed.cartridge[0] if seed.cartridge else None,
                "cartridge_type_index": seed.cartridge[1] if seed.cartridge else None,
                "addon_category_code": seed.add_on[0] if seed.add_on else None,
                "addon_type_index": seed.add_on[1] if seed.add_on else None,
                # A second apart: the catalogue is listed by it.
                "created_at": _OPENED_AT + timedelta(seconds=position),
                "updated_at": _OPENED_AT + timedelta(seconds=position),
            }
            for position, seed in enumerate(seeds)
        ],
    )
    op.bulk_insert(
        ledger,
        [
            {
                "product_id": seed.product_id,
                "kind": "opening",
                "quantity": seed.opening_stock,
                "note": "",
                "recorded_by": "migration",
                "recorded_at": _OPENED_AT,
            }
            for seed in seeds
        ],
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("order_timeline", "order_items", "orders", "cart_items", "carts", "stock_movements", "products"):
        op.drop_table(table)


def _create_products() -> sa.Table:
    table = op.create_table(
        "products",
        sa.Column("product_id", sa.String(length=64), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("name_ko", sa.String(length=120), nullable=False),
        sa.Column("name_en", sa.String(length=120), nullable=False),
        sa.Column("description_ko", sa.String(length=1000), nullable=False),
        sa.Column("description_en", sa.String(length=1000), nullable=False),
        sa.Column("price_krw", sa.Integer(), nullable=False),
        sa.Column("stock", sa.Integer(), nullable=False),
        sa.Column("required_tier", sa.String(length=16), nullable=False),
        sa.Column("image_url", sa.String(length=500), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("cartridge_category_code", sa.SmallInteger(), nullable=True),
        sa.Column("cartridge_type_index", sa.SmallInteger(), nullable=True),
        sa.Column("addon_category_code", sa.SmallInteger(), nullable=True),
        sa.Column("addon_type_index", sa.SmallInteger(), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("search", TSVECTOR(), sa.Computed(_SEARCH, persisted=True), nullable=False),
        sa.CheckConstraint("stock >= 0", name=op.f("ck_products_stock")),
        sa.CheckConstraint("price_krw > 0", name=op.f("ck_products_price_krw")),
        sa.CheckConstraint(
            "(addon_category_code IS NULL) = (addon_type_index IS NULL)", name=op.f("ck_products_addon")
        ),
        sa.PrimaryKeyConstraint("product_id", name=op.f("pk_products")),
    )
    op.create_index(
        "ix_products_listed", "products", ["created_at", "product_id"], postgresql_where=sa.text("is_active")
    )
    op.create_index("ix_products_search", "products", ["search"], postgresql_using="gin")
    return table


def _create_stock_movements() -> sa.Table:
    table = op.create_table(
        "stock_movements",
        sa.Column("movement_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("product_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.String(length=36), nullable=True),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("recorded_by", sa.String(length=64), nullable=False),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sa.CheckConstraint("quantity <> 0", name=op.f("ck_stock_movements_quantity")),
        sa.ForeignKeyConstraint(["product_id"], ["products.product_id"], name=op.f("fk_stock_movements_product_id")),
        sa.PrimaryKeyConstraint("movement_id", name=op.f("pk_stock_movements")),
        sa.UniqueConstraint("order_id", "product_id", "kind", name=op.f("uq_stock_movements_order_id_product_id_kind")),
    )
    op.create_index("ix_stock_movements_product", "stock_movements", ["product_id", "movement_id"])
    return table


def _create_carts() -> None:
    op.create_table(
        "carts",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_carts")),
    )
    op.create_table(
        "cart_items",
        sa.Column("cart_item_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.String(length=64), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("added_at", _MOMENT, nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_cart_items_quantity")),
        sa.ForeignKeyConstraint(["user_id"], ["carts.user_id"], name=op.f("fk_cart_items_user_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["product_id"], ["products.product_id"], name=op.f("fk_cart_items_product_id")),
        sa.PrimaryKeyConstraint("cart_item_id", name=op.f("pk_cart_items")),
        sa.UniqueConstraint("user_id", "product_id", name=op.f("uq_cart_items_user_id_product_id")),
    )


def _create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("total_krw", sa.Integer(), nullable=False),
        sa.Column("payment_method", sa.String(length=32), nullable=False),
        sa.Column("shipping_address", sa.LargeBinary(), nullable=True),
        sa.Column("subscription_id", sa.String(length=64), nullable=False),
        sa.Column("charge_key", sa.String(length=80), nullable=True),
        sa.Column("idempotency_key", sa.String(length=64), nullable=True),
        sa.Column("payment_id", sa.String(length=64), nullable=True),
        sa.Column("refunded_krw", sa.Integer(), nullable=False),
        sa.Column("cancel_reason", sa.String(length=16), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("due_check_at", _MOMENT, nullable=True),
        sa.CheckConstraint("total_krw > 0", name=op.f("ck_orders_total_krw")),
        sa.CheckConstraint("refunded_krw BETWEEN 0 AND total_krw", name=op.f("ck_orders_refunded_krw")),
        sa.CheckConstraint("(kind = 'subscription') = (subscription_id <> '')", name=op.f("ck_orders_subscription_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
    )
    op.create_index("ix_orders_user", "orders", ["user_id", "created_at", "order_id"])
    op.create_index(
        "ix_orders_subscription", "orders", ["subscription_id"], postgresql_where=sa.text("subscription_id <> ''")
    )
    op.create_index("ix_orders_due", "orders", ["due_check_at"], postgresql_where=sa.text("status = 'pending'"))
    for name, columns in (
        ("request", ["user_id", "idempotency_key"]),
        ("charge_key", ["charge_key"]),
        ("payment_id", ["payment_id"]),
    ):
        op.create_index(
            f"uq_orders_{name}",
            "orders",
            columns,
            unique=True,
            postgresql_where=sa.text(f"{columns[-1]} IS NOT NULL"),
        )


def _create_order_parts() -> None:
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("product_id", sa.String(length=64), nullable=False),
        sa.Column("name_ko", sa.String(length=120), nullable=False),
        sa.Column("name_en", sa.String(length=120), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price_krw", sa.Integer(), nullable=False),
        sa.Column("addon_category_code", sa.SmallInteger(), nullable=True),
        sa.Column("addon_type_index", sa.SmallInteger(), nullable=True),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_order_items_quantity")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_order_items_order_id")),
        sa.PrimaryKeyConstraint("order_id", "position", name=op.f("pk_order_items")),
    )
    op.create_table(
        "order_timeline",
        sa.Column("entry_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("amount_krw", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("happened_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_order_timeline_order_id")),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_order_timeline")),
        sa.UniqueConstraint("order_id", "kind", "reference", name=op.f("uq_order_timeline_order_id_kind_reference")),
    )
