"""Puts the identity group together: services, faces, background work."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from manpasik.internal.v1 import contact_directory_pb2_grpc
from manpasik.v1 import auth_pb2_grpc, user_pb2_grpc
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain.catalog import Group
from domain.identity.auth.directory import AccountDirectory
from domain.identity.auth.email_proof import EmailProofs
from domain.identity.auth.errors import EmailTaken
from domain.identity.auth.keys import KeyRing
from domain.identity.auth.limits import FailedSignIns, Registrations, ResetRequests
from domain.identity.auth.passwords import Passwords
from domain.identity.auth.reset_mail import ResetMails
from domain.identity.auth.service import AuthService
from domain.identity.auth.tokens import AccessTokens
from domain.identity.user.service import UserService
from subgraphs.identity.auth import servicer as auth_face
from subgraphs.identity.auth.adapters.social import SocialProviders
from subgraphs.identity.auth.ended import DatabaseEndedSignIns, ended_endpoint
from subgraphs.identity.context import IdentityContext
from subgraphs.identity.schema import schema
from subgraphs.identity.user import servicer as user_face
from subgraphs.identity.user.consumers import user_consumers
from subgraphs.identity.user.loaders import people_loader
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.faces import Background, GroupFaces, GroupResources, GrpcServicer, ServiceFaces
from subgraphs.runtime.mail import SmtpMailer

_MAIL_EVERY_S = 1.0
_KEYS_EVERY_S = 60.0
_TIDY_EVERY_S = 3600.0
_JWKS_MAX_AGE_S = 300


async def build(resources: GroupResources) -> GroupFaces:
    """The group's faces; makes the first signing key where there is none."""
    settings, database, clock = resources.settings, resources.database, resources.clock
    tokens = settings.tokens
    access_ttl = timedelta(minutes=tokens.access_ttl_minutes)
    keys = KeyRing(secret=tokens.jwt_secret.get_secret_value(), clock=clock, sessions=database, access_ttl=access_ttl)
    await keys.rotate()
    users = UserService(clock=clock, sealer=resources.sealer, accounts=AccountDirectory())
    passwords = Passwords()
    social = SocialProviders(tokens, clock=clock)
    auth = AuthService(
        clock=clock,
        sessions=database,
        passwords=passwords,
        access_tokens=AccessTokens(keys, clock=clock, issuer=tokens.issuer, ttl=access_ttl),
        refresh_ttl=timedelta(days=tokens.refresh_ttl_days),
        failed_sign_ins=FailedSignIns(resources.limiter),
        reset_requests=ResetRequests(resources.limiter),
        registrations=Registrations(resources.limiter, per_hour=settings.service.registrations_per_hour),
        social=social,
        profiles=users,
    )
    await _bootstrap_admin(auth, resources)
    mailer = SmtpMailer(settings.smtp)
    proofs = EmailProofs(clock=clock, sessions=database, counter=resources.limiter, mailer=mailer)
    mails = ResetMails(
        clock=clock,
        sessions=database,
        profiles=users,
        mailer=mailer,
        public_url=settings.service.public_url,
    )

    ended = DatabaseEndedSignIns(database)

    def graphql_context(request: RequestContext) -> IdentityContext:
        people = people_loader(users, database, request.principal)
        return IdentityContext(
            request=request, auth=auth, email_proofs=proofs, users=users, database=database, people=people
        )

    async def close() -> None:
        passwords.close()
        await social.close()

    return GroupFaces(
        group=Group.IDENTITY,
        services=(
            ServiceFaces(
                name="auth",
                servicers=(
                    GrpcServicer(
                        full_name=auth_face.FULL_NAME,
                        register=lambda server: auth_pb2_grpc.add_AuthServiceServicer_to_server(
                            auth_face.AuthServicer(auth, database), server
                        ),
                        public_methods=auth_face.PUBLIC_METHODS,
                    ),
                ),
                background=_background(keys, mails, proofs),
            ),
            ServiceFaces(
                name="user",
                servicers=(
                    GrpcServicer(
                        full_name=user_face.FULL_NAME,
                        register=lambda server: user_pb2_grpc.add_UserServiceServicer_to_server(
                            user_face.UserServicer(users, database), server
                        ),
                    ),
                    GrpcServicer(
                        full_name=user_face.DIRECTORY_NAME,
                        register=lambda server: contact_directory_pb2_grpc.add_ContactDirectoryServicer_to_server(
                            user_face.ContactDirectoryServicer(users, database), server
                        ),
                        service_only=True,
                    ),
                ),
                consumers=user_consumers(users),
            ),
        ),
        schema=schema,
        graphql_context=graphql_context,
        http_routes=(
            Route("/.well-known/jwks.json", jwks_endpoint(keys), methods=["GET"]),
            Route("/.well-known/ended-sign-ins", ended_endpoint(ended), methods=["GET"]),
        ),
        key_source=keys,
        ended_sign_ins=ended,
        close=close,
    )


async def _bootstrap_admin(auth: AuthService, resources: GroupResources) -> None:
    """Open the first administrator's account, where `BOOTSTRAP_ADMIN_EMAIL` and `..._PASSWORD` name one."""
    tokens = resources.settings.tokens
    password = tokens.bootstrap_admin_password.get_secret_value()
    if tokens.bootstrap_admin_email and password:
        with suppress(EmailTaken):  # another process was faster
            async with resources.database.transaction() as session:
                await auth.bootstrap_admin(session, email=tokens.bootstrap_admin_email, password=password)


def jwks_endpoint(keys: KeyRing) -> Callable[[Request], Awaitable[Response]]:
    """The public keys (RFC 7517). Verifiers may keep them for 5 minutes: a key is published longer before it signs."""

    async def jwks(_: Request) -> Response:
        return JSONResponse(
            {"keys": await keys.keys()},
            headers={"cache-control": f"public, max-age={_JWKS_MAX_AGE_S}"},
            media_type="application/jwk-set+json",
        )

    return jwks


def _background(keys: KeyRing, mails: ResetMails, proofs: EmailProofs) -> tuple[Background, ...]:
    async def rotate_keys() -> None:
        while True:
            await asyncio.sleep(_KEYS_EVERY_S)
            await keys.rotate()

    async def send_mails() -> None:
        while True:
            await mails.send_due()
            await proofs.send_due()
            await asyncio.sleep(_MAIL_EVERY_S)

    async def tidy() -> None:
        while True:
            await mails.tidy()
            await asyncio.sleep(_TIDY_EVERY_S)

    return (
        Background("signing keys", rotate_keys),
        Background("mails", send_mails),
        Background("expired sign-ins", tidy),
    )
