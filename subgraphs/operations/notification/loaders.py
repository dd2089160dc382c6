"""Notifications by key, for one request."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from strawberry.dataloader import DataLoader

from domain.errors import AppError
from domain.operations.notification.models import Delivery, Message, MessageFilter
from domain.paging import Page, PageRequest
from domain.principal import Principal
from subgraphs.operations.services import OperationsServices
from subgraphs.runtime.database import Database


@dataclass(frozen=True, slots=True)
class PageKey:
    """One page of one person's list."""

    user_id: str
    wanted: MessageFilter
    page: PageRequest


class NotificationLoaders:
    """`by_id`: a notification that the caller may see, or None. `pages`: of lists; `unread`: counts by person;
    `deliveries`: of notifications that the caller was given."""

    def __init__(self, services: OperationsServices, database: Database, principal: Principal) -> None:
        self._notifications = services.notifications
        self._database = database
        self._principal = principal
        self.by_id: DataLoader[str, Message | None] = DataLoader(load_fn=self._by_id)
        self.pages: DataLoader[PageKey, Page[Message]] = DataLoader(load_fn=self._pages)
        self.unread: DataLoader[str, int] = DataLoader(load_fn=self._unread)
        self.deliveries: DataLoader[str, Sequence[Delivery]] = DataLoader(load_fn=self._deliveries)

    async def _by_id(self, ids: Sequence[str]) -> list[Message | None]:
        async with self._database.transaction() as session:  # not `read`: the look at health messages is logged
            found = await self._notifications.visible(session, self._principal, ids)
        return [found.get(notification_id) for notification_id in ids]

    async def _pages(self, keys: Sequence[PageKey]) -> list[Page[Message] | BaseException]:
        answers: dict[PageKey, Page[Message] | BaseException] = {}
        alike: defaultdict[tuple[MessageFilter, PageRequest], list[str]] = defaultdict(list)
        for key in keys:
            if refusal := self._refusal(key.user_id):
                answers[key] = refusal
            else:
                alike[key.wanted, key.page].append(key.user_id)
        async with self._database.transaction() as session:  # not `read`: the look at health messages is logged
            for (wanted, page), user_ids in alike.items():
                pages = await self._notifications.pages(session, self._principal, wanted, user_ids=user_ids, page=page)
                answers.update({PageKey(user_id, wanted, page): found for user_id, found in pages.items()})
        return [answers[key] for key in keys]

    async def _unread(self, user_ids: Sequence[str]) -> list[int | BaseException]:
        refusals = {user_id: self._refusal(user_id) for user_id in user_ids}
        allowed = [user_id for user_id, refusal in refusals.items() if refusal is None]
        async with self._database.read() as session:
            counts = await self._notifications.unread_counts(session, self._principal, allowed) if allowed else {}
        return [refusals[user_id] or counts[user_id] for user_id in user_ids]

    async def _deliveries(self, ids: Sequence[str]) -> list[Sequence[Delivery]]:
        async with self._database.read() as session:
            found = await self._notifications.deliveries(session, ids)
        return [found[notification_id] for notification_id in ids]

    def _refusal(self, user_id: str) -> AppError | None:
        """Why the caller may not see a person's list; it belongs to this key alone, the others get their answer."""
        try:
            self._principal.acting_for(user_id)
        except AppError as refusal:
            return refusal
        return None
