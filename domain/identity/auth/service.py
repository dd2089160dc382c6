"""The rules of accounts, sign-ins and tokens.

Commands that check a password or ask a provider do so before they touch the caller's session, so that no database
connection is held meanwhile (`ports.Sessions`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import Forbidden
from domain.identity.auth.emails import lookup_email, normal_email
from domain.identity.auth.errors import (
    AccountDisabled,
    AccountNotFound,
    EmailTaken,
    HealthConsentMissing,
    InvalidAccessToken,
    InvalidCredentials,
    InvalidRefreshToken,
    InvalidResetToken,
    RefreshTokenReused,
)
from domain.identity.auth.keys import SigningKey
from domain.identity.auth.limits import FailedSignIns, Registrations, ResetRequests
from domain.identity.auth.models import (
    Account,
    Consent,
    ConsentKind,
    RefreshToken,
    ResetRequest,
    SignIn,
    SocialIdentity,
)
from domain.identity.auth.passwords import Passwords, require_strong
from domain.identity.auth.ports import Profiles, SocialProof, SocialToken, SocialVerifier
from domain.identity.auth.proof import REVOKED_EVERYWHERE, is_proven, note_proof, shut_out, take_over
from domain.identity.auth.repository import AccountRepository, Credential, ResetRepository, SignInRepository
from domain.identity.auth.tokens import AccessClaims, AccessTokens, Tokens, new_secret_token, token_hash
from domain.identity.person import NOTHING_STATED, HealthDetails, NewProfile
from domain.ids import UserId, new_id
from domain.principal import Principal, PrincipalKind, Role
from domain.sessions import Sessions

_log = structlog.get_logger(__name__)

CONSENT_VERSIONS = {
    ConsentKind.TERMS: "2026-11",
    ConsentKind.PRIVACY: "2026-11",
    ConsentKind.HEALTH_DATA: "2026-11",
    ConsentKind.MARKETING: "2026-11",
}
"""The texts in force; a consent names the version that the person saw."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a person tells when opening an account. `consents` are those agreed to."""

    email: str
    password: str
    display_name: str = ""
    language: str = ""
    health: HealthDetails = NOTHING_STATED
    consents: frozenset[ConsentKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Registered:
    user_id: UserId
    email: str
    display_name: str
    role: Role


@dataclass(frozen=True, slots=True)
class RefreshOutcome:
    """What became of a refresh. A reuse is an outcome and not an error at first: its revocation has to be committed."""

    tokens: Tokens | None

    def require(self) -> Tokens:
        """The new tokens. Call it after the commit.

        Raises:
            RefreshTokenReused: the token had been used before, and its family is revoked now.
        """
        if self.tokens is None:
            raise RefreshTokenReused
        return self.tokens


class AuthService:
    """Commands of auth. One for the process."""

    def __init__(
        self,
        *,
        clock: Clock,
        sessions: Sessions,
        passwords: Passwords,
        access_tokens: AccessTokens,
        refresh_ttl: timedelta,
        failed_sign_ins: FailedSignIns,
        reset_requests: ResetRequests,
        registrations: Registrations,
        social: SocialVerifier,
        profiles: Profiles,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._passwords = passwords
        self._access_tokens = access_tokens
        self._refresh_ttl = refresh_ttl
        self._failed_sign_ins = failed_sign_ins
        self._reset_requests = reset_requests
        self._registrations = registrations
        self._social = social
        self._profiles = profiles
        self._pause = pause

    async def register(self, session: AsyncSession, registration: Registration, *, address: str = "") -> Registered:
        """Open an account with the role "user".

        Older clients send no consent flags at all. They are let in, health details included, since those are the person's
        own statement; but no consent is on record then, which whoever wants to share or analyse them has to ask for. A
        client that sends any flag knows all of them: with health details but without that consent it is refused.

        Args:
            address: network address of the caller, when it is known.

        Raises:
            InvalidEmail, WeakPassword, InvalidInput: a value breaks its rule.
            HealthConsentMissing: health details without the consent, from a client that sends consents.
            TooManyRegistrations: too many accounts were asked for from this network address within an hour.
            EmailTaken: an account has this address, in whatever case.
        """
        email = normal_email(registration.email)
        require_strong(registration.password)
        agreed = registration.consents
        if agreed and ConsentKind.HEALTH_DATA not in agreed and registration.health.needs_health_consent:
            raise HealthConsentMissing
        await self._registrations.count(address)
        password_hash = await self._passwords.hash(registration.password)
        account = self._new_account(email=email, password_hash=password_hash)
        profile = NewProfile(
            display_name=registration.display_name or email.partition("@")[0],
            language=registration.language,
            health=registration.health,
        )
        display_name = await self._open(session, account, profile)
        AccountRepository(session).add_consents(self._consents(account, agreed))
        await session.flush()
        return Registered(UserId(account.id), email, display_name, Role.USER)

    async def login(self, session: AsyncSession, *, email: str, password: str, address: str = "") -> Tokens:
        """Sign in with a password. An unknown address takes the same work and gets the same answer as a wrong password.

        Args:
            address: network address of the caller, when it is known.

        Raises:
            TooManySignIns: the account or the address has failed too often within a minute.
            InvalidCredentials: unknown address or wrong password.
            AccountDisabled: the password is right, but the account may not be used.
        """
        email = lookup_email(email)
        proven = await self._prove_password(email, password, address=address)
        signer = await self._access_tokens.signer()
        # Locked, so that a change of password or a disabling at this moment comes before or after, not in between.
        account = await AccountRepository(session).by_id_for_update(proven.user_id)
        if account is None or account.password_hash != proven.password_hash:
            raise InvalidCredentials
        return await self._sign_in(session, account, signer, method="password")

    async def social_login(self, session: AsyncSession, token: SocialToken, *, language: str = "") -> Tokens:
        """Sign in with a provider's token; the first time, link or open the account.

        A known (provider, id) is that account. Otherwise, an address that the provider has proven joins the account that
        has it. If nobody had proven that account's address yet, whoever registered it may have done so with somebody
        else's address: then all that they have set ends (`proof`). An unproven address joins nothing.

        Raises:
            EmailTaken: an account has the address, and the provider does not prove it.
            AccountDisabled: the account may not be used.
            InvalidInput, InvalidSocialToken, SocialSignInUnavailable, Unavailable: as `SocialVerifier.verify`.
        """
        proof = await self._social.verify(token)
        signer = await self._access_tokens.signer()
        if proof.email and proof.email_is_proven:
            await self._shut_out(lambda accounts: _foreign_account(accounts, proof))
        repository = AccountRepository(session)
        await repository.lock_social_identity(proof.provider, proof.social_id)
        identity = await repository.social_identity(proof.provider, proof.social_id)
        if identity is not None:
            account = await repository.by_id_for_update(identity.user_id)
            if account is None:
                raise AccountNotFound
            if proof.email_is_proven and proof.email and normal_email(proof.email) == account.email:
                note_proof(account, at=self._clock.now())
        else:
            account = await self._account_to_link(session, proof, language)
            repository.add_social_identity(
                SocialIdentity(
                    provider=proof.provider.value,
                    social_id=proof.social_id,
                    user_id=account.id,
                    linked_at=self._clock.now(),
                )
            )
        return await self._sign_in(session, account, signer, method=proof.provider.value)

    async def refresh(self, session: AsyncSession, refresh_token: str) -> RefreshOutcome:
        """Exchange a refresh token for new tokens; it works once.

        A second use revokes the whole family, because one of the two users is not the owner and nobody can tell which.
        There is no grace: of two refreshes at once one wins, and the other one is that second use. Clients must
        therefore refresh from one place at a time. `RefreshOutcome.require` tells of it after the commit.

        Raises:
            InvalidRefreshToken: unknown, expired or revoked.
            AccountDisabled: the account may not be used.
        """
        signer = await self._access_tokens.signer()
        repository = SignInRepository(session)
        found = await repository.family_for_update(token_hash(refresh_token))
        if found is None:
            raise InvalidRefreshToken
        sign_in, token = found
        now = self._clock.now()
        if token.used_at is not None:
            _log.warning("refresh_token_reused", user_id=sign_in.user_id, sign_in=sign_in.id, method=sign_in.method)
            if sign_in.revoked_at is None:
                sign_in.revoked_at, sign_in.revoked_for = now, "reuse"
            await session.flush()
            return RefreshOutcome(tokens=None)
        if sign_in.revoked_at is not None or token.expires_at <= now:
            raise InvalidRefreshToken
        account = await AccountRepository(session).by_id(sign_in.user_id)
        if account is None:
            raise InvalidRefreshToken
        if account.disabled_at is not None:
            raise AccountDisabled
        token.used_at = now
        fresh, row = self._new_refresh_token(sign_in.id, now)
        repository.add_token(row)
        sign_in.expires_at = row.expires_at
        await session.flush()
        return RefreshOutcome(self._tokens(account, sign_in, fresh, signer))

    async def logout(self, session: AsyncSession, principal: Principal, *, user_id: str = "") -> None:
        """End all sign-ins of a person: of the caller, or of whom the caller may act for. A second call changes nothing.

        Raises:
            Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; a reader signs nobody out.
        """
        if principal.kind is PrincipalKind.DEVICE:
            raise Forbidden("A reader cannot sign its owner out.")
        person = principal.acting_for(user_id)
        await SignInRepository(session).revoke_all(person, at=self._clock.now(), why="logout")

    async def validate(self, session: AsyncSession, access_token: str) -> AccessClaims:
        """Whose a token is.

        Raises:
            InvalidAccessToken: malformed, forged, expired, or its sign-in was revoked.
        """
        claims = await self._access_tokens.verify(access_token)
        sign_in = await SignInRepository(session).by_id(claims.sign_in_id)
        if sign_in is None or sign_in.revoked_at is not None or sign_in.user_id != claims.user_id:
            raise InvalidAccessToken
        return claims

    async def request_password_reset(self, session: AsyncSession, *, email: str, locale: str) -> None:
        """Have a one-time token mailed, if the address has an account; the same work and answer if not.

        Raises:
            InvalidEmail: it cannot be a mail address.
            TooManyResets: it was asked for this address too often.
        """
        address = normal_email(email)
        await self._reset_requests.count(address)
        now = self._clock.now()
        ResetRepository(session).add_request(
            ResetRequest(id=new_id(), email=address, locale=locale, requested_at=now, next_attempt_at=now, attempts=0)
        )
        await session.flush()

    async def complete_password_reset(self, session: AsyncSession, *, token: str, new_password: str) -> None:
        """Set a new password by a mailed token, and end all sign-ins. Whoever had the token reads the account's mail: an
        unproven account becomes theirs, without what its holder has set (`proof`).

        Raises:
            WeakPassword: the policy is not met; the token is still good.
            InvalidResetToken: unknown, used or expired.
        """
        require_strong(new_password, field="new_password")
        hashed = token_hash(token)
        async with self._sessions.read() as reading:
            holder = await ResetRepository(reading).user_of(hashed, self._clock.now())
        if holder is None:
            raise InvalidResetToken
        password_hash = await self._passwords.hash(new_password)
        await self._shut_out(lambda accounts: accounts.by_id_for_update(holder))
        now = self._clock.now()
        resets = ResetRepository(session)
        user_id = await resets.use(hashed, now)
        if user_id is None:
            raise InvalidResetToken
        account = await AccountRepository(session).by_id_for_update(user_id)
        if account is None:
            raise InvalidResetToken
        profile = NewProfile(display_name=_name_of(account.email))
        await take_over(session, account, self._profiles, profile=profile, by="reset mail", at=now)
        account.password_hash = password_hash
        await resets.use_up_others(user_id, now)
        await SignInRepository(session).revoke_all(user_id, at=now, why="password reset")
        _log.info("password_reset", user_id=user_id)

    async def change_password(
        self, session: AsyncSession, principal: Principal, *, current: str, new: str, address: str = ""
    ) -> Tokens:
        """Replace the caller's password; all sign-ins end, and a fresh one begins, whose tokens are answered.

        Raises:
            Unauthenticated, Forbidden: not a signed-in person.
            WeakPassword: the new one does not meet the policy.
            InvalidCredentials: the current one is wrong (counted like a failed sign-in).
            TooManySignIns: too many failed.
        """
        principal.require_authenticated()
        if principal.kind is not PrincipalKind.USER:
            raise Forbidden("Only people have passwords.")
        require_strong(new, field="new_password")
        async with self._sessions.read() as reading:
            email = await AccountRepository(reading).email_of(principal.subject)
        if email is None:
            raise InvalidCredentials
        proven = await self._prove_password(email, current, address=address)
        password_hash = await self._passwords.hash(new)
        signer = await self._access_tokens.signer()
        row = await AccountRepository(session).by_id_for_update(proven.user_id)
        if row is None or row.password_hash != proven.password_hash:
            raise InvalidCredentials
        row.password_hash = password_hash
        now = self._clock.now()
        await SignInRepository(session).revoke_all(row.id, at=now, why="password changed")
        await ResetRepository(session).use_up_others(row.id, now)
        _log.info("password_changed", user_id=row.id)
        return await self._sign_in(session, row, signer, method="password")

    async def grant_role(self, session: AsyncSession, *, email: str, role: Role) -> UserId:
        """Give an account a role. For operators (command line, demo data): no transport leads here.

        Its sign-ins end when the role changes, since their tokens name the old one.

        Raises:
            AccountNotFound: no account has this address.
        """
        account = await AccountRepository(session).by_email_for_update(normal_email(email))
        if account is None:
            raise AccountNotFound
        if account.role != role:
            account.role = role.value
            await SignInRepository(session).revoke_all(account.id, at=self._clock.now(), why="role changed")
            _log.info("role_granted", user_id=account.id, role=role.value)
        return UserId(account.id)

    async def bootstrap_admin(self, session: AsyncSession, *, email: str, password: str) -> None:
        """Open the first administrator's account; nothing happens when an account has this address already.

        For a process's start: an account that somebody else opened under this address is not promoted.

        Raises:
            InvalidEmail, WeakPassword: as for every account.
            EmailTaken: another process was faster, which is as good.
        """
        if await AccountRepository(session).by_email_for_update(normal_email(email)) is None:
            await self.register(session, Registration(email=email, password=password, display_name="Administrator"))
            await self.grant_role(session, email=email, role=Role.ADMIN)
            account = await AccountRepository(session).by_email_for_update(normal_email(email))
            if account is not None:
                note_proof(account, at=self._clock.now())  # the operator has named the address

    async def set_disabled(self, session: AsyncSession, *, user_id: UserId, disabled: bool) -> None:
        """Disable an account and end its sign-ins, or enable it again. For operators, as `grant_role`.

        Raises:
            AccountNotFound: there is no such account.
        """
        account = await AccountRepository(session).by_id_for_update(user_id)
        if account is None:
            raise AccountNotFound
        now = self._clock.now()
        account.disabled_at = (account.disabled_at or now) if disabled else None
        if disabled:
            await SignInRepository(session).revoke_all(user_id, at=now, why="disabled")

    async def _prove_password(self, email: str, password: str, *, address: str) -> Credential:
        """Whose password this is; its hash is made anew when it was made with other parameters."""
        await self._failed_sign_ins.require_room(email, address)
        async with self._sessions.read() as reading:
            credential = await AccountRepository(reading).credential(email)
        stored = credential.password_hash if credential is not None else None
        verdict = await self._passwords.verify(stored, password)
        if credential is None or stored is None or not verdict.is_right:
            await self._failed_sign_ins.count(email, address)
            raise InvalidCredentials
        await self._failed_sign_ins.require_room(email, address)
        if not verdict.needs_rehash:
            return credential
        fresh = await self._passwords.hash(password)
        async with self._sessions.transaction() as writing:
            await AccountRepository(writing).replace_hash(credential.user_id, old=stored, new=fresh)
        return Credential(credential.user_id, fresh)

    async def _shut_out(self, find: Callable[[AccountRepository], Awaitable[Account | None]]) -> None:
        """Shut the unproven holder of an account out before somebody else takes it over (`proof`), and wait until every
        process knows. A proven account is left alone.
        """
        async with self._sessions.transaction() as session:
            account = await find(AccountRepository(session))
            if account is None or is_proven(account):
                return
            had_tokens = await shut_out(session, account, at=self._clock.now())
        if had_tokens:
            await self._pause(REVOKED_EVERYWHERE.total_seconds())

    async def _account_to_link(self, session: AsyncSession, proof: SocialProof, language: str) -> Account:
        repository = AccountRepository(session)
        email = normal_email(proof.email) if proof.email else None
        if email is not None and (known := await repository.by_email_for_update(email)) is not None:
            if not proof.email_is_proven:
                raise EmailTaken
            if not is_proven(known):
                known.password_hash = None
                await take_over(
                    session,
                    known,
                    self._profiles,
                    profile=_profile_of(proof, email, language),
                    by=proof.provider.value,
                    at=self._clock.now(),
                )
            return known
        account = self._new_account(email=email, password_hash=None)
        if email and proof.email_is_proven:
            note_proof(account, at=self._clock.now())
        await self._open(session, account, _profile_of(proof, email, language))
        return account

    async def _open(self, session: AsyncSession, account: Account, profile: NewProfile) -> str:
        if not await AccountRepository(session).add_unless_email_taken(account):
            raise EmailTaken
        return await self._profiles.create(session, UserId(account.id), profile)

    def _new_account(self, *, email: str | None, password_hash: str | None) -> Account:
        return Account(
            id=new_id(),
            email=email,
            password_hash=password_hash,
            role=Role.USER.value,
            proof=0,
            created_at=self._clock.now(),
        )

    def _consents(self, account: Account, agreed: Collection[ConsentKind]) -> list[Consent]:
        return [
            Consent(user_id=account.id, kind=kind.value, version=CONSENT_VERSIONS[kind], granted_at=account.created_at)
            for kind in sorted(agreed)
        ]

    async def _sign_in(self, session: AsyncSession, account: Account, signer: SigningKey, *, method: str) -> Tokens:
        if account.disabled_at is not None:
            raise AccountDisabled
        now = self._clock.now()
        sign_in = SignIn(
            id=new_id(), user_id=account.id, method=method, created_at=now, expires_at=now + self._refresh_ttl
        )
        fresh, row = self._new_refresh_token(sign_in.id, now)
        await SignInRepository(session).add(sign_in, row)
        await session.flush()
        return self._tokens(account, sign_in, fresh, signer)

    def _new_refresh_token(self, sign_in_id: str, now: datetime) -> tuple[str, RefreshToken]:
        token = new_secret_token()
        row = RefreshToken(
            token_hash=token_hash(token), sign_in_id=sign_in_id, issued_at=now, expires_at=now + self._refresh_ttl
        )
        return token, row

    def _tokens(self, account: Account, sign_in: SignIn, refresh_token: str, signer: SigningKey) -> Tokens:
        claims = AccessClaims(UserId(account.id), account.email or "", Role(account.role), sign_in.id)
        return Tokens(
            user_id=claims.user_id,
            access_token=self._access_tokens.issue(signer, claims),
            refresh_token=refresh_token,
            expires_in_s=int(self._access_tokens.ttl.total_seconds()),
        )


async def _foreign_account(accounts: AccountRepository, proof: SocialProof) -> Account | None:
    """The account, locked, that has the proven address of somebody whose identity is linked to none."""
    if not proof.email or await accounts.social_identity(proof.provider, proof.social_id) is not None:
        return None
    return await accounts.by_email_for_update(normal_email(proof.email))


def _name_of(email: str | None) -> str:
    return (email or "").partition("@")[0][:100]


def _profile_of(proof: SocialProof, email: str | None, language: str) -> NewProfile:
    name = proof.name or _name_of(email) or proof.provider.value.capitalize()
    return NewProfile(display_name=name[:100], language=language, avatar_url=_https_only(proof.picture_url))


def _https_only(url: str) -> str:
    """A picture's address as the profile takes it: providers may send others, which are left out."""
    return url if url.startswith("https://") and len(url) <= 2048 else ""
