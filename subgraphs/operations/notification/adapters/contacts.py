"""People's addresses and languages, asked of user-service over gRPC and remembered for some minutes."""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from manpasik.internal.v1 import contact_directory_pb2 as pb
from manpasik.internal.v1.contact_directory_pb2_grpc import ContactDirectoryStub

from domain.operations.notification.ports import Contact
from domain.units import ResultUnits
from subgraphs.runtime.clients import ServiceClient

FRESH_S = 300.0
ABSENT_S = 30.0
"""Who is not known yet may just be signing up."""

MAX_REMEMBERED = 20_000
BATCH = 500
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class _Remembered:
    contact: Contact | None
    asked_at: float

    def is_fresh(self, now: float) -> bool:
        return now - self.asked_at < (FRESH_S if self.contact is not None else ABSENT_S)


class GrpcContacts:
    """`domain.operations.notification.ports.Contacts` over gRPC.

    What is older than `FRESH_S` is asked again, and kept as the last that is known while user-service is away.
    """

    def __init__(self, client: ServiceClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._directory = client.stub("user", ContactDirectoryStub)
        self._clock = clock
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()

    async def find(self, user_ids: Collection[str]) -> Mapping[str, Contact]:
        """Raises: Unavailable, TimedOut: somebody is not remembered, and user-service does not answer."""
        now = self._clock()
        wanted = list(dict.fromkeys(user_ids))
        unknown = [u for u in wanted if not ((held := self._remembered.get(u)) and held.is_fresh(now))]
        for start in range(0, len(unknown), BATCH):
            await self._ask(unknown[start : start + BATCH], now)
        found = {user_id: self._remembered[user_id].contact for user_id in wanted if user_id in self._remembered}
        return {user_id: contact for user_id, contact in found.items() if contact is not None}

    def last_known(self, user_id: str) -> Contact | None:
        held = self._remembered.get(user_id)
        return held.contact if held is not None else None

    async def _ask(self, user_ids: Collection[str], now: float) -> None:
        answer = await self._client.unary(
            self._directory.GetContacts, pb.GetContactsRequest(user_ids=user_ids), timeout_s=_TIMEOUT_S, safe=True
        )
        by_id = {contact.user_id: _contact(contact) for contact in answer.contacts}
        for user_id in user_ids:
            self._remembered[user_id] = _Remembered(by_id.get(user_id), now)
            self._remembered.move_to_end(user_id)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def _contact(found: pb.Contact) -> Contact:
    return Contact(
        user_id=found.user_id,
        email=found.email,
        language=found.language,
        timezone=found.timezone,
        result_units=_units(found.result_units),
        agreed_to_marketing=found.marketing_consent,
    )


def _units(told: str) -> ResultUnits:
    """As measured of a release that does not tell, and for a kind that is not known here yet."""
    try:
        return ResultUnits(told)
    except ValueError:
        return ResultUnits.AS_MEASURED
