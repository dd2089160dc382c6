"""Who may act on a reader: its owner, the reader itself, services, and technicians where they calibrate.

The owner's token also needs the scope of what it does, `device:read` or `device:write`; cartridges and calibrations, which
are nothing without a reader, have none of their own.
"""

from domain.errors import Forbidden, NotFound
from domain.ids import DeviceId, UserId
from domain.principal import Principal, PrincipalKind, Role, Scope


class DeviceNotFound(NotFound):
    """No reader is registered under this id."""

    reason = "DEVICE_NOT_FOUND"

    def __init__(self, device_id: str) -> None:
        super().__init__(f"No device is registered under the id {device_id}.", device_id=device_id)


def require_scope(principal: Principal, scope: Scope) -> None:
    """Let in who may do this kind of thing at all. A reader's credential is bound to its reader, and needs no scope.

    Raises:
        Unauthenticated: anonymous.
        Forbidden: the token lacks the scope.
    """
    principal.require_authenticated()
    if principal.kind is not PrincipalKind.DEVICE:
        principal.require_scope(scope)


def require_access(
    principal: Principal, device_id: DeviceId, owner: UserId | None, *, scope: Scope, technicians: bool
) -> None:
    """Allow a caller to act on a reader, or say why not.

    Args:
        owner: who registered the reader; None when nobody has. Trusted callers and technicians may act on a reader
            that is not registered yet: a factory calibrates before it sells.
        technicians: whether the scope calibration:factory opens readers of others.
    Raises:
        Unauthenticated: anonymous.
        DeviceNotFound: nobody registered it, and the caller needs an owner to be told from others.
        Forbidden: it belongs to somebody else, a reader asks about another reader, or the token lacks the scope.
    """
    principal.require_authenticated()
    if principal.is_trusted or (technicians and principal.has_scope(Scope.CALIBRATION_FACTORY)):
        return
    require_scope(principal, scope)
    if principal.kind is PrincipalKind.DEVICE:
        if principal.subject.casefold() != device_id.casefold():
            raise Forbidden("A reader acts for itself only.", device_id=device_id)
        return
    if owner is None:
        raise DeviceNotFound(device_id)
    if principal.role is not Role.ADMIN and principal.user_id != owner:
        raise Forbidden("This device belongs to another user.", device_id=device_id)
