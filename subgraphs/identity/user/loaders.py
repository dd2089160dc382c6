"""Batches of one request."""

from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from domain.identity.user.models import Person
from domain.identity.user.service import UserService
from domain.ids import UserId
from domain.principal import Principal
from subgraphs.runtime.database import Database


def people_loader(users: UserService, database: Database, principal: Principal) -> DataLoader[UserId, Person | None]:
    """Profiles by id; None for those that the caller may not see and those that do not exist."""

    async def load(user_ids: Sequence[UserId]) -> list[Person | None]:
        async with database.read() as session:
            people = await users.people(session, principal, user_ids)
        return [people.get(user_id) for user_id in user_ids]

    return DataLoader(load_fn=load)
