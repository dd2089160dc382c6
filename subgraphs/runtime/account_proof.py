"""`account.proven`, as the groups consume it: the owner of an address took an account over from an unproven holder."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.ids import UserId
from subgraphs.runtime.faces import Consumer, EventMetadata


class AccountProven(DomainEvent):
    """What the groups read of `account.proven`."""

    topic: ClassVar[str] = "account.proven"
    source: ClassVar[str] = "auth"

    user_id: str
    proven_at: datetime

    @property
    def key(self) -> str:
        return self.user_id


Drop = Callable[[AsyncSession, UserId, datetime], Awaitable[None]]
"""Drops what was set for a person until a moment, which is included. Repeated calls change nothing more."""


def account_proof_consumer(service: str, drop: Drop) -> Consumer[AccountProven]:
    """Drops what an unproven holder has set in a service, when somebody else proves the account's address."""

    async def account_proven(session: AsyncSession, event: AccountProven, _metadata: EventMetadata) -> None:
        await drop(session, UserId(event.user_id), event.proven_at)

    return Consumer(service=service, topic=AccountProven.topic, event=AccountProven, handle=account_proven)
