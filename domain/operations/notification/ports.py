"""What notifications need from the outside."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from domain.mail import Mail
from domain.units import ResultUnits


class AttemptCounter(Protocol):
    """Counts over sliding windows, for all processes together."""

    async def hit(self, key: str, *, limit: int, window_s: float) -> None:
        """Count one. Raises: LimitExceeded: `limit` were counted within the window; this one is not."""
        ...


@dataclass(frozen=True, slots=True)
class Contact:
    """What user-service tells of a person.

    Args:
        email: empty without one.
        language: BCP 47.
        timezone: IANA name.
        result_units: the kind of unit that they read results in.
    """

    user_id: str
    email: str = ""
    language: str = "ko"
    timezone: str = "Asia/Seoul"
    result_units: ResultUnits = ResultUnits.AS_MEASURED
    agreed_to_marketing: bool = False


class Contacts(Protocol):
    """user-service, as far as notifications need it."""

    async def find(self, user_ids: Collection[str]) -> Mapping[str, Contact]:
        """Those of the people whom it knows; some minutes old at most.

        Raises:
            Unavailable, TimedOut: it does not answer.
        """
        ...

    def last_known(self, user_id: str) -> Contact | None:
        """What was known of a person when they were last looked up, however old."""
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has taken it; `provider_id` is its name for it."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """It may work later, at the earliest after `after_s` seconds."""

    reason: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """It never will."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unregistered:
    """There is no such app any more: forget its token."""


Outcome = Accepted | NotNow | Refused


@dataclass(frozen=True, slots=True)
class PushMessage:
    """What appears on a phone.

    Args:
        message_id: the phone shows one message of the same id once.
        data: handed to the app, and seen by the push service.
    """

    message_id: str
    title: str
    body: str
    data: Mapping[str, str]
    is_urgent: bool


class PushSender(Protocol):
    @property
    def is_configured(self) -> bool: ...

    async def send(self, token: str, message: PushMessage) -> Outcome | Unregistered:
        """Never raises for what the provider answers."""
        ...


class TextSender(Protocol):
    @property
    def is_configured(self) -> bool: ...

    async def send(self, phone: str, text: str) -> Outcome:
        """Never raises for what the provider answers."""
        ...


class MailSender(Protocol):
    @property
    def is_configured(self) -> bool: ...

    async def send(self, mail: Mail) -> Outcome:
        """Never raises for what the server answers."""
        ...


@dataclass(frozen=True, slots=True)
class Providers:
    """Whoever passes notifications on."""

    push: PushSender
    mail: MailSender
    text: TextSender
