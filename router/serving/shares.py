"""How much of what is limited one caller may hold: by account, else by the network that the connection comes from."""

import contextlib
import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping

from router.errors import ClientError
from router.serving.identity import Identity

_IPV4_BITS, _IPV6_BITS = 24, 64


def holder_of(identity: Identity, headers: Mapping[str, str]) -> tuple[str, str]:
    """Who holds something: ("account", subject), or ("network", address) for callers that are not known."""
    if identity.authenticated and identity.subject is not None:
        return "account", identity.subject
    # The last address was appended by the router itself: the connection's.
    address = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return "network", network_of(address)


def network_of(address: str) -> str:
    """The /24 of an IPv4 address or the /64 of an IPv6 address; what is no address stands for itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    bits = _IPV4_BITS if parsed.version == 4 else _IPV6_BITS
    return str(ipaddress.ip_network((parsed, bits), strict=False))


class Shares:
    """What is held at present, in all and by each holder.

    most: by kind of holder, for each one. what: named in the refusal.
    """

    def __init__(self, what: str, *, total: int, most: Mapping[str, int]) -> None:
        self._what = what
        self._total = total
        self._most = most
        self._held: Counter[tuple[str, str]] = Counter()
        self.count = 0

    def check(self, holder: tuple[str, str]) -> None:
        """Raises:
        ClientError: the holder has its share (429), or all is taken (503); `TOO_MANY_SUBSCRIPTIONS`.
        """
        kind = holder[0]
        if self._held[holder] >= self._most[kind]:
            message = f"Too many {self._what} are open for this {kind}; at most {self._most[kind]}."
            raise ClientError(message, code="TOO_MANY_SUBSCRIPTIONS", status=429)
        if self.count >= self._total:
            message = f"Too many {self._what} are open; try again later."
            raise ClientError(message, code="TOO_MANY_SUBSCRIPTIONS", status=503)

    @contextlib.contextmanager
    def held(self, holder: tuple[str, str]) -> Iterator[None]:
        """Counted while it lasts. Raises: ClientError: as `check`."""
        self.check(holder)
        self._held[holder] += 1
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]
