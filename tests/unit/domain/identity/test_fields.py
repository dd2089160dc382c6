"""The rules of profile fields."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.identity.person import NOTHING_STATED, Gender, HealthDetails
from domain.identity.user import fields
from domain.identity.user.errors import InvalidProfile
from domain.identity.user.service import require_clearable

TODAY = date(2026, 11, 22)
GOOD = HealthDetails(
    birth_date="1990-05-17",
    gender=Gender.FEMALE,
    blood_type="AB-",
    height_cm=164.5,
    weight_kg=58.2,
    medical_conditions=("type 2 diabetes",),
    allergies=("penicillin", "peanuts"),
    emergency_contact_name="김영희",
    emergency_contact_phone="+821012345678",
)


def test_good_details_stay_as_they_are() -> None:
    assert fields.health(GOOD, today=TODAY) == GOOD
    assert fields.health(NOTHING_STATED, today=TODAY) == NOTHING_STATED


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"birth_date": "17.05.1990"}, "birth_date"),
        ({"birth_date": "19900517"}, "birth_date"),
        ({"birth_date": "2026-11-24"}, "birth_date"),
        ({"birth_date": "1899-12-31"}, "birth_date"),
        ({"birth_date": "1990-02-30"}, "birth_date"),
        ({"blood_type": "C+"}, "blood_type"),
        ({"blood_type": "A"}, "blood_type"),
        ({"height_cm": 19.9}, "height_cm"),
        ({"height_cm": 300.1}, "height_cm"),
        ({"height_cm": -1.0}, "height_cm"),
        ({"height_cm": float("nan")}, "height_cm"),
        ({"weight_kg": float("inf")}, "weight_kg"),
        ({"weight_kg": 0.1}, "weight_kg"),
        ({"medical_conditions": ("",)}, "medical_conditions"),
        ({"medical_conditions": tuple(str(n) for n in range(51))}, "medical_conditions"),
        ({"allergies": ("x" * 201,)}, "allergies"),
        ({"emergency_contact_name": "a\x00b"}, "emergency_contact_name"),
        ({"emergency_contact_phone": "call me"}, "emergency_contact_phone"),
    ],
)
def test_a_broken_rule_names_its_field_but_not_the_value(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidProfile) as refused:
        fields.health(replace(GOOD, **change), today=TODAY)  # type: ignore[arg-type]  # the cases are typed loosely
    assert refused.value.details == {"field": field}


@pytest.mark.parametrize("zone", ["Asia/Seoul", "UTC", "America/Argentina/Buenos_Aires"])
def test_iana_zones_are_known(zone: str) -> None:
    assert fields.timezone(zone) == zone


@pytest.mark.parametrize("zone", ["Seoul", "../etc/passwd", "", "asia/seoul"])
def test_other_zones_are_not(zone: str) -> None:
    with pytest.raises(InvalidProfile, match="timezone"):
        fields.timezone(zone)


@pytest.mark.parametrize("tag", ["ko", "en-US", "zh-Hant-TW"])
def test_language_tags_are_taken(tag: str) -> None:
    assert fields.language(tag) == tag


@pytest.mark.parametrize("tag", ["", "korean language", "k", "ko_KR", "x" * 40])
def test_other_languages_are_not(tag: str) -> None:
    with pytest.raises(InvalidProfile, match="language"):
        fields.language(tag)


@pytest.mark.parametrize("url", ["http://x.example/a.png", "javascript:alert(1)", "https://x.example/a b"])
def test_a_picture_that_is_not_https_is_refused(url: str) -> None:
    with pytest.raises(InvalidProfile, match="avatar_url"):
        fields.avatar_url(url)


def test_entries_are_stripped_and_kept_once() -> None:
    assert fields.entries([" nuts ", "dust", "nuts"], field="allergies") == ("nuts", "dust")


details = st.builds(
    HealthDetails,
    birth_date=st.sampled_from(["", "1990-05-17"]),
    gender=st.sampled_from([None, *Gender]),
    blood_type=st.sampled_from(["", "O+"]),
    height_cm=st.sampled_from([0.0, 170.0]),
    allergies=st.sampled_from([(), ("dust",)]),
)


@given(details, details)
def test_a_change_overrides_what_it_states_and_nothing_else(before: HealthDetails, change: HealthDetails) -> None:
    after = before.merged(change)
    for name in HealthDetails.__dataclass_fields__:
        stated = getattr(change, name)
        is_stated = stated != getattr(NOTHING_STATED, name)
        assert getattr(after, name) == (stated if is_stated else getattr(before, name))


def test_cleared_fields_are_empty_afterwards() -> None:
    assert GOOD.merged(NOTHING_STATED, cleared=frozenset(HealthDetails.__dataclass_fields__)).is_empty


def test_a_name_cannot_be_cleared_but_a_picture_can() -> None:
    assert require_clearable({"avatar_url", "blood_type"}) == {"avatar_url", "blood_type"}
    with pytest.raises(InvalidProfile, match="display_name"):
        require_clearable({"display_name"})
