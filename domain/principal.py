"""Who is asking. Transports prove it (`subgraphs/runtime/auth.py`); the commands decide what it allows."""

from dataclasses import dataclass
from enum import StrEnum

from domain.errors import Forbidden, InvalidInput, Unauthenticated
from domain.ids import UserId
from domain.validation import MAX_ID, short_enough

ACCESS_TOKEN_AUDIENCE = "manpasik-api"  # noqa: S105 - a name
"""The `aud` of access tokens (RFC 7519, 4.1.3): router, subgraphs and gRPC services, which all take the same token."""


class PrincipalKind(StrEnum):
    ANONYMOUS = "anonymous"
    USER = "user"
    DEVICE = "device"
    SERVICE = "service"
    DEVELOPMENT = "development"  # a caller without a token where GRPC_AUTH=permissive; never in production


class Role(StrEnum):
    """What a person is to the platform. Each implies the scopes of `ROLE_SCOPES`."""

    USER = "user"
    DOCTOR = "doctor"
    TECHNICIAN = "technician"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a token may be used for; `@requiresScopes` in the schema names the same strings."""

    PROFILE_READ = "profile:read"
    PROFILE_WRITE = "profile:write"
    DEVICE_READ = "device:read"
    DEVICE_WRITE = "device:write"
    MEASUREMENT_READ = "measurement:read"
    MEASUREMENT_WRITE = "measurement:write"
    CALIBRATION_FACTORY = "calibration:factory"  # record what the factory measured, for any device
    REGISTRY_WRITE = "registry:write"  # add and change cartridge categories and types
    COMMERCE_READ = "commerce:read"  # own plan, cart, orders and payments
    COMMERCE_WRITE = "commerce:write"
    CATALOG_WRITE = "catalog:write"  # products, stock, plans, and which plan opens which cartridge
    NOTIFICATION_READ = "notification:read"
    NOTIFICATION_WRITE = "notification:write"
    NOTIFICATION_SEND = "notification:send"  # to anybody
    USERS_READ_ANY = "users:read:any"
    FIRMWARE_WRITE = "firmware:write"


_OWN = frozenset(
    {
        Scope.PROFILE_READ,
        Scope.PROFILE_WRITE,
        Scope.DEVICE_READ,
        Scope.DEVICE_WRITE,
        Scope.MEASUREMENT_READ,
        Scope.MEASUREMENT_WRITE,
        Scope.COMMERCE_READ,
        Scope.COMMERCE_WRITE,
        Scope.NOTIFICATION_READ,
        Scope.NOTIFICATION_WRITE,
    }
)
ROLE_SCOPES: dict[Role, frozenset[Scope]] = {
    Role.USER: _OWN,
    Role.DOCTOR: _OWN,
    Role.TECHNICIAN: _OWN | {Scope.CALIBRATION_FACTORY, Scope.FIRMWARE_WRITE},
    Role.ADMIN: frozenset(Scope),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A proven caller.

    Args:
        subject: user id, device id or service name (as in the catalogue), by kind; empty for anonymous callers.
        owner: of a device, the user who registered it; of a service, the user on whose behalf it calls, if any.
        sign_in: of a person, the sign-in that the token belongs to (`sid`).
    """

    kind: PrincipalKind
    subject: str = ""
    role: Role = Role.USER
    scopes: frozenset[str] = frozenset()
    owner: UserId | None = None
    email: str = ""
    sign_in: str = ""

    @property
    def is_trusted(self) -> bool:
        """Whether it may act for every user: another service, or the development network."""
        return self.kind in (PrincipalKind.SERVICE, PrincipalKind.DEVELOPMENT)

    @property
    def user_id(self) -> UserId | None:
        """The person behind the call: the user, or the owner of the device."""
        return UserId(self.subject) if self.kind is PrincipalKind.USER else self.owner

    def require_authenticated(self) -> None:
        """Raises: Unauthenticated: nobody is behind this call."""
        if self.kind is PrincipalKind.ANONYMOUS:
            raise Unauthenticated("This needs a signed-in caller: send an access token.")

    def has_scope(self, scope: Scope) -> bool:
        return self.is_trusted or scope.value in self.scopes

    def require_scope(self, scope: Scope) -> None:
        """Raises: Unauthenticated: anonymous. Forbidden: the token lacks the scope."""
        self.require_authenticated()
        if not self.has_scope(scope):
            raise Forbidden(f"This needs the scope {scope.value}.", scope=scope.value)

    def acting_for(self, requested: str) -> UserId:
        """The user whom a call is about: the one it names, or, when it names none, the caller.

        Raises:
            Unauthenticated: anonymous.
            Forbidden: it names somebody else, and the caller is neither trusted nor an administrator.
            InvalidInput: it names nobody, and neither does the credential; or what it names is no id.
        """
        self.require_authenticated()
        own = self.user_id
        if not requested:
            if own is None:
                raise InvalidInput("user_id is empty; name the user.", field="user_id")
            return own
        if requested == own or self.is_trusted or self.role is Role.ADMIN:
            return UserId(short_enough(requested, MAX_ID, field="user_id"))
        raise Forbidden("This belongs to another user.")


ANONYMOUS = Principal(kind=PrincipalKind.ANONYMOUS)
DEVELOPMENT = Principal(kind=PrincipalKind.DEVELOPMENT, subject="development")


def service_principal(name: str, *, on_behalf_of: UserId | None = None) -> Principal:
    """The principal of a service of the catalogue."""
    return Principal(kind=PrincipalKind.SERVICE, subject=name, owner=on_behalf_of)
