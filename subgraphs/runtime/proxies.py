"""Whose request it is when it came through proxies: limits by network address are only as good as that address.

`x-forwarded-for` is what the sender says. Each proxy appends the address that it was called from, so the last entry is true
when our peer is a proxy of ours, the one before it when the last is one too, and so on: the caller is the first address,
from the right, that is none of our proxies. Everything to the left of it may be invented. Source: RFC 7239, section 8.1.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


class TrustedProxies:
    """The networks whose word about their callers is taken."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)

    def caller(self, peer: str, forwarded_for: str) -> str:
        """The address of the caller.

        Args:
            peer: address that the connection came from; "" when it is not known.
            forwarded_for: all values of `x-forwarded-for`, joined by commas.
        """
        caller = peer
        for entry in reversed(forwarded_for.split(",")):
            address = _address(entry)
            if address is None or not self.trusts(caller):
                break
            caller = str(address)
        return caller

    def trusts(self, caller: str) -> bool:
        """Whether an address is one of ours."""
        address = _address(caller)
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in an entry, with or without brackets; None for a name, for "unknown" and for nonsense."""
    try:
        address = ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    # A socket for both families knows IPv4 callers by these.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def network_of(address: str) -> str:
    """The network that an address is counted for in limits: its /24 (IPv4) or /64 (IPv6); a name or nonsense stays as it is.

    One subscriber line commonly holds a /64, so that single IPv6 addresses cost an attacker nothing.
    """
    parsed = _address(address)
    if parsed is None:
        return address[:64]
    return str(ip_network((parsed, 24 if isinstance(parsed, IPv4Address) else 64), strict=False))
