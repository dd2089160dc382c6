"""Key pairs of all services for tests within one process; processes of a platform have theirs in a folder."""

from functools import cache

from domain.catalog import WORKLOADS
from subgraphs.runtime.service_keys import PublicKeys, SigningKeys, in_memory
from subgraphs.runtime.service_tokens import ServiceTokens


@cache
def service_keys() -> tuple[SigningKeys, PublicKeys]:
    """The key pairs of every service of the catalogue, and of `bench`, which tests call a producer of their own."""
    return in_memory([*(workload.name for workload in WORKLOADS), "bench"])


def service_tokens() -> ServiceTokens:
    """Tokens of every service, as if one process held all keys."""
    return ServiceTokens(*service_keys())
