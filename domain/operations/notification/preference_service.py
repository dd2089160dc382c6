"""The rules of preferences and push tokens: each person's own business."""

import hashlib
from collections.abc import Collection
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.ids import UserId
from domain.operations.notification import fields
from domain.operations.notification.models import Platform, Preferences, PreferencesRow, PushToken
from domain.operations.notification.phone_repository import PhoneRepository
from domain.operations.notification.phones import open_phone
from domain.operations.notification.quiet_hours import QuietHours
from domain.operations.notification.repository import (
    PersonRepository,
    PreferencesRepository,
    PushTokenRepository,
)
from domain.principal import Principal, Scope
from domain.sealing import Sealer

MAX_PUSH_TOKENS = 20
"""Apps of one person; a person with more phones than that has sold some of them."""

DEFAULTS = Preferences()


class PreferenceService:
    """Commands and queries about what people want to get, and where it reaches them."""

    def __init__(self, clock: Clock, sealer: Sealer) -> None:
        self._clock = clock
        self._sealer = sealer

    async def get(
        self, session: AsyncSession, principal: Principal, *, user_id: str = ""
    ) -> tuple[UserId, Preferences]:
        """Whose preferences, and what they are; the defaults when none were set.

        Raises:
            Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; the token lacks notification:read.
        """
        principal.require_scope(Scope.NOTIFICATION_READ)
        owner = _person(principal, user_id)
        return owner, await self.of(session, owner)

    async def of(self, session: AsyncSession, user_id: str) -> Preferences:
        """A person's preferences, for the service itself."""
        return (await self.of_many(session, [user_id]))[user_id]

    async def of_many(self, session: AsyncSession, user_ids: Collection[str]) -> dict[str, Preferences]:
        """The preferences of each person."""
        rows = await PreferencesRepository(session).of(user_ids)
        return {user_id: _preferences(rows[user_id]) if user_id in rows else DEFAULTS for user_id in user_ids}

    async def replace(
        self, session: AsyncSession, principal: Principal, wanted: Preferences, *, user_id: str = ""
    ) -> tuple[UserId, Preferences]:
        """Set all preferences. Notifications that wait are sent, or not, by the new ones.

        Raises:
            Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; the token lacks notification:write.
        """
        principal.require_scope(Scope.NOTIFICATION_WRITE)
        owner = _person(principal, user_id)
        row = PreferencesRow(
            user_id=owner,
            push_enabled=wanted.push_enabled,
            email_enabled=wanted.email_enabled,
            sms_enabled=wanted.sms_enabled,
            measurement_alerts=wanted.measurement_alerts,
            health_alerts=wanted.health_alerts,
            appointment_reminders=wanted.appointment_reminders,
            community_updates=wanted.community_updates,
            promotions=wanted.promotions,
            quiet_start=wanted.quiet_hours.start if wanted.quiet_hours else None,
            quiet_end=wanted.quiet_hours.end if wanted.quiet_hours else None,
            updated_at=self._clock.now(),
        )
        await PreferencesRepository(session).replace(row)
        return owner, _preferences(row)

    async def register_push_token(
        self, session: AsyncSession, principal: Principal, *, token: str, platform: Platform
    ) -> None:
        """Send push messages to this app from now on, and to no other person's: whoever is signed in there gets them.

        Raises:
            InvalidNotification: not a push token.
            Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; the token lacks notification:write.
        """
        principal.require_scope(Scope.NOTIFICATION_WRITE)
        owner = principal.acting_for("")
        token = fields.push_token(token)
        row = PushToken(
            token_hash=hash_of(token), user_id=owner, token=token, platform=platform, registered_at=self._clock.now()
        )
        await PushTokenRepository(session).put(row, keep=MAX_PUSH_TOKENS)

    async def remove_push_token(self, session: AsyncSession, principal: Principal, *, token: str) -> bool:
        """Send no more push messages to this app; False when it was not registered. Raises: as `register_push_token`."""
        principal.require_scope(Scope.NOTIFICATION_WRITE)
        owner = principal.acting_for("")
        return await PushTokenRepository(session).remove(hash_of(fields.push_token(token)), user_id=owner)

    async def drop(self, session: AsyncSession, user_id: UserId, until: datetime) -> None:
        """Drop all that was set for, and sent to, a person until a moment: an unproven holder of the account has set it."""
        await PersonRepository(session).drop(user_id, until=until)

    async def phones_of(self, session: AsyncSession, user_ids: Collection[str]) -> dict[str, str]:
        """The numbers of those who have proven one, for the service itself."""
        sealed = await PhoneRepository(session).verified(user_ids)
        return {user: open_phone(self._sealer, user, phone) for user, phone in sealed.items()}


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _person(principal: Principal, user_id: str) -> UserId:
    return UserId(fields.user_id(principal.acting_for(user_id)))


def _preferences(row: PreferencesRow) -> Preferences:
    return Preferences(
        push_enabled=row.push_enabled,
        email_enabled=row.email_enabled,
        sms_enabled=row.sms_enabled,
        measurement_alerts=row.measurement_alerts,
        health_alerts=row.health_alerts,
        appointment_reminders=row.appointment_reminders,
        community_updates=row.community_updates,
        promotions=row.promotions,
        quiet_hours=QuietHours(row.quiet_start, row.quiet_end)
        if row.quiet_start is not None and row.quiet_end is not None
        else None,
        updated_at=row.updated_at,
    )
