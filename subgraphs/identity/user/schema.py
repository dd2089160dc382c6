"""User: the entity that every group extends with what it knows of a person."""

# strawberry.field is typed as Any when it decorates.
# mypy: disable-error-code="untyped-decorator"

from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime
from typing import Self

import strawberry

from domain.identity.person import Gender, HealthDetails, SocialProvider
from domain.identity.user.models import Person, SubscriptionTier
from domain.identity.user.service import ProfileChange, require_clearable
from domain.ids import UserId
from domain.principal import Role, Scope
from domain.units import ResultUnits
from subgraphs.identity.context import Info
from subgraphs.runtime.graphql import AUTHENTICATED, requires_scopes

strawberry.enum(Gender, name="Gender", description="Gender as the person states it.")
strawberry.enum(SocialProvider, name="SocialProvider", description="An identity provider that people sign in with.")
strawberry.enum(
    SubscriptionTier, name="SubscriptionTier", description="A plan, lowest first; each includes the ones before it."
)
strawberry.enum(ResultUnits, name="ResultUnits", description="The kind of unit that a person reads results in.")
strawberry.enum(Role, name="Role", description="What a person is to the platform.")


@strawberry.type(description="What a person stated about body and emergencies. Encrypted at rest; each look is logged.")
class HealthProfile:
    birth_date: date | None = strawberry.field(description="Day of birth.")
    gender: Gender | None = strawberry.field(description="As the person states it.")
    blood_type: str | None = strawberry.field(description='ABO group with Rh factor, such as "A+".')
    height_cm: float | None = strawberry.field(description="Centimetres.")
    weight_kg: float | None = strawberry.field(description="Kilograms.")
    medical_conditions: list[str] = strawberry.field(description="Known conditions, one an entry.")
    allergies: list[str] = strawberry.field(description="Known allergies, one an entry.")
    emergency_contact_name: str | None = strawberry.field(description="Whom to call in an emergency.")
    emergency_contact_phone: str | None = strawberry.field(description="Number of that contact.")

    @classmethod
    def of(cls, details: HealthDetails) -> Self:
        """The details, with null for what is not stated."""
        return cls(
            birth_date=date.fromisoformat(details.birth_date) if details.birth_date else None,
            gender=details.gender,
            blood_type=details.blood_type or None,
            height_cm=details.height_cm,
            weight_kg=details.weight_kg,
            medical_conditions=list(details.medical_conditions),
            allergies=list(details.allergies),
            emergency_contact_name=details.emergency_contact_name or None,
            emergency_contact_phone=details.emergency_contact_phone or None,
        )


