"""What relay and consumers share of the broker's client library."""

import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from subgraphs.runtime.cancellation import finish

REQUEST_TIMEOUT_MS = 5000
DEFAULT_PARTITIONS = 3
_CLOSE_WITHIN_S = 0.5
"""A broker that answers lets a client go in milliseconds. One that does not is waited for by the client's own limits, ten
seconds and more, while what the client still had to send is not missed: it is sent again by whoever comes next."""


def silence_client_log() -> None:
    """Keep aiokafka from logging ten lines a second while the broker is away; its users log each change of state once."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def is_broker_outage(error: BaseException) -> bool:
    """Whether an error says that the broker cannot be reached, or cannot take this now."""
    return isinstance(error, (KafkaError, ConnectionError, TimeoutError))


async def let_go(closing: Coroutine[Any, Any, None]) -> None:
    """Close a client of the broker: `await let_go(producer.stop())`. Keeps a cancellation that meets it, and is quick."""
    await finish(closing, what="a client of the broker", within_s=_CLOSE_WITHIN_S)


async def ensure_topics(
    connection: Mapping[str, Any], topics: Iterable[str], *, partitions: int = DEFAULT_PARTITIONS
) -> None:
    """Create the topics that are missing; those that are there keep their partitions.

    Args:
        connection: how the broker is reached, see `tls.kafka_connection`.

    Raises:
        KafkaError: the broker is away, or refuses to create one.
    """
    wanted = set(topics)
    admin = AIOKafkaAdminClient(**connection, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        # Listed without names: asking for a topic by its name makes some brokers create it, with partitions of theirs.
        missing = sorted(wanted - set(await admin.list_topics()))
        if not missing:
            return
        answer = await admin.create_topics([NewTopic(name, partitions, 1) for name in missing])
        for name, code, *_ in answer.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):  # somebody else may have been faster
                raise for_code(code)(f"topic {name} cannot be created")
    finally:
        await let_go(admin.close())
