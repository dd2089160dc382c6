"""The states of a subscription, by the table and by the clock."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.commerce.subscription.errors import SubscriptionMoveRefused
from domain.commerce.subscription.lifecycle import MOVES, move, status_at, tier_at
from domain.commerce.subscription.models import Subscription, SubscriptionStatus
from domain.commerce.terms import Tier

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
S = SubscriptionStatus


def subscription(status: SubscriptionStatus, expires_at: datetime | None = None) -> Subscription:
    return Subscription(subscription_id="s", tier=Tier.PRO, status=status, expires_at=expires_at, created_at=NOW)


@pytest.mark.parametrize("before", list(S))
@pytest.mark.parametrize("after", list(S))
def test_only_the_moves_of_the_table_are_made(before: SubscriptionStatus, after: SubscriptionStatus) -> None:
    one = subscription(before)
    if after is before or after in MOVES[before]:
        move(one, after)
        assert one.status == after
    else:
        with pytest.raises(SubscriptionMoveRefused):
            move(one, after)
        assert one.status == before


def test_every_state_is_reached_and_left() -> None:
    assert set(MOVES) == set(S)
    assert set().union(*MOVES.values()) == set(S) - {S.AWAITING}
    assert all(MOVES.values())


@pytest.mark.parametrize(
    ("status", "before_end", "after_end"),
    [
        (S.AWAITING, S.AWAITING, S.AWAITING),
        (S.ACTIVE, S.ACTIVE, S.SUSPENDED),
        (S.CANCELLED, S.CANCELLED, S.EXPIRED),
        (S.SUSPENDED, S.SUSPENDED, S.SUSPENDED),
        (S.EXPIRED, S.EXPIRED, S.EXPIRED),
    ],
)
def test_nothing_is_in_force_after_its_end_whether_the_scheduler_has_noticed_or_not(
    status: SubscriptionStatus, before_end: SubscriptionStatus, after_end: SubscriptionStatus
) -> None:
    one = subscription(status, NOW)
    assert status_at(one, NOW - timedelta(microseconds=1)) is before_end
    assert status_at(one, NOW) is after_end
    assert tier_at(one, NOW) is Tier.FREE


def test_what_has_no_end_stays() -> None:
    assert status_at(subscription(S.ACTIVE), NOW + timedelta(days=4000)) is S.ACTIVE
