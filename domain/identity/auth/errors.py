"""What can go wrong with accounts, passwords and tokens."""

from collections.abc import Sequence
from typing import ClassVar

from domain.errors import AlreadyExists, Forbidden, InvalidInput, LimitExceeded, NotFound, Unauthenticated, WrongState


class InvalidEmail(InvalidInput):
    reason: ClassVar[str] = "INVALID_EMAIL"

    def __init__(self, why: str) -> None:
        super().__init__(f"email is not a mail address: {why}", field="email")


class WeakPassword(InvalidInput):
    """The password policy is not met; `missing` lists how, for machines."""

    reason: ClassVar[str] = "WEAK_PASSWORD"

    def __init__(self, missing: Sequence[str], needs: Sequence[str], *, field: str = "password") -> None:
        super().__init__(f"{field} needs {', '.join(needs)}.", field=field, missing=",".join(missing))


class HealthConsentMissing(InvalidInput):
    reason: ClassVar[str] = "HEALTH_CONSENT_MISSING"

    def __init__(self) -> None:
        super().__init__(
            "Health details were sent, but health_data_agreed is false: agree to it, or leave the details out.",
            field="health_data_agreed",
        )


class EmailTaken(AlreadyExists):
    reason: ClassVar[str] = "EMAIL_TAKEN"

    def __init__(self) -> None:
        super().__init__("An account has this mail address already: sign in to it.", field="email")


class InvalidCredentials(Unauthenticated):
    """The same for an unknown address, a wrong password and an account without a password."""

    reason: ClassVar[str] = "INVALID_CREDENTIALS"

    def __init__(self) -> None:
        super().__init__("Mail address or password is wrong.")


class AccountDisabled(Forbidden):
    """Told only to those who have proven to be the account's owner."""

    reason: ClassVar[str] = "ACCOUNT_DISABLED"

    def __init__(self) -> None:
        super().__init__("This account is disabled.")


class TooManySignIns(LimitExceeded):
    reason: ClassVar[str] = "TOO_MANY_SIGN_INS"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("Too many sign-ins failed; wait a little.", retry_after_s=retry_after_s)


class TooManyResets(LimitExceeded):
    reason: ClassVar[str] = "TOO_MANY_RESETS"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("Too many password resets for this address; wait a little.", retry_after_s=retry_after_s)


class TooManyRegistrations(LimitExceeded):
    reason: ClassVar[str] = "TOO_MANY_REGISTRATIONS"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "Too many accounts were opened from this network; try again later.", retry_after_s=retry_after_s
        )


class PasswordChecksBusy(LimitExceeded):
    """More passwords wait to be checked than the machine can do in seconds."""

    reason: ClassVar[str] = "SIGN_INS_BUSY"

    def __init__(self) -> None:
        super().__init__("Too many people sign in at this moment; try again in a second.", retry_after_s=1)


class InvalidAccessToken(Unauthenticated):
    reason: ClassVar[str] = "INVALID_ACCESS_TOKEN"

    def __init__(self) -> None:
        super().__init__("The access token is not valid: it is malformed, forged, expired or revoked.")


class InvalidRefreshToken(Unauthenticated):
    reason: ClassVar[str] = "INVALID_REFRESH_TOKEN"

    def __init__(self) -> None:
        super().__init__("The refresh token is unknown, expired or revoked: sign in again.")


class RefreshTokenReused(Unauthenticated):
    reason: ClassVar[str] = "REFRESH_TOKEN_REUSED"

    def __init__(self) -> None:
        super().__init__("The refresh token was used before; for safety this sign-in was ended: sign in again.")


class InvalidResetToken(InvalidInput):
    reason: ClassVar[str] = "INVALID_RESET_TOKEN"

    def __init__(self) -> None:
        super().__init__("The reset token is unknown, used or expired: ask for another one.", field="token")


class InvalidEmailCode(InvalidInput):
    reason: ClassVar[str] = "INVALID_EMAIL_CODE"

    def __init__(self) -> None:
        super().__init__("The code is wrong, used or expired: ask for another one.", field="code")


class NoEmail(WrongState):
    reason: ClassVar[str] = "NO_EMAIL"

    def __init__(self) -> None:
        super().__init__("The account has no mail address.")


class TooManyEmailCodes(LimitExceeded):
    reason: ClassVar[str] = "TOO_MANY_EMAIL_CODES"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("Too many codes were asked for, or tried; wait a little.", retry_after_s=retry_after_s)


class InvalidSocialToken(Unauthenticated):
    reason: ClassVar[str] = "INVALID_SOCIAL_TOKEN"

    def __init__(self, provider: str) -> None:
        super().__init__(f"The token does not prove a sign-in with {provider}.", provider=provider)


class SocialSignInUnavailable(WrongState):
    reason: ClassVar[str] = "SOCIAL_PROVIDER_NOT_CONFIGURED"

    def __init__(self, provider: str) -> None:
        super().__init__(f"Sign-in with {provider} is not configured here.", provider=provider)


class AccountNotFound(NotFound):
    reason: ClassVar[str] = "ACCOUNT_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such account.")
