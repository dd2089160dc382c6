"""What the profile may know of accounts."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from domain.identity.auth.models import ConsentKind
from domain.identity.auth.repository import AccountRepository
from domain.identity.person import AccountSummary, Reachable, SocialProvider
from domain.ids import UserId


class AccountDirectory:
    """Looks accounts up for the user service."""

    async def summaries(self, session: AsyncSession, user_ids: Collection[UserId]) -> dict[UserId, AccountSummary]:
        """Those of the people who have an account; with the provider that was linked first, if any."""
        return {
            UserId(account.id): AccountSummary(
                user_id=UserId(account.id),
                email=account.email or "",
                role=account.role,
                social_provider=SocialProvider(account.provider) if account.provider else None,
                social_id=account.social_id or "",
            )
            for account in await AccountRepository(session).with_first_identity(user_ids)
        }

    async def reachable(self, session: AsyncSession, user_ids: Collection[UserId]) -> dict[UserId, Reachable]:
        """How those of the people who have an account may be written to."""
        found = await AccountRepository(session).reachable(user_ids, consent=ConsentKind.MARKETING.value)
        return {UserId(user): Reachable(UserId(user), email or "", agreed) for user, email, agreed in found}
