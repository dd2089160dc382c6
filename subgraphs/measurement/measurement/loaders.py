"""Batching of what one GraphQL request asks for."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader

from domain.errors import AppError
from domain.measurement.measurement.models import Session, SessionFilter
from domain.measurement.measurement.service import MeasurementService
from domain.paging import Page, PageRequest
from domain.principal import Principal
from domain.units import ResultUnits
from subgraphs.runtime.database import Database


class ListOf(StrEnum):
    """Which list of sessions, by what it belongs to."""

    RESULTS_OF_USER = "results"
    SESSIONS_OF_USER = "user"
    SESSIONS_OF_DEVICE = "device"
    SESSIONS_OF_CARTRIDGE = "cartridge"


@dataclass(frozen=True, slots=True)
class PageKey:
    """One page of one owner's list."""

    kind: ListOf
    owner_id: str
    wanted: SessionFilter
    page: PageRequest


def session_loader(
    service: MeasurementService, database: Database, principal: Principal
) -> DataLoader[str, Session | None]:
    """Sessions by id; None where there is none that the caller may see."""

    async def load(ids: list[str]) -> list[Session | None]:
        async with database.transaction() as session:  # not `read`: the look at the results is logged
            return await service.get_many(session, principal, ids)

    return DataLoader(load_fn=load)


def units_loader(service: MeasurementService, database: Database) -> DataLoader[Principal, ResultUnits]:
    """In which kind of unit the caller reads results."""

    async def load(principals: list[Principal]) -> list[ResultUnits]:
        async with database.read() as session:
            return [await service.units_of(session, principal) for principal in principals]

    return DataLoader(load_fn=load)


def page_loader(
    service: MeasurementService, database: Database, principal: Principal
) -> DataLoader[PageKey, Page[Session]]:
    """Pages of lists: those that differ in their owner alone are loaded together."""

    async def load(keys: list[PageKey]) -> list[Page[Session] | BaseException]:
        positions: defaultdict[tuple[ListOf, SessionFilter, PageRequest], list[int]] = defaultdict(list)
        for position, key in enumerate(keys):
            positions[key.kind, key.wanted, key.page].append(position)
        found: dict[int, Page[Session] | BaseException] = {}
        for asked in positions.values():
            found.update(zip(asked, await load_alike([keys[position] for position in asked]), strict=True))
        return [found[position] for position in range(len(keys))]

    async def load_alike(keys: list[PageKey]) -> Sequence[Page[Session] | BaseException]:
        """Pages of keys that differ in their owner alone. A refusal belongs to the owner that it is about."""
        try:
            async with database.transaction() as session:  # not `read`: the look at the results is logged
                return await pages_of(session, keys)
        except AppError as error:
            if len(keys) == 1:
                return [error]
        return [page for key in keys for page in await load_alike([key])]

    async def pages_of(session: AsyncSession, keys: list[PageKey]) -> list[Page[Session]]:
        kind, wanted, page = keys[0].kind, keys[0].wanted, keys[0].page
        owners = [key.owner_id for key in keys]
        match kind:
            case ListOf.RESULTS_OF_USER:
                return await service.results_of_users(session, principal, owners, wanted, page)
            case ListOf.SESSIONS_OF_USER | ListOf.SESSIONS_OF_DEVICE | ListOf.SESSIONS_OF_CARTRIDGE:
                return await service.sessions_of(session, principal, kind.value, owners, wanted, page)
            case _:
                assert_never(kind)

    return DataLoader(load_fn=load)
