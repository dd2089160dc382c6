"""What notification-service listens to: each event becomes a message for the people it concerns, once.

The models hold what is read here and no more. Of groups whose events carry more, the rest is ignored; fields without which
nobody could be told are required, all others may be missing.
"""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.operations.notification.announcements import Announcement
from domain.operations.notification.preference_service import PreferenceService
from domain.operations.notification.sending import SendingService
from domain.operations.notification.voice import Bilingual, Measured, UnitOf, Value, Won
from domain.quantities import ranges
from subgraphs.runtime.account_proof import account_proof_consumer
from subgraphs.runtime.faces import Consumer, EventMetadata

_PLANS = {
    "free": Bilingual("무료", "Free"),
    "basic": Bilingual("베이직", "Basic"),
    "pro": Bilingual("프로", "Pro"),
    "clinical": Bilingual("클리니컬", "Clinical"),
}
_CANCELLED_FOR = {
    "payment_failed": Bilingual("결제가 되지 않아 취소되었습니다.", "The payment did not go through."),
    "timed_out": Bilingual("정해진 시간 안에 결제되지 않아 취소되었습니다.", "It was not paid in time."),
    "by_customer": Bilingual("요청하신 대로 취소되었습니다.", "It was cancelled as you asked."),
    "refunded": Bilingual("환불되어 취소되었습니다.", "It was refunded."),
    "account_proven": Bilingual(
        "이메일 주소를 확인하기 전에 만들어진 주문이라 취소되었습니다.",
        "It was made before your mail address was proven.",
    ),
    "not_owed": Bilingual("더 이상 결제할 필요가 없어 취소되었습니다.", "It is not owed any more."),
}
_DOUBTS = {
    "electrodes_failed": Bilingual("고장 난 전극이 너무 많습니다.", "Too many electrodes failed."),
    "electrodes_disagree": Bilingual("전극들의 값이 서로 다릅니다.", "The electrodes disagree."),
    "surroundings": Bilingual("온도나 습도가 사용 범위를 벗어났습니다.", "Temperature or humidity was out of range."),
    "interference": Bilingual("전기 간섭이 있었습니다.", "There was electrical interference."),
    "frames_disagree": Bilingual("측정하는 동안 신호가 변했습니다.", "The signal changed during the measurement."),
    "implausible": Bilingual("나올 수 없는 신호입니다.", "No sample gives such a signal."),
    "cut_short": Bilingual("측정이 도중에 끊겼습니다.", "The measurement broke off."),
}
LATE_AFTER = timedelta(minutes=15)
"""A critical value that became known later than this is not how the person is now."""
MAX_LISTED = 120
"""Characters of a list of electrodes in a message."""
_NO_REASON = Bilingual("자세한 내용은 앱에서 확인하세요.", "See the app for details.")
_SOMEBODY = Bilingual("누군가", "Somebody")
_FAMILY = Bilingual("가족", "A member of your family")


class AnnouncedEvent(DomainEvent):
    """An event that people are told of."""

    source: ClassVar[str] = ""

    @property
    def key(self) -> str:
        return ""

    @abstractmethod
    def announcement(self) -> Announcement | None:
        """Who is told what; None when nobody needs to be."""

    def announcement_at(self, now: datetime) -> Announcement | None:
        """The announcement in the words of this moment, where those depend on it."""
        del now
        return self.announcement()


class PersonalEvent(AnnouncedEvent):
    """An event that concerns one person."""

    user_id: str

    def told(self, template: str, **values: Value) -> Announcement:
        return Announcement(template, (self.user_id,), values)


class AnalysisCompleted(PersonalEvent):
    topic: ClassVar[str] = "ai.analysis_completed"
    analysis_id: str = ""

    def announcement(self) -> Announcement:
        return self.told("ai_analysis_completed", analysis_id=self.analysis_id)


class TipDelivered(PersonalEvent):
    topic: ClassVar[str] = "coaching.tip_delivered"
    message_id: str = ""
    title: str = ""

    def announcement(self) -> Announcement:
        headline: Value = self.title or Bilingual("앱에서 읽어 보세요.", "Read it in the app.")
        return self.told("coaching_tip", message_id=self.message_id, headline=headline)


class HealthAlertTriggered(PersonalEvent):
    """Of services that do not tell the digits of a value, it is said with up to six."""

    topic: ClassVar[str] = "health_alert.triggered"
    alert_id: str = ""
    session_id: str = ""
    type_name_ko: str = ""
    type_name_en: str = ""
    loinc_code: str = ""
    value: float | None = None
    comparator: str = ""
    decimal_places: int | None = None
    limit: float | None = None
    unit: str = ""
    measured_at: datetime | None = None
    issued_at: datetime | None = None
    time_basis: str = ""

    def announcement(self) -> Announcement:
        return self.announcement_at(self.issued_at or datetime.now(UTC))

    def announcement_at(self, now: datetime) -> Announcement:
        """A value that was true some time ago is told with its time, also where only the event was late."""
        if self.value is None or self.limit is None or not (self.type_name_ko or self.type_name_en):
            return self.told("health_alert_general", alert_id=self.alert_id)
        about: dict[str, Value] = {
            "session_id": self.session_id,
            "type_name": Bilingual(self.type_name_ko, self.type_name_en),
            "value": self._said(self.value, self.comparator),
            "limit": self._said(self.limit, ""),
            "unit": UnitOf(self.unit, self.loinc_code),
        }
        if self.time_basis == "unknown" and self.issued_at is not None:
            return self.told("health_alert_undated", **about, when=self.issued_at)
        measured = self.measured_at
        if measured is not None and max(now, self.issued_at or now) - measured > LATE_AFTER:
            return self.told("health_alert_late", **about, when=measured)
        return self.told("health_alert", **about)

    def _said(self, value: float, comparator: str) -> Value:
        return Measured(value, self.unit, self.loinc_code, self.decimal_places, comparator)


