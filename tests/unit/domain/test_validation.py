"""Rules of values from outside: the length first, and then what looks at every character."""

from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import validation
from domain.errors import AppError, InvalidInput, WrongState
from domain.identity.auth.emails import lookup_email, normal_email
from domain.identity.auth.errors import InvalidEmail, WeakPassword
from domain.identity.auth.passwords import require_strong
from domain.principal import DEVELOPMENT

TODAY = date(2026, 12, 1)


class _Unread(str):
    """A text that may be measured, and not read."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> str:
        raise AssertionError("a text that is too long was read")

    strip = lower = upper = casefold = encode = replace = translate = split = rpartition = isprintable = _refuse  # type: ignore[assignment]
    __iter__ = _refuse  # type: ignore[assignment]


LONG = _Unread("a" * 1_000_000)


@pytest.mark.parametrize(
    "rule",
    [
        lambda v: validation.short_enough(v, 10, field="f"),
        lambda v: validation.line(v, field="f", longest=100),
        lambda v: validation.paragraphs(v, field="f", longest=4000),
        lambda v: validation.identifier(v, field="f"),
        lambda v: validation.https_url(v, field="f"),
        lambda v: validation.phone(v, field="f"),
        validation.mail_shape,
        validation.timezone,
        validation.language,
        lambda v: validation.iso_date(v, field="f"),
        normal_email,
        require_strong,
        DEVELOPMENT.acting_for,
    ],
)
def test_a_text_that_is_too_long_is_refused_unread(rule: Callable[[str], object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        rule(LONG)
    assert len(str(caught.value)) < 300


def test_what_signs_in_with_a_text_that_is_no_address_is_cut_short() -> None:
    assert len(lookup_email("a" * 1_000_000)) < 300


@pytest.mark.parametrize("address", ["a@" + "가" * 200 + ".kr", "a@" + "b" * 64 + ".kr", "a" * 250 + "@b.kr"])
def test_an_address_that_cannot_be_one_does_not_reach_the_mapping_of_names(address: str) -> None:
    with pytest.raises(InvalidEmail):
        normal_email(address)


def test_a_password_that_is_too_long_is_told_that_only() -> None:
    with pytest.raises(WeakPassword) as caught:
        require_strong("a" * 129)
    assert "128" in str(caught.value)
    assert "upper" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "0001-1-1", "2026-02-30", "20261201", "2026-W49-2", "2026-12-01T00:00", "２０２６-12-01", "9999-13-01"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        validation.iso_date(text, field="f")


def test_dates_have_a_range() -> None:
    assert validation.iso_date("0001-01-01", field="f") == date.min
    assert validation.iso_date("9999-12-31", field="f") == date.max
    assert validation.birth_date("2026-12-02", today=TODAY) == "2026-12-02"
    for late in ("2026-12-03", "1899-12-31", "9999-12-31"):
        with pytest.raises(InvalidInput):
            validation.birth_date(late, today=TODAY)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -0.1, 10.1, 1e300])
def test_a_number_outside_of_its_range_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 10"):
        validation.within(value, 0.0, 10.0, field="f")


@given(text=st.text(max_size=60))
def test_a_line_that_was_taken_is_taken_again_as_it_is(text: str) -> None:
    try:
        kept = validation.line(text, field="f", longest=50)
    except InvalidInput:
        return
    assert validation.line(kept, field="f", longest=50) == kept
    assert "\n" not in kept


def test_a_service_gives_its_own_error() -> None:
    class Odd(WrongState):
        reason = "ODD"

    def odd(field: str, rule: str) -> AppError:
        return Odd(f"{field}: {rule}")

    with pytest.raises(Odd, match="number: must be between 1 and 10000000"):
        validation.within(0, 1, 10_000_000, field="number", error=odd)
