import pytest

from devices.client.retry import Backoff


@pytest.mark.parametrize("failures", [0, 1, 5, 10_000])
def test_waits_grow_up_to_the_limit_and_keep_a_random_half(failures: int) -> None:
    backoff = Backoff(initial_s=0.5, max_s=8.0)
    ceiling = min(8.0, 0.5 * 2.0 ** min(failures, 20))
    waits = [backoff.wait_s(failures) for _ in range(200)]
    assert min(waits) >= ceiling / 2
    assert max(waits) <= ceiling
    assert len(set(waits)) > 100
