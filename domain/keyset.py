"""Pages of what people (or things) own, for any number of owners in one statement.

A list has a fixed order, (moment, id), and a cursor is the place of an item in it (`domain.paging`). For each owner the
statement ranks what follows the cursor and counts everything, so that one round trip answers a whole batch of a
DataLoader. The first item of an owner always comes back, for its count, also when it is not on the page.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, String, and_, any_, bindparam, case, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute

from domain.paging import Page, PageRequest

Row = TypeVar("Row", bound=DeclarativeBase)


@dataclass(frozen=True)
class OwnedList(Generic[Row]):
    """A list of rows for each owner.

    Args:
        owner, at, id: the columns that say whose a row is, and where it stands in the list.
        newest_first: or the oldest first.
    """

    entity: type[Row]
    owner: InstrumentedAttribute[str]
    at: InstrumentedAttribute[datetime]
    id: InstrumentedAttribute[str]
    newest_first: bool = True

    async def pages(self, session: AsyncSession, owners: Collection[str], page: PageRequest) -> dict[str, Page[Row]]:
        """One page for every owner; an empty one for who has nothing."""
        values: dict[str, object] = {"owners": list(owners), "last": page.first + 1}
        if page.after is not None:
            values["after_at"], values["after_id"] = page.after
        rows = await session.execute(self._first_page if page.after is None else self._next_page, values)
        items: dict[str, list[Row]] = {owner: [] for owner in owners}
        totals: dict[str, int] = dict.fromkeys(owners, 0)
        for row, owner, total, nth in rows:
            totals[owner] = total
            if nth >= 1:
                items[owner].append(row)
        return {
            owner: Page(found[: page.first], has_next=len(found) > page.first, total=totals[owner])
            for owner, found in items.items()
        }

    @cached_property
    def _first_page(self) -> Select[Any]:
        return self._statement(self.id.is_not(None))

    @cached_property
    def _next_page(self) -> Select[Any]:
        cursor = tuple_(bindparam("after_at", type_=self.at.type), bindparam("after_id", type_=String()))
        place = tuple_(self.at, self.id)
        return self._statement(place < cursor if self.newest_first else place > cursor)

    def _statement(self, follows: Any) -> Select[Any]:
        order = (self.at.desc(), self.id.desc()) if self.newest_first else (self.at, self.id)
        ranked = (
            select(
                self.id.label("id"),
                func.count().over(partition_by=self.owner).label("total"),
                func.row_number().over(partition_by=self.owner, order_by=order).label("rank"),
                # Counted over everything an owner has; ranked over what follows the cursor.
                func.sum(case((follows, 1), else_=0)).over(partition_by=self.owner, order_by=order).label("nth"),
            )
            .where(self.owner == any_(bindparam("owners", type_=ARRAY(String))))
            .subquery()
        )
        on_page = and_(ranked.c.nth >= 1, ranked.c.nth <= bindparam("last"))
        return (
            select(self.entity, self.owner, ranked.c.total, ranked.c.nth)
            .join(ranked, ranked.c.id == self.id)
            .where(or_(on_page, ranked.c.rank == 1))
            .order_by(*order)
        )
