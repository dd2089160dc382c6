"""Sign-up, sign-in and passwords. A refused call is an error, not a payload: see its `extensions.reason`."""

# strawberry.field is typed as Any when it decorates.
# mypy: disable-error-code="untyped-decorator"

from datetime import date

import strawberry

from domain.identity.auth.models import ConsentKind
from domain.identity.auth.ports import SocialToken
from domain.identity.auth.service import Registration
from domain.identity.auth.tokens import Tokens
from domain.identity.person import Gender, HealthDetails, SocialProvider
from domain.ids import UserId
from domain.principal import Principal, PrincipalKind, Role, Scope
from subgraphs.identity.auth.texts import EMAIL_CODE_REQUESTED, EMAIL_PROVEN, PASSWORD_RESET, RESET_REQUESTED
from subgraphs.identity.context import Info
from subgraphs.identity.user.schema import User
from subgraphs.runtime.graphql import AUTHENTICATED


@strawberry.input(description="What a person tells when opening an account.")
class RegisterInput:
    email: str = strawberry.field(description="Sign-in name and mail address; case does not matter.")
    password: str = strawberry.field(
        description="At least 8 characters with an upper-case and a lower-case letter, a digit and a special character."
    )
    display_name: str | None = strawberry.field(default=None, description="Name shown to others.")
    language: str | None = strawberry.field(default=None, description="BCP 47 tag of messages to the person.")
    birth_date: date | None = strawberry.field(default=None, description="Day of birth.")
    gender: Gender | None = strawberry.field(default=None, description="As the person states it.")
    blood_type: str | None = strawberry.field(default=None, description='ABO group with Rh factor, such as "A+".')
    height_cm: float | None = strawberry.field(default=None, description="Centimetres, 20 to 300.")
    weight_kg: float | None = strawberry.field(default=None, description="Kilograms, 0.3 to 700.")
    medical_conditions: list[str] | None = strawberry.field(default=None, description="Known conditions.")
    allergies: list[str] | None = strawberry.field(default=None, description="Known allergies.")
    emergency_contact_name: str | None = strawberry.field(default=None, description="Whom to call in an emergency.")
    emergency_contact_phone: str | None = strawberry.field(default=None, description="Number of that contact.")
    terms_agreed: bool = strawberry.field(default=False, description="Terms of service agreed to.")
    privacy_agreed: bool = strawberry.field(default=False, description="Privacy policy agreed to.")
    health_data_agreed: bool = strawberry.field(
        default=False, description="Processing of health data agreed to; needed with health details."
    )
    marketing_agreed: bool = strawberry.field(default=False, description="Promotional messages agreed to.")

    def registration(self, *, language: str) -> Registration:
        """The domain's form of it; `language` is that of the request, for who names none."""
        flags = {
            ConsentKind.TERMS: self.terms_agreed,
            ConsentKind.PRIVACY: self.privacy_agreed,
            ConsentKind.HEALTH_DATA: self.health_data_agreed,
            ConsentKind.MARKETING: self.marketing_agreed,
        }
        return Registration(
            email=self.email,
            password=self.password,
            display_name=self.display_name or "",
            language=self.language or language,
            health=HealthDetails(
                birth_date=self.birth_date.isoformat() if self.birth_date else "",
                gender=self.gender,
                blood_type=self.blood_type or "",
                height_cm=self.height_cm,
                weight_kg=self.weight_kg,
                medical_conditions=tuple(self.medical_conditions or ()),
                allergies=tuple(self.allergies or ()),
                emergency_contact_name=self.emergency_contact_name or "",
                emergency_contact_phone=self.emergency_contact_phone or "",
            ),
            consents=frozenset(kind for kind, is_agreed in flags.items() if is_agreed),
        )


@strawberry.type(description="The new account. It is not signed in: call login next.")
class RegisterPayload:
    user_id: strawberry.ID = strawberry.field(description="The person's id, equal in every service.")
    email: str = strawberry.field(description="Address as stored.")
    display_name: str = strawberry.field(description="Name as stored.")
    role: Role = strawberry.field(description="USER for every account that people open themselves.")


