"""Every SQL statement of the shop.

Lock order: the cart, the order, its payment (payment's own table), and last the products by their ids. An advisory lock
stands for the orders of a subscription, because the first of them cannot be locked before it exists.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.base import Base
from domain.commerce.shop.models import (
    Cart,
    CartItem,
    CartLine,
    CategoryCount,
    MovementKind,
    Order,
    OrderItem,
    OrderStatus,
    Product,
    ProductCategory,
    StockMovement,
    TimelineEntry,
)
from domain.keyset import OwnedList
from domain.paging import Page, PageRequest

MAX_SEARCH_WORDS = 8
_WORD = re.compile(r"\w{1,40}")

# What every order needs is written once, beside its repository: building a statement costs as much as executing it.
# New rows go into the tables, not the entities, where nobody needs the row that was made.
_TABLES = Base.metadata.tables


def _values(row: CartItem | OrderItem | StockMovement | TimelineEntry, *, without: str = "") -> dict[str, object]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns if column.key != without}


class ProductRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, product_id: str) -> Product | None:
        return None if "\0" in product_id else await self._session.get(Product, product_id)

    async def get_for_update(self, product_id: str) -> Product | None:
        if "\0" in product_id:  # PostgreSQL cannot even be asked for it
            return None
        return await self._session.get(Product, product_id, with_for_update=True, populate_existing=True)

    async def by_ids(self, product_ids: Collection[str]) -> dict[str, Product]:
        wanted = [product_id for product_id in product_ids if "\0" not in product_id]
        found = await self._session.scalars(select(Product).where(Product.product_id.in_(wanted)))
        return {product.product_id: product for product in found}

    async def add(self, product: Product) -> bool:
        """False when its id is taken; then nothing was stored."""
        values = {
            column.key: getattr(product, column.key)
            for column in Product.__table__.columns
            if column.key != Product.search.key
        }
        statement = insert(Product).values(values).on_conflict_do_nothing().returning(Product.product_id)
        return await self._session.scalar(statement) is not None

    async def list(
        self, *, category: ProductCategory | None, search: str, limit: int, offset: int
    ) -> tuple[Sequence[Product], int]:
        """Products on sale, in the catalogue's order, and how many match in all."""
        matching = _on_sale(category, search)
        if matching is None:
            return (), 0
        total = await self._session.scalar(select(func.count()).select_from(matching.subquery()))
        rows = await self._session.scalars(matching.order_by(*_CATALOGUE_ORDER).limit(limit).offset(offset))
        return rows.all(), total or 0

    async def page(self, page: PageRequest, *, category: ProductCategory | None, search: str) -> Page[Product]:
        """As `list`, from a cursor on."""
        matching = _on_sale(category, search)
        if matching is None:
            return Page((), has_next=False, total=0)
        total = await self._session.scalar(select(func.count()).select_from(matching.subquery()))
        if page.after is not None:
            matching = matching.where(tuple_(*_CATALOGUE_ORDER) > tuple_(*page.after))
        rows = (await self._session.scalars(matching.order_by(*_CATALOGUE_ORDER).limit(page.first + 1))).all()
        return Page(rows[: page.first], has_next=len(rows) > page.first, total=total or 0)

    async def counts(self) -> Sequence[CategoryCount]:
        """How many products on sale each category has; those without any are missing."""
        rows = await self._session.execute(
            select(Product.category, func.count()).where(Product.is_active).group_by(Product.category)
        )
        return [CategoryCount(ProductCategory(category), count) for category, count in rows]

    async def take(self, product_id: str, quantity: int) -> Product | None:
        """Lower the stock, if it is on sale and enough is left; None otherwise, and nothing has changed."""
        taken = await self._session.scalars(_TAKE, {"wanted": product_id, "pieces": quantity})
        return taken.one_or_none()

    async def put_back(self, product_id: str, quantity: int) -> None:
        await self._session.execute(
            update(Product)
            .where(Product.product_id == product_id)
            .values(stock=Product.stock + quantity)
            .execution_options(synchronize_session=False)
        )

    async def record(self, movement: StockMovement) -> None:
        await self._session.execute(_MOVE_STOCK, _values(movement, without=StockMovement.movement_id.key))

    async def release(self, order_id: str, *, by: str, at: datetime) -> Mapping[str, int]:
        """Write what an order had reserved and not yet released back into the ledger; pieces by product.

        Empty for an order that reserved nothing, or was released before.
        """
        reserved: Select[*tuple[object, ...]] = select(
            StockMovement.product_id,
            literal(MovementKind.RELEASED, StockMovement.kind.type),
            -StockMovement.quantity,
            StockMovement.order_id,
            literal("", StockMovement.note.type),
            literal(by, StockMovement.recorded_by.type),
            literal(at, StockMovement.recorded_at.type),
        ).where(StockMovement.order_id == order_id, StockMovement.kind == MovementKind.RESERVED)
        columns = ["product_id", "kind", "quantity", "order_id", "note", "recorded_by", "recorded_at"]
        statement = (
            insert(StockMovement)
            .from_select(columns, reserved)
            .on_conflict_do_nothing()
            .returning(StockMovement.product_id, StockMovement.quantity)
        )
        rows = await self._session.execute(statement)
        return {product_id: quantity for product_id, quantity in rows}  # noqa: C416 - rows are no pairs to a checker


