"""UserService over gRPC, and the directory of contacts for the platform's own services."""

# ruff: noqa: ARG002, N802 - gRPC's generated base class names methods and arguments

from typing import Any

import grpc.aio
from manpasik.internal.v1 import contact_directory_pb2, contact_directory_pb2_grpc
from manpasik.v1 import user_pb2, user_pb2_grpc

from domain.identity.person import HealthDetails
from domain.identity.user.models import WholeProfile
from domain.identity.user.service import ProfileChange, UserService
from subgraphs.identity.wire import gender_number, gender_of, provider_number, tier_number, timestamp_of
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database

FULL_NAME = "manpasik.v1.UserService"
DIRECTORY_NAME = "manpasik.internal.v1.ContactDirectory"

_Context = grpc.aio.ServicerContext[Any, Any]


class UserServicer(user_pb2_grpc.UserServiceServicer):
    def __init__(self, users: UserService, database: Database) -> None:
        self._users = users
        self._database = database

    async def GetProfile(self, request: user_pb2.GetProfileRequest, context: _Context) -> user_pb2.UserProfile:
        async with self._database.transaction() as session:  # not `read`: the look at health details is logged
            profile = await self._users.get(session, current().principal, request.user_id)
        return _user_profile(profile)

    async def UpdateProfile(self, request: user_pb2.UpdateProfileRequest, context: _Context) -> user_pb2.UserProfile:
        # proto3 cannot tell an empty field from one that was not sent, so empty leaves the stored value as it is.
        change = ProfileChange(
            display_name=request.display_name,
            avatar_url=request.avatar_url,
            language=request.language,
            timezone=request.timezone,
            health=HealthDetails(
                birth_date=request.birth_date,
                gender=gender_of(request.gender),
                blood_type=request.blood_type,
                height_cm=request.height_cm or None,  # proto3 has no other way to leave it out
                weight_kg=request.weight_kg or None,
                medical_conditions=tuple(request.medical_conditions),
                allergies=tuple(request.allergies),
                emergency_contact_name=request.emergency_contact_name,
                emergency_contact_phone=request.emergency_contact_phone,
            ),
        )
        async with self._database.transaction() as session:
            profile = await self._users.update(session, current().principal, change, user_id=request.user_id)
        return _user_profile(profile)

    async def GetSubscription(
        self, request: user_pb2.GetSubscriptionRequest, context: _Context
    ) -> user_pb2.SubscriptionInfo:
        async with self._database.transaction() as session:
            held = await self._users.subscription(session, current().principal, request.user_id)
        return user_pb2.SubscriptionInfo(
            user_id=held.user_id,
            tier=tier_number(held.tier),
            started_at=timestamp_of(held.started_at),
            expires_at=timestamp_of(held.expires_at) if held.expires_at is not None else None,
            max_devices=held.limits.max_devices,
            max_family_members=held.limits.max_family_members,
            ai_coaching_enabled=held.limits.ai_coaching,
            telemedicine_enabled=held.limits.telemedicine,
        )


class ContactDirectoryServicer(contact_directory_pb2_grpc.ContactDirectoryServicer):
    """manpasik.internal.v1.ContactDirectory, for services only."""

    def __init__(self, users: UserService, database: Database) -> None:
        self._users = users
        self._database = database

    async def GetContacts(
        self, request: contact_directory_pb2.GetContactsRequest, context: _Context
    ) -> contact_directory_pb2.GetContactsResponse:
        async with self._database.read() as session:
            contacts = await self._users.contacts(session, current().principal, request.user_ids)
        return contact_directory_pb2.GetContactsResponse(
            contacts=[
                contact_directory_pb2.Contact(
                    user_id=contact.user_id,
                    email=contact.email,
                    language=contact.language,
                    timezone=contact.timezone,
                    marketing_consent=contact.agreed_to_marketing,
                    result_units=contact.result_units.value,
                )
                for contact in contacts
            ]
        )


def _user_profile(profile: WholeProfile) -> user_pb2.UserProfile:
    person, health = profile.person, profile.health
    return user_pb2.UserProfile(
        user_id=person.user_id,
        email=person.account.email,
        display_name=person.display_name,
        avatar_url=person.avatar_url,
        language=person.language,
        timezone=person.timezone,
        subscription_tier=tier_number(person.subscription_tier),
        created_at=timestamp_of(person.created_at),
        birth_date=health.birth_date,
        gender=gender_number(health.gender),
        blood_type=health.blood_type,
        height_cm=health.height_cm or 0.0,
        weight_kg=health.weight_kg or 0.0,
        medical_conditions=health.medical_conditions,
        allergies=health.allergies,
        emergency_contact_name=health.emergency_contact_name,
        emergency_contact_phone=health.emergency_contact_phone,
        social_provider=provider_number(person.account.social_provider),
        social_id=person.account.social_id,
    )
