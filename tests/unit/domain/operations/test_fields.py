from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.operations.notification import fields
from domain.operations.notification.errors import InvalidNotification
from domain.operations.notification.phones import masked
from domain.operations.notification.voice import Bilingual, Voice, Won
from domain.validation import is_text

GOOD: dict[str, Any] = {"title": "t", "body": "b", "data": {}, "action_url": ""}


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": ""},
        {"title": "  "},
        {"title": "x" * 201},
        {"title": "a\nBcc: everybody"},
        {"title": "a\0b"},
        {"title": "\ud800"},
        {"title": "safe \u202eefas"},
        {"body": "x" * 4001},
        {"body": "a\x1b[31m"},
        {"data": {str(n): "v" for n in range(33)}},
        {"data": {"": "v"}},
        {"data": {"k": "v" * 1001}},
        {"data": {"k": "\0"}},
        {"action_url": "javascript:alert(1)"},
        {"action_url": "//evil.example"},
        {"action_url": "/a b"},
        {"action_url": "/" + "x" * 500},
        {"action_url": "http://plain.example"},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_field_that_breaks_its_rule_is_named_and_not_repeated(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidNotification) as refusal:
        fields.content(**(GOOD | wrong))
    (name,) = wrong
    assert refusal.value.details["field"] == name


@pytest.mark.parametrize("title", ["건강 경고", "👨‍👩‍👧 family", "می‌خواهم", "전각　공백"])
def test_people_s_own_scripts_are_taken(title: str) -> None:
    assert fields.content(**(GOOD | {"title": title})).title == title


@given(text=st.text())
def test_tidied_words_can_stand_in_a_message(text: str) -> None:
    said = fields.tidy(text, at_most=50)
    assert len(said) <= 50
    assert is_text(said)


@pytest.mark.parametrize(("told", "kept"), [("010-1234-5678", "01012345678"), ("+82 10 1234 5678", "+821012345678")])
def test_a_phone_number_is_kept_without_its_fillers(told: str, kept: str) -> None:
    assert fields.phone(told) == kept
    assert masked(kept) == f"{kept[:3]}{'*' * (len(kept) - 5)}78"


@pytest.mark.parametrize("wrong", ["", "123", "call me", "+82" + "1" * 20, "٠١٠١٢٣٤٥٦٧٨", "010 1234 5678; drop"])
def test_what_is_no_phone_number_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidNotification):
        fields.phone(wrong)


def test_values_are_said_in_the_language_and_time_zone_of_the_person() -> None:
    at = datetime(2026, 11, 27, 15, 30, tzinfo=UTC)
    korean, british = Voice.of("ko-KR", "Asia/Seoul"), Voice.of("en-GB", "Europe/London")
    assert korean.say(at) == "2026년 11월 28일 00:30"
    assert british.say(at) == "27 Nov 2026, 15:30"
    assert (korean.say(Won(29900)), british.say(Won(29900))) == ("29,900원", "KRW 29,900")
    assert (korean.say(Bilingual("혈당", "Glucose")), british.say(Bilingual("혈당", ""))) == ("혈당", "혈당")
    assert british.say(452.30000000000001) == "452.3"
    assert Voice.of("fr", "Nowhere/Atall").language == "en"
    assert Voice.of("", "").language == "ko"
    assert Voice.of("ko", "../../etc/passwd").say(at) == korean.say(at)
