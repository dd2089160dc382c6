from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from domain.operations.notification import discretion
from domain.operations.notification.models import (
    HEALTH_TYPES,
    Content,
    Message,
    Notification,
    NotificationType,
    Priority,
)
from domain.operations.notification.voice import Voice

KOREAN, ENGLISH = Voice.of("ko", "Asia/Seoul"), Voice.of("en", "Europe/London")
SYLLABLES = st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=200)
SECRET = "9e7c1b3a-secret-of-health"


def message(kind: NotificationType, title: str, body: str = SECRET) -> Message:
    row = Notification(
        notification_id="n-1",
        user_id="alice",
        type=kind,
        priority=Priority.NORMAL,
        channel=None,
        content=b"",
        source_event_id=None,
        created_at=datetime(2026, 11, 27, tzinfo=UTC),
        listed_at=None,
        read_at=None,
    )
    return Message(row, Content(title, body, {"value": SECRET}, f"/measurements/{body}"))


@given(kind=st.sampled_from(sorted(HEALTH_TYPES)), title=SYLLABLES, voice=st.sampled_from([KOREAN, ENGLISH]))
def test_of_what_is_about_health_only_the_title_leaves_and_a_text_message_lacks_even_that(
    kind: NotificationType, title: str, voice: Voice
) -> None:
    about = message(kind, title)
    push = discretion.push_message(about, voice)
    mail = discretion.mail(about, voice, to="a@example.com")
    assert push.title == title
    for seen in (str(push), str(mail), discretion.text_message(about, voice)):
        assert SECRET not in seen
    assert discretion.text_message(about, voice) == discretion.text_message(message(kind, "x"), voice)


@given(kind=st.sampled_from(NotificationType), title=SYLLABLES)
def test_a_korean_text_message_is_a_short_one(kind: NotificationType, title: str) -> None:
    text = discretion.text_message(message(kind, title), KOREAN)
    assert len(text.encode("cp949")) <= 90


@given(kind=st.sampled_from(sorted(set(NotificationType) - HEALTH_TYPES)))
def test_what_is_not_about_health_is_told_whole_by_mail_and_push(kind: NotificationType) -> None:
    about = message(kind, "제목")
    push = discretion.push_message(about, KOREAN)
    assert (push.body, push.data["action_url"]) == (SECRET, f"/measurements/{SECRET}")
    assert SECRET in discretion.mail(about, KOREAN, to="a@example.com").text


def test_an_offer_is_labelled_once() -> None:
    for title in ("할인", "(광고) 할인"):
        offer = message(NotificationType.PROMOTION, title)
        assert discretion.push_message(offer, KOREAN).title == "(광고) 할인"
        assert discretion.mail(offer, KOREAN, to="a@example.com").subject == "[만파식] (광고) 할인"