class FailedElectrodes(BaseModel):
    numbers: list[int] = []


class MeasurementInvalid(PersonalEvent):
    topic: ClassVar[str] = "measurement.invalid"
    session_id: str = ""
    type_name_ko: str = ""
    type_name_en: str = ""
    reasons: tuple[str, ...] = ()
    failed_electrodes: tuple[FailedElectrodes, ...] = ()
    electrode_count: int = 0

    def announcement(self) -> Announcement:
        known = [_DOUBTS[reason] for reason in self.reasons if reason in _DOUBTS]
        return self.told(
            "measurement_invalid",
            session_id=self.session_id,
            type_name=Bilingual(self.type_name_ko, self.type_name_en),
            why=Bilingual(" ".join(doubt.ko for doubt in known), " ".join(doubt.en for doubt in known)),
            electrodes=self._electrodes(),
        )

    def _electrodes(self) -> Bilingual:
        failed = sorted({number for kind in self.failed_electrodes for number in kind.numbers})
        if not failed:
            return Bilingual("", "")
        which = ranges(failed)
        if len(which) > MAX_LISTED:
            which = which[:MAX_LISTED].rpartition(",")[0] + ", ..."
        count = f"{len(failed)}/{self.electrode_count}" if self.electrode_count else f"{len(failed)}"
        return Bilingual(f"고장 난 전극 {count}개: {which}번.", f"Failed electrodes ({count}): {which}.")


class SubscriptionEvent(PersonalEvent):
    tier: str = ""

    @property
    def plan(self) -> Value:
        return _PLANS.get(self.tier, self.tier)


class SubscriptionCreated(SubscriptionEvent):
    topic: ClassVar[str] = "subscription.created"
    amount_due_krw: int = 0

    def announcement(self) -> Announcement:
        if self.amount_due_krw > 0:
            return self.told("subscription_awaits_payment", plan=self.plan, amount=Won(self.amount_due_krw))
        return self.told("subscription_created", plan=self.plan)


class SubscriptionCancelled(SubscriptionEvent):
    topic: ClassVar[str] = "subscription.cancelled"
    effective_until: datetime

    def announcement(self) -> Announcement:
        return self.told("subscription_cancelled", plan=self.plan, until=self.effective_until)


class SubscriptionPaymentDue(SubscriptionEvent):
    topic: ClassVar[str] = "subscription.payment_due"
    amount_krw: int
    due_at: datetime

    def announcement(self) -> Announcement:
        return self.told("subscription_payment_due", plan=self.plan, amount=Won(self.amount_krw), until=self.due_at)


class SubscriptionChanged(SubscriptionEvent):
    topic: ClassVar[str] = "subscription.changed"
    previous_tier: str = ""
    reason: str = ""

    def announcement(self) -> Announcement:
        if self.reason in ("expired", "suspended", "refunded"):
            previous = _PLANS.get(self.previous_tier, self.previous_tier)
            return self.told("subscription_ended", plan=self.plan, previous_plan=previous)
        return self.told("subscription_changed", plan=self.plan)


class PaymentEvent(PersonalEvent):
    payment_id: str
    amount_krw: int


class PaymentCompleted(PaymentEvent):
    topic: ClassVar[str] = "payment.completed"

    def announcement(self) -> Announcement:
        return self.told("payment_completed", payment_id=self.payment_id, amount=Won(self.amount_krw))


class PaymentFailed(PaymentEvent):
    topic: ClassVar[str] = "payment.failed"
    message: str = ""

    def announcement(self) -> Announcement:
        why: Value = self.message or _NO_REASON
        return self.told("payment_failed", payment_id=self.payment_id, amount=Won(self.amount_krw), why=why)


class PaymentRefunded(PersonalEvent):
    topic: ClassVar[str] = "payment.refunded"
    payment_id: str
    refund_amount_krw: int

    def announcement(self) -> Announcement:
        return self.told("payment_refunded", payment_id=self.payment_id, amount=Won(self.refund_amount_krw))


class OrderCreated(PersonalEvent):
    topic: ClassVar[str] = "shop.order_created"
    order_id: str
    subscription_id: str = ""
    amount_krw: int
    expires_at: datetime

    def announcement(self) -> Announcement | None:
        if self.subscription_id:  # subscription.created or subscription.payment_due has told of the same payment
            return None
        return self.told("order_created", order_id=self.order_id, amount=Won(self.amount_krw), until=self.expires_at)