@strawberry.input(description="Sign-in with a password.")
class LoginInput:
    email: str = strawberry.field(description="Address the account was registered with; case does not matter.")
    password: str = strawberry.field(description="The password.")


@strawberry.input(
    description="Proof from an identity provider: idToken of Google and Apple, accessToken of the others."
)
class SocialLoginInput:
    provider: SocialProvider = strawberry.field(description="Who issued the token.")
    id_token: str | None = strawberry.field(default=None, description="OpenID Connect ID token.")
    access_token: str | None = strawberry.field(default=None, description="OAuth 2.0 access token.")
    nonce: str | None = strawberry.field(
        default=None, description="The value of the sign-in request; when given, the ID token must carry it."
    )


@strawberry.input(description="New tokens without a password.")
class RefreshTokenInput:
    refresh_token: str = strawberry.field(
        description="The latest refresh token of this sign-in. It works once; a second use ends the sign-in."
    )


@strawberry.input(description="Whom to sign out.")
class LogoutInput:
    user_id: strawberry.ID | None = strawberry.field(default=None, description="The caller when left out.")


@strawberry.input(description="Asks for a reset mail.")
class RequestPasswordResetInput:
    email: str = strawberry.field(description="Address of the account whose password is lost.")


@strawberry.input(description="A new password by a mailed token.")
class CompletePasswordResetInput:
    token: str = strawberry.field(description="The token of the mail; it works once, for half an hour.")
    new_password: str = strawberry.field(description="The new password, by the rules of registration.")


@strawberry.input(description="Proof that the signed-in person reads the account's mail.")
class VerifyEmailInput:
    code: str = strawberry.field(description="The mailed code; case, dashes and spaces do not matter.")


@strawberry.input(description="A new password by the current one.")
class ChangePasswordInput:
    current_password: str = strawberry.field(description="The password as it is.")
    new_password: str = strawberry.field(description="The new password, by the rules of registration.")


@strawberry.type(description="Tokens of a signed-in person.")
class AuthPayload:
    access_token: str = strawberry.field(description="JWT to send as `Authorization: Bearer ...`.")
    refresh_token: str = strawberry.field(description="Opaque; works once with refreshToken. Keep it safe.")
    expires_in: int = strawberry.field(description="Seconds until the access token expires.")
    token_type: str = strawberry.field(description='How to present the access token: always "Bearer".')
    user_id: strawberry.Private[UserId]

    @strawberry.field(description="Who is signed in.")
    async def user(self, info: Info) -> User | None:
        # The call itself is anonymous, but what it proved is who this is.
        proven = Principal(kind=PrincipalKind.USER, subject=self.user_id, scopes=frozenset({Scope.PROFILE_READ.value}))
        async with info.context.database.read() as session:
            people = await info.context.users.people(session, proven, [self.user_id])
        person = people.get(self.user_id)
        return None if person is None else User.of(person)


@strawberry.type(description="Whether it was done.")
class AcknowledgePayload:
    success: bool = strawberry.field(description="True when it was taken on.")
    message: str | None = strawberry.field(default=None, description="Text to show to the person.")


def _payload(tokens: Tokens) -> AuthPayload:
    return AuthPayload(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in_s,
        token_type="Bearer",  # noqa: S106 - the scheme's name
        user_id=tokens.user_id,
    )


