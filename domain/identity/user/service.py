"""The rules of profiles: who may see and change them, and that each look at health details is logged."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from domain.audit import AccessLog
from domain.clock import Clock
from domain.errors import AppError, Forbidden, InvalidInput
from domain.identity.person import NOTHING_STATED, AccountSummary, HealthDetails, NewProfile, Reachable
from domain.identity.user import fields
from domain.identity.user.errors import InvalidProfile, ProfileNotFound
from domain.identity.user.events import ResultUnitsChosen
from domain.identity.user.models import (
    WITHOUT_A_PLAN,
    Contact,
    Person,
    PlanLimits,
    Profile,
    Subscription,
    SubscriptionTier,
    ToldPlan,
    WholeProfile,
)
from domain.identity.user.ports import Accounts
from domain.identity.user.repository import ProfileRepository
from domain.ids import UserId
from domain.messaging import Outbox
from domain.principal import Principal, PrincipalKind, Scope
from domain.sealing import Sealer
from domain.units import ResultUnits

DEFAULT_LANGUAGE = "ko"
DEFAULT_TIMEZONE = "Asia/Seoul"
NAMELESS = "ManPaSik"
"""Display name of a person of whom nothing is known."""
MAX_CONTACTS = 500


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """New values: an empty text or list and None leave the stored value as it is.

    Args:
        cleared: names of fields (`avatar_url`, or of `HealthDetails`) to empty; only GraphQL can say so, because proto3 does
            not tell an empty field from one that was not sent.
    """

    display_name: str = ""
    avatar_url: str = ""
    language: str = ""
    timezone: str = ""
    result_units: ResultUnits | None = None
    health: HealthDetails = NOTHING_STATED
    cleared: frozenset[str] = frozenset()


class UserService:
    """Commands of the user service. One for the process."""

    def __init__(self, *, clock: Clock, sealer: Sealer, accounts: Accounts) -> None:
        self._clock = clock
        self._sealer = sealer
        self._accounts = accounts

    async def create(self, session: AsyncSession, user_id: UserId, profile: NewProfile) -> str:
        """Open the profile of a new account and return the display name as stored.

        Raises:
            InvalidProfile: a field breaks its rule.
        """
        row = self._new_row(user_id, profile)
        session.add(row)
        await session.flush()
        return row.display_name

    async def replace(self, session: AsyncSession, user_id: UserId, profile: NewProfile) -> None:
        """Replace all that a profile states, health details included; the plan that it holds stays.

        Raises:
            InvalidProfile: a field breaks its rule.
        """
        row = await ProfileRepository(session).by_id_for_update(user_id)
        if row is None:
            return
        fresh = self._new_row(user_id, profile)
        for name in ("display_name", "avatar_url", "language", "timezone", "result_units", "health"):
            setattr(row, name, getattr(fresh, name))
        row.created_at, row.updated_at = fresh.created_at, fresh.updated_at
        await session.flush()

    async def language_of(self, session: AsyncSession, user_id: UserId) -> str | None:
        """The BCP 47 tag of messages to the person; None without a profile."""
        return await ProfileRepository(session).language_of(user_id)

    async def get(self, session: AsyncSession, principal: Principal, user_id: str = "") -> WholeProfile:
        """A whole profile, health details included, which is logged. The session must be able to write.

        Raises:
            Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; the token lacks profile:read.
            ProfileNotFound: there is no such person.
        """
        principal.require_scope(Scope.PROFILE_READ)
        person_id = principal.acting_for(user_id)
        row = await self._row(session, principal, person_id)
        health = self._open(row)
        person = await self._person(session, principal, row)
        await self._log(session, principal, row, action="read")
        return WholeProfile(person, health)

    async def get_health(self, session: AsyncSession, principal: Principal, user_id: str) -> HealthDetails:
        """The health details alone, which is logged. The session must be able to write.

        Raises: as `get`.
        """
        principal.require_scope(Scope.PROFILE_READ)
        row = await self._row(session, principal, principal.acting_for(user_id))
        health = self._open(row)
        await self._log(session, principal, row, action="read")
        return health

    async def people(
        self, session: AsyncSession, principal: Principal, user_ids: Collection[UserId]
    ) -> dict[UserId, Person]:
        """Profiles without health details, of those among `user_ids` whom the caller may see.

        The others are left out without a word, like those that do not exist: a list of posts or devices must not fail
        because of one author whom the reader may not look up.
        """
        visible = [user_id for user_id in user_ids if _may_see(principal, user_id)]
        rows = await ProfileRepository(session).many_without_health(visible)
        accounts = await self._accounts.summaries(session, visible)
        return {
            UserId(row.user_id): _person(row, accounts.get(UserId(row.user_id)) or _foreign(principal, row))
            for row in rows
        }

    async def contacts(self, session: AsyncSession, principal: Principal, user_ids: Collection[str]) -> list[Contact]:
        """How the people among these who have a profile are reached; for other services.

        Raises:
            Forbidden: the caller is not a service.
            InvalidInput: more than 500 people at once, or an id that nobody has.
        """
        if not principal.is_trusted:
            raise Forbidden("Only services may ask for contacts.")
        if len(user_ids) > MAX_CONTACTS or any("\0" in user_id for user_id in user_ids):
            raise InvalidInput(f"Name at most {MAX_CONTACTS} people, each by an id.", field="user_ids")
        rows = await ProfileRepository(session).many_without_health(user_ids)
        accounts = await self._accounts.reachable(session, [UserId(row.user_id) for row in rows])
        return [_contact(row, accounts.get(UserId(row.user_id))) for row in rows]

    async def me(self, session: AsyncSession, principal: Principal) -> Person:
        """The caller, without health details. The session must be able to write: see `_row`.

        Raises: as `get`.
        """
        principal.require_scope(Scope.PROFILE_READ)
        row = await self._row(session, principal, principal.acting_for(""))
        return await self._person(session, principal, row)

    async def update(
        self, session: AsyncSession, principal: Principal, change: ProfileChange, *, user_id: str = ""
    ) -> WholeProfile:
        """Change what is stated and return the whole profile, which is logged when it has health details.

        Raises:
            InvalidProfile: a field breaks its rule; nothing is changed then.
            Others: as `get`; the token lacks profile:write.
        """
        principal.require_scope(Scope.PROFILE_WRITE)
        person_id = principal.acting_for(user_id)
        await self._row(session, principal, person_id)
        row = await ProfileRepository(session).by_id_for_update(person_id)
        if row is None:
            raise ProfileNotFound(person_id)
        await session.refresh(row)
        await self._choose_units(session, row, change.result_units)
        self._apply(row, change)
        health = self._changed_health(row, change)
        await session.flush()
        person = await self._person(session, principal, row)
        await self._log(session, principal, row, action="update")
        return WholeProfile(person, health)

    async def subscription(self, session: AsyncSession, principal: Principal, user_id: str = "") -> Subscription:
        """The plan that the profile holds.

        Raises: as `get`.
        """
        principal.require_scope(Scope.PROFILE_READ)
        row = await self._row(session, principal, principal.acting_for(user_id))
        return Subscription(
            user_id=UserId(row.user_id),
            tier=SubscriptionTier(row.subscription_tier),
            started_at=row.subscription_started_at,
            expires_at=row.subscription_expires_at,
            limits=PlanLimits(
                max_devices=row.subscription_max_devices,
                max_family_members=row.subscription_max_family_members,
                ai_coaching=row.subscription_ai_coaching,
                telemedicine=row.subscription_telemedicine,
            ),
        )

    async def take_plan(self, session: AsyncSession, told: ToldPlan) -> None:
        """Note which plan is in force for a person; what is older than what is known changes nothing.

        Who bought a plan before they first asked for their profile (Keycloak signs people in whom we do not know yet) gets one
        now: the news would be lost otherwise.
        """
        profiles = ProfileRepository(session)
        row = await profiles.by_id_for_update(told.user_id)
        if row is None:
            await profiles.add_if_absent(self._new_row(told.user_id, NewProfile(display_name=NAMELESS)))
            row = await profiles.by_id_for_update(told.user_id)
        if row is None or told.revision <= row.subscription_revision:
            return
        row.subscription_revision = told.revision
        row.subscription_tier = told.tier.value
        row.subscription_started_at = told.started_at
        row.subscription_expires_at = told.expires_at
        row.subscription_max_devices = told.limits.max_devices
        row.subscription_max_family_members = told.limits.max_family_members
        row.subscription_ai_coaching = told.limits.ai_coaching
        row.subscription_telemedicine = told.limits.telemedicine
        await session.flush()

    async def _row(self, session: AsyncSession, principal: Principal, person_id: UserId) -> Profile:
        """The person's row. Who proves to be this person without having a profile was signed in by Keycloak, whose subjects
        are not known here before their first call: they get a profile now."""
        repository = ProfileRepository(session)
        row = await repository.by_id(person_id)
        if row is None and principal.kind is PrincipalKind.USER and principal.subject == person_id:
            name = principal.email.partition("@")[0].strip()[: fields.MAX_NAME] or NAMELESS
            await repository.add_if_absent(self._new_row(person_id, NewProfile(display_name=name)))
            row = await repository.by_id(person_id)
        if row is None:
            raise ProfileNotFound(person_id)
        return row

    def _new_row(self, user_id: UserId, profile: NewProfile) -> Profile:
        now = self._clock.now()
        row = Profile(
            user_id=user_id,
            display_name=fields.name(profile.display_name, field="display_name"),
            avatar_url=fields.avatar_url(profile.avatar_url),
            language=fields.language(profile.language or DEFAULT_LANGUAGE),
            timezone=fields.timezone(profile.timezone or DEFAULT_TIMEZONE),
            result_units=ResultUnits.AS_MEASURED.value,
            subscription_tier=SubscriptionTier.FREE.value,
            subscription_started_at=now,
            subscription_expires_at=None,
            subscription_revision=0,
            subscription_max_devices=WITHOUT_A_PLAN.max_devices,
            subscription_max_family_members=WITHOUT_A_PLAN.max_family_members,
            subscription_ai_coaching=WITHOUT_A_PLAN.ai_coaching,
            subscription_telemedicine=WITHOUT_A_PLAN.telemedicine,
            health=None,
            created_at=now,
            updated_at=now,
        )
        self._seal(row, fields.health(profile.health, today=now.date()))
        return row

    async def _choose_units(self, session: AsyncSession, row: Profile, chosen: ResultUnits | None) -> None:
        if chosen is None or chosen == row.result_units:
            return
        row.result_units = chosen.value
        await Outbox(session).add(
            ResultUnitsChosen(user_id=row.user_id, result_units=chosen, chosen_at=self._clock.now())
        )

    def _apply(self, row: Profile, change: ProfileChange) -> None:
        if change.display_name:
            row.display_name = fields.name(change.display_name, field="display_name")
        if change.avatar_url:
            row.avatar_url = fields.avatar_url(change.avatar_url)
        if change.language:
            row.language = fields.language(change.language)
        if change.timezone:
            row.timezone = fields.timezone(change.timezone)
        if "avatar_url" in change.cleared:
            row.avatar_url = ""
        row.updated_at = self._clock.now()

    def _changed_health(self, row: Profile, change: ProfileChange) -> HealthDetails:
        stored = self._open(row)
        stated = fields.health(change.health, today=self._clock.now().date())
        changed = stored.merged(stated, cleared=change.cleared & _HEALTH_FIELDS)
        if changed != stored:
            self._seal(row, changed)
        return changed

    def _seal(self, row: Profile, health: HealthDetails) -> None:
        row.health = None if health.is_empty else self._sealer.seal_json(asdict(health), context=_context(row))

    def _open(self, row: Profile) -> HealthDetails:
        if row.health is None:
            return HealthDetails()
        stored = _STORED.validate_python(self._sealer.open_json(row.health, context=_context(row)))
        return _HEALTH.validate_python({name: value for name, value in stored.items() if value != 0})

    async def _person(self, session: AsyncSession, principal: Principal, row: Profile) -> Person:
        user_id = UserId(row.user_id)
        accounts = await self._accounts.summaries(session, [user_id])
        return _person(row, accounts.get(user_id) or _foreign(principal, row))

    async def _log(self, session: AsyncSession, principal: Principal, row: Profile, *, action: str) -> None:
        """Who looked at health details; a profile without any has nothing to log."""
        if row.health is not None:
            await AccessLog(session).record(
                principal,
                subject_user_id=row.user_id,
                action=action,
                resource_type="profile",
                resource_ids=[row.user_id],
            )


_HEALTH_FIELDS = frozenset(asdict(HealthDetails()))
# Details sealed by an earlier release may have fewer fields, and 0 for a measure that was not stated.
_HEALTH = TypeAdapter(HealthDetails)
_STORED = TypeAdapter(dict[str, object])


def require_clearable(cleared: AbstractSet[str]) -> frozenset[str]:
    """Raises: InvalidProfile: one of the fields cannot be empty."""
    if fixed := sorted(cleared - _HEALTH_FIELDS - {"avatar_url"}):
        raise InvalidProfile(fixed[0], "cannot be emptied")
    return frozenset(cleared)


def _may_see(principal: Principal, user_id: UserId) -> bool:
    try:
        principal.require_scope(Scope.PROFILE_READ)
        principal.acting_for(user_id)
    except AppError:
        return False
    return True


def _foreign(principal: Principal, row: Profile) -> AccountSummary:
    """Of a person without an account here: what the token says, if it is the person's own."""
    is_own = principal.kind is PrincipalKind.USER and principal.subject == row.user_id
    return AccountSummary(
        user_id=UserId(row.user_id),
        email=principal.email if is_own else "",
        role=principal.role.value if is_own else "user",
    )


def _person(row: Profile, account: AccountSummary) -> Person:
    return Person(
        user_id=UserId(row.user_id),
        display_name=row.display_name,
        avatar_url=row.avatar_url,
        language=row.language,
        timezone=row.timezone,
        result_units=ResultUnits(row.result_units),
        subscription_tier=SubscriptionTier(row.subscription_tier),
        created_at=row.created_at,
        account=account,
    )


def _contact(row: Profile, account: Reachable | None) -> Contact:
    return Contact(
        user_id=UserId(row.user_id),
        email=account.email if account else "",
        language=row.language,
        timezone=row.timezone,
        result_units=ResultUnits(row.result_units),
        agreed_to_marketing=account is not None and account.agreed_to_marketing,
    )


def _context(row: Profile) -> str:
    return f"profiles.health:{row.user_id}"
