"""Payments by key, for one request."""

from collections import defaultdict
from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from domain.commerce.payment.models import Payment, Refund
from domain.errors import AppError
from domain.paging import Page, PageRequest
from domain.principal import Principal
from subgraphs.commerce.services import CommerceServices
from subgraphs.runtime.database import Database


class PaymentLoaders:
    """Payments that the caller may see.

    `by_id`: a payment or None. `of_user`: a page of a person's. `refunds`: all of a payment.
    """

    def __init__(self, services: CommerceServices, database: Database, principal: Principal) -> None:
        self._payments = services.payments
        self._database = database
        self._principal = principal
        self.by_id: DataLoader[str, Payment | None] = DataLoader(load_fn=self._by_id)
        self.of_user: DataLoader[tuple[str, PageRequest], Page[Payment]] = DataLoader(load_fn=self._of_user)
        self.refunds: DataLoader[str, Sequence[Refund]] = DataLoader(load_fn=self._refunds)

    async def _by_id(self, payment_ids: Sequence[str]) -> list[Payment | None]:
        async with self._database.read() as session:
            found = await self._payments.visible(session, self._principal, payment_ids)
        return [found.get(payment_id) for payment_id in payment_ids]

    async def _of_user(self, wanted: Sequence[tuple[str, PageRequest]]) -> list[Page[Payment] | BaseException]:
        answers: dict[tuple[str, PageRequest], Page[Payment] | BaseException] = {}
        by_page: defaultdict[PageRequest, list[str]] = defaultdict(list)
        for user_id, page in wanted:
            try:
                self._payments.require_may_list(self._principal, user_id)
            except AppError as refusal:  # belongs to this key alone: the others still get their answer
                answers[user_id, page] = refusal
            else:
                by_page[page].append(user_id)
        async with self._database.read() as session:
            for page, user_ids in by_page.items():
                found = await self._payments.pages_of(session, self._principal, user_ids=user_ids, page=page)
                answers.update({(user_id, page): payments for user_id, payments in found.items()})
        return [answers[key] for key in wanted]

    async def _refunds(self, payment_ids: Sequence[str]) -> list[Sequence[Refund]]:
        async with self._database.read() as session:
            found = await self._payments.refunds_of(session, payment_ids)
        return [found[payment_id] for payment_id in payment_ids]
