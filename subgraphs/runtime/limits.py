"""Limits on how often something may happen, shared by all processes through Redis."""

from redis.asyncio import Redis

from domain.errors import LimitExceeded
from domain.ids import new_id

# One round trip, atomic. A sliding window over single events: a fixed window would let twice the limit pass at its edge.
_HIT = """
local now = redis.call('TIME')
local micros = now[1] * 1000000 + now[2]
local window = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, micros - window)
local count = redis.call('ZCARD', KEYS[1])
if count >= tonumber(ARGV[1]) then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return oldest[2] + window - micros
end
if ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[1], micros, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
end
return 0
"""


class TooManyAttempts(LimitExceeded):
    """More attempts than the limit within its window; `retry_after_s` says when the next one may be made."""

    reason = "TOO_MANY_ATTEMPTS"


class RateLimiter:
    """Counts events by key over a sliding window."""

    def __init__(self, redis: Redis, *, prefix: str = "limit:") -> None:
        self._redis = redis
        self._prefix = prefix

    async def hit(self, key: str, *, limit: int, window_s: float) -> None:
        """Count one event.

        Raises:
            TooManyAttempts: `limit` events were counted within the last `window_s` seconds; this one is not counted.
        """
        await self._run(key, limit=limit, window_s=window_s, count=True)

    async def check(self, key: str, *, limit: int, window_s: float) -> None:
        """As `hit`, but without counting: for limits on failures, which are counted once they have happened."""
        await self._run(key, limit=limit, window_s=window_s, count=False)

    async def reset(self, key: str) -> None:
        """Forget the events of a key."""
        await self._redis.delete(self._prefix + key)

    async def _run(self, key: str, *, limit: int, window_s: float, count: bool) -> None:
        member = new_id() if count else ""
        wait_us = await self._redis.eval(
            _HIT, 1, self._prefix + key, str(limit), str(int(window_s * 1_000_000)), member
        )
        if int(float(wait_us)) > 0:
            retry_after_s = round(int(float(wait_us)) / 1_000_000, 1)
            raise TooManyAttempts(f"Too many attempts; try again in {retry_after_s} s.", retry_after_s=retry_after_s)
