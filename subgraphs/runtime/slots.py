"""How many calls of long life may be open at the same time: by account, by reader, by network, and in the process.

A stream or a subscription costs memory, a task and, when something happens, queries. One account that opens hundreds would
make everybody wait. The counts are the process's own: they cost a dictionary entry, and a process that dies leaves none behind.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from domain.errors import LimitExceeded
from domain.principal import Principal, PrincipalKind
from subgraphs.runtime.proxies import network_of


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """How many may be open at once in a process.

    Args:
        account: for one person, their readers' included.
        reader: for one reader.
        network: for callers without an account from one network (/24 of IPv4, /64 of IPv6).
        total: for all callers together.
    """

    account: int
    reader: int
    network: int
    total: int


STREAMS = SlotLimits(account=64, reader=8, network=256, total=2_000)
"""Open gRPC streams and GraphQL subscriptions."""

CONNECTIONS = SlotLimits(account=64, reader=8, network=256, total=2_000)
"""Open WebSockets; those of the router carry its callers' credentials, one account each."""

ANONYMOUS_CALLS = SlotLimits(account=64, reader=8, network=64, total=512)
"""Calls of callers without a credential that run at the same time: they wait for little, and do little."""


class TooManyOpen(LimitExceeded):
    """As many streams, subscriptions or connections are open as may be; end one first, or try again later."""

    reason = "TOO_MANY_OPEN"


class Slots:
    """Counts what is open."""

    def __init__(self, limits: SlotLimits, *, what: str) -> None:
        self._limits = limits
        self._what = what
        self._open: Counter[tuple[str, str]] = Counter()

    @property
    def total(self) -> int:
        """How many are open."""
        return self._open["total", ""]

    @contextmanager
    def hold(self, principal: Principal, peer: str) -> Iterator[None]:
        """Count one as open for the length of the block.

        Raises:
            TooManyOpen: one of the limits that it falls under is reached.
        """
        counted = self._counted(principal, peer)
        for key, limit in counted:
            if self._open[key] >= limit:
                whose = {"account": "of this account", "reader": "of this reader", "network": "from this network"}
                message = f"{limit} {self._what} {whose.get(key[0], 'here')} are open; end one, or try again later."
                raise TooManyOpen(message, limit=limit, retry_after_s=10)
        for key, _ in counted:
            self._open[key] += 1
        try:
            yield
        finally:
            for key, _ in counted:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]

    def _counted(self, principal: Principal, peer: str) -> list[tuple[tuple[str, str], int]]:
        limits = self._limits
        counted: list[tuple[tuple[str, str], int]] = [(("total", ""), limits.total)]
        if (account := account_of(principal)) is not None:
            counted.append((("account", account), limits.account))
        if principal.kind is PrincipalKind.DEVICE:
            counted.append((("reader", principal.subject), limits.reader))
        if principal.kind is PrincipalKind.ANONYMOUS and peer:
            counted.append((("network", network_of(peer)), limits.network))
        return counted


def account_of(principal: Principal) -> str | None:
    """Whose account a call is counted for; None for services by themselves, for the development network, and without a credential."""
    return principal.user_id or None
