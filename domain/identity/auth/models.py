"""Tables of accounts, sign-ins and keys. Secrets are here only as hashes or sealed."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.identity.base import Base

_TIME = DateTime(timezone=True)


class Account(Base):
    """A person who can sign in.

    `email` is kept in lower case, so that the constraint makes it unique whatever the case; people from a provider that
    tells no address have none. `email_verified_at` is set once somebody proved to read its mail, and `proof` counts these
    proofs: 0 is an unproven account. Without
    `password_hash` (Argon2id, PHC text) there is no password to sign in with.
    """

    __tablename__ = "accounts"
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("email = lower(email)", name="email_lower"),
    )

    id: Mapped[str] = mapped_column(String, primary_key=True)
    email: Mapped[str | None] = mapped_column(String)
    email_verified_at: Mapped[datetime | None] = mapped_column(_TIME)
    proof: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    password_hash: Mapped[str | None] = mapped_column(String)
    role: Mapped[str] = mapped_column(String)
    disabled_at: Mapped[datetime | None] = mapped_column(_TIME)
    created_at: Mapped[datetime] = mapped_column(_TIME)


class SocialIdentity(Base):
    """A person at an identity provider, and whose account that is."""

    __tablename__ = "social_identities"
    __table_args__ = (Index("ix_social_identities_user_id", "user_id"),)

    provider: Mapped[str] = mapped_column(String, primary_key=True)
    social_id: Mapped[str] = mapped_column(String, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    linked_at: Mapped[datetime] = mapped_column(_TIME)


class ConsentKind(StrEnum):
    TERMS = "terms"
    PRIVACY = "privacy"
    HEALTH_DATA = "health_data"
    MARKETING = "marketing"


class Consent(Base):
    """That a person agreed to a version of a text. Rows are only added; nothing is written for what was not agreed to."""

    __tablename__ = "consents"
    __table_args__ = (Index("ix_consents_user_id", "user_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String)
    version: Mapped[str] = mapped_column(String)
    granted_at: Mapped[datetime] = mapped_column(_TIME)


class SignIn(Base):
    """One sign-in: the family of all refresh tokens that descend from it. Its id is the tokens' claim `sid`.

    `expires_at` is when its latest refresh token expires.
    """

    __tablename__ = "sign_ins"
    __table_args__ = (
        Index("ix_sign_ins_user_id", "user_id"),
        Index("ix_sign_ins_expires_at", "expires_at"),
        Index("ix_sign_ins_revoked_at", "revoked_at", "id", postgresql_where="revoked_at IS NOT NULL"),
    )

    id: Mapped[str] = mapped_column(String, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    method: Mapped[str] = mapped_column(String)
    created_at: Mapped[datetime] = mapped_column(_TIME)
    expires_at: Mapped[datetime] = mapped_column(_TIME)
    revoked_at: Mapped[datetime | None] = mapped_column(_TIME)
    revoked_for: Mapped[str | None] = mapped_column(String)


class RefreshToken(Base):
    """A refresh token by its SHA-256; 256 random bits need no slow hash. Kept after its use, to know a second one."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index("ix_refresh_tokens_sign_in_id", "sign_in_id"),)

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    sign_in_id: Mapped[str] = mapped_column(ForeignKey("sign_ins.id", ondelete="CASCADE"))
    issued_at: Mapped[datetime] = mapped_column(_TIME)
    expires_at: Mapped[datetime] = mapped_column(_TIME)
    used_at: Mapped[datetime | None] = mapped_column(_TIME)


class KeyState(StrEnum):
    """`next` is published already but signs nothing yet; `retired` signs nothing more but is still published."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"


class SigningKeyRow(Base):
    """A key pair that signs access tokens; the private half is sealed under a key derived from JWT_SECRET.

    `published_until` is set when it retires: no token of it lives longer.
    """

    __tablename__ = "signing_keys"
    __table_args__ = (Index("uq_signing_keys_current", "state", unique=True, postgresql_where="state <> 'retired'"),)

    kid: Mapped[str] = mapped_column(String, primary_key=True)
    state: Mapped[str] = mapped_column(String)
    public_jwk: Mapped[dict[str, str]] = mapped_column(JSONB)
    private_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(_TIME)
    activated_at: Mapped[datetime | None] = mapped_column(_TIME)
    published_until: Mapped[datetime | None] = mapped_column(_TIME)


class PasswordReset(Base):
    """A mailed one-time token, by its SHA-256."""

    __tablename__ = "password_resets"
    __table_args__ = (Index("ix_password_resets_user_id", "user_id"),)

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(_TIME)
    expires_at: Mapped[datetime] = mapped_column(_TIME)
    used_at: Mapped[datetime | None] = mapped_column(_TIME)


class EmailProof(Base):
    """That a signed-in person wants to prove the address of the account, and the code that was mailed, as a hash.

    `mail_due_at` is when the code is to be mailed, or mailed again if that is not recorded by then; None: it was mailed.
    """

    __tablename__ = "email_proofs"
    __table_args__ = (Index("ix_email_proofs_due", "mail_due_at", postgresql_where="mail_due_at IS NOT NULL"),)

    user_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    locale: Mapped[str] = mapped_column(String)
    mail_due_at: Mapped[datetime | None] = mapped_column(_TIME)
    code_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime | None] = mapped_column(_TIME)


class ResetRequest(Base):
    """Somebody asked for a reset mail to an address, which may or may not have an account.

    The row is written for every address, so that asking tells nothing; a worker looks the account up later.
    `next_attempt_at` is also the worker's lease: who dies in between is replaced when it has passed.
    """

    __tablename__ = "reset_requests"
    __table_args__ = (Index("ix_reset_requests_next_attempt_at", "next_attempt_at"),)

    id: Mapped[str] = mapped_column(String, primary_key=True)
    email: Mapped[str] = mapped_column(String)
    locale: Mapped[str] = mapped_column(String)
    requested_at: Mapped[datetime] = mapped_column(_TIME)
    next_attempt_at: Mapped[datetime] = mapped_column(_TIME)
    attempts: Mapped[int] = mapped_column(Integer)
