"""SANDBOX: what the Toss emulator has captured and paid back, in a SQLite file, so that a restart forgets nothing."""

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

_TABLES = """
CREATE TABLE IF NOT EXISTS payments (
    payment_key TEXT PRIMARY KEY,
    given_key TEXT NOT NULL,
    order_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    transaction_key TEXT NOT NULL,
    approved_at TEXT NOT NULL,
    UNIQUE (given_key, order_id)
);
CREATE TABLE IF NOT EXISTS cancels (
    transaction_key TEXT PRIMARY KEY,
    payment_key TEXT NOT NULL REFERENCES payments (payment_key),
    amount INTEGER NOT NULL,
    reason TEXT NOT NULL,
    canceled_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    idempotency_key TEXT NOT NULL,
    path TEXT NOT NULL,
    request TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (idempotency_key, path)
);
CREATE TABLE IF NOT EXISTS approvals (
    payment_key TEXT PRIMARY KEY,
    order_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    card_number TEXT NOT NULL,
    approved_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS stumbles (what TEXT PRIMARY KEY);
"""


@dataclass(frozen=True, slots=True)
class Cancel:
    """An amount that was paid back, in whole won."""

    transaction_key: str
    amount: int
    reason: str
    canceled_at: str


@dataclass(frozen=True, slots=True)
class Captured:
    """A captured payment. `given_key` is what the client confirmed it with, `payment_key` its own."""

    payment_key: str
    given_key: str
    order_id: str
    amount: int
    transaction_key: str
    approved_at: str
    cancels: tuple[Cancel, ...]

    @property
    def balance(self) -> int:
        return self.amount - sum(cancel.amount for cancel in self.cancels)


@dataclass(frozen=True, slots=True)
class Approval:
    """What a payer has approved in the (pretended) payment window. `approved_at`: seconds since the epoch."""

    order_id: str
    amount: int
    card_number: str
    approved_at: float


def new_transaction_key() -> str:
    """Like the provider's: 32 upper-case hexadecimal digits."""
    return secrets.token_hex(16).upper()


class Ledger:
    """The books. Every method is one transaction; nothing here waits, so calls never interleave.

    Args:
        path: of the file; `:memory:` for one that is gone with the process.
    """

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # Outlives the process, which is all that is asked of it; it need not outlive a power failure.
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _TABLES)

    def close(self) -> None:
        self._db.close()

    def capture(self, *, given_key: str, order_id: str, amount: int, at: str) -> Captured:
        """Note a capture. A test key is used again and again, so the payment gets a key of its own."""
        payment_key = given_key if given_key.startswith("sandbox_") else f"{given_key[:150]}.{secrets.token_hex(8)}"
        self._db.execute(
            "INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?)",
            (payment_key, given_key, order_id, amount, new_transaction_key(), at),
        )
        found = self.by_key(payment_key)
        assert found is not None  # noqa: S101 - it was just written
        return found

    def cancel(self, payment_key: str, *, amount: int, reason: str, at: str) -> str:
        """Note a refund; answers its transaction key."""
        key = new_transaction_key()
        self._db.execute("INSERT INTO cancels VALUES (?, ?, ?, ?, ?)", (key, payment_key, amount, reason, at))
        return key

    def by_key(self, payment_key: str) -> Captured | None:
        """By its own key, or the newest one that was confirmed with this key."""
        return self._payment("payment_key = ?1 OR given_key = ?1", payment_key)

    def by_order(self, order_id: str) -> Captured | None:
        return self._payment("order_id = ?1", order_id)

    def confirmed_with(self, given_key: str, order_id: str) -> Captured | None:
        return self._payment("given_key = ?1 AND order_id = ?2", given_key, order_id)

    def everything(self) -> list[Captured]:
        """All payments, oldest first."""
        rows = self._db.execute("SELECT * FROM payments ORDER BY rowid").fetchall()
        return [self._with_cancels(row) for row in rows]

    def _payment(self, condition: str, *values: str) -> Captured | None:
        row = self._db.execute(
            f"SELECT * FROM payments WHERE {condition} ORDER BY rowid DESC LIMIT 1",  # noqa: S608 - ours
            values,
        ).fetchone()
        return self._with_cancels(row) if row else None

    def _with_cancels(self, row: tuple[str, str, str, int, str, str]) -> Captured:
        cancels = self._db.execute(
            "SELECT transaction_key, amount, reason, canceled_at FROM cancels WHERE payment_key = ? ORDER BY rowid",
            (row[0],),
        ).fetchall()
        return Captured(*row, cancels=tuple(Cancel(*cancel) for cancel in cancels))

    def answer_to(self, idempotency_key: str, path: str) -> tuple[str, int, str] | None:
        """Request, status and body of what was answered under a key before."""
        found: tuple[str, int, str] | None = self._db.execute(
            "SELECT request, status, body FROM answers WHERE idempotency_key = ? AND path = ?", (idempotency_key, path)
        ).fetchone()
        return found

    def remember(self, idempotency_key: str, path: str, *, request: str, status: int, body: str) -> None:
        """Keep an answer, for whoever asks again under the same key."""
        self._db.execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", (idempotency_key, path, request, status, body)
        )

    def approve(self, approval: Approval) -> str:
        """Note what a payer has approved; answers the payment key for it."""
        key = f"sandbox_{secrets.token_hex(20)}"
        values = (key, approval.order_id, approval.amount, approval.card_number, approval.approved_at)
        self._db.execute("INSERT INTO approvals VALUES (?, ?, ?, ?, ?)", values)
        return key

    def approval(self, payment_key: str) -> Approval | None:
        row = self._db.execute(
            "SELECT order_id, amount, card_number, approved_at FROM approvals WHERE payment_key = ?", (payment_key,)
        ).fetchone()
        return Approval(*row) if row else None

    def was_asked(self, what: str) -> bool:
        """Whether `first_time` was asked this before."""
        return self._db.execute("SELECT 1 FROM stumbles WHERE what = ?", (what,)).fetchone() is not None

    def first_time(self, what: str) -> bool:
        """Whether this was never asked before: true once."""
        return self._db.execute("INSERT OR IGNORE INTO stumbles VALUES (?)", (what,)).rowcount == 1
