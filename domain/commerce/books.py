"""The books of the group: everything is added up again from the rows, and each difference is told.

A check is one question to the database that answers what does not add up; `CHECKS` is the list of them, and a service
that moves money adds its own. They only read, and take no locks: on a running system, ask within one repeatable-read
transaction, since each check sees what was committed when it began.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not add up.

    Args:
        check: which rule is broken.
        subject: id of the payment, order or product it is about.
        says: what was found, in amounts of whole won or numbers of things.
    """

    check: str
    subject: str
    says: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all payments, in whole won.

    Args:
        reserved_krw: refunds in hand whose outcome is open.
    """

    captured_krw: int
    refunded_krw: int
    reserved_krw: int


Check = Callable[[AsyncSession], Awaitable[Sequence[Difference]]]


def sql_check(name: str, statement: str) -> Check:
    """A check by a statement that answers `subject` and `says` for each thing that does not add up."""
    query = text(statement)

    async def check(session: AsyncSession) -> Sequence[Difference]:
        rows = await session.execute(query)
        return [Difference(check=name, subject=str(subject), says=str(says)) for subject, says in rows]

    return check


PAYMENT_CHECKS: tuple[Check, ...] = (
    sql_check(
        "a payment is captured by exactly one attempt, in its whole amount",
        """
        SELECT p.payment_id, format('%s, %s won by %s attempts', p.status, COALESCE(a.krw, 0), COALESCE(a.count, 0))
        FROM payments p
        LEFT JOIN (
            SELECT payment_id, count(*) AS count, sum(captured_krw) AS krw
            FROM payment_attempts WHERE status = 'captured' GROUP BY payment_id
        ) a USING (payment_id)
        WHERE CASE WHEN p.completed_at IS NULL THEN COALESCE(a.count, 0) <> 0
                   ELSE COALESCE(a.count, 0) <> 1 OR a.krw <> p.amount_krw END
        """,
    ),
    sql_check(
        "a payment is confirming as long as one attempt is open",
        """
        SELECT p.payment_id, format('%s, %s open attempts', p.status, COALESCE(a.count, 0))
        FROM payments p
        LEFT JOIN (
            SELECT payment_id, count(*) AS count FROM payment_attempts WHERE status = 'started' GROUP BY payment_id
        ) a USING (payment_id)
        WHERE COALESCE(a.count, 0) <> CASE WHEN p.status = 'confirming' THEN 1 ELSE 0 END
        """,
    ),
    sql_check(
        "the provider has captured what was asked for",
        """
        SELECT payment_id, format('asked for %s won, captured %s: to be settled by hand', amount_krw, captured_krw)
        FROM payment_attempts WHERE status = 'mismatched'
        """,
    ),
    sql_check(
        "refunds never exceed their payment, those in hand included",
        """
        SELECT p.payment_id, format('%s won captured, %s promised back', p.amount_krw, sum(r.amount_krw))
        FROM payments p JOIN refunds r USING (payment_id)
        WHERE r.status <> 'failed'
        GROUP BY p.payment_id
        HAVING sum(r.amount_krw) > CASE WHEN p.completed_at IS NULL THEN 0 ELSE p.amount_krw END
        """,
    ),
    sql_check(
        "the state of a captured payment follows from its refunds",
        """
        SELECT p.payment_id, format('%s, %s of %s won refunded', p.status, COALESCE(r.krw, 0), p.amount_krw)
        FROM payments p
        LEFT JOIN (
            SELECT payment_id, sum(amount_krw) AS krw FROM refunds WHERE status = 'succeeded' GROUP BY payment_id
        ) r USING (payment_id)
        WHERE p.completed_at IS NOT NULL AND p.status <> CASE
            WHEN COALESCE(r.krw, 0) = 0 THEN 'completed'
            WHEN r.krw >= p.amount_krw THEN 'refunded'
            ELSE 'partial_refund' END
        """,
    ),
    sql_check(
        "a person's order has one captured payment that was not paid back",
        """
        SELECT order_id, format('%s payments of %s', count(*), user_id)
        FROM payments
        WHERE order_id <> '' AND status IN ('completed', 'partial_refund')
        GROUP BY user_id, order_id
        HAVING count(*) > 1
        """,
    ),
)

SHOP_CHECKS: tuple[Check, ...] = (
    sql_check(
        "a product's stock is the sum of its ledger",
        """
        SELECT p.product_id, format('%s in stock, %s by the ledger', p.stock, COALESCE(sum(m.quantity), 0))
        FROM products p LEFT JOIN stock_movements m USING (product_id)
        GROUP BY p.product_id
        HAVING p.stock < 0 OR p.stock <> COALESCE(sum(m.quantity), 0)
        """,
    ),
    sql_check(
        "an order of goods has reserved each of its lines once",
        """
        SELECT order_id, format('%s: %s ordered, %s reserved', product_id, i.pieces, m.pieces)
        FROM (
            SELECT order_id, product_id, sum(quantity) AS pieces
            FROM order_items JOIN orders USING (order_id) WHERE kind = 'goods' GROUP BY order_id, product_id
        ) i
        FULL JOIN (
            SELECT order_id, product_id, -sum(quantity) AS pieces
            FROM stock_movements WHERE kind = 'reserved' GROUP BY order_id, product_id
        ) m USING (order_id, product_id)
        WHERE i.pieces IS DISTINCT FROM m.pieces
        """,
    ),
    sql_check(
        "what an order has reserved is free again when it is over and was not shipped, and only then",
        """
        SELECT o.order_id, format('%s, %s reserved, %s released', o.status, r.pieces, r.freed)
        FROM orders o
        JOIN (
            SELECT order_id, -sum(quantity) FILTER (WHERE kind = 'reserved') AS pieces,
                   COALESCE(sum(quantity) FILTER (WHERE kind = 'released'), 0) AS freed
            FROM stock_movements WHERE order_id IS NOT NULL GROUP BY order_id
        ) r USING (order_id)
        LEFT JOIN order_timeline t ON t.order_id = o.order_id AND t.kind = 'shipped'
        WHERE r.freed IS DISTINCT FROM
            CASE WHEN o.status IN ('cancelled', 'refunded') AND t.entry_id IS NULL THEN r.pieces ELSE 0 END
        """,
    ),
    sql_check(
        "an order's total is the sum of its lines",
        """
        SELECT o.order_id, format('%s won, its lines %s', o.total_krw, COALESCE(sum(i.quantity * i.unit_price_krw), 0))
        FROM orders o LEFT JOIN order_items i USING (order_id)
        GROUP BY o.order_id
        HAVING o.total_krw <> COALESCE(sum(i.quantity * i.unit_price_krw), 0)
        """,
    ),
    sql_check(
        "an order that was paid has one captured payment: its buyer's, of its amount",
        """
        SELECT o.order_id, format('%s, %s won; payment %s: %s won of %s', o.status, o.total_krw,
                                  COALESCE(p.payment_id, 'none'), p.amount_krw, p.user_id)
        FROM orders o LEFT JOIN payments p ON p.payment_id = o.payment_id AND p.completed_at IS NOT NULL
        WHERE (o.status IN ('paid', 'shipped', 'delivered', 'refunded') OR o.payment_id IS NOT NULL)
          AND (p.payment_id IS NULL OR p.amount_krw <> o.total_krw OR p.user_id <> o.user_id)
        """,
    ),
    sql_check(
        "an order knows what was paid back of it, and is refunded when that is all",
        """
        SELECT o.order_id, format('%s, %s of %s won refunded; by the payment %s', o.status, o.refunded_krw, o.total_krw,
                                  COALESCE(r.krw, 0))
        FROM orders o
        LEFT JOIN (
            SELECT payment_id, sum(amount_krw) AS krw FROM refunds WHERE status = 'succeeded' GROUP BY payment_id
        ) r USING (payment_id)
        WHERE o.refunded_krw <> COALESCE(r.krw, 0) OR (o.status = 'refunded') <> (o.refunded_krw = o.total_krw)
        """,
    ),
    sql_check(
        "money that no standing order asks for was paid back",
        """
        SELECT p.payment_id, format('%s won, %s, for the order %s: %s', p.amount_krw, p.status, o.order_id, o.status)
        FROM payments p
        JOIN orders o ON o.order_id = p.order_id
        WHERE p.status IN ('completed', 'partial_refund')
          AND (o.status NOT IN ('paid', 'shipped', 'delivered') OR o.payment_id IS DISTINCT FROM p.payment_id)
        """,
    ),
    sql_check(
        "every plan that was paid for is an order",
        """
        SELECT p.payment_id, format('%s won for the subscription %s', p.amount_krw, p.subscription_id)
        FROM payments p LEFT JOIN orders o ON o.payment_id = p.payment_id
        WHERE p.status IN ('completed', 'partial_refund') AND p.payment_type = 'subscription' AND o.order_id IS NULL
        """,
    ),
)
"""They hold once every event was handled: an order hears of its payment by an event."""

SUBSCRIPTION_CHECKS: tuple[Check, ...] = (
    sql_check(
        "a charge of a plan is settled by a captured payment of its holder, to the won",
        """
        SELECT c.charge_id, format('%s won, %s; payment %s: %s won, %s', c.amount_krw, c.status, c.payment_id, p.amount_krw,
                                   p.status)
        FROM subscription_charges c
        JOIN subscriptions s USING (subscription_id)
        LEFT JOIN payments p USING (payment_id)
        WHERE c.status IN ('paid', 'refunded') AND c.amount_krw > 0
          AND (p.completed_at IS NULL OR p.amount_krw <> c.amount_krw OR p.user_id <> s.user_id
               OR p.subscription_id <> c.subscription_id)
        """,
    ),
    sql_check(
        "money that no charge of a plan asks for was paid back",
        """
        SELECT p.payment_id, format('%s won, %s, for the subscription %s', p.amount_krw, p.status, p.subscription_id)
        FROM payments p
        JOIN subscriptions s USING (subscription_id)
        LEFT JOIN subscription_charges c ON c.payment_id = p.payment_id AND c.status = 'paid'
        WHERE p.status IN ('completed', 'partial_refund') AND c.charge_id IS NULL
          AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.payment_id = p.payment_id AND r.status = 'started')
        """,
    ),
    sql_check(
        "a plan that is in force is paid for until its end",
        """
        SELECT s.subscription_id, format('%s, %s, until %s', s.tier, s.status, s.expires_at)
        FROM subscriptions s
        WHERE s.status IN ('active', 'cancelled') AND s.tier <> 'free' AND NOT EXISTS (
            SELECT 1 FROM subscription_charges c
            WHERE c.subscription_id = s.subscription_id AND c.status = 'paid' AND c.period_ends_at = s.expires_at
        )
        """,
    ),
)
"""They hold once every event was handled: a plan hears of its payment by an event."""

CHECKS: tuple[Check, ...] = PAYMENT_CHECKS + SHOP_CHECKS + SUBSCRIPTION_CHECKS


async def check_books(session: AsyncSession, checks: Sequence[Check] = CHECKS) -> list[Difference]:
    """Every difference that there is; none when the books balance."""
    return [difference for check in checks for difference in await check(session)]


async def totals(session: AsyncSession) -> Totals:
    """What was captured and paid back in all, counted from attempts and refunds."""
    row = (
        await session.execute(
            text(
                """
                SELECT
                    (SELECT COALESCE(sum(captured_krw), 0) FROM payment_attempts WHERE status = 'captured'),
                    (SELECT COALESCE(sum(amount_krw), 0) FROM refunds WHERE status = 'succeeded'),
                    (SELECT COALESCE(sum(amount_krw), 0) FROM refunds WHERE status = 'started')
                """
            )
        )
    ).one()
    return Totals(captured_krw=int(row[0]), refunded_krw=int(row[1]), reserved_krw=int(row[2]))
