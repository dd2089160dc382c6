import asyncio
from dataclasses import dataclass

import pytest
from fakeredis import FakeAsyncRedis

from domain.errors import LimitExceeded
from subgraphs.runtime.limits import RateLimiter, TooManyAttempts


@pytest.fixture
def limiter() -> RateLimiter:
    return RateLimiter(FakeAsyncRedis())


async def test_attempts_up_to_the_limit_pass(limiter: RateLimiter) -> None:
    for _ in range(3):
        await limiter.hit("login:a", limit=3, window_s=60)
    with pytest.raises(TooManyAttempts) as refusal:
        await limiter.hit("login:a", limit=3, window_s=60)
    assert isinstance(refusal.value, LimitExceeded)
    assert 55 < float(refusal.value.details["retry_after_s"]) <= 60


async def test_keys_are_counted_apart(limiter: RateLimiter) -> None:
    await limiter.hit("login:a", limit=1, window_s=60)
    await limiter.hit("login:b", limit=1, window_s=60)


@dataclass
class _ServerClock:
    """What the server's TIME tells."""

    now: float = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def server_clock(monkeypatch: pytest.MonkeyPatch) -> _ServerClock:
    clock = _ServerClock()
    monkeypatch.setattr("fakeredis.commands_mixins.server_mixin.time", clock)
    return clock


async def test_the_window_slides(limiter: RateLimiter, server_clock: _ServerClock) -> None:
    await limiter.hit("k", limit=2, window_s=60)
    server_clock.now += 40
    await limiter.hit("k", limit=2, window_s=60)
    server_clock.now += 21
    # The first has left the window, the second has not: one more passes, and not two.
    await limiter.hit("k", limit=2, window_s=60)
    with pytest.raises(TooManyAttempts) as refusal:
        await limiter.hit("k", limit=2, window_s=60)
    assert refusal.value.details["retry_after_s"] == "39.0"


async def test_a_refused_attempt_does_not_prolong_the_wait(limiter: RateLimiter, server_clock: _ServerClock) -> None:
    await limiter.hit("k", limit=1, window_s=60)
    for _ in range(5):
        with pytest.raises(TooManyAttempts):
            await limiter.hit("k", limit=1, window_s=60)
        server_clock.now += 10
    server_clock.now += 11
    await limiter.hit("k", limit=1, window_s=60)


async def test_a_check_counts_nothing(limiter: RateLimiter) -> None:
    for _ in range(5):
        await limiter.check("k", limit=1, window_s=60)
    await limiter.hit("k", limit=1, window_s=60)
    with pytest.raises(TooManyAttempts):
        await limiter.check("k", limit=1, window_s=60)


async def test_a_reset_forgets_the_attempts(limiter: RateLimiter) -> None:
    await limiter.hit("k", limit=1, window_s=60)
    await limiter.reset("k")
    await limiter.hit("k", limit=1, window_s=60)


async def test_of_attempts_at_the_same_time_only_the_limit_passes(limiter: RateLimiter) -> None:
    attempts = [limiter.hit("k", limit=4, window_s=60) for _ in range(20)]
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(answer is None for answer in answers) == 4


async def test_a_key_does_not_outlive_its_window() -> None:
    redis = FakeAsyncRedis()
    await RateLimiter(redis).hit("k", limit=1, window_s=30)
    assert 0 < await redis.pttl("limit:k") <= 30_000
