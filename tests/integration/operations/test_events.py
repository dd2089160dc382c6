"""Each event becomes a message for the right people, once; over the broker and by direct delivery."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from domain.catalog import TOPICS
from domain.commerce.payment.events import PaymentCompleted, PaymentFailed, PaymentRefunded
from domain.commerce.shop.events import OrderCancelled, OrderCreated, OrderedItem
from domain.commerce.subscription.events import (
    SubscriptionCancelled,
    SubscriptionChanged,
    SubscriptionCreated,
    SubscriptionPaymentDue,
)
from domain.commerce.terms import Tier
from domain.events import DomainEvent
from domain.ids import new_id
from domain.measurement.measurement.events import FailedElectrodes, HealthAlertTriggered, MeasurementInvalid
from domain.messaging import Outbox
from domain.operations.notification.models import Message, MessageFilter, NotificationType
from domain.principal import Principal
from domain.units import ResultUnits
from subgraphs.operations.notification.consumers import notification_consumers
from subgraphs.runtime.consumers import ConsumerHost
from subgraphs.runtime.kafka import ensure_topics
from subgraphs.runtime.outbox import OutboxRelay
from subgraphs.runtime.settings import KafkaSettings
from tests.integration.messaging.scene import pending, publish_raw, records_of, running, until
from tests.integration.operations.conftest import ALICE, BOB, Operations, metadata_of, person
from tests.support.clock import FakeClock
from tests.support.trust import event_reader, event_writer, payloads_in

NOW = FakeClock().now()
PAYMENT: dict[str, Any] = {
    "payment_id": "pay-1",
    "user_id": "alice",
    "order_id": "order-1",
    "subscription_id": "",
    "payment_type": "one_time",
    "amount_krw": 29900,
}
PLAN: dict[str, Any] = {"subscription_id": "sub-1", "user_id": "alice"}
CHANGE: dict[str, Any] = {
    **PLAN,
    "status": "active",
    "started_at": NOW,
    "expires_at": None,
    "max_devices": 5,
    "max_family_members": 6,
    "ai_coaching_enabled": True,
    "telemedicine_enabled": False,
    "revision": 2,
    "changed_at": NOW,
}
ALERT = HealthAlertTriggered(
    alert_id="a-1",
    user_id="alice",
    session_id="s-1",
    kind="critical_high",
    type_name_en="Glucose",
    type_name_ko="혈당",
    value=452,
    decimal_places=0,
    limit=400,
    unit="mg/dL",
    confidence=0.9,
    measured_at=NOW,
)

INVALID = MeasurementInvalid(
    session_id="s-1",
    user_id="alice",
    device_id="reader-1",
    cartridge_uid="c-1",
    category_code=1,
    type_index=1,
    type_name_en="Glucose",
    type_name_ko="혈당",
    reasons=["electrodes_failed"],
    failed_electrodes=[FailedElectrodes(fault="dead", numbers=[1, 2, 3, 9])],
    electrode_count=88,
    verified=True,
    calibrated=True,
    frame_count=5,
    measured_at=NOW,
)

PUBLISHED: Sequence[tuple[DomainEvent, str, str]] = (
    (ALERT, "건강 경고", "혈당 측정값이 452 mg/dL로, 위험 기준 400 mg/dL"),
    (ALERT.model_copy(update={"value": 600, "comparator": ">"}), "건강 경고", "혈당 측정값이 >600 mg/dL로"),
    (
        ALERT.model_copy(update={"issued_at": NOW + timedelta(minutes=10)}),
        "건강 경고",
        "혈당 측정값이 452 mg/dL로",
    ),
    (
        ALERT.model_copy(update={"issued_at": NOW + timedelta(hours=20)}),
        "지난 측정에 대한 건강 안내",
        "2026년 11월 22일 18:00에 측정한 혈당 값이 452 mg/dL로",
    ),
    (
        ALERT.model_copy(update={"issued_at": NOW, "time_basis": "unknown"}),
        "측정 시각을 알 수 없는 건강 안내",
        "결과는 2026년 11월 22일 18:00에 전송되었습니다",
    ),
    (INVALID, "다시 측정해 주세요", "고장 난 전극 4/88개: 1-3, 9번."),
    (
        SubscriptionCreated(**PLAN, tier=Tier.FREE, status="active", amount_due_krw=0, created_at=NOW, expires_at=None),
        "구독이 시작되었습니다",
        "무료 요금제",
    ),
    (
        SubscriptionCreated(
            **PLAN, tier=Tier.PRO, status="suspended", amount_due_krw=29900, created_at=NOW, expires_at=None
        ),
        "결제하면 구독이 시작됩니다",
        "프로 요금제: 29,900원",
    ),
    (
        SubscriptionCancelled(**PLAN, tier=Tier.PRO, reason="", cancelled_at=NOW, effective_until=NOW),
        "구독이 해지되었습니다",
        "2026년 11월 22일 18:00까지",
    ),
    (
        SubscriptionPaymentDue(**PLAN, charge_id="c", kind="renewal", tier=Tier.PRO, amount_krw=29900, due_at=NOW),
        "구독 결제가 필요합니다",
        "29,900원",
    ),
    (
        SubscriptionChanged(**CHANGE, reason="upgraded", tier=Tier.PRO, previous_tier=Tier.FREE),
        "구독이 변경되었습니다",
        "프로",
    ),
    (
        SubscriptionChanged(**CHANGE, reason="expired", tier=Tier.FREE, previous_tier=Tier.PRO),
        "구독이 종료되었습니다",
        "프로 요금제가 끝나 무료 요금제로",
    ),
    (
        PaymentCompleted(**PAYMENT, payment_method="card", pg_provider="toss", pg_transaction_id="t", completed_at=NOW),
        "결제가 완료되었습니다",
        "29,900원",
    ),
    (
        PaymentFailed(**PAYMENT, code="REJECT_CARD_PAYMENT", message="한도 초과", failed_at=NOW),
        "결제하지 못했습니다",
        "한도 초과",
    ),
    (
        PaymentRefunded(
            **PAYMENT,
            refund_id="r",
            refund_amount_krw=10000,
            refunded_total_krw=10000,
            is_full=False,
            reason="",
            refunded_at=NOW,
        ),
        "환불되었습니다",
        "10,000원",
    ),
    (
        OrderCreated(
            order_id="order-1",
            user_id="alice",
            subscription_id="",
            amount_krw=29900,
            payment_method="card",
            items=(OrderedItem(product_id="p", product_name="카트리지", quantity=1, unit_price_krw=29900),),
            created_at=NOW,
            expires_at=NOW,
        ),
        "주문이 접수되었습니다",
        "29,900원",
    ),
    (
        OrderCancelled(
            order_id="order-1",
            user_id="alice",
            subscription_id="",
            payment_id="",
            amount_krw=29900,
            reason="timed_out",
            cancelled_at=NOW,
        ),
        "주문이 취소되었습니다",
        "정해진 시간 안에",
    ),
)

TOLD: Sequence[tuple[str, dict[str, Any], str]] = (
    ("ai.analysis_completed", {"user_id": "alice", "analysis_id": "an-1", "overall_health_score": 71.5}, "분석이"),
    ("coaching.tip_delivered", {"user_id": "alice", "message_id": "m-1", "title": "물을 드세요"}, "물을 드세요"),
    ("health_alert.triggered", {"user_id": "alice", "alert_id": "a-2", "risk": "high"}, "확인이 필요한"),
    (
        "reservation.created",
        {"user_id": "alice", "facility_name": "서울의원", "appointment_time": "2026-12-01T01:00:00Z"},
        "서울의원 2026년 12월 1일 10:00",
    ),
    ("reservation.cancelled", {"user_id": "alice", "reservation_id": "r-1", "facility_name": "서울의원"}, "서울의원"),
    ("prescription.created", {"user_id": "alice", "prescription_id": "p-1", "doctor_name": "김의사"}, "김의사"),
    ("prescription.sent_to_pharmacy", {"user_id": "alice", "pharmacy_name": "온누리약국"}, "온누리약국"),
    ("family.data_shared", {"user_id": "bob", "shared_with_user_ids": ["alice", "bob"]}, "가족님이"),
    (
        "community.post_created",
        {"post_id": "p", "author_id": "bob", "author_name": "밥", "title": "글", "follower_ids": ["alice", "bob"]},
        "밥: 글",
    ),
    ("community.comment_created", {"post_id": "p", "author_id": "bob", "post_author_id": "alice"}, "누군가님이"),
    ("admin.action_performed", {"admin_id": "admin", "action": "계정 정지", "target_user_id": "alice"}, "계정 정지"),
)


async def deliver(operations: Operations, topic: str, payload: dict[str, Any], event_id: str = "") -> None:
    """As the runtime hands an event over, without its inbox."""
    consumers = {
        consumer.topic: consumer
        for consumer in notification_consumers(operations.services.sending, operations.services.preferences)
    }
    consumer = consumers[topic]
    event = consumer.event.model_validate(payload)
    async with operations.database.transaction() as session:
        await consumer.handle(session, event, metadata_of(event_id, topic))


async def inbox(operations: Operations, who: Principal = ALICE) -> list[Message]:
    async with operations.database.transaction() as session:
        messages, _ = await operations.services.notifications.window(
            session, who, MessageFilter(), user_id="", limit=100, offset=0
        )
    return list(messages)


def test_every_topic_of_the_catalogue_is_listened_to(operations: Operations) -> None:
    topics = {
        consumer.topic
        for consumer in notification_consumers(operations.services.sending, operations.services.preferences)
    }
    assert topics == {topic.name for topic in TOPICS if "notification" in topic.subscribers}
    told = {event.topic for event, _, _ in PUBLISHED} | {topic for topic, _, _ in TOLD}
    assert topics == told | {"account.proven"}


@pytest.mark.parametrize(("event", "title", "words"), PUBLISHED, ids=lambda value: getattr(value, "topic", ""))
async def test_an_event_of_a_built_group_becomes_one_message_however_often_it_comes(
    operations: Operations, event: DomainEvent, title: str, words: str
) -> None:
    event_id = new_id()
    for _ in range(2):
        await deliver(operations, event.topic, event.model_dump(mode="json"), event_id)
    (message,) = await inbox(operations)
    assert message.content.title == title
    assert words in message.content.body
    assert await inbox(operations, BOB) == []


async def test_an_alert_whose_event_comes_late_is_told_with_its_time(operations: Operations) -> None:
    operations.clock.advance(seconds=20 * 3600)  # the broker was away for so long
    event = ALERT.model_copy(update={"issued_at": NOW})
    await deliver(operations, event.topic, event.model_dump(mode="json"), new_id())
    (message,) = await inbox(operations)
    assert message.content.title == "지난 측정에 대한 건강 안내"
    assert "2026년 11월 22일 18:00에 측정한" in message.content.body


@pytest.mark.parametrize(("topic", "payload", "words"), TOLD, ids=lambda value: value if isinstance(value, str) else "")
async def test_an_event_of_a_group_to_come_becomes_one_message_however_often_it_comes(
    operations: Operations, topic: str, payload: dict[str, Any], words: str
) -> None:
    event_id = new_id()
    for _ in range(2):
        await deliver(operations, topic, payload, event_id)
    (message,) = await inbox(operations)
    assert words in message.content.body + message.content.title
    assert await inbox(operations, BOB) == []
    assert len(await operations.events()) == 1


async def test_two_deliveries_at_once_make_one_message(operations: Operations) -> None:
    event_id = new_id()
    payload = ALERT.model_dump(mode="json")
    await asyncio.gather(*(deliver(operations, ALERT.topic, payload, event_id) for _ in range(4)))
    assert len(await inbox(operations)) == 1


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("community.comment_created", {"post_id": "p", "author_id": "alice", "post_author_id": "alice"}),
        ("community.post_created", {"post_id": "p", "author_id": "alice", "mentioned_user_ids": ["alice"]}),
        ("family.data_shared", {"user_id": "alice", "shared_with_user_ids": ["alice"]}),
        ("admin.action_performed", {"admin_id": "admin", "action": "설정 변경"}),
        (
            "shop.order_created",
            {"user_id": "alice", "order_id": "o", "subscription_id": "s", "amount_krw": 1, "expires_at": NOW},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_who_did_it_or_knows_it_already_is_not_told(
    operations: Operations, topic: str, payload: dict[str, Any]
) -> None:
    await deliver(operations, topic, payload)
    assert await operations.fetch("SELECT 1 FROM notifications") == []


async def test_each_person_is_told_in_their_language_and_as_they_prefer(operations: Operations) -> None:
    carol = person("carol")
    await operations.prefer(carol, community_updates=False)
    people = ["alice", "bob", "carol", "alice"]
    await deliver(
        operations, "community.post_created", {"post_id": "p", "author_id": "dave", "mentioned_user_ids": people}
    )
    assert [message.content.title for message in await inbox(operations)] == ["새 게시글이 있습니다"]
    assert [message.content.title for message in await inbox(operations, BOB)] == ["There is a new post"]
    assert await inbox(operations, carol) == []


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (ResultUnits.AMOUNT, "혈당 측정값이 25.1 mmol/L로, 위험 기준 22.2 mmol/L"),
        (ResultUnits.MASS, "혈당 측정값이 452 mg/dL로, 위험 기준 400 mg/dL"),
    ],
)
async def test_a_health_alert_is_told_in_the_kind_of_unit_of_the_persons_profile(
    operations: Operations, chosen: ResultUnits, words: str
) -> None:
    operations.directory.know("alice", result_units=chosen)
    of_glucose = ALERT.model_copy(update={"loinc_code": "2339-0"})
    await deliver(operations, ALERT.topic, of_glucose.model_dump(mode="json"))
    (message,) = await inbox(operations)
    assert words in message.content.body


async def test_a_health_alert_beyond_the_range_keeps_its_comparator_in_another_unit(operations: Operations) -> None:
    operations.directory.know("alice", result_units=ResultUnits.AMOUNT)
    above = ALERT.model_copy(update={"loinc_code": "2339-0", "value": 600, "comparator": ">"})
    await deliver(operations, ALERT.topic, above.model_dump(mode="json"))
    assert ">33.3 mmol/L로" in (await inbox(operations))[0].content.body


async def test_somebody_else_s_words_cannot_break_or_format_a_message(operations: Operations) -> None:
    words = "{author} {0.__class__}\r\nBcc: all\0\u202e" + "x" * 10_000
    await deliver(
        operations,
        "community.post_created",
        {"post_id": "../../x", "author_id": "bob", "title": words, "follower_ids": ["alice"]},
    )
    (message,) = await inbox(operations)
    assert message.content.body.startswith("누군가: {author} {0.__class__} Bcc: all xxx")
    assert len(message.content.body) < 300
    assert message.content.action_url == "/community/..%2F..%2Fx"


async def test_no_title_of_a_health_message_tells_what_or_how_much(operations: Operations) -> None:
    await deliver(operations, ALERT.topic, ALERT.model_dump(mode="json"))
    (message,) = await inbox(operations)
    assert message.row.type == NotificationType.HEALTH_ALERT
    for detail in ("452", "400", "혈당", "mg"):
        assert detail not in message.content.title


async def test_events_reach_the_list_over_the_broker_once_also_when_published_twice(
    operations: Operations, broker: str
) -> None:
    kafka = KafkaSettings(brokers=broker, group_id=f"group-{new_id()}")
    user = f"user-{new_id()}"
    event = ALERT.model_copy(update={"user_id": user})
    await ensure_topics({"bootstrap_servers": broker}, [event.topic, "notification.sent"])
    host = ConsumerHost(
        database=operations.database,
        kafka=kafka,
        consumers=notification_consumers(operations.services.sending, operations.services.preferences),
        reader=event_reader(),
        principal_service="notification",
        session_timeout_s=1.0,
    )
    relay = OutboxRelay(
        database=operations.database,
        kafka=kafka,
        sealer=operations.sealer,
        writer=event_writer(),
        poll_interval_s=0.2,
        check_interval_s=0.5,
    )

    async def arrived(count: int) -> bool:
        return await operations.unread(person(user)) >= count

    async def told() -> bool:
        return await pending(operations.database) == 0

    async with running(relay, host):
        async with operations.database.transaction() as session:
            await Outbox(session, sealer=operations.sealer).add(event)
        await until(lambda: arrived(1))
        records = [
            record
            for record, payload in payloads_in(await records_of(broker, event.topic))
            if payload["user_id"] == user
        ]
        assert records
        for record in records:
            await publish_raw(broker, event.topic, record.value, key=record.key.decode())
        async with operations.database.transaction() as session:
            await Outbox(session, sealer=operations.sealer).add(event)
        await until(lambda: arrived(2))
        await until(told)
    assert await operations.unread(person(user)) == 2
    sent = [
        payload
        for _, payload in payloads_in(await records_of(broker, "notification.sent"))
        if payload["user_id"] == user
    ]
    assert len(sent) == 2
