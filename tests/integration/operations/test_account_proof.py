"""What an unproven holder has set for messages ends when somebody else proves the account's address."""

from datetime import timedelta
from typing import Any

from domain.operations.notification.models import NotificationType, Platform, Preferences, Priority
from domain.operations.notification.quiet_hours import QuietHours
from domain.operations.notification.sending import Draft
from subgraphs.operations.notification.consumers import notification_consumers
from tests.integration.operations.conftest import ALICE, BOB, SERVICE, Operations, metadata_of

TABLES = (
    "push_tokens",
    "contact_phones",
    "pending_phones",
    "notification_preferences",
    "notifications",
    "notification_deliveries",
)


async def prove(operations: Operations, *, ago: timedelta = timedelta()) -> None:
    services = operations.services
    consumers: Any = notification_consumers(services.sending, services.preferences)
    consumer = next(c for c in consumers if c.topic == "account.proven")
    payload = {"user_id": "alice", "proof": 1, "proven_at": operations.clock.now() - ago}
    async with operations.database.transaction() as session:
        await consumer.handle(session, consumer.event.model_validate(payload), metadata_of())


async def set_up(operations: Operations, token: str, phone: str) -> None:
    preferences = operations.services.preferences
    async with operations.database.transaction() as session:
        await preferences.register_push_token(session, ALICE, token=token, platform=Platform.IOS)
        wanted = Preferences(sms_enabled=True, health_alerts=False, quiet_hours=QuietHours(0, 1439))
        await preferences.replace(session, ALICE, wanted)
    await operations.verify_phone(phone)
    await operations.services.phones.set(ALICE, phone="010-6666-0000", locale="en")


async def alert(operations: Operations) -> None:
    draft = Draft(
        user_id="alice", type=NotificationType.HEALTH_ALERT, title="Alert", body="b", priority=Priority.URGENT
    )
    async with operations.database.transaction() as session:
        await operations.services.sending.send(session, SERVICE, draft)


async def test_alerts_reach_nothing_that_was_set_before_the_proof(operations: Operations) -> None:
    await set_up(operations, "attackers-phone", "+82 10-6666-6666")
    await alert(operations)
    operations.clock.advance(seconds=1)
    await prove(operations)
    await prove(operations)
    for table in TABLES:
        assert await operations.fetch(f"SELECT 1 FROM {table}") == [], table
    await alert(operations)
    await operations.services.deliveries.deliver_due()
    assert operations.push.pushed == []
    assert operations.texts.texted == []
    assert [mail.to for mail in operations.post.mailed] == ["alice@example.com"]


async def test_what_was_set_after_the_proof_and_what_others_have_set_stays(operations: Operations) -> None:
    async with operations.database.transaction() as session:
        await operations.services.preferences.register_push_token(
            session, BOB, token="phone-of-bob", platform=Platform.WEB
        )
    await set_up(operations, "owners-phone", "+82 10-1234-5678")
    await prove(operations, ago=timedelta(seconds=1))
    tokens = await operations.fetch("SELECT token FROM push_tokens ORDER BY token")
    assert [row["token"] for row in tokens] == ["owners-phone", "phone-of-bob"]