@strawberry.federation.type(
    keys=["id"],
    description="A person. Others than the person, administrators and services get null where one is referred to.",
)
class User:
    id: strawberry.ID = strawberry.field(description="The person's id, equal in every service.")
    email: str | None = strawberry.field(description="Sign-in and mail address; null if a provider told none.")
    display_name: str = strawberry.field(description="Name shown to others.")
    avatar_url: str | None = strawberry.field(description="Picture, an https address.")
    language: str = strawberry.field(description="Language of messages to the person, BCP 47.")
    timezone: str = strawberry.field(description="Where the person lives, IANA name.")
    result_units: ResultUnits = strawberry.field(description="The kind of unit that the person reads results in.")
    role: Role = strawberry.field(description="What the person is to the platform.")
    subscription_tier: SubscriptionTier = strawberry.field(description="Plan the person is on.")
    social_provider: SocialProvider | None = strawberry.field(
        description="Provider that was linked first; null without one."
    )
    created_at: datetime = strawberry.field(description="When the profile was opened (UTC).")

    @classmethod
    def of(cls, person: Person) -> Self:
        """The entity of a profile that the caller may see."""
        return cls(
            id=strawberry.ID(person.user_id),
            email=person.account.email or None,
            display_name=person.display_name,
            avatar_url=person.avatar_url or None,
            language=person.language,
            timezone=person.timezone,
            result_units=person.result_units,
            role=Role(person.account.role),
            subscription_tier=person.subscription_tier,
            social_provider=person.account.social_provider,
            created_at=person.created_at,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> Self | None:
        """The entity that another group refers to; null for a person whom the caller may not see."""
        person = await info.context.people.load(UserId(id))
        return None if person is None else cls.of(person)

    @strawberry.federation.field(
        description="Health details; for the person, administrators and services.",
        directives=[AUTHENTICATED, requires_scopes(Scope.PROFILE_READ)],
    )
    async def health_profile(self, info: Info) -> HealthProfile | None:
        async with info.context.database.transaction() as session:  # not `read`: the look is logged
            details = await info.context.users.get_health(session, info.context.principal, self.id)
        return HealthProfile.of(details)


@strawberry.input(
    description="New values for a profile. A field that is left out stays as it is; null or an empty value empties it."
)
class UpdateProfileInput:
    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose profile; the caller's when left out."
    )
    display_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="Name shown to others; it cannot be emptied."
    )
    avatar_url: str | None = strawberry.field(default=strawberry.UNSET, description="Picture, an https address.")
    language: str | None = strawberry.field(default=strawberry.UNSET, description="BCP 47 tag; cannot be emptied.")
    timezone: str | None = strawberry.field(default=strawberry.UNSET, description="IANA name; cannot be emptied.")
    result_units: ResultUnits | None = strawberry.field(
        default=strawberry.UNSET, description="The kind of unit to read results in; AS_MEASURED when emptied."
    )
    birth_date: date | None = strawberry.field(default=strawberry.UNSET, description="Day of birth.")
    gender: Gender | None = strawberry.field(default=strawberry.UNSET, description="As the person states it.")
    blood_type: str | None = strawberry.field(default=strawberry.UNSET, description='Such as "A+".')
    height_cm: float | None = strawberry.field(default=strawberry.UNSET, description="Centimetres, 20 to 300.")
    weight_kg: float | None = strawberry.field(default=strawberry.UNSET, description="Kilograms, 0.3 to 700.")
    medical_conditions: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="The whole list of known conditions."
    )
    allergies: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="The whole list of known allergies."
    )
    emergency_contact_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="Whom to call in an emergency."
    )
    emergency_contact_phone: str | None = strawberry.field(
        default=strawberry.UNSET, description='Number of that contact, such as "+821012345678".'
    )

    def change(self) -> ProfileChange:
        """Raises: InvalidProfile: a field is emptied that cannot be empty."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "user_id"}
        given = {name: value for name, value in given.items() if value is not strawberry.UNSET}
        chosen: ResultUnits | None = None
        if "result_units" in given:
            chosen = given.pop("result_units") or ResultUnits.AS_MEASURED
        # 0 is a value, and one that is refused; only null and what is empty clear a field.
        stated = {name: value for name, value in given.items() if value is not None and value not in ("", [])}
        return ProfileChange(
            display_name=stated.get("display_name", ""),
            avatar_url=stated.get("avatar_url", ""),
            language=stated.get("language", ""),
            timezone=stated.get("timezone", ""),
            result_units=chosen,
            health=_details(stated),
            cleared=require_clearable(given.keys() - stated.keys()),
        )


def _details(stated: Mapping[str, object]) -> HealthDetails:
    plain = {name: value for name, value in stated.items() if name in HealthDetails.__dataclass_fields__}
    if isinstance(born := plain.get("birth_date"), date):
        plain["birth_date"] = born.isoformat()
    for name in ("medical_conditions", "allergies"):
        if isinstance(entries := plain.get(name), list):
            plain[name] = tuple(entries)
    return HealthDetails(**plain)  # type: ignore[arg-type]  # the input's types are those of the fields


@strawberry.type(description="The profile as it is now.")
class UpdateProfilePayload:
    user: User = strawberry.field(description="The changed person.")


@strawberry.type(name="Query")
class UserQuery:
    @strawberry.federation.field(description="The signed-in person.", directives=[AUTHENTICATED])
    async def me(self, info: Info) -> User | None:
        async with info.context.database.transaction() as session:  # a person from Keycloak gets a profile here
            person = await info.context.users.me(session, info.context.principal)
        return User.of(person)

    @strawberry.federation.field(
        description="A person by id: oneself, or anybody for administrators and services; else null.",
        directives=[AUTHENTICATED],
    )
    async def user(self, info: Info, id: strawberry.ID) -> User | None:
        info.context.principal.require_scope(Scope.PROFILE_READ)
        person = await info.context.people.load(UserId(id))
        return None if person is None else User.of(person)


@strawberry.type(name="Mutation")
class UserMutation:
    @strawberry.federation.field(
        description="Change a profile.", directives=[AUTHENTICATED, requires_scopes(Scope.PROFILE_WRITE)]
    )
    async def update_profile(self, info: Info, input: UpdateProfileInput) -> UpdateProfilePayload:
        async with info.context.database.transaction() as session:
            profile = await info.context.users.update(
                session, info.context.principal, input.change(), user_id=input.user_id or ""
            )
        return UpdateProfilePayload(user=User.of(profile.person))
