"""Relays and hosts end when they are told to: at every moment, with a broker that is silent, with a handler that hangs."""

import asyncio
import signal
import time
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.subscription_state import SubscriptionState
from sqlalchemy.ext.asyncio import AsyncSession

from infra.local.broker import EmbeddedBroker
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import EventMetadata
from subgraphs.runtime.outbox import OutboxRelay
from subgraphs.runtime.settings import KafkaSettings
from tests.integration.messaging.scene import (
    SEALER,
    Counted,
    effects,
    host_of,
    pending,
    relay_of,
    running,
    tell,
    until,
    write_down,
)
from tests.support.patience import PATIENCE_S
from tests.support.trust import event_writer

_STEPS = 16
"""Steps of the loop in which the end of a client and the way of a cancellation to it are both well over."""


async def _nothing_pending(database: Database) -> bool:
    return await pending(database) == 0


def _after_steps(count: int, task: "asyncio.Task[None]") -> None:
    """Cancel a task so many steps of the loop from now."""
    if count == 0:
        task.cancel()
    else:
        asyncio.get_running_loop().call_soon(_after_steps, count - 1, task)


@pytest.mark.parametrize(
    ("client", "end"), [(AIOKafkaConsumer, "stop"), (AIOKafkaAdminClient, "close")], ids=["probe", "admin"]
)
async def test_a_relay_ends_at_whatever_step_of_closing_a_client_it_is_cancelled(
    database: Database, kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch, client: type[Any], end: str
) -> None:
    await tell(database, topic, ("k", 1))
    async with running(relay_of(database, kafka)):
        await until(lambda: _nothing_pending(database))
    original = getattr(client, end)
    for step in range(_STEPS):
        relay = OutboxRelay(
            database=database,
            kafka=kafka,
            sealer=SEALER,
            writer=event_writer(),
            poll_interval_s=0.01,
            check_interval_s=0.02,
        )
        task = asyncio.create_task(relay.run())

        async def ending(self: Any, *, step: int = step, task: "asyncio.Task[None]" = task) -> None:
            _after_steps(step, task)
            await original(self)

        monkeypatch.setattr(client, end, ending)
        await asyncio.wait([task], timeout=5)
        monkeypatch.setattr(client, end, original)
        assert task.done(), f"cancelled at step {step}, it went on"


async def test_a_relay_and_a_host_end_in_time_while_the_broker_is_silent(
    database: Database, own_broker: EmbeddedBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = KafkaSettings(brokers=own_broker.address, group_id="silent")
    relay, host = relay_of(database, kafka), host_of(database, kafka, [topic], stop_within_s=1.0)
    tasks = [asyncio.create_task(relay.run()), asyncio.create_task(host.run())]
    await tell(database, topic, ("k", 1))
    await until(lambda: _handled(database, 1))
    process = _process_of(own_broker)
    sending, original = asyncio.Event(), relay._send_batch

    async def freeze_and_send(*batch: Any) -> Any:
        process.send_signal(signal.SIGSTOP)
        sending.set()
        return await original(*batch)

    monkeypatch.setattr(relay, "_send_batch", freeze_and_send)
    try:
        await tell(database, topic, ("k", 2))
        async with asyncio.timeout(PATIENCE_S):
            await sending.wait()
        await asyncio.sleep(0.1)  # a batch is in flight now, and nobody will answer
        started = time.monotonic()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=20)
        assert all(task.cancelled() for task in tasks)
        assert time.monotonic() - started < 3.5
    finally:
        process.send_signal(signal.SIGCONT)


def _process_of(broker: EmbeddedBroker) -> psutil.Process:
    [process] = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.name() == "tansu" and f"tcp://{broker.address}" in child.cmdline()
    ]
    return process


async def test_a_host_abandons_a_handler_that_hangs_and_its_event_comes_again(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    in_hand = asyncio.Event()

    async def hang(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        await write_down(session, event, metadata)
        in_hand.set()
        await asyncio.Event().wait()

    await tell(database, topic, ("k", 1))
    async with running(relay_of(database, kafka)):
        first = asyncio.create_task(host_of(database, kafka, [topic], hang, stop_within_s=1.0).run())
        async with asyncio.timeout(PATIENCE_S):
            await in_hand.wait()
        started = time.monotonic()
        first.cancel()
        await asyncio.wait([first], timeout=20)
        assert first.cancelled()
        assert time.monotonic() - started < 3.0
        async with running(host_of(database, kafka, [topic])):
            await until(lambda: _handled(database, 1))
    assert await effects(database) == [1]


async def test_a_fetch_that_meets_a_rebalance_does_not_keep_it_from_ending(
    database: Database, kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SubscriptionState.begin_reassignment
    met = 0

    def begin(self: Any) -> None:
        """Begin a rebalance, and tell waiting fetches in the same moment that records have come."""
        nonlocal met
        original(self)
        for waiter in list(self._fetch_waiters):
            if not waiter.done():
                waiter.set_result(None)
                met += 1

    async def rebalanced() -> bool:
        return met > 0

    async with running(relay_of(database, kafka), host_of(database, kafka, [topic])):
        await tell(database, topic, ("k", 0))
        await until(lambda: _handled(database, 1))
        monkeypatch.setattr(SubscriptionState, "begin_reassignment", begin)
        async with running(host_of(database, kafka, [topic])):
            await until(rebalanced)
            await tell(database, topic, *((f"k{number}", number) for number in range(1, 20)))
            await until(lambda: _handled(database, 20))
    assert sorted(await effects(database)) == list(range(20))


async def _handled(database: Database, count: int) -> bool:
    return len(await effects(database)) >= count
