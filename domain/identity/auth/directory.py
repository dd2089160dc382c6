"""What the profile may know of accounts."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from domain.identity.auth.models import SocialIdentity
from domain.identity.auth.repository import AccountRepository
from domain.identity.person import AccountSummary, SocialProvider
from domain.ids import UserId


class AccountDirectory:
    """Looks accounts up for the user service."""

    async def summaries(self, session: AsyncSession, user_ids: Collection[UserId]) -> dict[UserId, AccountSummary]:
        """Those of the people who have an account; with the provider that was linked first, if any."""
        repository = AccountRepository(session)
        accounts = await repository.many(user_ids)
        identities: dict[str, SocialIdentity] = {}
        for linked in await repository.social_identities_of(user_ids):
            identities.setdefault(linked.user_id, linked)
        summaries = {}
        for account in accounts:
            identity = identities.get(account.id)
            user_id = UserId(account.id)
            summaries[user_id] = AccountSummary(
                user_id=user_id,
                email=account.email or "",
                role=account.role,
                social_provider=SocialProvider(identity.provider) if identity is not None else None,
                social_id=identity.social_id if identity is not None else "",
            )
        return summaries
