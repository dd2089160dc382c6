"""Mail addresses are compared in one form."""

import pytest

from domain.identity.auth.emails import lookup_email, normal_email
from domain.identity.auth.errors import InvalidEmail


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        (" Person@Example.COM ", "person@example.com"),
        ("e2e@clinic.local", "e2e@clinic.local"),
        ("a@b.test", "a@b.test"),
        ("홍길동@예시.한국", "홍길동@예시.한국"),
        ("ÄB@example.com", "äb@example.com"),
    ],
)
def test_an_address_is_stored_in_lower_case_and_unicode(given: str, normal: str) -> None:
    assert normal_email(given) == normal
    assert normal_email(normal) == normal
    assert lookup_email(given) == normal


@pytest.mark.parametrize(
    "given", ["", "person", "a@b", "a b@example.com", "a@@example.com", "a@example..com", "@x.com"]
)
def test_what_cannot_be_an_address_is_refused_and_found_nowhere(given: str) -> None:
    with pytest.raises(InvalidEmail) as refused:
        normal_email(given)
    assert refused.value.details["field"] == "email"
    assert lookup_email(given).startswith("invalid:")
