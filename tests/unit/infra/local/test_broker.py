"""The embedded broker: starts with its topics, forgets everything when it stops, refuses in one line."""

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from domain.catalog import DEAD_LETTER_TOPIC, TOPICS
from infra.local.broker import EmbeddedBroker, answers
from infra.local.errors import LocalStackError
from infra.local.process import LOOPBACK


async def partitions_of(address: str) -> dict[str, int]:
    """The number of partitions of each topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        described = await admin.describe_topics(await admin.list_topics())
        return {topic["topic"]: len(topic["partitions"]) for topic in described}
    finally:
        await admin.close()


async def test_it_starts_with_every_topic_of_the_catalogue_and_the_dead_letter_topic(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path) as broker:
        made = await partitions_of(broker.address)
    assert made == dict.fromkeys((*(topic.name for topic in TOPICS), DEAD_LETTER_TOPIC), 1)


async def test_it_listens_on_the_loopback_interface_only(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path, topics=()) as broker:
        port = int(broker.address.rpartition(":")[2])
        listening = {
            address.ip
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and (address := connection.laddr)
            if address.port == port
        }
    assert listening == {LOOPBACK}


async def test_it_comes_back_on_the_same_port_and_has_forgotten_its_topics(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, topics=("first",))
    address = await broker.start()
    await broker.stop()
    assert not await answers(address)
    again = EmbeddedBroker(tmp_path, port=int(address.rpartition(":")[2]), topics=("second",), partitions=2)
    assert await again.start() == address
    assert await partitions_of(address) == {"second": 2}
    await again.stop()


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalStackError, match=rf"port {port} .* in use"):
            await EmbeddedBroker(tmp_path, port=port).start()


async def test_it_can_be_started_again_after_it_was_killed(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, topics=())
    address = await broker.start()
    (server,) = (
        c
        for c in psutil.Process().children(recursive=True)
        if f"tcp://{address}" in c.cmdline() and c.name() == "tansu"
    )
    os.kill(server.pid, signal.SIGKILL)
    await broker.stop()
    assert not broker.running
    assert await broker.start() == address
    await broker.stop()