_TAKE = (
    update(Product)
    .where(
        Product.product_id == bindparam("wanted"),
        Product.is_active,
        Product.stock >= bindparam("pieces", type_=Integer),
    )
    .values(stock=Product.stock - bindparam("pieces", type_=Integer))
    .returning(Product)
    .execution_options(populate_existing=True, synchronize_session=False)
)
_MOVE_STOCK = insert(_TABLES[StockMovement.__tablename__]).inline()
_CATALOGUE_ORDER = (Product.created_at, Product.product_id)


def _on_sale(category: ProductCategory | None, search: str) -> Select[Product] | None:
    """What is on sale and matches; None: the search has no word, so nothing can match."""
    statement = select(Product).where(Product.is_active)
    if category is not None:
        statement = statement.where(Product.category == category)
    if search.strip():
        query = prefix_query(search)
        if not query:
            return None
        statement = statement.where(_matches(query))
    return statement


def _matches(query: str) -> ColumnElement[bool]:
    return Product.search.bool_op("@@")(func.to_tsquery(literal_column("'simple'"), query))


def prefix_query(search: str) -> str:
    """A `tsquery` in which each word of the search is the beginning of a word of the product; empty without any word.

    Only letters and digits are left of what was typed, so there is nothing to escape. Normalised, because some
    keyboards send Hangul in single letters (NFD).
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", search))[:MAX_SEARCH_WORDS]
    return " & ".join(f"'{word}':*" for word in words)


class CartRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, user_id: str, *, at: datetime) -> None:
        """Make the cart if there is none, and lock it: one command on a person's cart at a time."""
        await self._session.execute(_LOCK_CART, {"user_id": user_id, "updated_at": at})

    async def lines(self, user_id: str) -> tuple[CartLine, ...]:
        rows = await self._session.execute(_CART_LINES, {"user_id": user_id})
        return tuple(CartLine(item_id, quantity, product) for item_id, quantity, product in rows)

    async def put(self, item: CartItem) -> None:
        """Add the item, or set the quantity of the one that the cart has of this product."""
        await self._session.execute(_PUT_INTO_CART, _values(item))

    async def remove(self, user_id: str, cart_item_id: str) -> bool:
        """Whether it was there."""
        statement = (
            delete(CartItem)
            .where(CartItem.user_id == user_id, CartItem.cart_item_id == cart_item_id)
            .returning(CartItem.cart_item_id)
        )
        return await self._session.scalar(statement) is not None

    async def clear_until(self, user_id: str, until: datetime) -> None:
        """Remove what was put in until a moment, which is included."""
        await self._session.execute(delete(CartItem).where(CartItem.user_id == user_id, CartItem.added_at <= until))

    async def clear(self, user_id: str) -> None:
        await self._session.execute(delete(CartItem).where(CartItem.user_id == user_id))


