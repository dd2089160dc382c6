"""Published events of accounts."""

from datetime import datetime
from typing import ClassVar

from domain.events import DomainEvent


class AccountProven(DomainEvent):
    """The person who reads an account's mail took the account over from an unproven holder.

    Every group drops what was set for the account until `proven_at`: it was not this person who set it.

    Args:
        proof: number of the proof, 1 for the first.
    """

    topic: ClassVar[str] = "account.proven"
    source: ClassVar[str] = "auth"

    user_id: str
    proof: int
    proven_at: datetime

    @property
    def key(self) -> str:
        return self.user_id