class OrderCancelled(PersonalEvent):
    topic: ClassVar[str] = "shop.order_cancelled"
    order_id: str
    reason: str = ""

    def announcement(self) -> Announcement:
        return self.told("order_cancelled", order_id=self.order_id, why=_CANCELLED_FOR.get(self.reason, _NO_REASON))


class ReservationEvent(PersonalEvent):
    reservation_id: str = ""
    facility_name: str = ""
    appointment_time: datetime | None = None

    def about_visit(self, template: str) -> Announcement:
        return self.told(
            template,
            reservation_id=self.reservation_id,
            facility=self.facility_name,
            when=self.appointment_time if self.appointment_time is not None else "",
        )


class ReservationCreated(ReservationEvent):
    topic: ClassVar[str] = "reservation.created"

    def announcement(self) -> Announcement:
        return self.about_visit("reservation_created")


class ReservationCancelled(ReservationEvent):
    topic: ClassVar[str] = "reservation.cancelled"

    def announcement(self) -> Announcement:
        return self.about_visit("reservation_cancelled")


class PrescriptionCreated(PersonalEvent):
    topic: ClassVar[str] = "prescription.created"
    prescription_id: str = ""
    doctor_name: str = ""

    def announcement(self) -> Announcement:
        return self.told("prescription_created", prescription_id=self.prescription_id, doctor=self.doctor_name)


class PrescriptionSentToPharmacy(PersonalEvent):
    topic: ClassVar[str] = "prescription.sent_to_pharmacy"
    prescription_id: str = ""
    pharmacy_name: str = ""

    def announcement(self) -> Announcement:
        return self.told(
            "prescription_sent_to_pharmacy", prescription_id=self.prescription_id, pharmacy=self.pharmacy_name
        )


class FamilyDataShared(AnnouncedEvent):
    """Told to those it is shared with, not to the person who shares."""

    topic: ClassVar[str] = "family.data_shared"
    user_id: str
    display_name: str = ""
    shared_with_user_ids: tuple[str, ...]

    def announcement(self) -> Announcement:
        people = tuple(person for person in self.shared_with_user_ids if person != self.user_id)
        owner: Value = self.display_name or _FAMILY
        return Announcement("family_data_shared", people, {"owner_id": self.user_id, "owner": owner})


class PostCreated(AnnouncedEvent):
    """Told to the followers and the mentioned that it names, not to the author."""

    topic: ClassVar[str] = "community.post_created"
    post_id: str
    author_id: str
    author_name: str = ""
    title: str = ""
    follower_ids: tuple[str, ...] = ()
    mentioned_user_ids: tuple[str, ...] = ()

    def announcement(self) -> Announcement:
        people = tuple(p for p in (*self.follower_ids, *self.mentioned_user_ids) if p != self.author_id)
        author: Value = self.author_name or _SOMEBODY
        return Announcement("post_created", people, {"post_id": self.post_id, "author": author, "headline": self.title})


class CommentCreated(AnnouncedEvent):
    """Told to the post's author, unless they commented themselves."""

    topic: ClassVar[str] = "community.comment_created"
    post_id: str
    author_id: str
    author_name: str = ""
    post_author_id: str

    def announcement(self) -> Announcement | None:
        if self.post_author_id == self.author_id:
            return None
        author: Value = self.author_name or _SOMEBODY
        return Announcement("comment_created", (self.post_author_id,), {"post_id": self.post_id, "author": author})


class AdminActionPerformed(AnnouncedEvent):
    """Told to the person whom it concerns; many actions concern nobody in particular."""

    topic: ClassVar[str] = "admin.action_performed"
    admin_id: str = ""
    action: str = ""
    target_user_id: str = ""

    def announcement(self) -> Announcement | None:
        if not self.target_user_id or self.target_user_id == self.admin_id:
            return None
        return Announcement("admin_action", (self.target_user_id,), {"action": self.action})


ANNOUNCED: Sequence[type[AnnouncedEvent]] = (
    AnalysisCompleted,
    TipDelivered,
    HealthAlertTriggered,
    MeasurementInvalid,
    SubscriptionCreated,
    SubscriptionCancelled,
    SubscriptionPaymentDue,
    SubscriptionChanged,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    OrderCreated,
    OrderCancelled,
    ReservationCreated,
    ReservationCancelled,
    PrescriptionCreated,
    PrescriptionSentToPharmacy,
    FamilyDataShared,
    PostCreated,
    CommentCreated,
    AdminActionPerformed,
)


def notification_consumers(sending: SendingService, preferences: PreferenceService) -> tuple[Consumer[Any], ...]:
    """The topics that notification-service takes part in."""

    async def announce(session: AsyncSession, event: AnnouncedEvent, metadata: EventMetadata) -> None:
        announcement = event.announcement_at(sending.now())
        if announcement is not None:
            await sending.announce(session, announcement, event_id=metadata.event_id)

    announced = (
        Consumer(service="notification", topic=event.topic, event=event, handle=announce) for event in ANNOUNCED
    )
    return (*announced, account_proof_consumer("notification", preferences.drop))
