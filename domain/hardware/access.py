"""Who may act on a reader: its owner, the reader itself, services, and technicians where they calibrate."""

from domain.errors import Forbidden, NotFound
from domain.ids import DeviceId, UserId
from domain.principal import Principal, PrincipalKind, Role, Scope


class DeviceNotFound(NotFound):
    """No reader is registered under this id."""

    reason = "DEVICE_NOT_FOUND"

    def __init__(self, device_id: str) -> None:
        super().__init__(f"No device is registered under the id {device_id}.", device_id=device_id)


def require_access(principal: Principal, device_id: DeviceId, owner: UserId | None, *, technicians: bool) -> None:
    """Allow a caller to act on a reader, or say why not.

    Args:
        owner: who registered the reader; None when nobody has. Trusted callers and technicians may act on a reader
            that is not registered yet: a factory calibrates before it sells.
        technicians: whether the scope calibration:factory opens readers of others.
    Raises:
        Unauthenticated: anonymous.
        DeviceNotFound: nobody registered it, and the caller needs an owner to be told from others.
        Forbidden: it belongs to somebody else, or a reader asks about another reader.
    """
    principal.require_authenticated()
    if principal.is_trusted or (technicians and principal.has_scope(Scope.CALIBRATION_FACTORY)):
        return
    if principal.kind is PrincipalKind.DEVICE:
        if principal.subject != device_id:
            raise Forbidden("A reader acts for itself only.", device_id=device_id)
        return
    if owner is None:
        raise DeviceNotFound(device_id)
    if principal.role is not Role.ADMIN and principal.user_id != owner:
        raise Forbidden("This device belongs to another user.", device_id=device_id)
