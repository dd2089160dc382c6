"""A stranger who can write to the broker: no forged event pays an order, changes a plan, or raises an alert."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from domain.catalog import topic as catalogued
from domain.ids import new_id
from domain.sealing import EventSealer
from subgraphs.runtime.events import CommittedEvent, EventWriter
from subgraphs.runtime.service_keys import ServiceKey, SigningKeys
from tests.e2e.test_commerce_flows import until
from tests.e2e.test_commerce_graph import ORDER, PERSON, glucose_product, ok, pending_payment
from tests.support.platform import Platform
from tests.support.readers import Person, sign_up

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]


def _forged(topic: str, source: str, key: str, payload: dict[str, object]) -> CommittedEvent:
    return CommittedEvent(0, new_id(), topic, key, source, datetime.now(UTC), payload)


def _events(person: Person, order_id: str, payment: dict[str, Any]) -> list[CommittedEvent]:
    now = datetime.now(UTC).isoformat()
    until_then = (datetime.now(UTC) + timedelta(days=365)).isoformat()
    paid = {
        "payment_id": payment["id"],
        "user_id": person.user_id,
        "order_id": order_id,
        "subscription_id": "",
        "payment_type": "one_time",
        "amount_krw": payment["amountKrw"],
        "payment_method": "card",
        "pg_provider": "toss",
        "pg_transaction_id": "forged",
        "completed_at": now,
    }
    plan = {
        "subscription_id": new_id(),
        "user_id": person.user_id,
        "reason": "activated",
        "tier": "clinical",
        "previous_tier": "free",
        "status": "active",
        "started_at": now,
        "expires_at": until_then,
        "max_devices": 100,
        "max_family_members": 10,
        "ai_coaching_enabled": True,
        "telemedicine_enabled": True,
        "revision": 1000,
        "changed_at": now,
    }
    alert = {
        "alert_id": new_id(),
        "user_id": person.user_id,
        "session_id": new_id(),
        "kind": "critical_high",
        "type_name_en": "Glucose",
        "type_name_ko": "혈당",
        "value": 640.0,
        "limit": 400.0,
        "unit": "mg/dL",
        "confidence": 0.99,
        "measured_at": now,
    }
    return [
        _forged("payment.completed", "payment", payment["id"], paid),
        _forged("subscription.changed", "subscription", person.user_id, plan),
        _forged("health_alert.triggered", "measurement", person.user_id, alert),
    ]


def _unsigned(raw: bytes) -> bytes:
    event = orjson.loads(raw)
    return orjson.dumps({k: v for k, v in event.items() if k not in ("signature", "keyid", "signedat", "path")})


async def _refused(platform: Platform) -> dict[tuple[str, str, str], float]:
    samples = await platform.samples(platform.plan.metrics_port, "events_refused_total")
    return {(labels["service"], labels["topic"], labels["reason"]): value for labels, value in samples}


async def test_forged_events_pay_no_order_change_no_plan_and_raise_no_alert(platform: Platform) -> None:
    person = await sign_up(platform, "forged")
    ordered = (await ok(platform, ORDER, person, product=await glucose_product(platform, person)))["createOrder"]
    payment = await pending_payment(platform, person, ordered["id"])
    events = _events(person, ordered["id"], payment)
    sealer = EventSealer([bytes(32)])
    stranger = EventWriter(SigningKeys([ServiceKey.generate(event.source) for event in events]), sealer)
    user_key = SigningKeys.read(platform.plan.service_keys_folder, ["user"])
    forgeries = {
        "NOT_SIGNED": [_unsigned(stranger.write(event)) for event in events],
        "KEY_UNKNOWN": [stranger.write(event) for event in events],
        # The key of a genuine service that publishes none of this.
        "NOT_A_PUBLISHER": [EventWriter(user_key, sealer).write(replace(event, source="user")) for event in events],
    }
    before = await _refused(platform)
    producer: Any = AIOKafkaProducer(bootstrap_servers=platform.plan.external["KAFKA_BROKERS"])
    await producer.start()
    try:
        for values in forgeries.values():
            for event, value in zip(events, values, strict=True):
                await producer.send_and_wait(event.topic, value=value, key=event.key.encode())
    finally:
        await producer.stop()

    built = {"subscription", "shop", "notification", "user"}
    expected = [
        (service, event.topic, reason)
        for event in events
        for service in built.intersection(catalogued(event.topic).subscribers)
        for reason in forgeries
    ]
    assert len(expected) >= 12

    async def all_refused() -> bool:
        now = await _refused(platform)
        return all(now.get(place, 0) > before.get(place, 0) for place in expected)

    await until(all_refused, within_s=60)
    me = (await ok(platform, PERSON, person))["me"]
    assert me["orders"]["edges"][0]["node"]["status"] == "PENDING"
    assert me["subscription"] is None
    listed = await ok(platform, "{ me { notifications(first: 20) { edges { node { type } } } } }", person)
    kinds = {edge["node"]["type"] for edge in listed["me"]["notifications"]["edges"]}
    assert not kinds & {"HEALTH_ALERT", "PAYMENT_COMPLETED", "SUBSCRIPTION_CHANGED"}, kinds
    profile = await ok(platform, "{ me { subscriptionTier } }", person)
    assert profile["me"]["subscriptionTier"] == "FREE"
