from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.paging import MAX_PAGE, PageRequest, decode_cursor, encode_cursor, page_limit
from subgraphs.runtime.relay import cursors_of, page_info, page_request

_IDS = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=60)
_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=_ZONES)  # noqa: DTZ001 - zones are drawn


@given(at=_TIMES, item_id=_IDS)
def test_a_cursor_leads_back_to_its_item(at: datetime, item_id: str) -> None:
    assert decode_cursor(encode_cursor(at, item_id)) == (at, item_id)


@given(cursor=st.text() | st.text().map(lambda t: "2026-01-01T00:00:00+00:00~" + t))
def test_any_text_is_a_cursor_or_invalid_input(cursor: str) -> None:
    try:
        at, item_id = decode_cursor(cursor)
    except InvalidInput:
        return
    assert at.tzinfo is UTC
    assert item_id
    assert "\0" not in item_id


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "~",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00+00:00~",
        "2026-01-01T00:00:00~x",
        "0001-01-01T00:00:00+14:00~x",
        "9999-12-31T23:59:59-14:00~x",
        "2026-01-01T00:00:00+00:00~a\0b",
        "2026-01-01T00:00:00+00:00~" + "a" * 300,
    ],
)
def test_a_text_that_no_list_gave_out_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="not a cursor"):
        decode_cursor(cursor)


@pytest.mark.parametrize("first", [0, -1, MAX_PAGE + 1])
def test_a_page_of_a_wrong_size_is_refused(first: int) -> None:
    with pytest.raises(InvalidInput, match=f"first is {first}"):
        page_request(first, None)


def test_a_page_request_takes_defaults_and_cursors() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert page_request(None, None) == PageRequest()
    assert page_request(5, encode_cursor(at, "x")) == PageRequest(first=5, after=(at, "x"))
    with pytest.raises(InvalidInput):
        page_request(5, "")


def test_page_info_names_the_ends_of_the_page() -> None:
    cursors = cursors_of([1, 2, 3], str)
    info = page_info(cursors, has_next=True, request=PageRequest(after=(datetime(2026, 1, 1, tzinfo=UTC), "0")))
    assert (info.start_cursor, info.end_cursor, info.has_next_page, info.has_previous_page) == ("1", "3", True, True)
    empty = page_info([], has_next=False, request=PageRequest())
    assert (empty.start_cursor, empty.end_cursor, empty.has_next_page, empty.has_previous_page) == (
        None,
        None,
        False,
        False,
    )


def test_limit_and_offset_of_grpc_lists() -> None:
    assert page_limit(0, 0) == (20, 0)
    assert page_limit(7, 3) == (7, 3)
    assert page_limit(10_000, 3) == (MAX_PAGE, 3)
    for limit, offset in ((-1, 0), (0, -1)):
        with pytest.raises(InvalidInput):
            page_limit(limit, offset)
