"""Events that were refused for a reason outside of them take effect when they are sent again."""

from datetime import UTC, datetime

from domain.ids import new_id
from domain.sealing import EventSealer, master_key
from infra.dead_letters import chosen, send_again, summary
from subgraphs.runtime.database import Database
from subgraphs.runtime.events import CommittedEvent, EventReader, EventWriter
from subgraphs.runtime.kafka import ensure_topics
from subgraphs.runtime.service_keys import PublicKeys, ServiceKey, SigningKeys
from subgraphs.runtime.settings import KafkaSettings, Settings
from subgraphs.runtime.tls import kafka_connection
from tests.integration.messaging.scene import effects, host_of, publish_raw, running, until


async def test_events_that_were_refused_for_a_missing_public_key_take_effect_once_when_sent_again(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    settings = Settings.load({"KAFKA_BROKERS": kafka.brokers, "JWT_SECRET": "a secret of this test"})
    sealer = EventSealer([master_key(settings.master_secret)])
    known, unknown = ServiceKey.generate("device"), ServiceKey.generate("device")

    def event(number: int, key: ServiceKey) -> bytes:
        payload: dict[str, object] = {"aggregate": "k", "number": number}
        row = CommittedEvent(0, new_id(), topic, "k", "device", datetime.now(UTC), payload)
        return EventWriter(SigningKeys([key]), sealer).write(row)

    def reader(*keys: ServiceKey) -> EventReader:
        return EventReader(PublicKeys(key.public for key in keys), sealer, publishers=lambda _: ("device",))

    async def effect_of(number: int) -> bool:
        return number in await effects(database)

    await ensure_topics(kafka_connection(kafka), [topic], partitions=1)
    for value in (event(1, known), event(2, unknown), b"junk", event(3, known)):
        await publish_raw(kafka.brokers, topic, value)
    async with running(host_of(database, kafka, [topic], reader=reader(known))):
        await until(lambda: effect_of(3))
    found = await chosen(settings, topic=topic, reason="")
    assert summary(found) == [(topic, kafka.group_id, "KEY_UNKNOWN", 1), (topic, kafka.group_id, "MALFORMED_EVENT", 1)]
    assert await chosen(settings, topic=topic, reason="TOO_OLD") == []
    async with running(host_of(database, kafka, [topic], reader=reader(known, unknown))):
        for _ in range(2):
            assert await send_again(settings, found) == 1
        await publish_raw(kafka.brokers, topic, event(4, known))
        await until(lambda: effect_of(4))
    assert await effects(database) == [1, 3, 2, 4]
