"""AuthService over gRPC."""

# ruff: noqa: ARG002, N802 - gRPC's generated base class names methods and arguments

from typing import Any

import grpc.aio
from manpasik.v1 import auth_pb2, auth_pb2_grpc

from domain.identity.auth.models import ConsentKind
from domain.identity.auth.ports import SocialToken
from domain.identity.auth.service import AuthService, Registration
from domain.identity.auth.tokens import Tokens
from domain.identity.person import HealthDetails
from subgraphs.identity.auth.texts import RESET_REQUESTED
from subgraphs.identity.wire import gender_of, provider_of
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database

FULL_NAME = "manpasik.v1.AuthService"
PUBLIC_METHODS = frozenset({"Register", "Login", "SocialLogin", "RefreshToken", "ValidateToken", "ResetPassword"})

_Context = grpc.aio.ServicerContext[Any, Any]


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    def __init__(self, auth: AuthService, database: Database) -> None:
        self._auth = auth
        self._database = database

    async def Register(self, request: auth_pb2.RegisterRequest, context: _Context) -> auth_pb2.RegisterResponse:
        registration = Registration(
            email=request.email,
            password=request.password,
            display_name=request.display_name,
            language=current().locale,
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
            consents=_consents(request),
        )
        async with self._database.transaction() as session:
            registered = await self._auth.register(session, registration, address=current().peer)
        return auth_pb2.RegisterResponse(
            user_id=registered.user_id,
            email=registered.email,
            display_name=registered.display_name,
            role=registered.role.value,
        )

    async def Login(self, request: auth_pb2.LoginRequest, context: _Context) -> auth_pb2.LoginResponse:
        async with self._database.transaction() as session:
            tokens = await self._auth.login(
                session, email=request.email, password=request.password, address=current().peer
            )
        return _login_response(tokens)

    async def SocialLogin(self, request: auth_pb2.SocialLoginRequest, context: _Context) -> auth_pb2.LoginResponse:
        token = SocialToken(
            provider=provider_of(request.provider),
            id_token=request.id_token,
            access_token=request.access_token,
            nonce=request.nonce,
        )
        async with self._database.transaction() as session:
            tokens = await self._auth.social_login(session, token, language=current().locale)
        return _login_response(tokens)

    async def RefreshToken(self, request: auth_pb2.RefreshTokenRequest, context: _Context) -> auth_pb2.LoginResponse:
        async with self._database.transaction() as session:
            outcome = await self._auth.refresh(session, request.refresh_token)
        return _login_response(outcome.require())  # only after the commit: a reuse has revoked its family

    async def Logout(self, request: auth_pb2.LogoutRequest, context: _Context) -> auth_pb2.LogoutResponse:
        async with self._database.transaction() as session:
            await self._auth.logout(session, current().principal, user_id=request.user_id)
        return auth_pb2.LogoutResponse()

    async def ValidateToken(
        self, request: auth_pb2.ValidateTokenRequest, context: _Context
    ) -> auth_pb2.ValidateTokenResponse:
        async with self._database.read() as session:
            claims = await self._auth.validate(session, request.access_token)
        return auth_pb2.ValidateTokenResponse(user_id=claims.user_id, email=claims.email, role=claims.role.value)

    async def ResetPassword(
        self, request: auth_pb2.ResetPasswordRequest, context: _Context
    ) -> auth_pb2.ResetPasswordResponse:
        locale = current().locale
        async with self._database.transaction() as session:
            await self._auth.request_password_reset(session, email=request.email, locale=locale)
        return auth_pb2.ResetPasswordResponse(success=True, message=RESET_REQUESTED[locale])


def _consents(request: auth_pb2.RegisterRequest) -> frozenset[ConsentKind]:
    flags = {
        ConsentKind.TERMS: request.terms_agreed,
        ConsentKind.PRIVACY: request.privacy_agreed,
        ConsentKind.HEALTH_DATA: request.health_data_agreed,
        ConsentKind.MARKETING: request.marketing_agreed,
    }
    return frozenset(kind for kind, is_agreed in flags.items() if is_agreed)


def _login_response(tokens: Tokens) -> auth_pb2.LoginResponse:
    return auth_pb2.LoginResponse(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in_s,
        token_type="Bearer",  # noqa: S106 - the scheme's name
    )