_UPDATE = {"key_share": True}
"""FOR NO KEY UPDATE: who writes a timeline entry refers to the order and must not wait for it."""


_LOCK_CART = insert(_TABLES[Cart.__tablename__])
# An update that changes nothing else locks the row also when another transaction has just made it.
_LOCK_CART = _LOCK_CART.on_conflict_do_update(
    index_elements=[Cart.user_id], set_={"updated_at": _LOCK_CART.excluded.updated_at}
)
_CART_LINES = (
    select(CartItem.cart_item_id, CartItem.quantity, Product)
    .join(Product, Product.product_id == CartItem.product_id)
    .where(CartItem.user_id == bindparam("user_id", type_=String))
    .order_by(CartItem.added_at, CartItem.cart_item_id)
    .execution_options(populate_existing=True)
)
_PUT_INTO_CART = insert(_TABLES[CartItem.__tablename__])
_PUT_INTO_CART = _PUT_INTO_CART.on_conflict_do_update(
    index_elements=[CartItem.user_id, CartItem.product_id],
    set_={"quantity": _PUT_INTO_CART.excluded.quantity},
)


class OrderRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, order_id: str) -> Order | None:
        return None if "\0" in order_id else await self._session.get(Order, order_id)

    async def get_for_update(self, order_id: str) -> Order | None:
        if "\0" in order_id:
            return None
        return await self._session.get(Order, order_id, with_for_update=_UPDATE, populate_existing=True)

    async def by_ids(self, order_ids: Collection[str]) -> dict[str, Order]:
        wanted = [order_id for order_id in order_ids if "\0" not in order_id]
        found = await self._session.scalars(select(Order).where(Order.order_id.in_(wanted)))
        return {order.order_id: order for order in found}

    async def add(self, order: Order, items: Sequence[OrderItem]) -> None:
        self._session.add(order)
        await self._session.flush()
        await self._session.execute(_ADD_ITEM, [_values(item) for item in items])

    async def by_request(self, user_id: str, idempotency_key: str) -> Order | None:
        return (
            await self._session.scalars(
                select(Order).where(Order.user_id == user_id, Order.idempotency_key == idempotency_key)
            )
        ).one_or_none()

    async def items_of(self, order_ids: Collection[str]) -> dict[str, tuple[OrderItem, ...]]:
        """The lines of each order, in their order."""
        rows = await self._session.scalars(
            select(OrderItem).where(OrderItem.order_id.in_(order_ids)).order_by(OrderItem.order_id, OrderItem.position)
        )
        items: dict[str, list[OrderItem]] = {order_id: [] for order_id in order_ids}
        for row in rows:
            items[row.order_id].append(row)
        return {order_id: tuple(found) for order_id, found in items.items()}

    async def list(self, user_id: str, *, limit: int, offset: int) -> tuple[Sequence[Order], int]:
        """A person's orders, newest first, and how many they have in all."""
        own = select(Order).where(Order.user_id == user_id)
        total = await self._session.scalar(select(func.count()).select_from(own.subquery()))
        rows = await self._session.scalars(own.order_by(*_NEWEST_FIRST).limit(limit).offset(offset))
        return rows.all(), total or 0

    async def pages_of(self, user_ids: Collection[str], page: PageRequest) -> dict[str, Page[Order]]:
        """One page for every person, newest first, in one statement."""
        return await _OF_PEOPLE.pages(self._session, user_ids, page)

    async def lock_subscription(self, subscription_id: str) -> None:
        """One transaction at a time opens or pays orders of a subscription."""
        await self._session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"orders:{subscription_id}"}
        )

    async def by_charge(self, charge_key: str) -> Order | None:
        return (await self._session.scalars(select(Order).where(Order.charge_key == charge_key))).one_or_none()

    async def of_subscription(self, subscription_id: str, *, amount_krw: int) -> Sequence[Order]:
        """The orders of a subscription with this amount, newest first; locked."""
        rows = await self._session.scalars(
            select(Order)
            .where(Order.subscription_id == subscription_id, Order.total_krw == amount_krw)
            .order_by(*_NEWEST_FIRST)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
        return rows.all()

    async def pending_until(self, user_id: str, until: datetime) -> Sequence[str]:
        """Ids of a person's orders that wait for their payment since a moment or longer."""
        rows = await self._session.scalars(
            select(Order.order_id)
            .where(Order.user_id == user_id, Order.status == OrderStatus.PENDING, Order.created_at <= until)
            .order_by(Order.order_id)
        )
        return rows.all()

    async def forget_addresses(self, user_id: str, until: datetime) -> None:
        """Remove the addresses, and the keys of requests, of the orders that a person has made until a moment."""
        await self._session.execute(
            update(Order)
            .where(Order.user_id == user_id, Order.created_at <= until)
            .values(shipping_address=None, idempotency_key=None)
            .execution_options(synchronize_session=False)
        )

    async def claim_unpaid(self, *, now: datetime, next_check_at: datetime, limit: int) -> Sequence[str]:
        """Ids of orders whose time is over; nobody else is given them before `next_check_at`."""
        due = (
            select(Order.order_id)
            .where(Order.status == OrderStatus.PENDING, Order.due_check_at <= now)
            .order_by(Order.due_check_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = await self._session.scalars(
            update(Order)
            .where(Order.order_id.in_(due))
            .values(due_check_at=next_check_at)
            .returning(Order.order_id)
            .execution_options(synchronize_session=False)
        )
        return found.all()


_ADD_ITEM = insert(_TABLES[OrderItem.__tablename__]).inline()
_NEWEST_FIRST = (Order.created_at.desc(), Order.order_id.desc())


class TimelineRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, entry: TimelineEntry) -> bool:
        """False when it was told before; then nothing was stored."""
        return await self._session.scalar(_TELL, _values(entry, without=TimelineEntry.entry_id.key)) is not None

    async def add_if_known(self, entry: TimelineEntry) -> None:
        """As `add`; nothing for an order that is not there."""
        await self._session.execute(_TELL_OF_KNOWN, _values(entry, without=TimelineEntry.entry_id.key))

    async def of_orders(self, order_ids: Collection[str]) -> dict[str, tuple[TimelineEntry, ...]]:
        """What happened to each order, oldest first."""
        rows = await self._session.scalars(
            select(TimelineEntry)
            .where(TimelineEntry.order_id.in_(order_ids))
            .order_by(TimelineEntry.happened_at, TimelineEntry.entry_id)
        )
        entries: dict[str, list[TimelineEntry]] = {order_id: [] for order_id in order_ids}
        for row in rows:
            entries[row.order_id].append(row)
        return {order_id: tuple(found) for order_id, found in entries.items()}


_TIMELINE = _TABLES[TimelineEntry.__tablename__]
_TELL = insert(_TIMELINE).on_conflict_do_nothing().returning(_TIMELINE.c.entry_id)
_TOLD = [column for column in _TIMELINE.columns if column.key not in ("entry_id", "order_id")]
_TELL_OF_KNOWN = (
    insert(_TIMELINE)
    .from_select(
        ["order_id", *(column.key for column in _TOLD)],
        select(Order.order_id, *(bindparam(column.key, type_=column.type) for column in _TOLD)).where(
            Order.order_id == bindparam("order_id")
        ),
    )
    .on_conflict_do_nothing()
)

_OF_PEOPLE = OwnedList(Order, owner=Order.user_id, at=Order.created_at, id=Order.order_id)
