import socket
import subprocess
import sys
from pathlib import Path

from infra.local.process import LOOPBACK, free_port


def test_a_free_port_is_given_to_one_caller_only() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    program = "from infra.local.process import free_port; print(*(free_port() for _ in range(200)))"
    others = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len(others) == 200
    assert not set(ports) & {int(port) for port in others}


def test_a_free_port_can_be_listened_on_and_is_no_outgoing_one() -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        pass
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    assert not outgoing.exists() or port < int(outgoing.read_text().split()[0])