@strawberry.type(name="Mutation")
class AuthMutation:
    @strawberry.field(description="Open an account.")
    async def register(self, info: Info, input: RegisterInput) -> RegisterPayload:
        registration = input.registration(language=info.context.request.locale)
        async with info.context.database.transaction() as session:
            registered = await info.context.auth.register(session, registration, address=info.context.request.peer)
        return RegisterPayload(
            user_id=strawberry.ID(registered.user_id),
            email=registered.email,
            display_name=registered.display_name,
            role=registered.role,
        )

    @strawberry.field(description="Sign in with a password. At most 5 attempts a minute may fail for an account.")
    async def login(self, info: Info, input: LoginInput) -> AuthPayload:
        async with info.context.database.transaction() as session:
            tokens = await info.context.auth.login(
                session, email=input.email, password=input.password, address=info.context.request.peer
            )
        return _payload(tokens)

    @strawberry.field(description="Sign in with a provider's token; the first sign-in opens the account.")
    async def social_login(self, info: Info, input: SocialLoginInput) -> AuthPayload:
        token = SocialToken(
            provider=input.provider,
            id_token=input.id_token or "",
            access_token=input.access_token or "",
            nonce=input.nonce or "",
        )
        async with info.context.database.transaction() as session:
            tokens = await info.context.auth.social_login(session, token, language=info.context.request.locale)
        return _payload(tokens)

    @strawberry.field(description="Exchange a refresh token for new tokens.")
    async def refresh_token(self, info: Info, input: RefreshTokenInput) -> AuthPayload:
        async with info.context.database.transaction() as session:
            outcome = await info.context.auth.refresh(session, input.refresh_token)
        return _payload(outcome.require())  # only after the commit: a reuse has revoked its family

    @strawberry.federation.field(description="End all sign-ins of a person.", directives=[AUTHENTICATED])
    async def logout(self, info: Info, input: LogoutInput | None = None) -> AcknowledgePayload:
        user_id = (input.user_id if input is not None else None) or ""
        async with info.context.database.transaction() as session:
            await info.context.auth.logout(session, info.context.principal, user_id=user_id)
        return AcknowledgePayload(success=True)

    @strawberry.field(description="Have a one-time token mailed. The answer is the same without an account.")
    async def request_password_reset(self, info: Info, input: RequestPasswordResetInput) -> AcknowledgePayload:
        locale = info.context.request.locale
        async with info.context.database.transaction() as session:
            await info.context.auth.request_password_reset(session, email=input.email, locale=locale)
        return AcknowledgePayload(success=True, message=RESET_REQUESTED[locale])

    @strawberry.field(description="Set a new password by a mailed token. All sign-ins of the person end.")
    async def complete_password_reset(self, info: Info, input: CompletePasswordResetInput) -> AcknowledgePayload:
        async with info.context.database.transaction() as session:
            await info.context.auth.complete_password_reset(session, token=input.token, new_password=input.new_password)
        return AcknowledgePayload(success=True, message=PASSWORD_RESET[info.context.request.locale])

    @strawberry.federation.field(
        description="Set a new password by the current one. All sign-ins end; a fresh one is answered.",
        directives=[AUTHENTICATED],
    )
    async def change_password(self, info: Info, input: ChangePasswordInput) -> AuthPayload:
        async with info.context.database.transaction() as session:
            tokens = await info.context.auth.change_password(
                session,
                info.context.principal,
                current=input.current_password,
                new=input.new_password,
                address=info.context.request.peer,
            )
        return _payload(tokens)

    @strawberry.federation.field(
        description="Have a code mailed to the account's address, which proves it with verifyEmail.",
        directives=[AUTHENTICATED],
    )
    async def request_email_verification(self, info: Info) -> AcknowledgePayload:
        locale = info.context.request.locale
        async with info.context.database.transaction() as session:
            await info.context.email_proofs.request(session, info.context.principal, locale=locale)
        return AcknowledgePayload(success=True, message=EMAIL_CODE_REQUESTED[locale])

    @strawberry.federation.field(
        description=(
            "Prove the account's address by the mailed code. An account whose address is not proven loses it to the "
            "first person who proves it without being signed in: by a reset mail, or by a provider."
        ),
        directives=[AUTHENTICATED],
    )
    async def verify_email(self, info: Info, input: VerifyEmailInput) -> AcknowledgePayload:
        async with info.context.database.transaction() as session:
            await info.context.email_proofs.confirm(session, info.context.principal, code=input.code)
        return AcknowledgePayload(success=True, message=EMAIL_PROVEN[info.context.request.locale])
