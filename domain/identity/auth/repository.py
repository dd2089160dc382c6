"""Every SQL statement about accounts, sign-ins and keys.

Order of locks: the account, then its sign-ins by id. A refresh locks one sign-in only.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import String, any_, bindparam, case, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.identity.auth.models import (
    Account,
    Consent,
    EmailProof,
    KeyState,
    PasswordReset,
    RefreshToken,
    ResetRequest,
    SignIn,
    SigningKeyRow,
    SocialIdentity,
)

_KEYS_LOCK = "identity.signing_keys"


@dataclass(frozen=True, slots=True)
class Credential:
    """Whose password has which hash; without one, nobody can sign in with a password."""

    user_id: str
    password_hash: str | None


@dataclass(frozen=True, slots=True)
class AccountWithIdentity:
    """What a profile shows of an account; the provider that was linked first, and nulls without one."""

    id: str
    email: str | None
    role: str
    provider: str | None
    social_id: str | None


class AccountRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def by_id(self, user_id: str) -> Account | None:
        return await self._session.get(Account, user_id)

    async def by_id_for_update(self, user_id: str) -> Account | None:
        return await self._session.scalar(select(Account).where(Account.id == user_id).with_for_update())

    async def by_email(self, email: str) -> Account | None:
        return await self._session.scalar(select(Account).where(Account.email == email))

    async def credential(self, email: str) -> Credential | None:
        row = (
            await self._session.execute(select(Account.id, Account.password_hash).where(Account.email == email))
        ).one_or_none()
        return None if row is None else Credential(row.id, row.password_hash)

    async def email_of(self, user_id: str) -> str | None:
        return await self._session.scalar(select(Account.email).where(Account.id == user_id))

    async def by_email_for_update(self, email: str) -> Account | None:
        return await self._session.scalar(select(Account).where(Account.email == email).with_for_update())

    async def add_unless_email_taken(self, account: Account) -> bool:
        """Whether it was added: with a taken address nothing happens, also when two come at once."""
        added = await self._session.scalar(
            insert(Account)
            .values(
                id=account.id,
                email=account.email,
                email_verified_at=account.email_verified_at,
                proof=account.proof,
                password_hash=account.password_hash,
                role=account.role,
                disabled_at=account.disabled_at,
                created_at=account.created_at,
            )
            .on_conflict_do_nothing(index_elements=[Account.email])
            .returning(Account.id)
        )
        return added is not None

    async def remove_social_identities(self, user_id: str) -> None:
        await self._session.execute(delete(SocialIdentity).where(SocialIdentity.user_id == user_id))

    async def remove_consents(self, user_id: str) -> None:
        await self._session.execute(delete(Consent).where(Consent.user_id == user_id))

    def add_consents(self, consents: Collection[Consent]) -> None:
        self._session.add_all(consents)

    async def replace_hash(self, user_id: str, *, old: str, new: str) -> None:
        """Only if nobody has changed the password meanwhile."""
        await self._session.execute(
            update(Account).where(Account.id == user_id, Account.password_hash == old).values(password_hash=new)
        )

    async def lock_social_identity(self, provider: str, social_id: str) -> None:
        """First sign-ins of one person at a provider happen one after another."""
        key = f"identity.social:{provider}:{social_id}"
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))

    async def social_identity(self, provider: str, social_id: str) -> SocialIdentity | None:
        return await self._session.get(SocialIdentity, (provider, social_id))

    def add_social_identity(self, identity: SocialIdentity) -> None:
        self._session.add(identity)

    async def with_first_identity(self, user_ids: Collection[str]) -> Sequence[AccountWithIdentity]:
        """The accounts among these, each with the provider that was linked first."""
        rows = await self._session.execute(_WITH_FIRST_IDENTITY, {"user_ids": list(user_ids)})
        return [AccountWithIdentity(*row) for row in rows]

    async def reachable(self, user_ids: Collection[str], *, consent: str) -> Sequence[tuple[str, str | None, bool]]:
        """Id and mail address of the accounts among these, and whether they have given the consent; no address where the
        account is disabled."""
        agreed = select(Consent.id).where(Consent.user_id == Account.id, Consent.kind == consent).exists()
        address = case((Account.disabled_at.is_(None), Account.email))
        rows = await self._session.execute(select(Account.id, address, agreed).where(Account.id.in_(list(user_ids))))
        return [(user_id, email, bool(given)) for user_id, email, given in rows]


_WITH_FIRST_IDENTITY = (
    select(Account.id, Account.email, Account.role, SocialIdentity.provider, SocialIdentity.social_id)
    .outerjoin(SocialIdentity, SocialIdentity.user_id == Account.id)
    .where(Account.id == any_(bindparam("user_ids", type_=ARRAY(String))))
    .ext(distinct_on(Account.id))
    .order_by(Account.id, SocialIdentity.linked_at)
)


class SignInRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, sign_in: SignIn, token: RefreshToken) -> None:
        self._session.add(sign_in)
        await self._session.flush()
        self._session.add(token)

    def add_token(self, token: RefreshToken) -> None:
        self._session.add(token)

    async def family_for_update(self, token_hash: bytes) -> tuple[SignIn, RefreshToken] | None:
        """A refresh token and its family, locked: whoever else brings a token of the family waits.

        The token is read only once the lock is held, so that it shows what the one before has done to it.
        """
        family = select(RefreshToken.sign_in_id).where(RefreshToken.token_hash == token_hash).scalar_subquery()
        sign_in = await self._session.scalar(select(SignIn).where(SignIn.id == family).with_for_update())
        if sign_in is None:
            return None
        token = await self._session.get(RefreshToken, token_hash)
        return None if token is None else (sign_in, token)

    async def by_id(self, sign_in_id: str) -> SignIn | None:
        return await self._session.get(SignIn, sign_in_id)

    async def revoke_all(self, user_id: str, *, at: datetime, why: str) -> int:
        """End the sign-ins of a person that are not ended yet; answers how many."""
        live = await self._session.scalars(
            select(SignIn.id)
            .where(SignIn.user_id == user_id, SignIn.revoked_at.is_(None))
            .order_by(SignIn.id)
            .with_for_update()
        )
        ids = live.all()
        await self._session.execute(update(SignIn).where(SignIn.id.in_(ids)).values(revoked_at=at, revoked_for=why))
        return len(ids)

    async def ended_after(self, at: datetime, sign_in_id: str, *, limit: int) -> Sequence[tuple[str, datetime]]:
        """Ids and times of the ended sign-ins that follow this time and id, in this order."""
        rows = await self._session.execute(
            select(SignIn.id, SignIn.revoked_at)
            .where(SignIn.revoked_at.is_not(None), tuple_(SignIn.revoked_at, SignIn.id) > (at, sign_in_id))
            .order_by(SignIn.revoked_at, SignIn.id)
            .limit(limit)
        )
        return [(ended_id, ended_at) for ended_id, ended_at in rows if ended_at is not None]

    async def delete_expired(self, before: datetime) -> None:
        """Forget sign-ins, with their tokens, whose last refresh token expired before that."""
        await self._session.execute(delete(SignIn).where(SignIn.expires_at < before))


class EmailProofRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def ask(self, user_id: str, *, locale: str, due_at: datetime) -> None:
        """Have a code mailed; a code from before is good until then."""
        values = {"locale": locale, "mail_due_at": due_at}
        statement = insert(EmailProof).values(user_id=user_id, **values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=values))

    async def for_update(self, user_id: str) -> EmailProof | None:
        return await self._session.scalar(select(EmailProof).where(EmailProof.user_id == user_id).with_for_update())

    async def claim_due(self, now: datetime, *, lease: timedelta) -> EmailProof | None:
        """One whose mail is due, which nobody else gets until the lease is over."""
        proof = await self._session.scalar(
            select(EmailProof)
            .where(EmailProof.mail_due_at <= now)
            .order_by(EmailProof.mail_due_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if proof is not None:
            proof.mail_due_at = now + lease
        return proof

    async def mailed(self, user_id: str, code_hash: bytes) -> None:
        """Unless another code was asked for meanwhile."""
        await self._session.execute(
            update(EmailProof)
            .where(EmailProof.user_id == user_id, EmailProof.code_hash == code_hash)
            .values(mail_due_at=None)
        )

    async def remove(self, user_id: str) -> None:
        await self._session.execute(delete(EmailProof).where(EmailProof.user_id == user_id))


class KeyRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self) -> None:
        """One process at a time changes the keys; until the transaction ends."""
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(_KEYS_LOCK, 0))))

    async def all(self) -> Sequence[SigningKeyRow]:
        """Oldest first."""
        found = await self._session.scalars(
            select(SigningKeyRow)
            .order_by(SigningKeyRow.created_at, SigningKeyRow.kid)
            .execution_options(populate_existing=True)
        )
        return found.all()

    def add(self, key: SigningKeyRow) -> None:
        self._session.add(key)

    async def flush(self) -> None:
        """Write a change of states before the next one: the unique index is checked at each statement."""
        await self._session.flush()

    async def delete_retired(self, before: datetime) -> None:
        """Forget retired keys whose tokens had all expired by then."""
        await self._session.execute(
            delete(SigningKeyRow).where(SigningKeyRow.state == KeyState.RETIRED, SigningKeyRow.published_until < before)
        )


class ResetRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add_request(self, request: ResetRequest) -> None:
        self._session.add(request)

    async def claim_due(self, now: datetime, *, lease: timedelta) -> ResetRequest | None:
        """The oldest request that is due, with one attempt more and nobody else's until the lease is over."""
        request = await self._session.scalar(
            select(ResetRequest)
            .where(ResetRequest.next_attempt_at <= now)
            .order_by(ResetRequest.next_attempt_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if request is not None:
            request.attempts += 1
            request.next_attempt_at = now + lease
        return request

    async def postpone(self, request_id: str, until: datetime) -> None:
        await self._session.execute(
            update(ResetRequest).where(ResetRequest.id == request_id).values(next_attempt_at=until)
        )

    async def delete_request(self, request_id: str) -> None:
        await self._session.execute(delete(ResetRequest).where(ResetRequest.id == request_id))

    def add_token(self, token: PasswordReset) -> None:
        self._session.add(token)

    async def user_of(self, token_hash: bytes, now: datetime) -> str | None:
        """Whose a token is that could be used now; cheap, and without a lock."""
        return await self._session.scalar(
            select(PasswordReset.user_id).where(
                PasswordReset.token_hash == token_hash,
                PasswordReset.used_at.is_(None),
                PasswordReset.expires_at > now,
            )
        )

    async def use(self, token_hash: bytes, now: datetime) -> str | None:
        """Use up an unused, unexpired token and say whose it was; of two at once, one gets it."""
        return await self._session.scalar(
            update(PasswordReset)
            .where(
                PasswordReset.token_hash == token_hash,
                PasswordReset.used_at.is_(None),
                PasswordReset.expires_at > now,
            )
            .values(used_at=now)
            .returning(PasswordReset.user_id)
        )

    async def use_up_others(self, user_id: str, now: datetime) -> None:
        await self._session.execute(
            update(PasswordReset)
            .where(PasswordReset.user_id == user_id, PasswordReset.used_at.is_(None))
            .values(used_at=now)
        )

    async def delete_old(self, before: datetime) -> None:
        await self._session.execute(
            delete(PasswordReset).where(or_(PasswordReset.used_at < before, PasswordReset.expires_at < before))
        )
