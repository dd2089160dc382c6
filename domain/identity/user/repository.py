"""Every SQL statement about profiles."""

from collections.abc import Collection, Sequence

from sqlalchemy import String, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from domain.identity.user.models import Profile


class ProfileRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def by_id(self, user_id: str) -> Profile | None:
        return await self._session.get(Profile, user_id)

    async def by_id_for_update(self, user_id: str) -> Profile | None:
        return await self._session.scalar(select(Profile).where(Profile.user_id == user_id).with_for_update())

    async def many_without_health(self, user_ids: Collection[str]) -> Sequence[Profile]:
        """Profiles whose sealed health details are not even fetched; touching them raises."""
        return (await self._session.scalars(_WITHOUT_HEALTH, {"user_ids": list(user_ids)})).all()

    async def add_if_absent(self, profile: Profile) -> None:
        """Also when two come at once."""
        values = {column.key: getattr(profile, column.key) for column in Profile.__mapper__.column_attrs}
        await self._session.execute(insert(Profile).values(values).on_conflict_do_nothing())

    async def language_of(self, user_id: str) -> str | None:
        return await self._session.scalar(select(Profile.language).where(Profile.user_id == user_id))


_WITHOUT_HEALTH = (
    select(Profile)
    .where(Profile.user_id == any_(bindparam("user_ids", type_=ARRAY(String))))
    .options(defer(Profile.health, raiseload=True))
)
