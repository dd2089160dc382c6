from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.runtime.proxies import TrustedProxies

_OURS = TrustedProxies([ip_network("127.0.0.0/8"), ip_network("10.1.0.0/16"), ip_network("fd00::/8")])
_NOBODY = TrustedProxies([])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "caller"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a stranger's word
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1, 10.1.9.9", "198.51.100.1"),  # through two of ours
        ("10.1.2.3", "192.0.2.66, 198.51.100.1", "198.51.100.1"),  # what the caller has invented stays on the left
        ("10.1.2.3", "10.1.4.4", "10.1.4.4"),  # a proxy asks for itself
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "unknown", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1, nonsense", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1:4711", "10.1.2.3"),
        ("fd00::1", "[2001:db8::7]", "2001:db8::7"),
        ("::ffff:10.1.2.3", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.2.2.3", "198.51.100.1", "10.2.2.3"),
        ("", "198.51.100.1", ""),
        ("testclient", "198.51.100.1", "testclient"),
    ],
)
def test_the_caller_is_the_first_that_is_none_of_our_proxies(peer: str, forwarded_for: str, caller: str) -> None:
    assert _OURS.caller(peer, forwarded_for) == caller


@given(peer=st.ip_addresses().map(str), forwarded_for=st.text())
def test_without_proxies_the_caller_is_the_peer_whatever_it_says(peer: str, forwarded_for: str) -> None:
    assert _NOBODY.caller(peer, forwarded_for) == peer


@given(
    invented=st.lists(st.one_of(st.ip_addresses().map(str), st.text(alphabet="ab1.:,[] "))),
    caller=st.ip_addresses(v=4, network="203.0.113.0/24").map(str),
    through=st.lists(st.ip_addresses(v=4, network="10.1.0.0/16").map(str), min_size=1),
)
def test_nothing_that_a_caller_invents_changes_who_it_is(invented: list[str], caller: str, through: list[str]) -> None:
    *chain, peer = through
    assert _OURS.caller(peer, ", ".join([*invented, caller, *chain])) == caller
