"""Products and orders by key, for one request."""

from collections import defaultdict
from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from domain.commerce.shop.models import OrderView, Product, TimelineEntry
from domain.commerce.terms import Tier
from domain.errors import AppError
from domain.ids import UserId
from domain.paging import Page, PageRequest
from domain.principal import Principal
from subgraphs.commerce.services import CommerceServices
from subgraphs.runtime.database import Database


class ShopLoaders:
    """`product`, `order`: one that the caller may see, or None. `orders_of_user`: a page of a person's orders.

    `timeline`: what happened to an order that the caller was shown. `tier`: a person's tier in force.
    """

    def __init__(self, services: CommerceServices, database: Database, principal: Principal) -> None:
        self._shop = services.shop
        self._database = database
        self._principal = principal
        self.product: DataLoader[str, Product | None] = DataLoader(load_fn=self._products)
        self.order: DataLoader[str, OrderView | None] = DataLoader(load_fn=self._orders)
        self.orders_of_user: DataLoader[tuple[str, PageRequest], Page[OrderView]] = DataLoader(
            load_fn=self._orders_of_users
        )
        self.timeline: DataLoader[str, tuple[TimelineEntry, ...]] = DataLoader(load_fn=self._timelines)
        self.tier: DataLoader[UserId, Tier] = DataLoader(load_fn=self._tiers)

    async def _products(self, product_ids: Sequence[str]) -> list[Product | None]:
        async with self._database.read() as session:
            found = await self._shop.catalogue.by_ids(session, product_ids)
        return [found.get(product_id) for product_id in product_ids]

    async def _orders(self, order_ids: Sequence[str]) -> list[OrderView | None]:
        async with self._database.read() as session:
            found = await self._shop.orders.visible(session, self._principal, order_ids)
        return [found.get(order_id) for order_id in order_ids]

    async def _orders_of_users(
        self, wanted: Sequence[tuple[str, PageRequest]]
    ) -> list[Page[OrderView] | BaseException]:
        answers: dict[tuple[str, PageRequest], Page[OrderView] | BaseException] = {}
        by_page: defaultdict[PageRequest, list[str]] = defaultdict(list)
        for user_id, page in wanted:
            try:
                self._principal.acting_for(user_id)
            except AppError as refusal:  # belongs to this key alone: the others still get their answer
                answers[user_id, page] = refusal
            else:
                by_page[page].append(user_id)
        async with self._database.read() as session:
            for page, user_ids in by_page.items():
                found = await self._shop.orders.pages_of(session, self._principal, user_ids=user_ids, page=page)
                answers.update({(user_id, page): orders for user_id, orders in found.items()})
        return [answers[key] for key in wanted]

    async def _timelines(self, order_ids: Sequence[str]) -> list[tuple[TimelineEntry, ...]]:
        async with self._database.read() as session:
            found = await self._shop.orders.timelines(session, order_ids)
        return [found[order_id] for order_id in order_ids]

    async def _tiers(self, user_ids: Sequence[UserId]) -> list[Tier]:
        async with self._database.read() as session:
            return [await self._shop.plans.tier_of(session, user_id) for user_id in user_ids]
